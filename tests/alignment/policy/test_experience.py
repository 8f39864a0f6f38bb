"""What is no number is dropped and counted, or stops the run: never a 0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.alignment.policy import experience as experience_lib
from step_audio_jax.alignment.policy import sources
from step_audio_jax.alignment.rewards import rewards as rewards_lib
from step_audio_jax.alignment.rollouts import rollout as rollout_lib
from step_audio_jax.models.language import scoring
from step_audio_jax.storage import bindings
from tests.alignment import toy_policy

B, P, N = 8, 4, 6
LENGTHS = np.array([6, 3, 1, 2, 5, 6, 4, 3], np.int32)
SCORES = np.array([1, np.nan, 3, 2, 0.5, np.inf, 0.25, 0], np.float32)


def objective(kind='grpo', on_failure='drop', **settings):
  rules = rewards_lib.Rewards({'liked': (1.0, toy_policy.Liked())}, on_failure)
  return toy_policy.objective(
    kind,
    rewards=rules,
    reward=scoring.ScoringModel(toy_policy.CONFIG),
    **settings,
  )


def made(it, scores=SCORES, log_sampler=None, lengths=LENGTHS):
  """(experience, metrics) of answers that were made up."""
  rng = np.random.default_rng(0)
  log_old = -rng.random((B, N)).astype(np.float32)
  rollout = rollout_lib.Rollout(
    tokens=jnp.ones((B, P + N), jnp.int32),
    starts=jnp.zeros(B, jnp.int32),
    lengths=jnp.array(lengths),
    stopped=jnp.array(lengths < N),
    log_probs=jnp.array(log_old if log_sampler is None else log_sampler),
    support=jnp.full((B, N, 17), 255, jnp.uint8),
  )
  width = 0 if it.critic_model() is None else N
  evaluated = experience_lib.Evaluated(
    log_old=jnp.array(log_old),
    entropy=jnp.ones((B, N)),
    log_reference=jnp.array(log_old - 0.1),
    values=jnp.ones((B, width)),
    scores=jnp.array(scores),
    log_sampler=log_sampler,
  )
  verdicts = {
    rewards_lib.TOTAL: jnp.zeros(B),
    'valid': jnp.ones(B, bool),
  }
  found = experience_lib.made(it, rollout, evaluated, verdicts, 0.1)
  return jax.tree.map(np.asarray, found)


@pytest.mark.parametrize('kind', ['grpo', 'ppo'])
def test_a_reward_model_that_gives_no_number(kind):
  it = objective(kind)
  experience, metrics = made(it)
  assert metrics['rollout/unscored'][0] == 2
  assert metrics['rollout/dropped'][0] == 2
  assert metrics['reward/model'] == (pytest.approx(6.75), 6)
  for leaf in jax.tree.leaves(experience):
    assert np.isfinite(leaf).all()
  wrong = ~np.isfinite(SCORES)
  assert not experience.rollout.lengths[wrong].any()
  assert not experience.advantages[wrong].any()
  # The others are compared with each other alone.
  scores = np.where(wrong, [9, -7] * 4, SCORES).astype(np.float32)
  others, _ = made(it, scores)
  changed = others.advantages[~wrong] != experience.advantages[~wrong]
  assert changed.any()
  if kind == 'grpo':
    each = experience.advantages[:4, 0]
    truth = np.array([-1, 0, 1, 0]) / (1 + 1e-4)
    penalty = np.where(LENGTHS[:4] < N, 0.0, it.no_end_reward)
    good = ~wrong[:4]
    reward = (SCORES[:4] + penalty)[good]
    truth[good] = (reward - reward.mean()) / (reward.std(ddof=1) + 1e-4)
    np.testing.assert_allclose(each, truth, atol=1e-5)
  experience_lib.check(it, 4, metrics)
  with pytest.raises(
    errors.UserError,
    match='step 5 the reward model gave no number for 2 of 8 answers',
  ):
    experience_lib.check(objective(kind, 'stop'), 4, metrics)


def test_a_step_of_which_nothing_is_left():
  it = objective()
  _, metrics = made(it, np.full(B, np.nan, np.float32))
  with pytest.raises(errors.UserError, match='step 3 has dropped all 8 answe'):
    experience_lib.check(it, 2, metrics)


def test_answers_that_are_older_agree_with_who_sampled_them():
  rng = np.random.default_rng(1)
  older = -rng.random((B, N)).astype(np.float32)
  it = objective(most_importance=1.5)
  scores = np.zeros(B, np.float32)
  experience, metrics = made(it, scores, older)
  assert metrics['rollout/logprob_gap'][0] == 0
  assert metrics['rollout/staleness'][0] == 1
  assert metrics['rollout/apart'][0] == 0
  log_old = -np.random.default_rng(0).random((B, N)).astype(np.float32)
  mask = np.arange(N) < LENGTHS[:, None]
  ratio = np.exp(log_old - older)
  np.testing.assert_allclose(
    experience.importance[mask], np.minimum(ratio, 1.5)[mask], rtol=1e-6
  )
  assert metrics['rollout/cut'][0] == (ratio[mask] > 1.5).sum() > 0


def test_answers_without_an_end_that_are_masked():
  it = objective(no_end='mask')
  scores = np.where(LENGTHS < N, [1, 2] * 4, 1e6).astype(np.float32)
  experience, metrics = made(it, scores)
  ended = LENGTHS < N
  assert metrics['rollout/ended'] == (ended.sum(), B)
  assert not experience.advantages[~ended].any()
  assert np.abs(experience.advantages).max() < 2  # 1e6 is in no mean


@pytest.mark.parametrize('kind', ['grpo', 'ppo'])
def test_a_step_in_which_no_answer_ends(kind):
  """It is told, and what is masked teaches nothing; nothing is NaN."""
  scores, endless = np.arange(B, dtype=np.float32), np.full(B, N, np.int32)
  it = objective(kind, no_end='mask')
  experience, metrics = made(it, scores, lengths=endless)
  assert metrics['rollout/ended'] == (0, B)
  assert not experience.advantages.any()
  assert not it.counted(experience.rollout).mask.any()
  for leaf in jax.tree.leaves((experience, metrics)):
    assert np.isfinite(leaf).all()
  punished = objective(kind, no_end_reward=-7.0)
  free = objective(kind, no_end_reward=0.0)
  one, two = (
    np.asarray(made(each, scores, lengths=LENGTHS)[0].advantages)
    for each in (punished, free)
  )
  assert (one[0, -1] < two[0, -1]) and LENGTHS[0] == N


def test_a_step_in_which_no_answer_ends_is_said_once(capsys, monkeypatch):
  monkeypatch.setattr(bindings, '_said', set())
  scores, endless = np.ones(B, np.float32), np.full(B, N, np.int32)
  it = objective(no_end='mask')
  _, metrics = made(it, scores)
  experience_lib.check(it, 0, metrics)
  assert capsys.readouterr().err == ''
  _, metrics = made(it, scores, lengths=endless)
  for step in range(2):
    experience_lib.check(it, step, metrics)
  said = capsys.readouterr().err
  assert said.count('none that came to its end within 8 ids (ANSWER)') == 1
  assert 'nothing is learnt of it' in said


def test_sources_of_which_no_policy_can_begin():
  it = objective()
  told = {'scores': {}, **it.language.describe()}
  start = {'vocabulary': told['vocabulary']}
  it.check_sources({'runs/rm': told, 'runs/sft': start})
  toy_policy.objective().check_sources({})  # rules alone judge
  with pytest.raises(
    errors.UserError,
    match='init_from: found runs/sft, expected a reward model among them',
  ):
    it.check_sources({'runs/sft': start})
  with pytest.raises(errors.UserError, match='found nothing, expected a rew'):
    it.check_sources({})
  # A policy may hold who judged it; whether it does is seen when it is opened.
  it.check_sources({'runs/ppo': {**start, **it.describe()}})
  sources.check_fresh(['params/critic/score/bias'], ['runs/ppo'])
  with pytest.raises(errors.UserError, match='found runs/ppo, expected a rew'):
    sources.check_fresh(['reward/score/bias'], ['runs/ppo'])
  with pytest.raises(errors.UserError, match='runs/rm, which only score, exp'):
    it.check_sources({'runs/rm': told})
  other = {**told['vocabulary'], 'text_size': 70}
  with pytest.raises(errors.UserError, match='runs/rm/config.json: its ids'):
    it.check_sources(
      {'runs/rm': {**told, 'vocabulary': other}, 'runs/sft': start}
    )


def test_a_reward_model_of_another_vocabulary():
  it = objective()
  mine = it.language.describe()['vocabulary']
  told = {'scores': {}, 'vocabulary': mine}
  saved = {'params': {'transformer': 1, 'score': 2}}
  assert sources.REWARD in it.adopt(saved, told, 'runs/rm')
  other = {**mine, 'text_size': 70, 'text_model': 'their.model'}
  with pytest.raises(
    errors.UserError,
    match='runs/rm/config.json: its ids belong to the vocabulary their.model',
  ):
    it.adopt(saved, {**told, 'vocabulary': other}, 'runs/rm')


@pytest.mark.parametrize(
  'settings, said',
  [
    ({'group': 1}, 'group is 1, expected at least 2 answers to a prompt'),
    ({'staleness': 2}, 'staleness is 2, expected 0 or 1'),
    ({'buckets': 0}, 'buckets is 0, expected at least 1'),
    ({'clip_low': 1.5}, 'clip_low is 1.5, expected 0 to 1'),
    ({'clip_high': -1.0}, 'clip_high is -1.0, expected a number >= 0'),
    ({'most_importance': 0.0}, 'importance is 0.0, expected a number >= 1'),
    ({'kind': 'ppo', 'discount': 5.0}, 'discount is 5.0, expected 0 to 1'),
    ({'kind': 'ppo', 'smoothing': -1.0}, 'smoothing is -1.0, expected 0 to 1'),
    ({'kind': 'ppo', 'value_clip': -1.0}, 'value_clip is -1.0, expected a num'),
    ({'kind': 'ppo', 'warmup_steps': -1}, 'warmup_steps is -1, expected a num'),
  ],
)
def test_settings(settings, said):
  with pytest.raises(errors.UserError, match=said):
    toy_policy.objective(**settings)
