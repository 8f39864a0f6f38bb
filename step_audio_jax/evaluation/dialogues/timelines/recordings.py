"""What is heard of a recorded dialogue: each channel, and when it is active.

A dialogue is the user's channel (`input.wav`) and the system's, as long and on
the same clock (`output.wav`). Where a channel is active is said by
`audio.meters.activity`, by level alone: its segments are those of speech
between pauses of 0.2 s, to 10 ms or so. The originals ask Silero VAD; figures
of segments are therefore near theirs, not equal to them.

Axes: S samples, N segments.
"""

import dataclasses

import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.audio.meters import activity
from step_audio_jax.evaluation.dialogues.timelines import spans
from step_audio_jax.storage import files

SUFFIXES = ('.wav', '.flac')
# Notes: what is odd about a channel that is scored as it is.
SILENT = 'silent output'
CLIPPED = 'clipped output'
OTHER_RATE = 'output at another sample rate than the input'
OTHER_LENGTH = 'output of another length than the input'
_FULL_SCALE = 32766 / 32768
_CLIPPED_SHARE = 1e-3


class Fault(Exception):
  """Why a dialogue cannot be scored.

  Attributes:
    reason: That is counted; the same for all of its kind.
    detail: Of this one.
  """

  def __init__(self, reason: str, detail: str = ''):
    super().__init__(f'{reason}: {detail}' if detail else reason)
    self.reason, self.detail = reason, detail


@dataclasses.dataclass(frozen=True)
class Channel:
  """One side of a dialogue.

  Attributes:
    segments_N2: Start and end of its speech, seconds, in order.
    seconds: Its length.
    sample_rate: Of its file, Hz.
    clipped: Share of samples at full scale.
  """

  segments_N2: np.ndarray
  seconds: float
  sample_rate: int
  clipped: float = 0.0

  @property
  def is_silent(self) -> bool:
    return not len(self.segments_N2)


def find(folder: files.AnyPath, stem: str) -> files.AnyPath:
  """The recording of this name.

  Raises:
    Fault: There is none.
  """
  for suffix in SUFFIXES:
    path = folder / f'{stem}{suffix}'
    if files.is_file(path):
      return path
  raise Fault(f'{stem}.wav is not there', f'{folder}/{stem}.wav')


def read(folder: files.AnyPath, stem: str) -> Channel:
  """A channel from `stem.wav` or `stem.flac`.

  Raises:
    Fault: It is not there, cut short, no audio or not finite.
  """
  return decode(find(folder, stem), f'{stem}.wav')


def decode(source: files.AnyPath | bytes, what: str) -> Channel:
  """A channel from a file or its bytes.

  Args:
    source: Path or content.
    what: That reasons call it.

  Raises:
    Fault: As `read`.
  """
  try:
    rate = io.probe(source).sample_rate
    wave_S, _ = io.read_audio(source)
  except errors.UserError as error:
    raise Fault(f'{what} cannot be read', str(error)) from error
  clipped = float(np.mean(np.abs(wave_S) >= _FULL_SCALE))
  return Channel(
    segments(wave_S, io.SAMPLE_RATE),
    len(wave_S) / io.SAMPLE_RATE,
    rate,
    clipped,
  )


def segments(wave_S: np.ndarray, sample_rate: int) -> np.ndarray:
  """Start and end of speech between pauses, seconds, (N, 2)."""
  found = activity.find(wave_S, sample_rate)
  if not found.active_T.any():
    return spans.NONE
  cuts = [found.begin, *(t for pause in found.pauses for t in pause), found.end]
  return np.asarray(cuts, np.float64).reshape(-1, 2)


def notes(output: Channel, user: Channel, tolerance: float) -> list[str]:
  """What is odd about an output that is scored as it is.

  Args:
    output: The system's channel.
    user: The user's.
    tolerance: Seconds that their lengths may differ.
  """
  odd = {
    SILENT: output.is_silent,
    CLIPPED: output.clipped > _CLIPPED_SHARE,
    OTHER_RATE: output.sample_rate != user.sample_rate,
    OTHER_LENGTH: abs(output.seconds - user.seconds) > tolerance,
  }
  return [note for note, is_so in odd.items() if is_so]


def check_covers(output: Channel, until: float, tolerance: float) -> None:
  """Refuses an output that ends before what is scored.

  What was not recorded would count as silence, and silence is what some
  figures reward.

  Raises:
    Fault: It ends more than `tolerance` seconds before `until`.
  """
  if output.seconds < until - tolerance:
    raise Fault(
      'output.wav ends before the event that is scored',
      f'{output.seconds:.2f} s long, the event is at {until:.2f} s',
    )
