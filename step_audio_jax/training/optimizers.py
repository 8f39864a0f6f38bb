"""AdamW or Muon, a schedule and learning-rate multipliers by parameter name.

`OptimizerGroups` gives parts of the parameters chains of their own, as two
networks that play against each other need them.
"""

import dataclasses
import re
from typing import Any, Mapping

from flax import linen as nn
import jax
import jax.numpy as jnp
import optax

from step_audio_jax import errors
from step_audio_jax import settings
from step_audio_jax.training import muon


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
    decay_steps: Step at which it ends; 0 is the run's last. A run that is made
      longer keeps its learning rates where this is named.
    algorithm: 'adamw', or 'muon' for the matrices between embedding and head
      (`muon.split`) and AdamW for the rest; what suits AdamW suits both.
    momentum: Decay of Muon's momentum.
    by_adam: Pattern of matrices that go by AdamW all the same, as the first
      and last ones of a network whose ends are no tables; '' for none.
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
  decay_steps: int = settings.free(0)  # compared as the horizon
  algorithm: str = 'adamw'
  momentum: float = 0.95
  by_adam: str = ''

  def __post_init__(self):
    if self.schedule not in ('constant', 'cosine'):
      raise errors.UserError(
        f"optimizer: schedule is {self.schedule!r}, expected 'constant' or "
        "'cosine'."
      )
    if self.algorithm not in ('adamw', 'muon'):
      raise errors.UserError(
        f"optimizer: algorithm is {self.algorithm!r}, expected 'adamw' or "
        "'muon'."
      )
    if not 0 <= self.momentum < 1:
      raise errors.UserError(
        f'optimizer: momentum is {self.momentum}, expected 0 to below 1.'
      )
    errors.patterns('optimizer: by_adam', [self.by_adam])
    if self.learning_rate <= 0:
      raise errors.UserError(
        f'optimizer: learning_rate is {self.learning_rate}, expected a '
        'positive number.'
      )
    errors.patterns(
      'optimizer: multipliers', (pattern for pattern, _ in self.multipliers)
    )
    if self.warmup_steps < 0:
      raise errors.UserError(
        f'optimizer: warmup_steps is {self.warmup_steps}, expected 0 or more.'
      )
    if self.decay_steps < 0:
      raise errors.UserError(
        f'optimizer: decay_steps is {self.decay_steps}, expected 0 or more.'
      )
    if self.decay_steps and self.schedule != 'cosine':
      raise errors.UserError(
        f'optimizer: decay_steps is {self.decay_steps} and schedule '
        f"{self.schedule!r}, expected 'cosine', which it is the end of."
      )

  def horizon(self, steps: int) -> int | None:
    """Where the schedule of a run of `steps` steps ends; None if nowhere."""
    return (self.decay_steps or steps) if self.schedule == 'cosine' else None

  def learning_rate_at(self, steps: int) -> optax.Schedule:
    """step → learning rate, for a run of `steps` steps."""
    if self.schedule == 'cosine':
      return optax.warmup_cosine_decay_schedule(
        0.0 if self.warmup_steps else self.learning_rate,
        self.learning_rate,
        self.warmup_steps,
        max(self.horizon(steps), self.warmup_steps + 1),
        self.learning_rate * self.final_fraction,
      )
    if self.warmup_steps:
      return optax.linear_schedule(0.0, self.learning_rate, self.warmup_steps)
    return optax.constant_schedule(self.learning_rate)

  def build(self, params: Any, steps: int) -> optax.GradientTransformation:
    """The chain for a tree of parameters.

    Args:
      params: Arrays or shapes, boxed with their logical axes where Muon is to
        see which of them are matrices.
      steps: Length of the run.

    Raises:
      UserError: A pattern matches no parameter, or Muon finds no matrix.
    """
    boxed, params = params, nn.unbox(params)
    factors = self._factors(params)
    decayed = jax.tree.map(lambda p: p.ndim > 1, params)
    parts = [clip_by_global_norm(self.clip)] if self.clip else []
    parts += [
      self._moments(boxed),
      optax.add_decayed_weights(self.weight_decay, decayed),
      optax.stateless(
        lambda updates, _: jax.tree.map(
          lambda u, f: u if f == 1.0 else u * f, updates, factors
        )
      ),
      optax.scale_by_learning_rate(self.learning_rate_at(steps)),
    ]
    return optax.chain(*parts)

  def _moments(self, boxed) -> optax.GradientTransformation:
    """What makes a step of a gradient, before all that scales it."""
    adam = optax.scale_by_adam(self.beta1, self.beta2, self.epsilon)
    if self.algorithm == 'adamw':
      return adam

    spared = set()

    def split(path, leaf):
      found = muon.split(leaf.names) if _is_boxed(leaf) else None
      if found and self.by_adam and re.search(self.by_adam, _name(path)):
        spared.add(_name(path))
        found = None
      return found or optax.MaskedNode()

    splits = jax.tree_util.tree_map_with_path(split, boxed, is_leaf=_is_boxed)
    if not jax.tree.leaves(splits):
      raise errors.UserError(
        "optimizer: algorithm is 'muon', but no parameter that it is for is a "
        "matrix by its logical axes, expected one; 'adamw' needs none."
      )
    if self.by_adam and not spared:
      raise errors.UserError(
        f'optimizer: no matrix matches by_adam, {self.by_adam!r}.'
      )
    labels = jax.tree.map(
      lambda _, found: 'muon' if isinstance(found, muon.Split) else 'adam',
      boxed,
      splits,
      is_leaf=_is_boxed,
    )
    return optax.multi_transform(
      {'muon': muon.scale_by_muon(splits, self.momentum), 'adam': adam}, labels
    )

  def _factors(self, params):
    unused = {pattern for pattern, _ in self.multipliers}

    def factor(path, _):
      name = _name(path)
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


@dataclasses.dataclass(frozen=True)
class OptimizerGroups:
  """Several Optax chains, each for a part of the parameters.

  A chain sees only its own part: gradients are clipped by the norm of the
  group.

  Attributes:
    groups: Name → (pattern, numbers of the chain); a parameter belongs to the
      first group whose pattern is found in its path
      (`params/discriminators/period_2/conv_0/bias`).
  """

  groups: Mapping[str, tuple[str, OptimizerConfig]]

  def __post_init__(self):
    if not self.groups:
      raise errors.UserError(
        'optimizer: groups is empty, expected at least one.'
      )
    errors.patterns('optimizer: groups', (p for p, _ in self.groups.values()))

  def build(self, params: Any, steps: int) -> optax.GradientTransformation:
    """The chain for a tree of parameters, as `OptimizerConfig.build` has it.

    Raises:
      UserError: A parameter belongs to no group, a group has no parameter, or
        a pattern matches no parameter of its group.
    """
    labels = jax.tree_util.tree_map_with_path(
      self._group, params, is_leaf=_is_boxed
    )
    found = set(jax.tree.leaves(labels))
    chains = {}
    for name, (pattern, config) in self.groups.items():
      if name not in found:
        raise errors.UserError(
          f'optimizer: no parameter is left for the group {name!r} '
          f'({pattern!r}).'
        )
      # Parameters of other groups are empty nodes, as in what the chain gets.
      own = jax.tree.map(
        lambda p, label, name=name: p if label == name else optax.MaskedNode(),
        params,
        labels,
        is_leaf=_is_boxed,
      )
      chains[name] = config.build(own, steps)
    return optax.multi_transform(chains, labels)

  def _group(self, path, _):
    name = _name(path)
    for group, (pattern, _) in self.groups.items():
      if re.search(pattern, name):
        return group
    patterns = ', '.join(repr(pattern) for pattern, _ in self.groups.values())
    raise errors.UserError(
      f'optimizer: {name} belongs to no group, expected one of {patterns} to '
      'be found in it.'
    )


def _is_boxed(leaf: Any) -> bool:
  return isinstance(leaf, nn.LogicallyPartitioned)


def _name(path) -> str:
  return 'params/' + '/'.join(key.key for key in path)
