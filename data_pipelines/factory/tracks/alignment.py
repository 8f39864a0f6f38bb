"""Whether the lyrics of a track are where their times say: what is heard there.

Each clip of a track is a take for the gates, of which one is a recogniser.
Where few clips of a track pass it, the lyrics are of another recording or late
as a whole, and what passed did so by chance: none is kept.
"""

import dataclasses
from typing import Sequence

import numpy as np

from data_pipelines.factory.gates import base
from data_pipelines.factory.gates import line
from data_pipelines.songs import clips as clips_lib
from step_audio_jax import errors

TRACK = 'track'  # the gate that a whole track stands before


@dataclasses.dataclass(frozen=True)
class Alignment:
  """How the lyrics of a track are checked.

  Attributes:
    gates: For each clip; one of them is a recogniser.
    recogniser: Its name.
    least: Share of those clips that it was asked about that it must let pass.
  """

  gates: line.Gates
  recogniser: str = 'cer'
  least: float = 0.5

  def __post_init__(self):
    names = [gate.name for gate in self.gates.gates]
    if self.recogniser not in names:
      raise errors.UserError(
        f'songs: recogniser: found {self.recogniser!r}, expected a gate: '
        f'{", ".join(names) or "there is none"}.'
      )
    if not 0 <= self.least <= 1:
      raise errors.UserError(
        f'songs: least: found {self.least}, expected a share of 0 to 1.'
      )

  def check(self, takes: Sequence[base.Take]) -> list[line.Report]:
    """What becomes of the clips of a track, in order."""
    reports = self.gates.check(takes)
    asked = [
      verdict.outcome
      for report in reports
      for verdict in report.verdicts
      if verdict.gate == self.recogniser
    ]
    if not asked:
      return reports
    share = asked.count(base.PASSED) / len(asked)
    if share >= self.least:
      verdict = base.Verdict(TRACK, base.PASSED, share)
    else:
      reason = (
        f'{TRACK}: {self.recogniser} lets {asked.count(base.PASSED)} of '
        f'{len(asked)} clips pass, expected {self.least:.0%}: lyrics of '
        'another recording, or late.'
      )
      verdict = base.Verdict(TRACK, base.FAILED, share, reason)
    return [
      dataclasses.replace(one, verdicts=(*one.verdicts, verdict))
      for one in reports
    ]


def takes_of(
  track: str,
  wave_S: np.ndarray,
  sample_rate: int,
  clips: Sequence[clips_lib.Clip],
  *,
  language: str,
  artist: str | None = None,
) -> list[base.Take]:
  """The clips of a track as takes, called as `clips.utterances` calls them.

  Args:
    track: Its name.
    wave_S: All of it, float (S,).
    sample_rate: Hz.
    clips: Of `clips.cut`.
    language: Subtag.
    artist: Who sings.
  """
  return [
    base.Take(
      f'{track}-{number:03d}',
      wave_S[round(clip.start * sample_rate) : round(clip.end * sample_rate)],
      sample_rate,
      clip.text,
      language,
      artist,
    )
    for number, clip in enumerate(clips)
  ]
