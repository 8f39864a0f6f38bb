"""Mel frames in, samples out, while they come.

A stream takes mel frames in pieces of any size and returns the samples that
they complete. Everything compiled has one shape, so nothing is compiled after
`warm_up`, and a chunk costs the same at any time.

* Exact: with the right context that the network needs (19 frames, 0.22 s, of
  the released one; `look_ahead` frames of a causal one) the joined samples are
  those of `HiftVocoder.wave`.
* Less right context answers earlier. The samples next to the edge are then
  made twice, now and with the next chunk, and the two are cross-faded over
  `fade` frames, as StepFun's later systems do over 8.

Shape letters: T frames, W frames of a window, M mel bands, S samples.
"""

from typing import Any

import numpy as np

from step_audio_jax import errors
from step_audio_jax.decoder.vocoder import step

CHUNK = 24
FADE = 8


def check_mel(mel_TM: np.ndarray, bands: int, name: str) -> np.ndarray:
  """A log-mel as float32 (T, M).

  Raises:
    UserError: It has another shape or is not finite.
  """
  mel_TM = np.asarray(mel_TM)
  if mel_TM.ndim != 2 or mel_TM.shape[1] != bands:
    raise errors.UserError(
      f'{name}: found an array {mel_TM.shape}, expected a log-mel of {bands} '
      'bands, (frames, bands).'
    )
  if not np.isfinite(mel_TM).all():
    bad = int(np.argmin(np.isfinite(mel_TM).all(axis=1)))
    raise errors.UserError(
      f'{name}: frame {bad} is not finite, expected numbers only.'
    )
  return mel_TM.astype(np.float32)


def hamming_rise(count: int) -> np.ndarray:
  """The rising half of a Hamming window, float64 (count,).

  It and its mirror image add up to 1: what is equal on both sides stays as it
  is.
  """
  window = np.hamming(2 * count)
  return window[:count] / (window[:count] + window[count:])


class VocoderStream:
  """One stream; after a final chunk the next one begins.

  Attributes:
    chunk: Frames a step.
    right: Frames of right context that a step waits for.
    fade: Frames that are made twice and cross-faded; 0 where `right` is
      enough.
  """

  def __init__(
    self,
    vocoder: Any,
    *,
    seed: int = 0,
    chunk: int = CHUNK,
    right: int | None = None,
    fade: int = FADE,
  ):
    """Begins.

    Args:
      vocoder: A `HiftVocoder`; its compiled functions are shared.
      seed: Of phases and noise.
      chunk: Frames a step, at least 1.
      right: Frames of right context; None is what the network needs.
      fade: Frames of the cross-fade if `right` is less than that, at most
        `chunk`.

    Raises:
      UserError: Sizes that make no window.
    """
    needed = vocoder.config.context[1]
    right = needed if right is None else right
    fade = 0 if right >= needed else fade
    if chunk < 1 or right < 0 or not 0 <= fade <= chunk:
      raise errors.UserError(
        f'vocoder stream: chunk {chunk}, right {right}, fade {fade}; expected '
        'chunk ≥ 1, right ≥ 0 and 0 ≤ fade ≤ chunk.'
      )
    self._vocoder, self._seed = vocoder, seed
    self.chunk, self.right, self.fade = chunk, right, fade
    self._before = step.leading_frames(vocoder.config)
    self._restart()

  @property
  def latency(self) -> int:
    """Frames behind a sample that have to be there before it comes out."""
    return self.fade + self.right

  def warm_up(self) -> None:
    """Compiles what `push` needs; the stream does not move."""
    self._step(np.zeros((0, self._vocoder.bands), np.float32), 0)

  def push(self, mel_TM: np.ndarray, final: bool = False) -> np.ndarray:
    """Hands frames to the stream.

    Args:
      mel_TM: Log-mel, any number of frames, also none.
      final: The signal ends with these frames. The next ones begin a new one,
        with the same seed.

    Returns:
      Float32 samples (S,) that became complete, S ≥ 0; hop times the frames
      when all are joined.

    Raises:
      UserError: The mel has other bands or is not finite; the stream is then
        as it was. Or the weights make samples that are not finite.
    """
    mel_TM = check_mel(mel_TM, self._vocoder.bands, 'vocoder stream: mel')
    self._mel_TM = np.concatenate([self._mel_TM, mel_TM])
    pieces = []
    while True:
      ahead = len(self._mel_TM) - self._first
      if ahead <= 0 or not (final or ahead >= self.chunk + self.latency):
        break
      self._state, wave_1S = self._step(self._mel_TM, self._first)
      last = final and ahead <= self.chunk + self.fade
      pieces.append((wave_1S, ahead if last else self.chunk, last))
      if last:
        break
      self._number += self.chunk
      self._first += self.chunk
      drop = max(0, self._first - self._before)
      self._mel_TM = self._mel_TM[drop:]
      self._first -= drop
    # Converted only now: on an accelerator the steps follow without a pause.
    out = [np.zeros(0, np.float32)]
    for wave_1S, frames, last in pieces:
      out.append(self._faded(np.asarray(wave_1S)[0], frames, last))
    if final:
      self._restart()
    out = np.concatenate(out)
    if not np.isfinite(out).all():
      raise errors.UserError(
        'vocoder: made samples that are not finite; expected weights that do '
        'not overflow.'
      )
    return out

  def _step(self, mel_TM, first):
    """One step from the frames at hand, of which `first` are done."""
    c = self._vocoder.config
    size = self.chunk + self.fade
    width = self._before + size + self.right
    window = np.zeros((1, width, c.bands), np.float32)
    frames = min(len(mel_TM), width)
    window[0, :frames] = mel_TM[:frames]
    return self._vocoder.step(
      self._state,
      window,
      np.array([first], np.int32),
      np.array([frames], np.int32),
      np.array([self._number], np.int32),
      chunk=self.chunk,
      size=size,
    )

  def _faded(self, wave_S, frames, last):
    """The samples of a step that are complete, with the tail before them."""
    hop, tail = self._vocoder.hop, self._tail
    count = frames * hop
    if len(tail):
      rising = hamming_rise(len(tail))
      head = tail * (1 - rising) + wave_S[: len(tail)] * rising
      wave_S = np.concatenate([head, wave_S[len(tail) :]])
    self._tail = wave_S[count : count + (0 if last else self.fade * hop)]
    return wave_S[:count].astype(np.float32)

  def _restart(self):
    self._state = self._vocoder.step.begin((self._seed,))
    self._mel_TM = np.zeros((0, self._vocoder.bands), np.float32)
    self._tail = np.zeros(0, np.float32)
    # Done frames in the buffer, and since the beginning.
    self._first = self._number = 0
