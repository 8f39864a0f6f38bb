"""The vocoder's log-mel: what flow matching makes and HiFT reads.

    S    = sqrt(|STFT_1024/256(x)|² + 1e-9)      periodic Hann, not centred
    mel  = ln max(1e-5, S W)                     W: Slaney mel, 0–8000 Hz

The signal is reflected by (fft − hop) / 2 samples at both ends, so frames =
samples // hop. Magnitudes, not powers. After HiFi-GAN's mel extractor (arXiv
2010.05646) as CosyVoice uses it. Shape letters: B rows, S samples, T frames, M
mel bands.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio.features import log_mel
from step_audio_jax.audio.features import spectrum


@dataclasses.dataclass(frozen=True)
class VocoderMel:
  """Numbers of the features; the defaults are the released vocoder's.

  Attributes:
    sample_rate: Hz.
    bands: Mel bands M.
    fft: Points of the transform.
    window: Samples of the window, in the middle of the transform.
    hop: Samples between frames.
    low_hz: Lower end of the lowest band.
    high_hz: Upper end of the highest; None is half the sample rate.
  """

  sample_rate: int = 22050
  bands: int = 80
  fft: int = 1024
  window: int = 1024
  hop: int = 256
  low_hz: float = 0.0
  high_hz: float | None = 8000.0

  def __post_init__(self):
    errors.at_least_one(
      'vocoder mel', self, ('sample_rate', 'bands', 'fft', 'window', 'hop')
    )
    if not self.hop <= self.fft or self.window > self.fft:
      raise errors.UserError(
        f'vocoder mel: fft {self.fft}, window {self.window}, hop {self.hop}; '
        'expected window and hop of at most fft.'
      )
    top = self.sample_rate / 2
    high = top if self.high_hz is None else self.high_hz
    if not 0 <= self.low_hz < high <= top:
      raise errors.UserError(
        f'vocoder mel: bands from {self.low_hz} to {high} Hz; expected a range '
        f'inside 0 … {top:g} Hz.'
      )

  @property
  def edge(self) -> int:
    """Samples reflected at each end."""
    return (self.fft - self.hop) // 2

  @property
  def filters(self) -> np.ndarray:
    """Slaney's triangles, (fft / 2 + 1, M)."""
    return log_mel.mel_matrix(
      self.bands, self.fft, self.sample_rate, self.low_hz, self.high_hz
    )


_RELEASED = VocoderMel()


def vocoder_mel(
  wave_BS: jax.Array,
  lengths_B: jax.Array | None,
  config: VocoderMel = _RELEASED,
) -> tuple[jax.Array, jax.Array]:
  """Log-mel spectrograms of padded waveforms.

  Args:
    wave_BS: Float32 samples in [-1, 1] at the configured rate; what is behind
      a row's length does not matter.
    lengths_B: Samples of each row, int32, more than `config.edge` for a
      meaningful row; None means that rows fill the array.
    config: Numbers.

  Returns:
    Features float32 (B, T, M), zero behind a row's end, and frame counts.
  """
  spectrum_BTF = spectrum.magnitude(
    wave_BS,
    lengths_B,
    fft=config.fft,
    window=config.window,
    hop=config.hop,
    edge=config.edge,
  )
  mel_BTM = jnp.matmul(spectrum_BTF, config.filters, precision='highest')
  log_BTM = jnp.log(jnp.maximum(mel_BTM, 1e-5))
  if lengths_B is None:
    return log_BTM, jnp.full(log_BTM.shape[:1], log_BTM.shape[1], jnp.int32)
  counts_B = frame_count(lengths_B, config)
  valid = jnp.arange(log_BTM.shape[1])[None, :, None] < counts_B[:, None, None]
  return jnp.where(valid, log_BTM, 0.0), counts_B


def frame_count(samples, config: VocoderMel = _RELEASED):
  """Frames of `samples`; ints, numpy or JAX integers."""
  return spectrum.frame_count(
    samples, fft=config.fft, hop=config.hop, edge=config.edge
  )
