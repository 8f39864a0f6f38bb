"""Log-mel → waveform: HiFT with its weights, or Griffin-Lim without any.

Both have a `name`, `sample_rate`, `hop`, `bands` and `wave`, and make hop
samples of every frame. Shape letters: T frames, M mel bands, S samples, K bins.
"""

from typing import Any, Mapping

import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.decoder.vocoder import step
from step_audio_jax.decoder.vocoder import streaming
from step_audio_jax.models.vocoder import hift

shapes = step.shapes


class HiftVocoder:
  """HiFT with its weights.

  A mel of any length goes through one compiled step of `CHUNK` frames.

  Attributes:
    name: 'hift'.
    config: Shape.
    params: Of `models.vocoder.hift.Hift`, as they were given.
    step: The compiled step; `decoder.vocoder.streaming.VocoderStream` shares
      it.
  """

  name = 'hift'
  CHUNK = 128

  def __init__(self, config: hift.HiftConfig, params: Mapping[str, Any]):
    """Holds the weights on the device.

    Raises:
      UserError: The weights are of another vocoder.
    """
    self.config, self.params = config, params
    self.step = step.HiftStep(config, params)

  @property
  def sample_rate(self) -> int:
    """Hz."""
    return self.config.sample_rate

  @property
  def hop(self) -> int:
    """Samples of a frame."""
    return self.config.hop

  @property
  def bands(self) -> int:
    """Mel bands."""
    return self.config.bands

  def wave(self, mel_TM: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Samples of a whole mel.

    Args:
      mel_TM: Log-mel (T, M) of `audio.features.vocoder_mel`.
      seed: Of phases and noise.

    Returns:
      Float32 (T · hop,) in ±limit.

    Raises:
      UserError: The mel is empty, has other bands or is not finite.
    """
    mel_TM = _some(mel_TM, self.bands)
    stream = streaming.VocoderStream(self, seed=seed, chunk=self.CHUNK)
    return stream.push(mel_TM, final=True)


class GriffinLim:
  """librosa's Griffin-Lim for the vocoder's mel; what there is before training.

    X = max(0, W⁺ eᵐᵉˡ), then phases that agree with their own STFT

  as in fast Griffin-Lim (Perraudin et al., 2013).

  Attributes:
    name: 'griffin-lim'.
    mel: What the frames are.
    rounds: Iterations.
  """

  name = 'griffin-lim'

  def __init__(
    self,
    mel: vocoder_mel.VocoderMel = vocoder_mel.VocoderMel(),
    rounds: int = 32,
  ):
    """Makes the inverse of the mel filters.

    Raises:
      UserError: There are no rounds.
    """
    if rounds < 1:
      raise errors.UserError(f'griffin-lim: rounds is {rounds}, expected ≥ 1.')
    self.mel, self.rounds = mel, rounds
    self._inverse_MK = np.linalg.pinv(mel.filters.astype(np.float64))

  @property
  def sample_rate(self) -> int:
    """Hz."""
    return self.mel.sample_rate

  @property
  def hop(self) -> int:
    """Samples of a frame."""
    return self.mel.hop

  @property
  def bands(self) -> int:
    """Mel bands."""
    return self.mel.bands

  def wave(self, mel_TM: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """As `HiftVocoder.wave`; `seed` draws the first phases."""
    import librosa  # slow to import

    mel_TM, c = _some(mel_TM, self.bands), self.mel
    # Far above full scale: e to it would overflow.
    level_TM = np.exp(np.minimum(mel_TM.astype(np.float64), 20.0))
    magnitude_TK = np.maximum(level_TM @ self._inverse_MK, 0.0)
    # A frame more at each end, so that every sample lies in whole frames.
    padded = np.pad(magnitude_TK, ((c.fft // c.hop,) * 2, (0, 0)), mode='edge')
    wave_S = librosa.griffinlim(
      padded.T.astype(np.float32),
      n_iter=self.rounds,
      hop_length=c.hop,
      win_length=c.window,
      n_fft=c.fft,
      center=False,
      random_state=seed,
    )
    # Frame t begins `edge` samples before sample t · hop.
    begin = c.fft // c.hop * c.hop + c.edge
    wave_S = wave_S[begin : begin + len(mel_TM) * c.hop]
    return np.clip(wave_S, -1.0, 1.0).astype(np.float32)


def _some(mel_TM, bands):
  mel_TM = streaming.check_mel(mel_TM, bands, 'vocoder: mel')
  if not len(mel_TM):
    raise errors.UserError('vocoder: mel: 0 frames, expected some.')
  return mel_TM
