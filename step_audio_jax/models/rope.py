"""Rotary positions and the ways open models stretch them.

Pair i of a head turns by position * f_i (Su et al., arXiv 2104.09864), halves
paired as Llama does, f_i = theta^(-2i/D). A scaling changes the frequencies:

* linear: f_i / factor (positions interpolated);
* dynamic: theta grows with the longest position at hand beyond the trained
  length (NTK-aware);
* llama3: long waves are divided by factor, short ones kept, a ramp between
  (Llama 3.1);
* yarn: the ramp lies between two numbers of turns over the trained length, and
  queries and keys grow by a temperature (Peng et al., arXiv 2309.00071).

Axes: B batch, T tokens, H heads, D head width, F = D / 2 frequencies.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors

KINDS = ('linear', 'dynamic', 'llama3', 'yarn')


@dataclasses.dataclass(frozen=True)
class RopeScaling:
  """How rotary frequencies are stretched past the trained length.

  Attributes:
    kind: 'linear', 'dynamic', 'llama3' or 'yarn'.
    factor: By how much the context grows, at least 1.
    original_length: Tokens the model was first trained on (all but linear).
    low_frequency_factor: llama3: waves longer than original_length / this are
      divided by the factor.
    high_frequency_factor: llama3: waves shorter than original_length / this
      are kept.
    beta_fast: yarn: turns over original_length above which a wave is kept.
    beta_slow: yarn: turns below which it is divided by the factor.
    attention_factor: yarn: scale of sines and cosines; 0 means
      0.1 ln(factor) + 1.
  """

  kind: str
  factor: float
  original_length: int = 0
  low_frequency_factor: float = 1.0
  high_frequency_factor: float = 4.0
  beta_fast: float = 32.0
  beta_slow: float = 1.0
  attention_factor: float = 0.0

  def __post_init__(self):
    if self.kind not in KINDS:
      raise errors.UserError(
        f'rope_scaling: kind is {self.kind!r}, expected one of {KINDS}.'
      )
    if self.factor < 1:
      raise errors.UserError(
        f'rope_scaling: factor is {self.factor}, expected at least 1.'
      )
    if self.kind != 'linear' and self.original_length < 1:
      raise errors.UserError(
        f'rope_scaling: original_length is {self.original_length}, expected '
        f'the tokens the model was trained on, which {self.kind!r} needs.'
      )
    if self.low_frequency_factor >= self.high_frequency_factor:
      raise errors.UserError(
        'rope_scaling: low_frequency_factor is '
        f'{self.low_frequency_factor}, expected less than '
        f'high_frequency_factor ({self.high_frequency_factor}).'
      )


def tables(
  positions_BT: jax.Array,
  head_dim: int,
  theta: float,
  scaling: RopeScaling | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Sines and cosines of every turn, float32 (B, T, D / 2).

  'dynamic' looks at the longest position in `positions_BT`.
  """
  frequency_F, scale = _frequencies(positions_BT, head_dim, theta, scaling)
  angle_BTF = positions_BT[:, :, None].astype(jnp.float32) * frequency_F[
    None, None
  ].astype(jnp.float32)
  return scale * jnp.sin(angle_BTF), scale * jnp.cos(angle_BTF)


def rotate(
  x_BTHD: jax.Array, sin_BTF: jax.Array, cos_BTF: jax.Array
) -> jax.Array:
  """Turns every head of a token; computed in float32, returned as it came."""
  first, second = jnp.split(x_BTHD.astype(jnp.float32), 2, axis=-1)
  sin_BT1F, cos_BT1F = sin_BTF[:, :, None], cos_BTF[:, :, None]
  return jnp.concatenate(
    [
      first * cos_BT1F - second * sin_BT1F,
      second * cos_BT1F + first * sin_BT1F,
    ],
    axis=-1,
  ).astype(x_BTHD.dtype)


def _frequencies(positions_BT, head_dim, theta, scaling):
  """(frequencies F, scale of sines and cosines)."""
  # Powers in float64: a pod's positions reach 1e5, where a float32 power's
  # last bit is a visible turn.
  exponent_F = np.arange(0, head_dim, 2, dtype=np.float64) / head_dim
  plain_F = float(theta) ** -exponent_F
  if scaling is None:
    return jnp.asarray(plain_F, jnp.float32), 1.0
  factor, original = scaling.factor, scaling.original_length
  if scaling.kind == 'linear':
    return jnp.asarray(plain_F / factor, jnp.float32), 1.0
  if scaling.kind == 'dynamic':
    length = jnp.maximum(positions_BT.max() + 1, original).astype(jnp.float32)
    base = theta * (factor * length / original - (factor - 1.0)) ** (
      head_dim / (head_dim - 2)
    )
    return base ** -jnp.asarray(exponent_F, jnp.float32), 1.0
  if scaling.kind == 'llama3':
    turns_F = original * plain_F / (2 * math.pi)
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    keep_F = np.clip((turns_F - low) / (high - low), 0.0, 1.0)
    scale = 1.0
  else:
    keep_F = 1.0 - _yarn_ramp(head_dim, theta, scaling)
    scale = scaling.attention_factor or 0.1 * math.log(factor) + 1.0
  stretched_F = keep_F * plain_F + (1.0 - keep_F) * plain_F / factor
  return jnp.asarray(stretched_F, jnp.float32), scale


def _yarn_ramp(head_dim, theta, scaling):
  """0 where a frequency is kept, 1 where it is divided, linear between."""

  def place(turns):
    # The (fractional) index of the wave with so many turns in the original
    # length.
    wave = scaling.original_length / (turns * 2 * math.pi)
    return head_dim * math.log(wave) / (2 * math.log(theta))

  low = max(math.floor(place(scaling.beta_fast)), 0)
  high = min(math.ceil(place(scaling.beta_slow)), head_dim - 1)
  width = max(high - low, 0.001)
  index_F = np.arange(head_dim // 2, dtype=np.float64)
  return np.clip((index_F - low) / width, 0.0, 1.0)
