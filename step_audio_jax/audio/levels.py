"""How quiet silence is, and what floating-point samples are divided by.

Full scale is 1, and decoders and mixers may pass it a little. Files of
floating-point numbers can also hold the whole numbers of 16, 24 or 32 bits as
they were: then full scale is 2¹⁵, 2²³ or 2³¹. Shape letters: S samples, C
channels.
"""

import sys
from typing import Iterable

import numpy as np

from step_audio_jax import errors

SILENCE = 1e-3  # of full scale, -60 dB; 16-bit dither is at -84 dB
LARGEST = 8.0  # +18 dB; what is beyond has another full scale
_BITS = (16, 24, 32)
_RUN = 3  # neighbours at the very same extreme
_CUT = 0.999  # of full scale
_told: list[str] = []  # the file of which `warn_scaled` spoke


class Extremes:
  """The smallest and the largest sample of a signal that comes in parts."""

  def __init__(self):
    self._low, self._high = np.inf, -np.inf

  def add(self, samples_S: np.ndarray) -> None:
    """Looks at a part of any size."""
    if len(samples_S):
      self._low = min(self._low, float(samples_S.min()))
      self._high = max(self._high, float(samples_S.max()))

  def silent(self) -> bool:
    """Whether no sample is `SILENCE` away from the middle between both.

    A constant offset is silence, and so is dither.
    """
    return not (self._high - self._low) / 2 >= SILENCE


def is_silent(samples_S: np.ndarray) -> bool:
  """`Extremes.silent` of a whole signal."""
  extremes = Extremes()
  extremes.add(samples_S)
  return extremes.silent()


def silence(name: str, expected: str = 'sound') -> errors.UserError:
  """What is told of a silent signal."""
  return errors.UserError(
    f'{name}: silence, no sample is above {SILENCE} of full scale (a constant '
    f'offset aside); expected {expected}.'
  )


def full_scale(blocks: Iterable[np.ndarray]) -> float:
  """What the samples of a floating-point file are to be divided by.

  Whole numbers throughout, some of them beyond ±1, are integers of 16, 24 or
  32 bits, the first that holds them. Anything else is taken as it is. A
  fraction decides: of most files no more than the first block is looked at.

  Args:
    blocks: The file from its beginning, float (S, C) each.

  Returns:
    1, 2¹⁵, 2²³ or 2³¹.
  """
  peak = 0.0
  for block_SC in blocks:
    if not (block_SC == np.rint(block_SC)).all():  # NaN is none either
      return 1.0
    peak = max(peak, float(np.abs(block_SC).max(initial=0.0)))
  if peak <= 1:
    return 1.0
  return next((2.0 ** (n - 1) for n in _BITS if peak <= 2.0 ** (n - 1)), 1.0)


def warn_scaled(name: str, scale: float) -> None:
  """Says on stderr that a file holds whole numbers.

  Said of the first such file of a process; a corpus may have a million.
  """
  if _told:
    return
  _told.append(name)
  print(
    f'{name}: whole numbers of {round(np.log2(scale)) + 1} bits kept as '
    f'floating point; they are divided by {scale:.0f}, here and in other '
    'files like it.',
    file=sys.stderr,
    flush=True,
  )


def check_scale(samples: np.ndarray, name: str) -> None:
  """Refuses samples far beyond full scale.

  Raises:
    UserError: One is beyond `LARGEST`.
  """
  if not len(samples):
    return
  peak = max(float(samples.max()), -float(samples.min()))
  if peak > LARGEST:
    raise errors.UserError(
      f'{name}: a sample of {peak:g}, expected floating-point samples within '
      '±1 or whole numbers of 16, 24 or 32 bits; scale the recording.'
    )


def clipped_share(wave_S: np.ndarray) -> float:
  """Share of samples that were cut off; 0 of no samples and of silence.

  Counted are samples at full scale, and those that stand at the loudest value
  of their sign, three of them at least beside each other: a limit that is below
  full scale leaves them.
  """
  if not len(wave_S):
    return 0.0
  wave_S = np.asarray(wave_S, np.float32)
  cut_S = np.abs(wave_S) >= _CUT
  for sign in (1, -1):
    peak = float((sign * wave_S).max())
    if peak > 0:
      flat_S = sign * wave_S >= peak * (1 - 2e-5)  # half a step of 16 bits
      edges = np.flatnonzero(np.diff(np.pad(flat_S.astype(np.int8), 1)))
      for start, stop in zip(edges[::2], edges[1::2]):
        if stop - start >= _RUN:
          cut_S[start:stop] = True
  return float(cut_S.mean())
