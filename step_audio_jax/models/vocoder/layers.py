"""Layers of HiFT: convolutions, Snake, residual blocks, the F0 predictor.

    snake(x) = x + sin²(α x) / (α + 1e-9)     one α a channel (arXiv 2006.08195)

Rows may end early: `counts_B` are their lengths, and every convolution then
reads zeros behind a row's end, as it does behind the end of the array.

Axes: B rows, T frames of a layer, C channels, K kernel.
"""

from typing import Sequence

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax.models.vocoder import hift_config
from step_audio_jax.models.vocoder import stft
from step_audio_jax.models.vocoder import winograd


def mask_padding(x_BTC: jax.Array, counts_B: jax.Array | None) -> jax.Array:
  """Zero behind each row's end; None ends no row."""
  if counts_B is None:
    return x_BTC
  valid_BT = jnp.arange(x_BTC.shape[1])[None, :] < counts_B[:, None]
  return jnp.where(valid_BT[..., None], x_BTC, 0.0)


def _kernel(module, shape):
  # Uniform within ±1 / sqrt(fan in): outputs keep the scale of inputs at any
  # width.
  init = nn.initializers.variance_scaling(
    1 / 3, 'fan_in', 'uniform', in_axis=(0, 1)
  )
  return module.param(
    'kernel',
    nn.with_logical_partitioning(init, (None, 'embed', 'mlp')),
    shape,
  )


def _bias(module, features):
  return module.param(
    'bias',
    nn.with_logical_partitioning(nn.initializers.zeros, ('mlp',)),
    (features,),
  )


class Conv(nn.Module):
  """Convolution over time.

  Parameters that `models.vocoder.winograd.transform_kernel` has transformed are
  used as they are.

  Attributes:
    features: Channels of the output.
    kernel: K.
    pads: Zeros before and behind.
    dilation: Steps between taps.
    stride: Steps between outputs.
  """

  features: int
  kernel: int
  pads: tuple[int, int]
  dilation: int = 1
  stride: int = 1

  @nn.compact
  def __call__(self, x_BTC):
    if self.has_variable('params', winograd.NAME):
      points = self.get_variable('params', winograd.NAME)
      y = winograd.conv(x_BTC, points, self.kernel, self.pads, self.dilation)
    else:
      shape = (self.kernel, x_BTC.shape[-1], self.features)
      y = jax.lax.conv_general_dilated(
        x_BTC,
        _kernel(self, shape),
        (self.stride,),
        (self.pads,),
        rhs_dilation=(self.dilation,),
        dimension_numbers=('NWC', 'WIO', 'NWC'),
      )
    return y + _bias(self, self.features)[None, None]


class Upsample(nn.Module):
  """Transposed convolution as one product and an overlap-add.

    y[s t + j − cut] += x[t] W[j],   j < K

  Attributes:
    features: Channels of the output.
    kernel: K.
    rate: Output frames of an input frame, s.
    cut: Frames dropped at the left end.
  """

  features: int
  kernel: int
  rate: int
  cut: int

  @nn.compact
  def __call__(self, x_BTC):
    rows, frames, width = x_BTC.shape
    kernel = _kernel(self, (self.kernel, width, self.features))
    flat = kernel.swapaxes(0, 1).reshape(width, -1)
    parts = (x_BTC @ flat).reshape(rows, frames, self.kernel, self.features)
    y = stft.overlap_add(parts, self.rate, self.cut, frames * self.rate)
    return y + _bias(self, self.features)[None, None]


# sin²(z) = z² p(z²) for |z| ≤ π / 2, fitted: 2e-8 off at most.
_SINE_SQUARED = np.polynomial.polynomial.polyfit(
  np.linspace(1e-3, (np.pi / 2) ** 2, 2001),
  np.sin(np.sqrt(np.linspace(1e-3, (np.pi / 2) ** 2, 2001))) ** 2
  / np.linspace(1e-3, (np.pi / 2) ** 2, 2001),
  6,
).astype(np.float32)
# π in three parts whose multiples by small integers are exact.
_PI = (3.140625, 9.67502593994140625e-4, 1.509957990978376432e-7)


def _within_half_turn(z):
  """z minus the multiple of π that brings it nearest to 0."""
  turns = jnp.round(z * np.float32(1 / np.pi))
  for part in _PI:
    z = z - turns * np.float32(part)
  return z


def _polynomial(coefficients, x):
  value = jnp.full_like(x, coefficients[-1])
  for coefficient in coefficients[-2::-1]:
    value = value * x + coefficient
  return value


@jax.custom_jvp
def snake(z: jax.Array) -> jax.Array:
  """sin² to about one float32 rounding: a polynomial that vectorises.

  Its period is π: one remainder, no branches and no table, a fifth of the time
  of `sin` on a CPU.
  """
  z = _within_half_turn(z)
  return z * z * _polynomial(_SINE_SQUARED, z * z)


@snake.defjvp
def _sine_squared_jvp(primals, tangents):
  # The derivative of the polynomial: `sin` would take most of a training step.
  (z,), (dz,) = primals, tangents
  near = _within_half_turn(z)
  order = np.arange(1, len(_SINE_SQUARED) + 1, dtype=np.float32)
  slope = 2.0 * near * _polynomial(order * _SINE_SQUARED, near * near)
  return snake(z), slope * dz


class Snake(nn.Module):
  """x + sin²(α x) / (α + 1e-9), α on a linear scale."""

  @nn.compact
  def __call__(self, x_BTC):
    alpha_C = self.param(
      'alpha',
      nn.with_logical_partitioning(nn.initializers.ones, ('norm',)),
      x_BTC.shape[-1:],
    )
    inverse_C = 1.0 / (alpha_C + np.float32(1e-9))
    square = snake(x_BTC * alpha_C[None, None])
    return x_BTC + square * inverse_C[None, None]


class ResBlock(nn.Module):
  """x += conv(snake(dilated conv(snake(x)))), once for each dilation.

  Attributes:
    config: Says how convolutions are padded.
    kernel: K.
    dilations: Of the first convolution of each pair.
  """

  config: hift_config.HiftConfig
  kernel: int
  dilations: Sequence[int]

  @nn.compact
  def __call__(self, x_BTC, counts_B=None):
    width = x_BTC.shape[-1]
    for i, dilation in enumerate(self.dilations):
      y = x_BTC
      for half, d in ((1, dilation), (2, 1)):
        y = mask_padding(Snake(name=f'snake{half}_{i}')(y), counts_B)
        pads = self.config.pads(self.kernel, d)
        y = Conv(width, self.kernel, pads, d, name=f'conv{half}_{i}')(y)
      x_BTC = x_BTC + y
    return x_BTC


class F0Predictor(nn.Module):
  """Mel → |F0| in Hz: convolutions, ELU, one linear output."""

  config: hift_config.HiftConfig

  @nn.compact
  def __call__(self, x_BTM, counts_B=None):
    c = self.config
    x = x_BTM
    for i in range(hift_config.F0_LAYERS):
      x = mask_padding(x, counts_B)
      conv = Conv(c.f0_channels, 3, c.f0_pads(i), name=f'conv{i}')
      x = nn.elu(conv(x))
    out = nn.Dense(
      1,
      kernel_init=nn.with_logical_partitioning(
        nn.initializers.lecun_normal(), ('embed', None)
      ),
      name='out',
    )(x)
    return jnp.abs(out[..., 0])
