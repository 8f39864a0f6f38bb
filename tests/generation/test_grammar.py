"""The state machine against the vocabulary's own de-interleaver."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.generation import grammar as grammar_lib

State = grammar_lib.State
CONTROL = vocabulary_lib.CONTROL
EOT = vocabulary_lib.EOT
VOCABULARY = vocabulary_lib.Vocabulary(
  text_size=100, table_size=160, linguistic_size=10, semantic_size=20
)


MASK = jax.jit(grammar_lib.Grammar.mask)
STEP = jax.jit(grammar_lib.Grammar.step)


def allowed(grammar, state):
  mask = np.asarray(MASK(grammar, np.asarray([int(state)])))
  return np.flatnonzero(mask[0]).tolist()


def after(grammar, state, token):
  return int(STEP(grammar, np.asarray([int(state)]), np.asarray([token]))[0])


def walk(grammar, state, seed, most=200):
  """A random path through the grammar, as ids."""
  rng, ids = np.random.default_rng(seed), []
  while len(ids) < most:
    ids.append(int(rng.choice(allowed(grammar, state))))
    state = after(grammar, state, ids[-1])
    if state == State.END:
      break
  return ids


@pytest.mark.parametrize('seed', range(8))
def test_every_speech_path_deinterleaves(seed):
  grammar = grammar_lib.build(VOCABULARY, linguistic_codes=4, semantic_codes=7)
  *speech, last = walk(grammar, State.SPEECH, seed)
  assert last == EOT
  linguistic, semantic = VOCABULARY.deinterleave(speech)
  assert len(linguistic) >= 2
  assert linguistic.max() < 4 and semantic.max() < 7
  assert len(linguistic) * 3 == len(semantic) * 2


def test_every_interleaved_stream_is_accepted():
  grammar = grammar_lib.build(VOCABULARY)
  rng = np.random.default_rng(0)
  ids = VOCABULARY.interleave(rng.integers(0, 10, 40), rng.integers(0, 20, 60))
  state = State.SPEECH
  for n, token in enumerate([*ids.tolist(), EOT]):
    options = allowed(grammar, state)
    assert token in options
    # The end is open exactly at group borders, and not before the first.
    assert (EOT in options) == (n > 0 and n % 5 == 0)
    state = after(grammar, state, token)
  assert state == State.END


def test_text_mode_is_text_and_the_end():
  grammar = grammar_lib.build(VOCABULARY)
  expected = [EOT, *range(vocabulary_lib.CONTROL_SIZE, 100)]
  assert allowed(grammar, State.TEXT) == expected


def test_free_mode_leaves_out_rows_that_nothing_uses():
  grammar = grammar_lib.build(VOCABULARY, semantic_codes=5)
  assert allowed(grammar, State.FREE) == list(range(115))


def test_audio_end_only_on_request_and_only_at_borders():
  end = CONTROL['<audio_end>']
  assert end not in allowed(grammar_lib.build(VOCABULARY), State.BORDER)
  grammar = grammar_lib.build(VOCABULARY, audio_end=True)
  for state in State:
    if state != State.FREE:
      assert (end in allowed(grammar, state)) == (state == State.BORDER)


def test_no_state_is_a_dead_end():
  grammar = grammar_lib.build(VOCABULARY, linguistic_codes=1, semantic_codes=1)
  for state in State:
    assert allowed(grammar, state), state


def test_rows_of_a_batch_are_in_their_own_states_under_jit():
  grammar = grammar_lib.build(VOCABULARY)
  states = jnp.asarray([State.TEXT, State.SPEECH, State.SEMANTIC_1])
  mask = MASK(grammar, states)
  assert mask.shape == (3, 160)
  assert mask.sum(1).tolist() == [33, 10, 20]
  following = STEP(grammar, states, jnp.asarray([EOT, 100, 110]))
  assert following.tolist() == [
    State.END,
    State.LINGUISTIC_1,
    State.SEMANTIC_2,
  ]


@pytest.mark.parametrize('codes', [0, 11])
def test_limits_outside_the_codebook(codes):
  with pytest.raises(errors.UserError, match='linguistic_codes'):
    grammar_lib.build(VOCABULARY, linguistic_codes=codes)


def test_released_layout():
  grammar = grammar_lib.build(vocabulary_lib.Vocabulary(table_size=74752))
  assert grammar.class_V.shape == (74752,)
  assert allowed(grammar, State.SPEECH) == list(range(65536, 66560))
  assert allowed(grammar, State.SEMANTIC_0) == list(range(66560, 70656))


@pytest.mark.parametrize('seed', range(8))
def test_interleaved_replies_are_ten_text_ids_and_three_groups(seed):
  grammar = grammar_lib.build(VOCABULARY)
  ids = np.array(walk(grammar, State.INTERLEAVED, seed, most=120))
  assert ids[0] < VOCABULARY.text_size
  is_text = (ids < VOCABULARY.text_size) & (ids != EOT)
  turns = np.flatnonzero(np.diff(is_text.astype(int))) + 1
  runs = [run for run in np.split(ids[ids != EOT], turns) if len(run)]
  for n, run in enumerate(runs):
    if n == len(runs) - 1:
      break
    if run[0] < VOCABULARY.text_size:
      # Only behind the last words speech goes on alone.
      assert len(run) == 10 or n == len(runs) - 2
    else:
      assert len(run) == 15
  speech = ids[~is_text & (ids != EOT)]
  whole = len(speech) // 5 * 5
  if ids[-1] == EOT:
    assert whole == len(speech) and whole
  linguistic, semantic = VOCABULARY.deinterleave(speech[:whole])
  assert len(linguistic) * 3 == len(semantic) * 2
