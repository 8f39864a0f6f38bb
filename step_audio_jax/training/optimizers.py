"""AdamW with a schedule and learning-rate multipliers by parameter name."""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax

from step_audio_jax import errors


def clip_by_global_norm(limit: float) -> optax.GradientTransformation:
  """Scales all gradients by limit / max(limit, their global norm).

  Optax's own divides every entry by the norm, and XLA then writes the clipped
  gradients out; one factor is fused into the moments that read them.
  """

  def clipped(updates, params):
    del params
    factor = limit / jnp.maximum(limit, optax.global_norm(updates))
    return jax.tree.map(lambda u: u * factor.astype(u.dtype), updates)

  return optax.stateless(clipped)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """An Optax chain, by its numbers.

  Attributes:
    learning_rate: Peak of the schedule.
    schedule: 'constant' or 'cosine', both behind a linear warm-up.
    warmup_steps: Length of the warm-up.
    final_fraction: Where the cosine ends, as a fraction of the peak.
    beta1: Decay of the first moment.
    beta2: Decay of the second moment.
    epsilon: Of Adam.
    weight_decay: Decoupled; applied to arrays of rank two and more.
    clip: Largest global gradient norm; 0 switches clipping off.
    multipliers: (pattern, factor) pairs; the first pattern that is found in a
      parameter's path (`params/transformer/embedding`) scales its updates, 0
      freezes it.
  """

  learning_rate: float
  schedule: str = 'constant'
  warmup_steps: int = 0
  final_fraction: float = 0.1
  beta1: float = 0.9
  beta2: float = 0.95
  epsilon: float = 1e-8
  weight_decay: float = 0.1
  clip: float = 1.0
  multipliers: tuple[tuple[str, float], ...] = ()

  def __post_init__(self):
    if self.schedule not in ('constant', 'cosine'):
      raise errors.UserError(
        f"optimizer: schedule is {self.schedule!r}, expected 'constant' or "
        "'cosine'."
      )
    if self.learning_rate <= 0:
      raise errors.UserError(
        f'optimizer: learning_rate is {self.learning_rate}, expected a '
        'positive number.'
      )

  def learning_rate_at(self, steps: int) -> optax.Schedule:
    """step → learning rate, for a run of `steps` steps."""
    if self.schedule == 'cosine':
      return optax.warmup_cosine_decay_schedule(
        0.0 if self.warmup_steps else self.learning_rate,
        self.learning_rate,
        self.warmup_steps,
        max(steps, self.warmup_steps + 1),
        self.learning_rate * self.final_fraction,
      )
    if self.warmup_steps:
      return optax.linear_schedule(0.0, self.learning_rate, self.warmup_steps)
    return optax.constant_schedule(self.learning_rate)

  def build(self, params: Any, steps: int) -> optax.GradientTransformation:
    """The chain for a tree of parameters (arrays or shapes).

    Raises:
      UserError: A multiplier's pattern matches no parameter.
    """
    factors = self._factors(params)
    decayed = jax.tree.map(lambda p: p.ndim > 1, params)
    parts = [clip_by_global_norm(self.clip)] if self.clip else []
    parts += [
      optax.scale_by_adam(self.beta1, self.beta2, self.epsilon),
      optax.add_decayed_weights(self.weight_decay, decayed),
      optax.stateless(
        lambda updates, _: jax.tree.map(
          lambda u, f: u if f == 1.0 else u * f, updates, factors
        )
      ),
      optax.scale_by_learning_rate(self.learning_rate_at(steps)),
    ]
    return optax.chain(*parts)

  def _factors(self, params):
    unused = {pattern for pattern, _ in self.multipliers}

    def factor(path, _):
      name = 'params/' + '/'.join(key.key for key in path)
      for pattern, value in self.multipliers:
        if re.search(pattern, name):
          unused.discard(pattern)
          return float(value)
      return 1.0

    factors = jax.tree_util.tree_map_with_path(factor, params)
    if unused:
      raise errors.UserError(
        f'optimizer: no parameter matches the multiplier {sorted(unused)[0]!r}.'
      )
    return factors
