"""Codes ↔ time.

    linguistic code i    [60 i, 60 (i + 1)) ms       16.67 Hz
    semantic code j      [40 j, 40 (j + 1)) ms       25 Hz
    group g              [120 g, 120 (g + 1)) ms     2 linguistic, 3 semantic

A code's time is that of the hop it stands for; the frames behind it reach a
little further on both sides. All functions take numbers or arrays. Times are
seconds; in between they are whole samples at 16 kHz, so that no rounding error
moves a boundary.
"""

import numpy as np

from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.audio.features import fbank
from step_audio_jax.audio.features import log_mel
from step_audio_jax.models.tokenizer import s3

SAMPLE_RATE = 16000
# Samples of one of each.
SAMPLES = {'linguistic': 960, 'semantic': 640, 'group': 1920}
_PIECE, _SHORTEST_PIECE = 480_000, 480


def time_span(index, stream: str = 'group') -> tuple[np.ndarray, np.ndarray]:
  """Begin and end of codes or groups, seconds.

  Args:
    index: Index or indices, from 0 on.
    stream: 'linguistic', 'semantic' or 'group'.

  Raises:
    UserError: An index is negative, or there is no such stream.
  """
  size, index = _size(stream), np.asarray(index, np.int64)
  _check_from_zero(index, f'{stream} index')
  return index * size / SAMPLE_RATE, (index + 1) * size / SAMPLE_RATE


def index_at(seconds, stream: str = 'group') -> np.ndarray:
  """Index of the code or group that stands for a time, int64.

  Raises:
    UserError: A time is negative or not finite, or there is no such stream.
  """
  return _samples(seconds) // _size(stream)


def groups_between(begin: float, end: float) -> tuple[int, int]:
  """The groups that touch [begin, end) seconds, as a range.

  Raises:
    UserError: The times are negative, not finite, or in the wrong order.
  """
  first, last = int(_samples(begin)), int(_samples(end))
  if last < first:
    raise errors.UserError(
      f'time: found {begin} … {end} s, expected the end behind the begin.'
    )
  size = SAMPLES['group']
  return first // size, max(first // size, -(-last // size))


def ids_between(begin: float, end: float) -> slice:
  """Where the interleaved ids of `groups_between` stand."""
  first, last = groups_between(begin, end)
  return slice(first * vocabulary.GROUP, last * vocabulary.GROUP)


def id_span(place) -> tuple[np.ndarray, np.ndarray]:
  """Begin and end of interleaved ids, seconds.

  Args:
    place: Position or positions in the ids of `Vocabulary.interleave`.

  Raises:
    UserError: A position is negative.
  """
  place = np.asarray(place, np.int64)
  _check_from_zero(place, 'position')
  group, inside = np.divmod(place, vocabulary.GROUP)
  first = vocabulary.LINGUISTIC_PER_GROUP
  size = np.where(inside < first, SAMPLES['linguistic'], SAMPLES['semantic'])
  nth = np.where(inside < first, inside, inside - first)
  begin = group * SAMPLES['group'] + nth * size
  return begin / SAMPLE_RATE, (begin + size) / SAMPLE_RATE


def seconds(ids: int) -> float:
  """Duration of `ids` interleaved ids, whole groups of them."""
  return ids // vocabulary.GROUP * SAMPLES['group'] / SAMPLE_RATE


def code_counts(samples: int) -> tuple[int, int, int]:
  """What the tokenizers make of a signal, with the original's tails.

  Args:
    samples: At 16 kHz.

  Returns:
    Linguistic codes, semantic codes (30 s pieces), and whole groups. Groups
    are fewer than the signal is long: up to 55 ms are dropped by the
    linguistic front end, then what is left of either stream.
  """
  linguistic = int(fbank.stacked_count(samples))
  whole, rest = divmod(samples, _PIECE)
  semantic = whole * (_PIECE // SAMPLES['semantic'])
  if rest >= _SHORTEST_PIECE:
    semantic += s3.code_count(log_mel.frame_count(rest))
  groups = min(
    linguistic // vocabulary.LINGUISTIC_PER_GROUP,
    semantic // vocabulary.SEMANTIC_PER_GROUP,
  )
  return linguistic, semantic, groups


def _size(stream: str) -> int:
  if stream not in SAMPLES:
    raise errors.UserError(
      f'stream: found {stream!r}, expected one of {", ".join(SAMPLES)}.'
    )
  return SAMPLES[stream]


def _samples(seconds) -> np.ndarray:
  seconds = np.asarray(seconds, np.float64)
  if not np.isfinite(seconds).all():
    raise errors.UserError('time: not a finite number of seconds.')
  _check_from_zero(seconds, 'time')
  return np.rint(seconds * SAMPLE_RATE).astype(np.int64)


def _check_from_zero(value, name: str) -> None:
  if (value < 0).any():
    raise errors.UserError(
      f'{name}: found {value.min()}, expected a number from 0 on.'
    )
