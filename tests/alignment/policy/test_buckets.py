"""Fewer places where prompts and answers are short: the same gradients."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax.alignment.policy import experience as experience_lib
from step_audio_jax.alignment.rewards import rewards as rewards_lib
from step_audio_jax.alignment.rollouts import rollout as rollout_lib
from step_audio_jax.alignment.rollouts import sampling as sampling_lib
from tests.alignment import toy_policy

B, P, N = 8, toy_policy.PLACES, 24
LENGTHS = np.array([3, 13, 1, 8, 9, 2, 13, 5], np.int32)


def test_widths():
  def found(longest, count):
    return sorted(
      {sampling_lib.bucket(n, longest, count) for n in range(1, longest + 1)}
    )

  assert found(64, 1) == [64]
  assert found(64, 4) == [16, 32, 48, 64]
  assert found(224, 3) == [80, 160, 224]
  assert found(10, 4) == [8, 10]
  for longest, count in [(64, 4), (224, 3), (10, 4), (7, 2)]:
    assert len(found(longest, count)) <= count
    for n in range(1, longest + 1):
      assert n <= sampling_lib.bucket(n, longest, count) <= longest


def answers():
  """Ragged ones, behind prompts of two to eight ids."""
  rng = np.random.default_rng(0)
  bits = rng.integers(0, 256, (B, N, 17)) | 15  # some ids are always left
  tokens = rng.integers(30, 78, (B, P + N))
  tokens[:, P:] = rng.integers(68, 72, (B, N))
  return rollout_lib.Rollout(
    tokens=jnp.array(tokens, jnp.int32),
    starts=jnp.array(rng.integers(P - 8, P - 1, B), jnp.int32),
    lengths=jnp.array(LENGTHS),
    stopped=jnp.array(LENGTHS > 2),
    log_probs=jnp.array(-4 - rng.random((B, N)), jnp.float32),
    support=jnp.array(bits, jnp.uint8),
  )


def test_loss_and_gradients_are_the_same():
  it = toy_policy.objective(
    'ppo',
    mean='constant',  # of the longest answer that there may be
    most_gap=1e3,
    sampling=sampling_lib.Sampling(longest=N, sampler=toy_policy.SAMPLER),
  )
  trainer = toy_policy.trainer(it)
  verdicts = {
    rewards_lib.TOTAL: jnp.linspace(-1, 1, B),
    'valid': jnp.arange(B) != 3,
  }

  @jax.jit
  def learnt(variables, rollout):
    evaluated = trainer._evaluate_rollout(variables, rollout)
    experience, _ = experience_lib.made(it, rollout, evaluated, verdicts, 0.1)
    part = {
      'experience': experience,
      'coefficient': jnp.float32(0.1),
      'learns': jnp.float32(1),
      'step': jnp.int32(0),
    }
    (loss, _, _), grads = trainer.gradients(variables, part)
    return loss, grads

  wide = answers()
  assert wide.narrowed(8, N).widened(P).starts.tolist() == wide.starts.tolist()
  with jax.set_mesh(trainer.mesh), nn.logical_axis_rules(trainer.rules):
    variables = trainer.fresh_variables()
    loss, grads = learnt(variables, wide)
    found, others = learnt(variables, wide.narrowed(8, 16))
  assert found == pytest.approx(float(loss), abs=1e-6)
  assert max(np.abs(x).max() for x in jax.tree.leaves(grads)) > 1e-2
  for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(others), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6, rtol=0)


def test_a_width_is_that_of_the_whole_batch():
  it = toy_policy.objective(buckets=2)
  trainer = toy_policy.trainer(it)
  seen = set()
  for step in range(5):
    batch = trainer.device_batch(step)
    tokens, starts = np.asarray(batch['tokens']), np.asarray(batch['starts'])
    rows = trainer.feed.rows(step)
    longest = max(len(prompt.ids) for prompt in rows)
    assert tokens.shape[1] == (8 if longest <= 8 else 12)
    for row, start, prompt in zip(tokens, starts, rows, strict=True):
      np.testing.assert_array_equal(row[start:], prompt.ids)
      assert not row[:start].any()
    seen.add(tokens.shape[1])
  assert seen == {8, 12}
  # Whoever plans for a step plans for the widest.
  assert trainer.abstract_batch()['tokens'].shape == (8, toy_policy.PLACES)
