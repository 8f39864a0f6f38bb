"""Several channels → one: the channel that is named, or the mean of all.

A mean is heard only where it does not cancel. With X_c the channels' spectra
in windows of half a second,

    R = |Σ_c X_c|² / Σ_c |X_c|²        (powers from 60 Hz on)

is C for C equal channels, 1 for channels that have nothing to do with each
other (two people on a telephone, one dead channel, wide stereo), and 0 for a
channel beside its negative. A window cancels where R < 1/4: the mean has lost
6 dB against what unrelated channels give. Windows more than 30 dB below the
loudest do not count, nor do offsets and hum. A part of a recording whose
windows cancel for more than a twentieth, or for two seconds on end, is
refused. Measured on speech: a copy with the other sign and 5 dB of noise, or
one sample later, has R < 1/4 in four of ten windows or more; of delays of the
same sign, reverberation, arrays and unrelated speakers none is below 0.36.

What is decided depends on the samples alone, not on the blocks they come in.
Shape letters: C channels, N windows, W samples of a window, F bins, S samples.
"""

from typing import Any, Sequence

import numpy as np

from step_audio_jax import errors

Channel = int | Sequence[int] | None  # from 0; several are averaged

_WINDOW = 0.5  # seconds
_CANCELS = 0.25
_QUIET = 1e-3  # of the loudest window's power
_FLOOR = 1e-8  # power, -80 dB of full scale
_SHARE = 0.05  # of the windows that count
_RUN = 4  # windows
_LOWEST = 60.0  # Hz
_RATE = 16000  # enough to judge by, Hz


def check(channel: Any) -> int | tuple[int, ...] | None:
  """A channel, several of them, or None, as a manifest names them.

  Raises:
    UserError: It is none of these.
  """
  if channel is None:
    return None
  several = isinstance(channel, (list, tuple))
  named = list(channel) if several else [channel]
  if not (
    named
    and all(type(one) is int and one >= 0 for one in named)
    and len(set(named)) == len(named)
  ):
    raise errors.UserError(
      f'channel: found {channel!r:.50}, expected a number from 0 on, or a list '
      'of different ones.'
    )
  if not several:
    return channel
  return named[0] if len(named) == 1 else tuple(named)


class Mixdown:
  """Blocks of several channels → blocks of one.

  Call it for block after block, then `finish`.
  """

  def __init__(
    self,
    count: int,
    rate: int,
    channel: Channel = None,
    *,
    name: str = 'samples',
    begin: float = 0.0,
  ):
    """Chooses the channels.

    Args:
      count: Channels there are.
      rate: Hz.
      channel: Which to hear, from 0; several are averaged, None is all.
      name: What messages call the recording.
      begin: Where in it the first sample lies, seconds; for messages.

    Raises:
      UserError: There is no such channel.
    """
    channel = check(channel)
    named = (channel,) if isinstance(channel, int) else channel
    for one in named or ():
      if one >= count:
        raise errors.UserError(
          f'{name}: channel {one}: the recording has {count}, counted from 0.'
        )
    self._columns = list(range(count) if named is None else named)
    self._all = self._columns == list(range(count))
    self._name, self._begin = name, begin
    self._powers = None
    if len(self._columns) > 1:
      self._powers = _Powers(rate, len(self._columns))

  def __call__(self, block_SC: np.ndarray) -> np.ndarray:
    """Mono samples (S,) of a block."""
    if self._powers is None:
      return block_SC[:, self._columns[0]]
    if not self._all:
      block_SC = block_SC[:, self._columns]
    self._powers.add(block_SC)
    return block_SC.mean(axis=1)

  def finish(self) -> None:
    """Judges what was heard.

    Raises:
      UserError: The mean has lost it.
    """
    if self._powers is None:
      return
    sum_N, parts_N = self._powers.all()
    counts_N = parts_N > max(_FLOOR, _QUIET * parts_N.max(initial=0.0))
    lost_N = counts_N & (sum_N < _CANCELS * parts_N)
    share = lost_N.sum() / max(counts_N.sum(), 1)
    if share > _SHARE or _longest(lost_N) >= _RUN:
      place = self._begin + _WINDOW * int(np.argmax(lost_N))
      raise errors.UserError(
        f'{self._name}: its {len(self._columns)} channels cancel each other in '
        f'their mean ({100 * share:.0f} % of the sound, first at {place:.1f} '
        's); name the one to hear: `channel` in the corpus or its manifest, '
        '--channel of a command.'
      )


class _Powers:
  """Power of the sum, and sum of the powers, of each window."""

  def __init__(self, rate: int, count: int):
    self._every = max(1, rate // _RATE)
    self._rate = rate / self._every
    self._size = max(1, round(_WINDOW * self._rate)) * self._every
    self._rest_SC = np.zeros((0, count), np.float32)
    self._found: list[np.ndarray] = []

  def add(self, block_SC: np.ndarray) -> None:
    if len(self._rest_SC):
      block_SC = np.concatenate([self._rest_SC, block_SC])
    whole = len(block_SC) // self._size * self._size
    # A copy: the block it is of can be large.
    self._rest_SC = block_SC[whole:].copy()
    if whole:
      self._look(block_SC[:whole], whole // self._size)

  def all(self) -> np.ndarray:
    """(2, N); what is behind the last whole window counts if it is half."""
    rest = len(self._rest_SC) // self._every * self._every
    if rest >= (self._size // 2 if self._found else 2 * self._every):
      self._look(self._rest_SC[:rest], 1)
      self._rest_SC = self._rest_SC[:0]
    return np.concatenate([np.zeros((2, 0)), *self._found], axis=1)

  def _look(self, block_SC: np.ndarray, windows: int) -> None:
    every = self._every
    # Neighbours averaged: a rate of 16 kHz or a little more is enough.
    thin_SC = block_SC[::every]
    for place in range(1, every):
      thin_SC = thin_SC + block_SC[place::every]
    x_CNW = np.ascontiguousarray(thin_SC.T).reshape(
      block_SC.shape[1], windows, -1
    )
    size = x_CNW.shape[-1]
    window_W = np.hanning(size + 2)[1:-1].astype(np.float32) / every
    x_CNF = np.fft.rfft(x_CNW * window_W)
    x_CNF = x_CNF[..., int(np.ceil(_LOWEST * size / self._rate)) :]
    scale = 2.0 / size / float(np.square(window_W * every).sum())
    powers = (_power(x_CNF.sum(axis=0)), sum(map(_power, x_CNF)))
    self._found.append(scale * np.stack(powers).astype(np.float64))


def _power(x_NF: np.ndarray) -> np.ndarray:
  x = np.ascontiguousarray(x_NF)
  return np.square(x.view(x.real.dtype)).sum(axis=-1)


def _longest(found_N: np.ndarray) -> int:
  """How many of them follow each other, at most."""
  edges = np.flatnonzero(np.diff(np.concatenate([[0], found_N, [0]])))
  return int(np.diff(edges)[::2].max(initial=0))
