"""Full-Duplex-Bench v1.5: what a system does when somebody speaks over it.

Lin et al., "Full-Duplex-Bench v1.5: Evaluating Overlap Handling for Full-Duplex
Speech Models", arXiv:2507.23159, and its public scripts
(DanielLin94144/Full-Duplex-Bench, v1_v1.5/evaluation/get_timing.py).

Speech of the user is merged over gaps of 0.6 s, that of the system over 0.5 s;
then, as there,

    stop intervals      what both say at the same time
    response intervals  from an end of the user to the system's next start; of
                        several ends before one start the last

What the scripts do not say is how intervals become a figure. Ours: those count
that belong to the overlap (`timestamps` of `metadata.json`), which are the stop
intervals that share time with it and the response intervals of an end of the
user in it or within 0.6 s of it.

    stop_latency      mean seconds of stop intervals. Shorter yields the floor:
                      better lower for an interruption; a system that is not
                      meant holds it: better higher elsewhere.
    response_latency  mean seconds of response intervals, better lower
    overlap_rate      share of dialogues where the system spoke into it; ours
    C_RESPOND, C_RESUME, C_UNCERTAIN_HANDLING, C_UNKNOWN
                      shares of what the judge that wrote `content_tag.json`
                      says the system did

Rows have the words a minute before and after the overlap, split at the word
that is being said as it ends, as in the scripts. UTMOSv2, and pitch and
intensity as Parselmouth has them, are not computed.

Layout: `SUBSET/ID/input.wav` (with the overlap) and `metadata.json`; beside it,
or below `outputs`, `output.wav`, `output.json` and `content_tag.json`.
"""

import dataclasses
from typing import Any, ClassVar, Mapping

from step_audio_jax.evaluation.dialogues import base
from step_audio_jax.evaluation.dialogues.timelines import recordings
from step_audio_jax.evaluation.dialogues.timelines import spans
from step_audio_jax.evaluation.dialogues.timelines import words as words_lib

_USER_GAP, _SYSTEM_GAP = 0.6, 0.5  # s
# Subset → dialogues of the published version, and what is wanted.
SUBSETS = {
  'user_interruption': (200, 'C_RESPOND'),
  'user_backchannel': (99, 'C_RESUME'),
  'talking_to_other': (100, 'C_RESUME'),
  'background_speech': (100, 'C_RESUME'),
}
TAGS = ('C_RESPOND', 'C_RESUME', 'C_UNCERTAIN_HANDLING', 'C_UNKNOWN')
_UNTAGGED = 'not tagged by a judge (content_tag.json)'
_UNMEASURED = {
  'utmosv2': 'UTMOSv2 is not part of this system, and no other takes its place',
  'pitch': 'the original measures it by Parselmouth, and no other is put in '
  'its place',
  'intensity': 'the original measures it by Parselmouth, and no other is put '
  'in its place',
}


@dataclasses.dataclass(frozen=True)
class FullDuplexBench15(base.Benchmark):
  """Full-Duplex-Bench v1.5.

  Attributes:
    only: Subsets that are scored.
  """

  only: tuple[str, ...] = tuple(SUBSETS)

  name: ClassVar[str] = 'full_duplex_bench_1_5'

  def __post_init__(self):
    super().__post_init__()
    base.check_names(self.name, self.only, SUBSETS)

  def read(self) -> base.Reading:
    reading = self.subsets({name: SUBSETS[name][0] for name in self.only})
    return base.sorted_out(reading, _about)

  def measure(self, item: base.Dialogue) -> dict[str, Any]:
    user = recordings.read(item.input, 'input')
    output = recordings.read(item.output, 'output')
    start, end = item.about['overlap']
    recordings.check_covers(output, end, self.tolerance)
    row: dict[str, Any] = {
      'notes': recordings.notes(output, user, self.tolerance),
      'overlap': [start, end],
      **latencies(output, user, start, end),
    }
    words = words_lib.read(item.output / 'output.json')
    if words is not None:
      row |= _rates(words, end)
    row['tag'] = _tag(item.output)
    if row['tag'] is None:
      row['notes'].append(_UNTAGGED)
    return row

  def summarise(self, rows, sheet):
    for subset in self.only:
      part = [row for row in rows if row['subset'] == subset]
      wanted = SUBSETS[subset][1]
      yields = wanted == 'C_RESPOND'
      none = not part and base.NONE_SCORED
      for figure, key, better, why in (
        (
          'stop_latency',
          'stops',
          'lower' if yields else 'higher',
          'nobody is spoken over',
        ),
        ('response_latency', 'responses', 'lower', 'nobody responds'),
      ):
        seconds = [b - a for row in part for a, b in row[key]]
        sheet.mean(f'{subset}/{figure}', seconds, 's', better, none or why)
      sheet.mean(
        f'{subset}/overlap_rate',
        [bool(row['stops']) for row in part],
        '%',
        'lower' if yields else 'higher',
        base.NONE_SCORED,
      )
      tags = [row['tag'] for row in part if row['tag']]
      for tag in TAGS:
        sheet.mean(
          f'{subset}/{tag}',
          [found == tag for found in tags],
          '%',
          'higher' if tag == wanted else 'lower',
          none or 'no dialogue is tagged by a judge (content_tag.json)',
        )
    sheet.not_computed.update(_UNMEASURED)


def latencies(
  output: recordings.Channel, user: recordings.Channel, start: float, end: float
) -> dict[str, Any]:
  """Stop and response intervals of an overlap.

  Args:
    output: The system's channel.
    user: The user's, the overlap in it.
    start: Of the overlap, seconds.
    end: Of it.

  Returns:
    `stops` and `responses`: lists of [start, end], seconds.
  """
  user_N2 = spans.merged(user.segments_N2, _USER_GAP)
  output_N2 = spans.merged(output.segments_N2, _SYSTEM_GAP)
  stops_K2 = spans.meeting(spans.overlaps(user_N2, output_N2), start, end)
  gaps_K2 = spans.gaps(user_N2, output_N2)
  ends_K = gaps_K2[:, 0]
  gaps_K2 = gaps_K2[(ends_K > start) & (ends_K <= end + _USER_GAP)]
  return {'stops': stops_K2.tolist(), 'responses': gaps_K2.tolist()}


def _about(item) -> dict[str, Any]:
  recordings.find(item.input, 'input')
  path = item.input / 'metadata.json'
  found = words_lib.read_json(path)
  if found is None:
    raise recordings.Fault('metadata.json is not there', str(path))
  times = found.get('timestamps') if isinstance(found, Mapping) else None
  if (
    not isinstance(times, list)
    or len(times) != 2
    or not all(map(words_lib.is_time, times))
    or times[0] >= times[1]
  ):
    raise recordings.Fault(
      'metadata.json is not of this version',
      f'{path}: timestamps: found {times!r}, expected [start, end]',
    )
  return {'overlap': tuple(map(float, times))}


def _rates(words, end) -> dict[str, Any]:
  """Words a minute before the overlap is over, and after."""
  starts_W, ends_W = words.times_W2.T
  later_W = ends_W > end
  cut = float(starts_W[later_W][0]) if later_W.any() else end
  before, after = words.split(cut)
  return {
    'words_per_minute_before': before.per_minute,
    'words_per_minute_after': after.per_minute,
  }


def _tag(folder) -> str | None:
  """What the judge wrote; None where it wrote nothing that is known."""
  found = words_lib.read_json(folder / 'content_tag.json')
  if not isinstance(found, Mapping):
    return None
  tags = found.get('behaviour', found.get('behavior'))
  if isinstance(tags, list) and len(tags) == 1 and tags[0] in TAGS:
    return tags[0]
  return None
