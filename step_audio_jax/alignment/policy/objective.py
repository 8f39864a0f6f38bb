"""What a policy minimises on answers that it gave itself.

    L = sum of w (policy + critic_weight critic + kl k2 - entropy H)

with the clipped surrogate of `losses`. `Ppo` has a critic and generalized
advantages (arXiv 1707.06347; for language models arXiv 2203.02155, with the
details that Huang et al., arXiv 2403.17031, found to matter); `Grpo` has no
critic, and compares answers to one prompt (arXiv 2402.03300).

The parameters of the policy lie where those of a language model lie, so that
every door opens the run as one; beside them are

    params/critic   the critic, started from the reward model
    reference       the policy as it was; with adapters it is their base
    reward          the reward model
    controller      the coefficient of the divergence, where it adapts
    pending         the rollout of the next step, where one is drawn ahead

and only `params` learns. The report gives clip 0.2, KL coefficient 0.05, rates
1e-6 to 2e-7 and 80 steps of critic warm-up (arXiv 2502.11946, section 5.2.5);
all other numbers are our choice.

Axes: B answers, N places of an answer.
"""

import dataclasses
import math
from typing import Any, Mapping, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp

from step_audio_jax import errors
from step_audio_jax import settings
from step_audio_jax.alignment import advantages as advantages_lib
from step_audio_jax.alignment import divergence
from step_audio_jax.alignment import losses
from step_audio_jax.alignment.policy import sources
from step_audio_jax.alignment.rewards import rewards as rewards_lib
from step_audio_jax.alignment.rollouts import rollout as rollout_lib
from step_audio_jax.alignment.rollouts import sampling as sampling_lib
from step_audio_jax.training.objectives import lora
from step_audio_jax.training.objectives import objectives

CRITIC, REWARD = sources.CRITIC, sources.REWARD
CONTROLLER = 'controller'  # of the divergence's coefficient
PENALTY, MASK = 'penalty', 'mask'
_POSITIVE = (0, math.inf)


class Experience(NamedTuple):
  """A rollout with all that its answers are learnt from; a pytree.

  Attributes:
    rollout: The answers.
    log_old: Log-probabilities at the beginning of the update, (B, N).
    log_reference: Those of the reference, (B, N).
    advantages: (B, N).
    returns: What the critic should have said, (B, N); empty without one.
    values: What it said, (B, N); empty without one.
    importance: Weights of places that an older policy sampled, (B, N).
  """

  rollout: rollout_lib.Rollout
  log_old: jax.Array
  log_reference: jax.Array
  advantages: jax.Array
  returns: jax.Array
  values: jax.Array
  importance: jax.Array


@dataclasses.dataclass(frozen=True)
class Divergence:
  """How the policy is held to its reference.

  Attributes:
    coefficient: Weight of the divergence; the first one if it adapts.
    estimator: Of `divergence.ESTIMATORS`.
    place: 'reward' or 'loss'.
    target: Divergence of an answer, nats, that the coefficient is adapted to
      (Ziegler et al., arXiv 1909.08593); 0 keeps it.
    horizon: Answers over which it adapts.
  """

  coefficient: float = 0.05
  estimator: str = 'k1'
  place: str = divergence.REWARD
  target: float = 0.0
  horizon: int = 10_000

  def __post_init__(self):
    divergence.check(self.estimator, self.place)
    errors.within('kl', self, {'coefficient': _POSITIVE, 'target': _POSITIVE})
    errors.at_least_one('kl', self, ['horizon'])

  def adapted(
    self, coefficient: jax.Array, found: jax.Array, answers: int
  ) -> jax.Array:
    """The coefficient behind a step with that mean divergence of an answer."""
    if not self.target:
      return coefficient
    error = jnp.clip(found / self.target - 1.0, -0.2, 0.2)
    return coefficient * (1.0 + error * answers / self.horizon)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PolicyGradient:
  """What `Ppo` and `Grpo` share.

  Attributes:
    policy: The language model as an objective: `NextToken`, or `Lora` of it.
    reward: A `ScoringModel` that judges answers beside the rules; None for
      rules alone. Its parameters come from a reward model among the sources.
    reward_weight: Of its score in the reward.
    kl: How the policy is held to its reference.
    clip_low: How far a ratio may fall.
    clip_high: How far it may rise; None means as far.
    mean: How places weigh, of `losses.MEANS`.
    entropy: Weight of the entropy that is rewarded.
    no_end: What comes of an answer that did not end: 'penalty' adds
      `no_end_reward` to its reward, 'mask' leaves it out of the loss.
    no_end_reward: See there.
    staleness: 1 draws the answers of a step before the update of the step in
      front of it, beside that step; 0 behind it.
    most_importance: Where importance weights of older answers end.
    sampling: How answers are drawn.
    rewards: Rules and other judges of an answer.
    epochs: Times that a rollout is gone through.
    minibatches: Updates of one time; they divide the answers of a batch.
    most_gap: Mean difference of the log-probabilities of sampler and learner
      from which on an answer is dropped, and counted.
    buckets: Widths that prompts, and answers, may have: those of a step get the
      least one that the longest of them fits into. 1 pads all alike.
  """

  policy: objectives.Objective
  reward: nn.Module | None = None
  reward_weight: float = 1.0
  kl: Divergence = Divergence()
  clip_low: float = 0.2
  clip_high: float | None = None
  mean: str = 'token'
  entropy: float = 0.0
  no_end: str = PENALTY
  no_end_reward: float = -1.0
  staleness: int = 0
  most_importance: float = 2.0
  sampling: sampling_lib.Sampling = sampling_lib.Sampling()
  rewards: rewards_lib.Rewards
  epochs: int = 1
  minibatches: int = 1
  most_gap: float = 0.05
  buckets: int = settings.free(1)

  def __post_init__(self):
    if self.no_end not in (PENALTY, MASK):
      raise errors.UserError(
        f'policy: no_end is {self.no_end!r}, expected {PENALTY!r} or {MASK!r}.'
      )
    if self.mean not in losses.MEANS:
      raise errors.UserError(
        f'policy: mean is {self.mean!r}, expected one of '
        f'{", ".join(losses.MEANS)}.'
      )
    errors.at_least_one('policy', self, ['epochs', 'minibatches', 'buckets'])
    some = {'clip_low': (0, 1), 'most_importance': (1, math.inf)}
    errors.within('policy', self, some | {'clip_high': _POSITIVE})
    if self.staleness not in (0, 1):
      raise errors.UserError(
        f'policy: staleness is {self.staleness}, expected 0 or 1.'
      )
    if not self.most_gap > 0:
      raise errors.UserError(
        f'policy: most_gap is {self.most_gap}, expected more than 0.'
      )
    adapters = self.adapters
    if adapters is not None and adapters.whole:
      raise errors.UserError(
        f'lora: whole is {adapters.whole!r}, expected adapters alone: the '
        'reference of a policy is their base.'
      )

  @property
  def temperature(self) -> float:
    """At which answers are drawn."""
    return self.sampling.sampler.temperature

  @property
  def adapters(self) -> lora.Lora | None:
    """The adapters that learn in place of the policy's parameters."""
    return self.policy if isinstance(self.policy, lora.Lora) else None

  @property
  def language(self) -> objectives.NextToken:
    """The language model within."""
    return self.adapters.objective if self.adapters else self.policy

  @property
  def model(self) -> nn.Module:
    """The policy's network."""
    return self.language.model

  @property
  def vocabulary(self):
    return self.language.vocabulary

  def critic_model(self) -> nn.Module | None:
    """The critic's network; None without one."""
    return None

  def init(self, rng, batch):
    tokens = batch['tokens'][:1, :8]
    variables = dict(self.policy.init(rng, {'tokens': tokens}))
    params = dict(variables['params'])
    if self.adapters is None:
      # A copy: the policy's own buffers are given away at each update.
      variables[objectives.REFERENCE] = jax.tree.map(jnp.copy, dict(params))
    if self.reward is not None:
      variables[REWARD] = dict(self.reward.init(rng, tokens)['params'])
    critic = self.critic_model()
    if critic is not None:
      params[CRITIC] = dict(critic.init(rng, tokens)['params'])
    if self.kl.target:
      variables[CONTROLLER] = {'kl': jnp.float32(self.kl.coefficient)}
    return {**variables, 'params': params}

  def check_sources(self, configs: Mapping[str, Mapping[str, Any]]) -> None:
    """See `sources.check`."""
    sources.check(configs, self.reward is not None, self.language.describe())

  def adopt(
    self,
    variables: Mapping[str, Any],
    config: Mapping[str, Any],
    path: str = 'init_from',
  ) -> dict[str, Any]:
    """See `sources.adopted`."""
    return sources.adopted(variables, config, path, self.language.describe())

  def policy_variables(self, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Variables of the policy's network, in the dtype of its matmuls."""
    params = {k: v for k, v in variables['params'].items() if k != CRITIC}
    found: Mapping[str, Any] = {'params': params}
    if self.adapters is not None:
      found = self.adapters.effective({**found, 'base': variables['base']})
    return self._computed(found['params'])

  def reference_variables(self, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the reference: without a gradient."""
    params = variables[
      objectives.REFERENCE if self.adapters is None else 'base'
    ]
    return self._computed(jax.lax.stop_gradient(params))

  def _computed(self, params) -> dict[str, Any]:
    dtype = self.model.config.transformer.dtype
    return {'params': objectives.compute_copy(params, dtype)}

  def values(
    self, variables: Mapping[str, Any], rollout: rollout_lib.Rollout
  ) -> jax.Array | None:
    """What the critic expects at each place, (B, N); None without one."""
    critic = self.critic_model()
    if critic is None:
      return None
    rows, of_answers = rollout_lib.answering(rollout, rollout.answer_places)
    params = {'params': variables['params'][CRITIC]}
    values_BN = of_answers(critic.apply(params, **rows))
    return jnp.where(rollout.mask, values_BN, 0.0)

  def scores(
    self, variables: Mapping[str, Any], rollout: rollout_lib.Rollout
  ) -> jax.Array | None:
    """What the reward model gives each answer, (B,); None without one."""
    if self.reward is None:
      return None
    # One place more than ids: a score is said of all of them.
    rows, of_answers = rollout_lib.answering(rollout, rollout.answer_places + 1)
    scores_BN = of_answers(
      self.reward.apply({'params': variables[REWARD]}, **rows)
    )
    last_B1 = rollout.lengths[:, None]
    return jnp.take_along_axis(scores_BN, last_B1, axis=1)[:, 0]

  def scored(
    self, variables: Mapping[str, Any], rollout: rollout_lib.Rollout
  ) -> rollout_lib.Scored:
    """What the policy says of a rollout; differentiable."""
    return rollout_lib.score(
      self.model,
      self.policy_variables(variables),
      rollout,
      temperature=self.temperature,
    )

  def placed_rewards(
    self,
    rollout: rollout_lib.Rollout,
    judged_B: jax.Array,
    log_old: jax.Array,
    log_reference: jax.Array,
    coefficient: jax.Array,
  ) -> jax.Array:
    """Reward of each place, (B, N): the divergence, and the verdict at the end.

    Args:
      rollout: The answers.
      judged_B: What they are worth.
      log_old: Log-probabilities of the policy.
      log_reference: Of the reference.
      coefficient: Of the divergence.
    """
    mask = rollout.mask
    places_N = jnp.arange(rollout.answer_places)
    last_BN = places_N[None] == rollout.lengths[:, None] - 1
    if self.no_end == PENALTY:
      judged_B += jnp.where(rollout.stopped, 0.0, self.no_end_reward)
    found = jnp.where(last_BN, judged_B[:, None], 0.0)
    if self.kl.place == divergence.REWARD:
      estimate = divergence.ESTIMATORS[self.kl.estimator]
      found -= coefficient * estimate(log_old, log_reference)
    return jnp.where(mask, found, 0.0)

  def estimate(
    self, rewards_BN: jax.Array, values_BN, rollout: rollout_lib.Rollout
  ) -> tuple[jax.Array, jax.Array]:
    """(advantages, returns), both (B, N), of rewards; see the subclasses."""
    raise NotImplementedError

  def counted(self, rollout: rollout_lib.Rollout) -> rollout_lib.Rollout:
    """The rollout without the answers that are left out of the loss."""
    if self.no_end != MASK:
      return rollout
    lengths = jnp.where(rollout.stopped, rollout.lengths, 0)
    return rollout._replace(lengths=lengths)

  def loss(self, variables, batch, rng):
    """The loss of a part of an `Experience`; as `Objective.loss`.

    Args:
      variables: Parameters, and what stays as it is.
      batch: `experience`, an `Experience`; `coefficient`, of the divergence;
        `learns`, 0 while only the critic does; `scored`, what the policy says
        of the answers, where somebody asked before.
      rng: Not used.
    """
    del rng
    it, coefficient = batch['experience'], batch['coefficient']
    rollout = self.counted(it.rollout)
    mask = rollout.mask
    places, answers = losses.weights_of_places(
      mask, self.mean, self.sampling.longest
    )
    weight = answers.sum()
    scored = batch.get('scored')
    if scored is None:
      scored = self.scored(variables, rollout)
    else:  # looked at before some answers were dropped
      scored = rollout_lib.Scored(*(jnp.where(mask, x, 0.0) for x in scored))
    clipped = losses.clipped_policy(
      scored.log_probs,
      it.log_old,
      it.advantages,
      low=self.clip_low,
      high=self.clip_high,
    )
    each = clipped.losses * it.importance
    if self.kl.place == divergence.LOSS:
      estimate = divergence.ESTIMATORS[self.kl.estimator]
      each += coefficient * estimate(scored.log_probs, it.log_reference)
    if self.entropy:
      each -= self.entropy * scored.entropy
    total = batch['learns'] * (places * each).sum()
    count = mask.sum().astype(jnp.float32)
    metrics = {
      'loss/policy': ((places * clipped.losses * it.importance).sum(), weight),
      'policy/clipped': ((clipped.held & mask).sum(), count),
      'policy/entropy': ((mask * scored.entropy).sum(), count),
      'policy/moved': (
        jnp.where(mask, divergence.k3(scored.log_probs, it.log_old), 0.0).sum(),
        count,
      ),
    }
    critic, more = self.critic_loss(variables, it, rollout, places, weight)
    total += critic
    metrics |= more | {'loss': (total, weight)}
    return total, weight, metrics, {}

  def critic_loss(self, variables, experience, rollout, places, weight):
    """(weighted sum, metrics) of the critic; nothing without one."""
    del variables, experience, rollout, places, weight
    return 0.0, {}

  def describe(self):
    return {
      **self.policy.describe(),
      sources.ALIGNMENT: {'algorithm': type(self).__name__.lower()},
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ppo(PolicyGradient):
  """Proximal policy optimization, with a critic.

  Attributes:
    critic: A `ScoringModel`; its parameters come from the reward model among
      the sources, where there is one.
    critic_weight: Of its loss.
    value_clip: How far a value may move in one update; 0 does not clip.
    discount: gamma of the advantages.
    smoothing: lambda of the advantages.
    whiten: Whether advantages are whitened over the batch.
    warmup_steps: Steps at the beginning in which only the critic learns.
  """

  critic: nn.Module
  critic_weight: float = 0.5
  value_clip: float = 0.2
  discount: float = 1.0
  smoothing: float = 0.95
  whiten: bool = True
  warmup_steps: int = 80

  def __post_init__(self):
    super().__post_init__()
    some = dict.fromkeys(('discount', 'smoothing'), (0, 1))
    more = ('critic_weight', 'value_clip', 'warmup_steps')
    errors.within('policy', self, some | dict.fromkeys(more, _POSITIVE))

  def critic_model(self):
    return self.critic

  def estimate(self, rewards_BN, values_BN, rollout):
    advantages, returns = advantages_lib.generalized_advantages(
      rewards_BN,
      values_BN,
      rollout.mask,
      discount=self.discount,
      smoothing=self.smoothing,
    )
    if self.whiten:
      # What is left out of the loss is no part of mean and variance.
      counted = self.counted(rollout).mask
      advantages = advantages_lib.whiten(advantages, counted)
    return advantages, returns

  def critic_loss(self, variables, experience, rollout, places, weight):
    values = self.values(variables, rollout)
    clipped = losses.clipped_values(
      values, experience.values, experience.returns, clip=self.value_clip
    )
    each = jnp.where(rollout.mask, clipped.losses, 0.0)
    total = (places * each).sum()
    count = rollout.mask.sum().astype(jnp.float32)
    return self.critic_weight * total, {
      'loss/critic': (total, weight),
      'critic/clipped': ((clipped.held & rollout.mask).sum(), count),
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grpo(PolicyGradient):
  """Answers to one prompt against each other, without a critic.

  Attributes:
    group: Answers to one prompt.
    leave_one_out: Whether an answer is no part of its own baseline (RLOO,
      arXiv 2402.14740).
    scale: Whether advantages are divided by the group's standard deviation.
  """

  group: int = 8
  leave_one_out: bool = False
  scale: bool = True
  kl: Divergence = Divergence(0.05, 'k2', divergence.LOSS)
  mean: str = 'answer'
  warmup_steps: int = dataclasses.field(default=0, init=False)

  def __post_init__(self):
    super().__post_init__()
    if self.group < 2:
      raise errors.UserError(
        f'policy: group is {self.group}, expected at least 2 answers to a '
        'prompt, which are compared.'
      )

  def estimate(self, rewards_BN, values_BN, rollout):
    del values_BN
    counted = self.counted(rollout)
    advantages_B = advantages_lib.group_advantages(
      rewards_BN.sum(1),
      self.group,
      leave_one_out=self.leave_one_out,
      scale=self.scale,
      valid_B=counted.lengths > 0,
    )
    advantages = jnp.where(rollout.mask, advantages_B[:, None], 0.0)
    return advantages, jnp.zeros((len(advantages), 0), jnp.float32)
