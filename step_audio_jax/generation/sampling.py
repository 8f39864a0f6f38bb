"""How the next id is chosen from logits.

Greedy is `temperature=0`. Otherwise logits are divided by the temperature,
cut to the `top_k` largest, then to the smallest set whose probability reaches
`top_p` (nucleus sampling, arXiv 1904.09751), and one id is drawn. A rule about
repeated ids may have a word in it (`generation.repetition`).

Letters: B batch, V vocabulary, R ids looked back at.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors
from step_audio_jax.generation import repetition as repetition_lib

# Forbidden ids get this, not -inf: a row in which all is forbidden stays
# finite.
FORBIDDEN = -1e30
# Beyond these, float32 knows no difference from the best id and from chance.
_COLDEST, _HOTTEST = 1e-6, 1e6


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Sampler:
  """Static settings of the choice; each distinct one compiles once.

  Attributes:
    temperature: 0 is greedy; else 1e-6 to 1e6.
    top_k: Keep this many largest logits; 0 keeps all. Ties at the border
      are all kept.
    top_p: Keep the smallest set of ids with at least this probability.
    repetition: What is done about repeated ids; off by default.
  """

  temperature: float = 0.0
  top_k: int = 0
  top_p: float = 1.0
  repetition: repetition_lib.Repetition = repetition_lib.Repetition()

  def __post_init__(self):
    if self.temperature and not _COLDEST <= self.temperature <= _HOTTEST:
      raise errors.UserError(
        f'sampler: temperature is {self.temperature}, expected 0 (the best id '
        f'every time) or {_COLDEST:g} to {_HOTTEST:g}.'
      )
    if self.top_k < 0:
      raise errors.UserError(
        f'sampler: top_k is {self.top_k}, expected 0 (off) or more.'
      )
    if not 0 < self.top_p <= 1:
      raise errors.UserError(
        f'sampler: top_p is {self.top_p}, expected a number in (0, 1].'
      )

  def __call__(self, logits_BV: jax.Array, keys_B: jax.Array) -> jax.Array:
    """Logits and one key a row → chosen ids, int32 (B,)."""
    if not self.temperature:
      return _first_largest(logits_BV)
    logits_BV = self.cut(logits_BV)
    return jax.vmap(jax.random.categorical)(keys_B, logits_BV).astype(jnp.int32)

  def choose(
    self,
    logits_BV: jax.Array,
    keys_B: jax.Array,
    recent_BR: jax.Array,
    classes_V: jax.Array,
  ) -> jax.Array:
    """As calling it, under the rule about repeated ids.

    Args:
      logits_BV: Logits; what is not allowed has `FORBIDDEN`.
      keys_B: One key a row.
      recent_BR: The last `repetition.reach` ids of each row, the newest last,
        `repetition.NOTHING` where there are fewer.
      classes_V: Class of each id, its codebook.
    """
    rule = self.repetition
    if rule.action == 'forbid':
      return self(self.ruled(logits_BV, recent_BR), keys_B)
    ids_B = self(logits_BV, keys_B)
    again = dataclasses.replace(
      self, temperature=self.temperature or 1.0, top_k=0, top_p=1.0
    )
    fresh = jax.vmap(jax.random.fold_in, (0, None))(keys_B, 1)
    return jnp.where(
      rule.repeats(ids_B, recent_BR, classes_V), again(logits_BV, fresh), ids_B
    )

  def ruled(
    self, logits_BV: jax.Array, recent_BR: jax.Array | None
  ) -> jax.Array:
    """Logits without what a rule that forbids takes away."""
    rule = self.repetition
    if not rule.window or rule.action != 'forbid':
      return logits_BV
    return rule.forbidden(logits_BV, recent_BR, FORBIDDEN)

  def check_replayable(self) -> None:
    """Refuses to draw what nobody could compute the probability of again.

    Raises:
      UserError: Ids are not drawn, or some are drawn twice.
    """
    if not self.temperature:
      raise errors.UserError(
        'sampler: temperature is 0, expected more: who always takes the best '
        'id draws nothing.'
      )
    if self.repetition.window and self.repetition.action != 'forbid':
      raise errors.UserError(
        f'repetition: action is {self.repetition.action!r}, expected '
        "'forbid' or a window of 0: an id that is drawn twice has no "
        'probability that could be computed again.'
      )

  def cut(self, logits_BV: jax.Array) -> jax.Array:
    """Scaled logits, -inf for what is forbidden or outside top-k and top-p."""
    # Scaling must not bring what is forbidden near to what is allowed.
    logits_BV = jnp.where(
      logits_BV <= FORBIDDEN, -jnp.inf, logits_BV / self.temperature
    )
    if self.top_k and self.top_k < logits_BV.shape[-1]:
      least_B1 = jax.lax.top_k(logits_BV, self.top_k)[0][:, -1:]
      logits_BV = jnp.where(logits_BV < least_B1, -jnp.inf, logits_BV)
    if self.top_p < 1:
      sorted_BV = jnp.sort(logits_BV, axis=-1, descending=True)
      p_BV = jax.nn.softmax(sorted_BV, axis=-1)
      # An id stays while the mass before it is short of top_p; the first
      # always stays.
      before_BV = jnp.cumsum(p_BV, axis=-1) - p_BV
      least_B1 = jnp.min(
        jnp.where(before_BV < self.top_p, sorted_BV, jnp.inf),
        axis=-1,
        keepdims=True,
      )
      logits_BV = jnp.where(logits_BV < least_B1, -jnp.inf, logits_BV)
    return logits_BV


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RowSampler:
  """As `Sampler`, with the settings of each row as arrays.

  Rows that come and go with settings of their own compile nothing anew, and
  draw what a `Sampler` with the same settings draws.

  Attributes:
    temperature_B: 0 is greedy; float32.
    top_k_B: 0 keeps all; int32.
    top_p_B: 1 keeps all; float32.
    ruled_B: Whether the rule about repeated ids has a word in it; bool.
    repetition: That rule, static.
  """

  temperature_B: jax.Array
  top_k_B: jax.Array
  top_p_B: jax.Array
  ruled_B: jax.Array
  repetition: repetition_lib.Repetition = dataclasses.field(
    default=repetition_lib.Repetition(), metadata={'static': True}
  )

  @classmethod
  def of(cls, samplers, repetition=repetition_lib.Repetition()):
    """The settings of some `Sampler`s, one a row.

    Args:
      samplers: The rule of each is `repetition`, or off.
      repetition: The rule.
    """
    return cls(
      np.asarray([one.temperature for one in samplers], np.float32),
      np.asarray([one.top_k for one in samplers], np.int32),
      np.asarray([one.top_p for one in samplers], np.float32),
      np.asarray([one.repetition.window > 0 for one in samplers]),
      repetition,
    )

  def __call__(self, logits_BV: jax.Array, keys_B: jax.Array) -> jax.Array:
    """As of `Sampler`."""
    greedy_B = _first_largest(logits_BV)
    draws_B = self.temperature_B > 0

    def drawn():
      cut_BV = self.cut(logits_BV)
      ids_B = jax.vmap(jax.random.categorical)(keys_B, cut_BV)
      return jnp.where(draws_B, ids_B.astype(jnp.int32), greedy_B)

    return jax.lax.cond(draws_B.any(), drawn, lambda: greedy_B)

  def choose(
    self,
    logits_BV: jax.Array,
    keys_B: jax.Array,
    recent_BR: jax.Array,
    classes_V: jax.Array,
  ) -> jax.Array:
    """As of `Sampler`."""
    rule = self.repetition
    if rule.action == 'forbid':
      ruled_BV = rule.forbidden(logits_BV, recent_BR, FORBIDDEN)
      logits_BV = jnp.where(self.ruled_B[:, None], ruled_BV, logits_BV)
      return self(logits_BV, keys_B)
    ids_B = self(logits_BV, keys_B)
    repeats_B = rule.repeats(ids_B, recent_BR, classes_V) & self.ruled_B
    again = RowSampler(
      jnp.where(self.temperature_B > 0, self.temperature_B, 1.0),
      jnp.zeros_like(self.top_k_B),
      jnp.ones_like(self.top_p_B),
      self.ruled_B,
    )

    def drawn():
      fresh = jax.vmap(jax.random.fold_in, (0, None))(keys_B, 1)
      return jnp.where(repeats_B, again(logits_BV, fresh), ids_B)

    return jax.lax.cond(repeats_B.any(), drawn, lambda: ids_B)

  def cut(self, logits_BV: jax.Array) -> jax.Array:
    """As of `Sampler`; of greedy rows it means nothing."""
    heat_B1 = jnp.maximum(self.temperature_B, _COLDEST)[:, None]
    logits_BV = jnp.where(logits_BV <= FORBIDDEN, -jnp.inf, logits_BV / heat_B1)

    def cut():
      V = logits_BV.shape[-1]
      sorted_BV = jnp.sort(logits_BV, axis=-1, descending=True)
      kept_B = jnp.where(self.top_k_B > 0, jnp.minimum(self.top_k_B, V), V)
      least_B1 = jnp.take_along_axis(sorted_BV, kept_B[:, None] - 1, axis=1)
      sorted_BV = jnp.where(sorted_BV < least_B1, -jnp.inf, sorted_BV)
      p_BV = jax.nn.softmax(sorted_BV, axis=-1)
      before_BV = jnp.cumsum(p_BV, axis=-1) - p_BV
      whole_B1 = (self.top_p_B >= 1)[:, None]
      stays_BV = (before_BV < self.top_p_B[:, None]) | whole_B1
      stays_BV &= sorted_BV > -jnp.inf
      least_B1 = jnp.min(
        jnp.where(stays_BV, sorted_BV, jnp.inf), axis=-1, keepdims=True
      )
      return jnp.where(logits_BV < least_B1, -jnp.inf, logits_BV)

    cuts_B = (self.top_k_B > 0) | (self.top_p_B < 1)
    return jax.lax.cond(cuts_B.any(), cut, lambda: logits_BV)


def _first_largest(x_BV: jax.Array) -> jax.Array:
  """`argmax` over V, of two reductions that a CPU vectorises (2.5 times)."""
  V = x_BV.shape[-1]
  is_largest_BV = x_BV == x_BV.max(axis=-1, keepdims=True)
  places_BV = jnp.where(is_largest_BV, jnp.arange(V, dtype=jnp.int32)[None], V)
  # Of a row with a NaN none is the largest: a valid id all the same.
  return jnp.minimum(places_BV.min(axis=-1), V - 1)
