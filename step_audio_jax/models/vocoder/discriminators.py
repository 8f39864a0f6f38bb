"""Judges of a vocoder's waveforms, for adversarial training.

* one judge a period p sees every p-th sample, (S / p) × p, through
  convolutions along the first axis (HiFi-GAN, arXiv 2010.05646);
* one judge a resolution sees a magnitude spectrogram through 2-D convolutions
  that halve the frequency axis (UnivNet, arXiv 2106.07889).

Kernels are weight-normalised (arXiv 1602.07868), one gain an output channel:
k = g v / ‖v‖. Defaults are the papers' sizes; the trainer's small ones are
configured.

Axes: B rows, S samples, P phases of a period, T frames, F frequency bins, C
channels.
"""

import dataclasses
import math
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp

from step_audio_jax import errors
from step_audio_jax.audio.features import spectrum

_PERIOD_KERNEL, _PERIOD_STRIDE = 5, 3
# Kernel over (frames, bins) and stride over bins of each layer but the last.
_SPECTRUM_LAYERS = (
  ((3, 9), 1),
  ((3, 9), 2),
  ((3, 9), 2),
  ((3, 9), 2),
  ((3, 3), 1),
)


@dataclasses.dataclass(frozen=True)
class DiscriminatorConfig:
  """Which judges there are, and how wide.

  Attributes:
    periods: Samples between those that one judge sees together.
    period_channels: Channels of the layers of a period's judge; all but the
      last divide time by three.
    resolutions: (fft, hop, window) in samples of each spectrogram.
    spectrum_channels: Channels of the layers of a spectrogram's judge.
    slope: Of the leaky ReLU.
  """

  periods: tuple[int, ...] = (2, 3, 5, 7, 11)
  period_channels: tuple[int, ...] = (32, 128, 512, 1024, 1024)
  resolutions: tuple[tuple[int, int, int], ...] = (
    (1024, 120, 600),
    (2048, 240, 1200),
    (512, 50, 240),
  )
  spectrum_channels: int = 32
  slope: float = 0.1

  def __post_init__(self):
    errors.at_least_one('discriminators', self, ('spectrum_channels',))
    if not self.periods and not self.resolutions:
      raise errors.UserError(
        'discriminators: periods and resolutions are both empty, expected at '
        'least one judge.'
      )
    for name in ('periods', 'period_channels'):
      values = getattr(self, name)
      if any(value < 1 for value in values):
        raise errors.UserError(
          f'discriminators: {name} is {values}, expected numbers of at least 1.'
        )
    if self.periods and not self.period_channels:
      raise errors.UserError(
        'discriminators: period_channels is empty, expected one layer or more.'
      )
    for fft, hop, window in self.resolutions:
      if not 1 <= hop <= window <= fft:
        raise errors.UserError(
          f'discriminators: resolution {(fft, hop, window)}; expected '
          '(fft, hop, window) with 1 <= hop <= window <= fft.'
        )


class DiscriminatorOutput(NamedTuple):
  """What one judge says.

  Attributes:
    score: (B, N): each about a part of the row, 1 for real and 0 for made.
    features: Outputs of the layers, (B, …) each.
  """

  score: jax.Array
  features: tuple[jax.Array, ...]


class NormedConv(nn.Module):
  """Weight-normalised convolution over all axes between rows and channels."""

  features: int
  kernel: tuple[int, ...]
  strides: tuple[int, ...]

  @nn.compact
  def __call__(self, x):
    inputs = x.shape[-1]
    names = (None,) * len(self.kernel) + ('embed', 'mlp')
    bound = 1.0 / math.sqrt(inputs * math.prod(self.kernel))

    def uniform(key, shape, dtype=jnp.float32):
      return jax.random.uniform(key, shape, dtype, -bound, bound)

    direction = self.param(
      'direction',
      nn.with_logical_partitioning(uniform, names),
      (*self.kernel, inputs, self.features),
    )
    axes = tuple(range(direction.ndim - 1))
    norm_C = jnp.sqrt(jnp.square(direction).sum(axes))
    gain_C = self.param(
      'gain',
      nn.with_logical_partitioning(lambda key: norm_C, ('mlp',)),
    )
    bias_C = self.param(
      'bias',
      nn.with_logical_partitioning(uniform, ('mlp',)),
      (self.features,),
    )

    def along_channels(v_C):
      return v_C.reshape((1,) * (x.ndim - 1) + (-1,))

    kernel = direction * along_channels(gain_C / jnp.maximum(norm_C, 1e-12))
    layout = ('NTC', 'TIO', 'NTC') if x.ndim == 3 else ('NTFC', 'TFIO', 'NTFC')
    out = jax.lax.conv_general_dilated(
      x,
      kernel,
      self.strides,
      [(size // 2, size // 2) for size in self.kernel],
      dimension_numbers=layout,
    )
    return out + along_channels(bias_C)


class PeriodDiscriminator(nn.Module):
  """Judges every `period`-th sample; phases are rows of one convolution."""

  config: DiscriminatorConfig
  period: int

  @nn.compact
  def __call__(self, wave_BS: jax.Array) -> DiscriminatorOutput:
    c, p = self.config, self.period
    rows, samples = wave_BS.shape
    wave_BS = jnp.pad(wave_BS, ((0, 0), (0, -samples % p)), mode='reflect')
    x = wave_BS.reshape(rows, -1, p).swapaxes(1, 2).reshape(rows * p, -1, 1)
    features = []
    last = len(c.period_channels) - 1
    for i, channels in enumerate(c.period_channels):
      stride = 1 if i == last else _PERIOD_STRIDE
      x = NormedConv(channels, (_PERIOD_KERNEL,), (stride,), name=f'conv_{i}')(
        x
      )
      x = nn.leaky_relu(x, c.slope)
      features.append(x.reshape(rows, p, *x.shape[1:]))
    x = NormedConv(1, (3,), (1,), name='score')(x)
    score_BN = x.reshape(rows, -1)
    return DiscriminatorOutput(score_BN, (*features, score_BN))


class SpectrumDiscriminator(nn.Module):
  """Judges the magnitude spectrogram of one resolution."""

  config: DiscriminatorConfig
  resolution: tuple[int, int, int]

  @nn.compact
  def __call__(self, wave_BS: jax.Array) -> DiscriminatorOutput:
    c = self.config
    fft, hop, window = self.resolution
    x = spectrum.magnitude(
      wave_BS, fft=fft, hop=hop, window=window, edge=fft // 2
    )[..., None]
    features = []
    for i, (kernel, stride) in enumerate(_SPECTRUM_LAYERS):
      x = NormedConv(
        c.spectrum_channels, kernel, (1, stride), name=f'conv_{i}'
      )(x)
      x = nn.leaky_relu(x, c.slope)
      features.append(x)
    x = NormedConv(1, (3, 3), (1, 1), name='score')(x)
    score_BN = x.reshape(len(x), -1)
    return DiscriminatorOutput(score_BN, (*features, score_BN))


class Discriminators(nn.Module):
  """All judges; each has a sub-tree of parameters of its own."""

  config: DiscriminatorConfig

  @nn.compact
  def __call__(self, wave_BS: jax.Array) -> list[DiscriminatorOutput]:
    """Judges waveforms, of which each row is judged by itself.

    Args:
      wave_BS: Float32 samples in [-1, 1], rows that fill the array and are
        longer than half of the longest transform.
    """
    c = self.config
    judges = [PeriodDiscriminator(c, p, name=f'period_{p}') for p in c.periods]
    judges += [
      SpectrumDiscriminator(c, r, name=f'spectrum_{r[0]}_{r[1]}')
      for r in c.resolutions
    ]
    return [judge(wave_BS) for judge in judges]
