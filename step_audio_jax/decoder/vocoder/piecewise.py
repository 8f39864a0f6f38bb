"""A vocoder that knows no stream, piece by piece: Griffin-Lim.

Each piece is made with some frames around it and faded into the tail of the
piece before. Pieces do not agree in phase, so the next one is first moved, by a
frame at most, to where it goes on best from the last, as WSOLA does
(`audio.stretch`). What comes out is not what the vocoder makes of the whole.

Axes: T frames, M mel bands, S samples.
"""

from typing import Any

import numpy as np

from step_audio_jax.audio import stretch
from step_audio_jax.decoder.vocoder import streaming

_FIRST, _CHUNK = 40, 96  # frames of the first piece, and of those behind it
_AROUND = 12  # frames heard on both sides of it
_FADE = 4


class PiecewiseVocoder:
  """As `streaming.VocoderStream`, for any vocoder with a `wave`."""

  def __init__(self, vocoder: Any, *, seed: int = 0):
    """Begins.

    Args:
      vocoder: `decoder.vocoder.vocoder.GriffinLim`.
      seed: Of its phases.
    """
    self._vocoder, self._seed = vocoder, seed
    self._restart()

  def _restart(self):
    self._mel_TM = np.zeros((0, self._vocoder.bands), np.float32)
    self._first = 0  # in the buffer: the first frame that is not out
    self._tail_S = np.zeros(0, np.float32)

  def push(self, mel_TM: np.ndarray, final: bool = False) -> np.ndarray:
    """Hands frames to the stream; see `VocoderStream.push`.

    Raises:
      UserError: The mel has other bands or is not finite.
    """
    mel_TM = streaming.check_mel(
      mel_TM, self._vocoder.bands, 'vocoder stream: mel'
    )
    self._mel_TM = np.concatenate([self._mel_TM, mel_TM])
    out = [np.zeros(0, np.float32)]
    ahead = len(self._mel_TM) - self._first
    while ahead >= self._next + _FADE + _AROUND:
      out.append(self._piece(self._next, _FADE))
      ahead = len(self._mel_TM) - self._first
    if final:
      if ahead:
        out.append(self._piece(ahead, 0))
      self._restart()
    return np.concatenate(out)

  @property
  def _next(self) -> int:
    """Frames of the next piece: sound comes soon, and then at less cost."""
    return _CHUNK if len(self._tail_S) else _FIRST

  def _piece(self, frames: int, fade: int) -> np.ndarray:
    """Samples of the next frames; their continuation is kept as the tail."""
    hop = self._vocoder.hop
    wave_S = self._vocoder.wave(
      self._mel_TM[: self._first + frames + fade + _AROUND], seed=self._seed
    )
    # A frame of silence on both sides, so that every move finds samples.
    wave_S = np.pad(wave_S, hop)
    begin = (self._first + 1) * hop
    tail = self._tail_S
    if len(tail):
      field = wave_S[begin - hop : begin + hop + len(tail)]
      begin += stretch.best_offset(tail, field) - hop
    piece_S = wave_S[begin : begin + (frames + fade) * hop]
    piece_S = np.pad(piece_S, (0, (frames + fade) * hop - len(piece_S)))
    if len(tail):
      rising = streaming.hamming_rise(len(tail)).astype(np.float32)
      count = min(len(tail), len(piece_S))
      head = (
        tail * (1 - rising)
        + np.pad(piece_S[: len(tail)], (0, len(tail) - count)) * rising
      )
      piece_S[:count] = head[:count]
    self._tail_S = piece_S[frames * hop :]
    drop = max(0, self._first + frames - _AROUND)
    self._first += frames - drop
    self._mel_TM = self._mel_TM[drop:]
    return piece_S[: frames * hop]
