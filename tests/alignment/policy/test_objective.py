"""The whole loss of an update against NumPy, place by place, on ragged rows."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.alignment.policy import objective as objective_lib
from step_audio_jax.alignment.rollouts import rollout as rollout_lib
from step_audio_jax.models.language import scoring
from tests.alignment import toy_policy

KL = objective_lib.Divergence(0.3, 'k2', 'loss')
LENGTHS = np.array([8, 3, 0, 1, 5, 8, 2, 7])


@functools.cache
def variables(kind):
  it = toy_policy.objective(kind)
  found = nn.meta.unbox(
    it.init(jax.random.key(0), {'tokens': np.ones((1, 4), np.int32)})
  )
  return {
    **found,
    'params': {**found['params'], **toy_policy.variables()['params']},
  }


@functools.cache
def experience(critic=False):
  """A made one: what an update is given, all of it drawn at random."""
  rng = np.random.default_rng(0)
  B, P, N = len(LENGTHS), toy_policy.PLACES, toy_policy.ANSWER
  tokens = rng.integers(30, 100, (B, P + N)).astype(np.int32)
  starts = rng.integers(0, P - 2, B).astype(np.int32)
  rollout = rollout_lib.Rollout(
    tokens=jnp.array(tokens),
    starts=jnp.array(starts),
    lengths=jnp.array(LENGTHS, jnp.int32),
    stopped=jnp.array(LENGTHS < N),
    log_probs=jnp.zeros((B, N)),
    support=jnp.full((B, N, 17), 255, jnp.uint8),
  )
  scored = jax.jit(rollout_lib.score, static_argnums=0)(
    toy_policy.MODEL, toy_policy.variables(), rollout
  )

  def noise(scale):
    return rng.normal(size=(B, N)).astype(np.float32) * scale

  width = N if critic else 0
  return objective_lib.Experience(
    rollout,
    scored.log_probs + noise(0.3),
    scored.log_probs + noise(0.5),
    jnp.array(noise(1.0)),
    jnp.array(noise(1.0)[:, :width]),
    jnp.array(noise(1.0)[:, :width]),
    jnp.array(np.abs(noise(1.0))),
  ), jax.tree.map(np.asarray, scored)


def loss(it, kind, part, learns=1.0, coefficient=0.3):
  batch = {
    'experience': part,
    'coefficient': jnp.float32(coefficient),
    'learns': jnp.float32(learns),
  }
  call = jax.jit(lambda v: it.loss(v, batch, None)[:3])
  return jax.tree.map(np.asarray, call(variables(kind)))


def oracle(it, scored, part, values=None):
  """(total, weight): loops over places, float64."""
  total, weight = 0.0, 0.0
  for b, length in enumerate(LENGTHS):
    if it.no_end == 'mask' and length == toy_policy.ANSWER:
      continue
    if it.mean == 'token':
      weight += length
      share = 1.0
    else:
      weight += length > 0
      share = 1 / max(length, 1)
      if it.mean == 'constant':
        share = 1 / toy_policy.ANSWER
    for t in range(length):
      new, old, ref, advantage, importance = (
        float(x[b, t])
        for x in (
          scored.log_probs,
          part.log_old,
          part.log_reference,
          part.advantages,
          part.importance,
        )
      )
      ratio = np.exp(new - old)
      high = it.clip_low if it.clip_high is None else it.clip_high
      near = min(max(ratio, 1 - it.clip_low), 1 + high)
      each = -min(ratio * advantage, near * advantage) * importance
      if it.kl.place == 'loss':
        d = new - ref
        each += (
          0.3 * {'k2': d * d / 2, 'k3': np.exp(-d) - 1 + d}[it.kl.estimator]
        )
      each -= it.entropy * float(scored.entropy[b, t])
      if values is not None:
        v, o, r = (float(x[b, t]) for x in (values, part.values, part.returns))
        n = min(max(v, o - it.value_clip), o + it.value_clip)
        each += it.critic_weight * max((v - r) ** 2, (n - r) ** 2) / 2
      total += share * each
  return total, weight


@pytest.mark.parametrize('mean', ['token', 'answer', 'constant'])
@pytest.mark.parametrize(
  'settings',
  [
    {},
    {'clip_high': 0.28, 'no_end': 'mask'},
    {'entropy': 0.02, 'kl': objective_lib.Divergence(0.3, 'k3', 'loss')},
  ],
)
def test_loss_of_groups(mean, settings):
  it = toy_policy.objective(**{'mean': mean, 'kl': KL} | settings)
  part, scored = experience()
  total, weight, metrics = loss(it, 'grpo', part)
  truth = oracle(it, scored, part)
  np.testing.assert_allclose((total, weight), truth, rtol=2e-6, atol=1e-5)
  assert metrics['loss'][0] == total


def test_loss_with_a_critic():
  it = toy_policy.objective('ppo', mean='token')
  part, scored = experience(critic=True)
  values = np.asarray(it.values(variables('ppo'), part.rollout))
  total, weight, metrics = loss(it, 'ppo', part)
  truth = oracle(it, scored, part, values)
  np.testing.assert_allclose((total, weight), truth, rtol=2e-6, atol=1e-5)
  only_critic, _, _ = loss(it, 'ppo', part, learns=0.0)
  assert only_critic == pytest.approx(
    it.critic_weight * metrics['loss/critic'][0], rel=1e-6
  )


def test_width_side_and_order_of_padding_change_nothing():
  it = toy_policy.objective(kl=KL)
  part, _ = experience()
  total, weight, _ = loss(it, 'grpo', part)
  rollout = part.rollout
  more, behind = 5, 8

  def wide(x):
    return jnp.pad(x, ((0, 0), (0, behind)), constant_values=7.0)

  padded = part._replace(
    rollout=rollout._replace(
      tokens=jnp.pad(
        rollout.tokens, ((0, 0), (more, behind)), constant_values=9
      ),
      starts=rollout.starts + more,
      log_probs=wide(rollout.log_probs),
      support=jnp.pad(
        rollout.support, ((0, 0), (0, behind), (0, 0)), constant_values=255
      ),
    ),
    **{
      name: wide(getattr(part, name))
      for name in ('log_old', 'log_reference', 'advantages', 'importance')
    },
  )
  order = np.array([5, 0, 7, 2, 1, 6, 3, 4])
  turned = jax.tree.map(lambda x: x[order], part)
  for other in (padded, turned):
    found, same, _ = loss(it, 'grpo', other)
    assert found / same == pytest.approx(total / weight, abs=1e-6)
    assert same == weight


def test_rewards_lie_at_the_last_place():
  it = toy_policy.objective('ppo', no_end_reward=-1.0)
  part, _ = experience(critic=True)
  judged = jnp.arange(8.0)
  found = np.asarray(
    it.placed_rewards(
      part.rollout, judged, part.log_old, part.log_reference, jnp.float32(0.5)
    )
  )
  kl = 0.5 * np.asarray(part.log_old - part.log_reference)
  for b, length in enumerate(LENGTHS):
    truth = -kl[b, :length]
    if length:
      truth[-1] += b - (length == toy_policy.ANSWER)
    np.testing.assert_allclose(found[b, :length], truth, atol=1e-5)
    assert not found[b, length:].any()


def test_a_group_is_compared_by_its_whole_reward():
  it = toy_policy.objective(scale=False)
  part, _ = experience()
  rewards = np.zeros((8, toy_policy.ANSWER), np.float32)
  rewards[:, 0] = [1, 2, 50, 6, 1, 1, 1, 5]
  found, _ = it.estimate(jnp.array(rewards), None, part.rollout)
  # The third has no place: it is no part of its group.
  truth = [-2, -1, 0, 3, -1, -1, -1, 3]
  for b, length in enumerate(LENGTHS):
    np.testing.assert_allclose(found[b, :length], truth[b], atol=1e-6)
    assert not np.asarray(found)[b, length:].any()


def test_scores_are_those_of_the_last_place():
  judge = scoring.ScoringModel(toy_policy.CONFIG)
  it = toy_policy.objective(reward=judge)
  part, _ = experience()
  params = judge.init(jax.random.key(1), np.ones((1, 4), np.int32))['params']
  params = nn.meta.unbox(params)
  found = np.asarray(it.scores({'reward': params}, part.rollout))
  tokens, starts = np.asarray(part.rollout.tokens), part.rollout.starts
  for b, length in enumerate(LENGTHS):
    if not length:
      continue
    row = tokens[b, int(starts[b]) : toy_policy.PLACES + length]
    alone = np.asarray(judge.apply({'params': params}, row[None]))[0, -1]
    assert found[b] == pytest.approx(float(alone), abs=1e-5)


def test_critic_and_judge_read_a_prompt_once_as_if_alone():
  judge = scoring.ScoringModel(toy_policy.CONFIG)
  it = toy_policy.objective('ppo', reward=judge, critic=judge)
  part, _ = experience()
  params = nn.meta.unbox(
    judge.init(jax.random.key(1), np.ones((1, 4), np.int32))['params']
  )
  known = {'reward': params, 'params': {'critic': params}}
  places = toy_policy.PLACES

  def same(x, width):
    """Rows with the first prompt of their group of four."""
    first = np.arange(len(x)) // 4 * 4
    return jnp.concatenate([x[first, :width], x[:, width:]], axis=1)

  rollout = part.rollout._replace(
    tokens=same(part.rollout.tokens, places),
    starts=same(part.rollout.starts[:, None], 1)[:, 0],
  )
  together = rollout._replace(group=rollout_lib.Group(4))
  for function in (it.values, it.scores):
    one, two = (function(known, each) for each in (rollout, together))
    judged = LENGTHS > 0
    np.testing.assert_allclose(one[judged], two[judged], atol=1e-6)
    assert np.ptp(np.asarray(one[judged])) > 0.01


def test_what_a_saved_run_becomes():
  it = toy_policy.objective('ppo')
  saved = {'params': {'transformer': 1, 'critic': 2}}
  found = it.adopt(saved, {'model': {}})
  assert found['reference'] == {'transformer': 1}
  assert found['params'] == {'transformer': 1, 'critic': {'transformer': 1}}
  judged = it.adopt({'params': {'transformer': 3, 'score': 4}}, {'scores': {}})
  assert judged['reward'] == judged['params']['critic']
  assert 'transformer' not in judged['params']


@pytest.mark.parametrize(
  'settings, said',
  [
    ({'no_end': 'never'}, "no_end is 'never', expected 'penalty' or 'mask'"),
    ({'mean': 'row'}, "mean is 'row', expected one of token"),
    ({'epochs': 0}, 'epochs is 0, expected at least 1'),
    ({'most_gap': 0.0}, 'most_gap is 0.0, expected more than 0'),
  ],
)
def test_settings(settings, said):
  with pytest.raises(errors.UserError, match=said):
    toy_policy.objective(**settings)
  with pytest.raises(errors.UserError, match='coefficient is -1.0, expec'):
    objective_lib.Divergence(-1.0)
  with pytest.raises(errors.UserError, match='kl: horizon is 0, expected at l'):
    objective_lib.Divergence(target=6.0, horizon=0)
