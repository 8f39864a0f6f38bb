"""Sampler and learner agree on every probability; padding means nothing."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.alignment import prompts as prompts_lib
from step_audio_jax.alignment.rollouts import rollout as rollout_lib
from step_audio_jax.alignment.rollouts import sampling as sampling_lib
from step_audio_jax.generation import repetition
from step_audio_jax.generation import sampling
from tests.alignment import toy_policy

FORBID = repetition.Repetition(window=4, share=0.2, action='forbid')
SAMPLERS = {
  'plain': sampling.Sampler(temperature=1.0),
  'truncated': sampling.Sampler(temperature=0.7, top_p=0.8, top_k=6),
  'forbidden': sampling.Sampler(temperature=1.3, repetition=FORBID),
}
TEXT = sampling_lib.Sampling(
  longest=toy_policy.ANSWER, sampler=SAMPLERS['plain']
)


def how(name='plain', mode='text', longest=toy_policy.ANSWER):
  return sampling_lib.Sampling(longest, mode, SAMPLERS[name])


def prompts():
  return [one.ids for one in toy_policy.Feed().prompts]


@functools.cache
def drawn(name='plain', mode='text', places=toy_policy.PLACES, step=0):
  it = how(name, mode)
  return sampling_lib.sample(
    toy_policy.MODEL,
    toy_policy.variables(),
    prompts_lib.padded(prompts(), places),
    it.grammar(toy_policy.VOCABULARY),
    it,
    seed=3,
    step=step,
  )


scored = jax.jit(
  rollout_lib.score, static_argnums=0, static_argnames='temperature'
)


def learner(rollout, name='plain'):
  return scored(
    toy_policy.MODEL,
    toy_policy.variables(),
    rollout,
    temperature=SAMPLERS[name].temperature,
  )


CASES = [
  ('plain', 'text'),
  ('truncated', 'text'),
  ('forbidden', 'text'),
  ('truncated', 'speech'),
  ('plain', 'free'),
]


@pytest.mark.parametrize('name, mode', CASES)
def test_sampler_and_learner_agree(name, mode):
  rollout = drawn(name, mode)
  gap = rollout_lib.gap(rollout, learner(rollout, name).log_probs)
  assert gap['mean'] <= 1e-5
  assert gap['correlation'] >= 0.9999
  assert gap['within'] >= 0.99


def dense(row, rollout, temperature):
  """Log-probability and entropy of each id of an answer, unpadded, float64."""
  starts, lengths = np.asarray(rollout.starts), np.asarray(rollout.lengths)
  P = rollout.prompt_places
  prompt = np.asarray(rollout.tokens)[row, starts[row] : P]
  answer = np.asarray(rollout.answers)[row, : lengths[row]]
  whole = np.concatenate([prompt, answer])
  logits = forward(whole)[len(prompt) - 1 : len(whole) - 1]
  support = np.unpackbits(
    np.asarray(rollout.support)[row, : lengths[row]], axis=-1, count=132
  ).astype(bool)
  found, entropy = [], []
  for line, allowed, chosen in zip(logits, support, answer):
    x = np.where(allowed, line / temperature, -np.inf)
    log_p = x - np.log(np.exp(x[allowed]).sum())
    found.append(log_p[chosen])
    p = np.exp(log_p[allowed])
    entropy.append(-(p * np.log(p)).sum())
  return np.array(found), np.array(entropy)


def forward(ids):
  row = np.zeros((1, 24), np.int32)
  row[0, : len(ids)] = ids
  logits = applied(toy_policy.variables(), row)
  return np.asarray(logits)[0, : len(ids)].astype(np.float64)


applied = jax.jit(toy_policy.MODEL.apply)


@pytest.mark.parametrize('name, mode', CASES)
def test_score_against_unpadded_rows(name, mode):
  rollout = drawn(name, mode)
  found = learner(rollout, name)
  lengths = np.asarray(rollout.lengths)
  for row in range(len(lengths)):
    log_probs, entropy = dense(row, rollout, SAMPLERS[name].temperature)
    n = lengths[row]
    np.testing.assert_allclose(found.log_probs[row, :n], log_probs, atol=1e-5)
    np.testing.assert_allclose(found.entropy[row, :n], entropy, atol=1e-5)
    assert not np.asarray(found.log_probs)[row, n:].any()


def test_support_holds_what_was_drawn_and_no_more():
  rollout = drawn('truncated')
  bits = np.unpackbits(np.asarray(rollout.support), axis=-1, count=132)
  mask = np.asarray(rollout.mask)
  chosen = np.take_along_axis(
    bits, np.asarray(rollout.answers)[..., None], axis=-1
  )[..., 0]
  assert chosen[mask].all()
  sizes = bits.sum(-1)[mask]
  assert sizes.min() >= 1 and sizes.max() <= 6
  # Text and its end alone: a grammar is a truncation, too.
  assert not bits[mask][:, 78:].any()
  assert bits[~mask].all()


def test_without_the_support_ratios_are_far_off():
  """What was wrong elsewhere, and is caught by the same figures here."""
  rollout = drawn('truncated')
  everything = rollout._replace(support=jnp.full_like(rollout.support, 255))
  gap = rollout_lib.gap(rollout, learner(everything, 'truncated').log_probs)
  assert gap['within'] < 0.5


def test_answers_end_where_they_say():
  rollout = drawn()
  answers, lengths = np.asarray(rollout.answers), np.asarray(rollout.lengths)
  for row, length in enumerate(lengths):
    ended = answers[row, length - 1] == 3
    assert bool(rollout.stopped[row]) == ended
    assert not (answers[row, : length - 1] == 3).any()
  assert len(set(lengths.tolist())) > 1


def test_places_for_prompts_change_nothing():
  narrow, wide = drawn(), drawn(places=toy_policy.PLACES + 7)
  np.testing.assert_array_equal(narrow.answers, wide.answers)
  np.testing.assert_allclose(
    # Sums over more places have another order.
    learner(narrow).log_probs,
    learner(wide).log_probs,
    atol=1e-5,
  )


def test_order_and_company_change_nothing():
  rollout = drawn()
  order = np.array([3, 0, 4, 1, 2])
  turned = jax.tree.map(lambda x: x[order], rollout)
  np.testing.assert_allclose(
    learner(turned).log_probs, learner(rollout).log_probs[order], atol=1e-6
  )


@functools.cache
def in_groups(group):
  """Answers of three to each of two prompts."""
  found = [prompts()[n] for n in (1, 1, 1, 4, 4, 4)]
  return sampling_lib.sample(
    toy_policy.MODEL,
    toy_policy.variables(),
    prompts_lib.padded(found, toy_policy.PLACES),
    TEXT.grammar(toy_policy.VOCABULARY),
    TEXT,
    seed=3,
    step=0,
    group=group,
  )


def test_a_prompt_that_is_read_once_is_answered_alike():
  alone, together = in_groups(1), in_groups(3)
  np.testing.assert_array_equal(alone.tokens, together.tokens)
  np.testing.assert_allclose(alone.log_probs, together.log_probs, atol=1e-6)


def test_answers_that_share_a_prompt_are_scored_as_if_alone():
  rollout = in_groups(1)
  # One that was dropped, and answers of different lengths.
  lengths = np.asarray(rollout.lengths).copy()
  lengths[3] = 0
  assert len(set(lengths.tolist())) > 2
  rollout = rollout._replace(lengths=jnp.array(lengths))
  together = rollout._replace(group=rollout_lib.Group(3))

  def total(variables, rollout):
    found = rollout_lib.score(toy_policy.MODEL, variables, rollout)
    return (found.log_probs + 0.1 * found.entropy).sum(), found

  small = jax.tree.map(
    lambda x: x / 5 if x.ndim > 1 else x, toy_policy.variables()
  )
  call = jax.jit(jax.grad(total, has_aux=True))
  one, two = (call(small, each) for each in (rollout, together))
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
    np.testing.assert_allclose(a, b, atol=2e-5 * max(1, np.abs(b).max()))


def test_parts_of_a_batch_have_whole_groups():
  rows = jnp.arange(24)
  laid = rollout_lib.by_parts({'rows': rows}, 3, 4)['rows']
  for part in range(3):
    groups = np.asarray(laid[part::3]).reshape(-1, 4)
    np.testing.assert_array_equal(groups[:, 0] % 4, 0)
    np.testing.assert_array_equal(np.diff(groups), 1)
  back = rollout_lib.by_parts(laid, 3, 4, back=True)
  np.testing.assert_array_equal(back, rows)
  assert rollout_lib.by_parts(rows, 1, 4) is rows


def test_steps_draw_otherwise_and_seeds_repeat():
  again = sampling_lib.sample(
    toy_policy.MODEL,
    toy_policy.variables(),
    prompts_lib.padded(prompts(), toy_policy.PLACES),
    TEXT.grammar(toy_policy.VOCABULARY),
    TEXT,
    seed=3,
    step=0,
  )
  np.testing.assert_array_equal(again.tokens, drawn().tokens)
  assert (np.asarray(drawn(step=1).answers) != drawn().answers).any()


def test_gradient_is_that_of_unpadded_rows():
  rollout = drawn('truncated')
  starts, lengths = np.asarray(rollout.starts), np.asarray(rollout.lengths)
  tokens, answers = np.asarray(rollout.tokens), np.asarray(rollout.answers)
  support = np.unpackbits(np.asarray(rollout.support), axis=-1, count=132)

  def total(variables):
    found = rollout_lib.score(
      toy_policy.MODEL, variables, rollout, temperature=0.7
    )
    return (found.log_probs + 0.1 * found.entropy).sum()

  def unpadded(variables):
    found = 0.0
    for row, (start, length) in enumerate(zip(starts, lengths)):
      ids = tokens[row, start : toy_policy.PLACES + length]
      ids = np.pad(ids, (0, 24 - len(ids)))
      logits = toy_policy.MODEL.apply(variables, ids[None])[0]
      first = toy_policy.PLACES - start - 1
      for t in range(length):
        allowed = np.flatnonzero(support[row, t])
        log_p = jax.nn.log_softmax(logits[first + t, allowed] / 0.7)
        found += log_p[list(allowed).index(answers[row, t])]
        found -= 0.1 * (jnp.exp(log_p) * log_p).sum()
    return found

  # Small ones: sums of large numbers differ by their order.
  small = jax.tree.map(
    lambda x: x / 5 if x.ndim > 1 else x, toy_policy.variables()
  )
  one, two = (
    jax.jit(jax.grad(function))(small) for function in (total, unpadded)
  )
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
    assert np.isfinite(a).all()
    np.testing.assert_allclose(a, b, atol=2e-5 * max(1, np.abs(b).max()))


def test_what_cannot_be_replayed_is_refused():
  with pytest.raises(errors.UserError, match='temperature is 0, expected more'):
    sampling_lib.Sampling(sampler=sampling.Sampler())
  again = repetition.Repetition(window=4, action='resample')
  with pytest.raises(errors.UserError, match="'resample', expected 'forbid'"):
    sampling_lib.Sampling(
      sampler=sampling.Sampler(temperature=1.0, repetition=again)
    )
  with pytest.raises(errors.UserError, match="mode is 'song', expected one of"):
    dataclasses.replace(TEXT, mode='song')
  with pytest.raises(
    errors.UserError, match='temperature is 0.0, expected mor'
  ):
    rollout_lib.score(toy_policy.MODEL, {}, drawn(), temperature=0.0)
