"""A policy learnt from preferences alone: DPO from pairs, KTO from answers.

Both need the log-ratio of an answer y to a prompt x,

    r(x, y) = log policy(y | x) - log reference(y | x),

and the reference is what the run started from: the collection
`objectives.REFERENCE`, which is filled as the parameters are and never trained.
Inside `lora.Lora` it is the base without adapters, and costs nothing.

Log-probabilities have a gradient at each place (`partition.target_log_probs`);
of the reference only their sums are kept.
"""

import dataclasses
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.alignment import losses
from step_audio_jax.alignment.objectives import mismatch
from step_audio_jax.alignment.objectives import pairs as pairs_lib
from step_audio_jax.generation import restore
from step_audio_jax.parallel import partition
from step_audio_jax.training.objectives import objectives

# What the whole batch tells of its exchanged answers.
_MOVED, _ANSWERS = 'kto/log_ratios', 'kto/answers'


class Places(NamedTuple):
  """Log-probabilities of packed rows, all (B, T).

  Attributes:
    log_probs: Of each predicted id times its weight, float32.
    weights: float32.
    segments: Of the predicted ids, int32; 0 where nothing is predicted.
  """

  log_probs: jax.Array
  weights: jax.Array
  segments: jax.Array


def log_probs(model: nn.Module, params: Any, batch: Any) -> Places:
  """Of the places that weigh anything, with a gradient.

  Args:
    model: As `objectives.predicted`.
    params: Of it.
    batch: Packed rows.
  """
  dtype = model.config.transformer.dtype
  variables = {'params': objectives.compute_copy(params, dtype)}
  found = objectives.predicted(model, variables, batch)
  log_probs_BT = partition.target_log_probs(
    found.hidden,
    found.head,
    found.targets,
    found.weights,
    chunk=objectives.ANSWERS,
  )
  return Places(log_probs_BT * found.weights, found.weights, found.segments)


@dataclasses.dataclass(frozen=True)
class _Compared:
  """A policy beside where it started.

  Attributes:
    model: As `objectives.NextToken`.
    vocabulary: Of the ids.
    beta: How much the policy is held to its reference.
  """

  model: nn.Module
  vocabulary: vocabulary_lib.Vocabulary
  beta: float = 0.1

  # Not annotated: it is no setting.
  keeps_start = True

  def __post_init__(self):
    objectives.check_table(self.model, self.vocabulary)
    if not self.beta > 0:
      raise errors.UserError(
        f'preference: beta is {self.beta}, expected more than 0.'
      )

  def check_sources(self, configs):
    """Refuses to start from a reward model: its output table is gone."""
    for path, config in configs.items():
      restore.check_answers(config, f'{path}/config.json')

  def init(self, rng, batch):
    pairs_lib.check(batch)
    variables = self.model.init(rng, batch['tokens'][:1, :8])
    # A copy: both are given to the step, and no buffer twice.
    start = jax.tree.map(jnp.copy, variables['params'])
    return {**variables, objectives.REFERENCE: start}

  def _places(self, variables, batch) -> tuple[Places, Places]:
    """(policy, reference)."""
    start = jax.lax.stop_gradient(variables[objectives.REFERENCE])
    return (
      log_probs(self.model, variables['params'], batch),
      log_probs(self.model, start, batch),
    )

  def _sums(self, variables, batch) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(log policy, log-ratio, ids) of both sides of all pairs, (B, K, 2)."""
    policy, reference = self._places(variables, batch)
    log_policy, log_ratios, ids = (
      pairs_lib.sums(x_BT, policy.segments, batch[pairs_lib.KEY])
      for x_BT in (
        policy.log_probs,
        policy.log_probs - reference.log_probs,
        policy.weights,
      )
    )
    return log_policy, log_ratios, ids

  def _flops(self, batch, passes: int) -> float:
    """Of a step that goes through the model so often; a training step is 3."""
    rows, length = batch['tokens'].shape
    config = self.model.config.transformer
    return rows * length * config.flops_per_token(length) * passes / 3

  def _described(self, name: str) -> dict[str, Any]:
    told = {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
      if field.name not in ('model', 'vocabulary')
    }
    return {
      **objectives.described(self.model, self.vocabulary),
      'preference': {'objective': name, **told},
    }


@dataclasses.dataclass(frozen=True)
class DirectPreference(_Compared):
  """DPO (Rafailov et al., arXiv 2305.18290).

  Attributes:
    normalised: Whether r is divided by the ids of its answer, so that length
      alone moves nothing (Tulu 3, arXiv 2411.15124, with a beta of 5).
    smoothing: Share of the pairs that may be the wrong way round.
  """

  normalised: bool = False
  smoothing: float = 0.0

  def __post_init__(self):
    super().__post_init__()
    if not 0 <= self.smoothing < 0.5:
      raise errors.UserError(
        f'preference: smoothing is {self.smoothing}, expected 0 to below 0.5, '
        'where pairs say nothing.'
      )

  def check_feed(self, feed):
    return pairs_lib.check_whole(feed)

  def loss(self, variables, batch, rng):
    del rng
    pairs_BK2 = batch[pairs_lib.KEY]
    log_policy_BK2, ratios_BK2, ids_BK2 = self._sums(variables, batch)
    if self.normalised:
      ratios_BK2 /= jnp.maximum(ids_BK2, 1.0)
    losses_BK = losses.direct_preference(
      ratios_BK2[..., 0],
      ratios_BK2[..., 1],
      beta=self.beta,
      smoothing=self.smoothing,
    )
    both_BK = (pairs_BK2 > 0).all(-1).astype(jnp.float32)
    total, weight = (losses_BK * both_BK).sum(), both_BK.sum()
    metrics = {
      'loss': (total, weight),
      **_log_prob_metrics(log_policy_BK2, pairs_BK2),
      **pairs_lib.metrics('reward', self.beta * ratios_BK2, pairs_BK2),
    }
    return total, weight, metrics, {}

  def flops(self, batch) -> float:
    """Model FLOPs of one training step: the reference runs forward."""
    return self._flops(batch, 4)

  def describe(self):
    return self._described('dpo')


@dataclasses.dataclass(frozen=True)
class KahnemanTversky(_Compared):
  """KTO (Ethayarajh et al., arXiv 2402.01306).

  Its baseline z is the mean of r over prompts with answers of other prompts
  (`mismatch`), and 0 where that is negative. The paper takes it over a
  microbatch; here it is that of the whole batch, however that is cut: a first
  pass over all microbatches (`survey`), without gradients, gives the sum that
  all of them use.

  Attributes:
    wanted: Weight of the answers that are wanted. Where there are fewer of one
      kind, it weighs more, so that both kinds weigh about the same.
    unwanted: Of the others.
  """

  wanted: float = 1.0
  unwanted: float = 1.0

  def __post_init__(self):
    super().__post_init__()
    if not (self.wanted > 0 and self.unwanted > 0):
      raise errors.UserError(
        f'preference: wanted is {self.wanted} and unwanted {self.unwanted}, '
        'expected more than 0.'
      )

  def arrange(self, batch):
    """The batch with answers of other prompts beside its own."""
    return mismatch.exchanged(batch)

  def survey(self, variables, batch):
    """Sum of their log-ratios, and how many they are."""
    variables = jax.lax.stop_gradient(variables)
    rows = mismatch.rows_of(batch)
    policy, reference = self._places(variables, rows)
    return {
      _MOVED: (policy.log_probs - reference.log_probs).sum(),
      _ANSWERS: mismatch.count(rows),
    }

  def loss(self, variables, batch, rng):
    del rng
    if _ANSWERS not in batch:  # this is all there is
      batch = {**batch, **self.survey(variables, self.arrange(batch))}
    pairs_BK2 = batch[pairs_lib.KEY]
    baseline = batch[_MOVED] / jnp.maximum(batch[_ANSWERS], 1.0)
    log_policy_BK2, ratios_BK2, _ = self._sums(variables, batch)
    losses_BK2 = losses.kahneman_tversky(
      ratios_BK2,
      jnp.arange(2)[None, None] == 0,
      baseline,
      beta=self.beta,
      gain=self.wanted,
      loss=self.unwanted,
    )
    there_BK2 = (pairs_BK2 > 0).astype(jnp.float32)
    total, weight = (losses_BK2 * there_BK2).sum(), there_BK2.sum()
    metrics = {
      'loss': (total, weight),
      'baseline': (jnp.maximum(baseline, 0.0) * weight, weight),
      **_log_prob_metrics(log_policy_BK2, pairs_BK2),
      **pairs_lib.metrics('reward', self.beta * ratios_BK2, pairs_BK2),
    }
    return total, weight, metrics, {}

  def flops(self, batch) -> float:
    """Model FLOPs of one training step: three passes are forward alone."""
    return self._flops(batch, 6)

  def describe(self):
    return self._described('kto')


def _log_prob_metrics(log_policy_BK2, pairs_BK2):
  """Whether the policy also finds answers likelier, not only than others."""
  told = pairs_lib.metrics('log_prob', log_policy_BK2, pairs_BK2)
  return {k: v for k, v in told.items() if k.startswith('log_prob/')}
