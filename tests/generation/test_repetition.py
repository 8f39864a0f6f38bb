"""The rule about repeated ids against plain Python on whole histories."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.generation import decode
from step_audio_jax.generation import grammar as grammar_lib
from step_audio_jax.generation import repetition
from step_audio_jax.generation import sampling

VOCABULARY = vocabulary_lib.Vocabulary(
  text_size=80, linguistic_size=6, semantic_size=9
)
GRAMMAR = grammar_lib.build(VOCABULARY)


def recent(history, reach):
  """The last ids of a list as the rule gets them."""
  padded = [repetition.NOTHING] * reach + list(history)
  return np.asarray(padded[len(padded) - reach :], np.int32)


def oracle(identity, history, rule, classes):
  """Counts with lists: does `identity` repeat behind `history`?"""
  if classes is not None:
    history = [i for i in history if classes[i] == classes[identity]]
  window = history[-rule.window :]
  return window.count(identity) > rule.share * rule.window + 1e-9


@pytest.mark.parametrize('action', repetition.ACTIONS)
@pytest.mark.parametrize('window', [1, 3, 10, 11])
@pytest.mark.parametrize('share', [0.0, 0.1, 0.3])
def test_what_repeats_is_what_lists_count(action, window, share):
  rule = repetition.Repetition(window, share, action)
  classes = GRAMMAR.class_V if action == 'resample' else None
  rng = np.random.default_rng(window)
  speech = VOCABULARY.interleave(
    rng.integers(0, 6, 40), rng.integers(0, 9, 60)
  ).tolist()
  # Ragged histories: none, parts of the first groups, and long ones.
  ends = [0, 1, 2, 3, 7, 24, 26, 49, 97, 98, 99]
  candidates = [speech[end] for end in ends]
  if action == 'forbid':
    candidates = [speech[max(0, end - 1)] for end in ends]
  found = rule.repeats(
    jnp.asarray(candidates),
    jnp.asarray(np.stack([recent(speech[:end], rule.reach) for end in ends])),
    classes,
  )
  expected = [
    oracle(c, speech[:end], rule, classes) for c, end in zip(candidates, ends)
  ]
  assert found.tolist() == expected
  if window == 10 and share == 0.1:
    assert 0 < sum(expected) < len(expected)


def test_a_last_id_that_repeats_is_forbidden_and_no_other():
  rule = repetition.Repetition(10, 0.1, 'forbid')
  logits = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8)), 'f')
  history = jnp.asarray(
    [recent(h, 10) for h in ([5, 5], [5, 2], [1, 5, 2, 3, 5])]
  )
  found = np.asarray(rule.forbidden(logits, history, sampling.FORBIDDEN))
  expected = np.array(logits)
  expected[0, 5] = expected[2, 5] = sampling.FORBIDDEN
  np.testing.assert_array_equal(found, expected)


def test_the_only_id_that_is_left_stays():
  rule = repetition.Repetition(4, 0.1, 'forbid')
  logits = jnp.full((1, 6), sampling.FORBIDDEN).at[0, 2].set(0.5)
  history = jnp.asarray([recent([2, 2], 4)])
  found = rule.forbidden(logits, history, sampling.FORBIDDEN)
  np.testing.assert_array_equal(found, logits)


def test_a_repeated_draw_is_drawn_again_from_the_whole_distribution():
  rule = repetition.Repetition(10, 0.1)
  sampler = sampling.Sampler(0.7, top_k=1, repetition=rule)
  rows = 4000
  logits = np.zeros(VOCABULARY.table_size, np.float32)
  first = VOCABULARY.linguistic_offset
  logits[first : first + 3] = [2.0, 1.0, 0.5]
  logits[:first] = logits[first + 3 :] = sampling.FORBIDDEN
  keys = jax.random.split(jax.random.key(1), rows)

  def frequencies(history):
    drawn = sampler.choose(
      jnp.tile(jnp.asarray(logits), (rows, 1)),
      keys,
      jnp.tile(jnp.asarray(recent(history, rule.reach)), (rows, 1)),
      GRAMMAR.class_V,
    )
    return np.bincount(np.asarray(drawn) - first, minlength=3) / rows

  # top_k = 1 gives the best id, and once it repeats any of the three.
  np.testing.assert_array_equal(frequencies([first]), [1, 0, 0])
  p = np.exp(np.array([2.0, 1.0, 0.5]) / 0.7)
  np.testing.assert_allclose(
    frequencies([first, first]), p / p.sum(), atol=4 * 0.5 / rows**0.5
  )


class Stuck:
  """A model that would say one group for ever, others being less likely."""

  def init_cache(self, batch, length):
    return {'index': jnp.zeros((), jnp.int32)}

  def apply(self, variables, tokens_BT, *, cache, **_):
    shape = (*tokens_BT.shape, variables['row'].shape[0])
    return jnp.broadcast_to(variables['row'][None, None], shape), cache


def spoken(rule, temperature=0.0, rows=3, model=Stuck()):  # noqa: B008
  rng = np.random.default_rng(5)
  row = rng.normal(size=VOCABULARY.table_size).astype(np.float32)
  row[vocabulary_lib.EOT] = -20
  return decode.generate(
    model,
    {'row': jnp.asarray(row)},
    [[1]] * rows,
    max_new_tokens=60,
    grammar=GRAMMAR,
    start=grammar_lib.State.SPEECH,
    sampler=sampling.Sampler(temperature, repetition=rule),
    shapes=decode.Shapes(4),
  )


def test_decoding_gets_unstuck_and_keeps_the_pattern():
  for ids in spoken(repetition.Repetition()):
    assert len(set(ids.tolist())) == 2  # one of each codebook
  for action in repetition.ACTIONS:
    rule = repetition.Repetition(10, 0.1, action)
    for ids in spoken(rule):
      linguistic, semantic = VOCABULARY.deinterleave(ids)
      assert len(set(linguistic.tolist())) > 1
      assert len(set(semantic.tolist())) > 1


def test_decoding_hands_the_rule_its_own_history():
  # Every draw of the loop is repeated here from the ids that it returned.
  rule = repetition.Repetition(4, 0.3)
  sampler = sampling.Sampler(1.0, top_k=2, repetition=rule)
  row = np.random.default_rng(5).normal(size=VOCABULARY.table_size)
  row[vocabulary_lib.EOT] = -20
  (ids,) = decode.generate(
    Stuck(),
    {'row': jnp.asarray(row, jnp.float32)},
    [[1]],
    max_new_tokens=25,
    grammar=GRAMMAR,
    start=grammar_lib.State.SPEECH,
    sampler=sampler,
    shapes=decode.Shapes(1),
    rng=jax.random.key(3),
  )
  state = int(grammar_lib.State.SPEECH)
  resampled = 0
  for turn, identity in enumerate(ids.tolist()):
    allowed = GRAMMAR.allowed_ZK[state][GRAMMAR.class_V]
    logits = jnp.asarray(np.where(allowed, row, sampling.FORBIDDEN), 'f')[None]
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(3), 0), turn)
    plain = sampling.Sampler(1.0, top_k=2)(logits, key[None])
    if oracle(int(plain[0]), ids[:turn].tolist(), rule, GRAMMAR.class_V):
      again = jax.random.fold_in(key, 1)
      plain = sampling.Sampler(1.0)(logits, again[None])
      resampled += 1
    assert identity == int(plain[0])
    state = int(GRAMMAR.next_ZK[state, GRAMMAR.class_V[identity]])
  assert resampled > 2


@pytest.mark.parametrize(
  'arguments, message',
  [
    ({'window': -1}, 'window is -1'),
    ({'share': 1.0}, 'share is 1.0'),
    ({'share': float('nan')}, 'share is nan'),
    ({'action': 'pray'}, "action is 'pray', expected one of resample, forbid"),
  ],
)
def test_bad_settings_are_named(arguments, message):
  with pytest.raises(errors.UserError, match=message):
    repetition.Repetition(**arguments)
