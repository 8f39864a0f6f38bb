"""Cached decoding against full forward passes, on ragged prompts."""

import dataclasses
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.generation import decode
from step_audio_jax.generation import grammar as grammar_lib
from step_audio_jax.generation import sampling
from step_audio_jax.models.language import speech_text
from step_audio_jax.models.language import vision

State = grammar_lib.State
EOT = vocabulary_lib.EOT
CONTROL = vocabulary_lib.CONTROL
VOCABULARY = vocabulary_lib.Vocabulary(
  text_size=100, table_size=132, linguistic_size=10, semantic_size=20
)
GRAMMAR = grammar_lib.build(VOCABULARY)
LENGTHS = [1, 2, 7, 31, 32, 33, 34, 50]


@functools.cache
def tiny(position='sqrt_alibi', eyes=False, seed=0):
  """A random model whose greedy paths are not constant."""
  config = speech_text.SpeechTextConfig(
    speech_text.TransformerConfig(
      vocab_size=132,
      width=16,
      layers=2,
      heads=4,
      kv_heads=2,
      mlp_width=24,
      position=position,
      tied_head=False,
    ),
    vision.VisionConfig(
      image_size=8, patch_size=4, width=8, layers=1, heads=2, mlp_width=16
    )
    if eyes
    else None,
  )
  model = speech_text.SpeechTextModel(config)
  variables = nn.meta.unbox(
    jax.jit(model.init)(jax.random.key(seed), jnp.ones((1, 4), jnp.int32))
  )
  # Larger tables: the next id then depends on what came before.
  variables = jax.tree.map(lambda x: x * 5 if x.ndim > 1 else x, variables)
  return model, variables


def prompts(seed=0, lengths=LENGTHS):
  rng = np.random.default_rng(seed)
  return [rng.integers(0, 130, n).tolist() for n in lengths]


@functools.partial(jax.jit, static_argnums=0)
def forward(model, variables, tokens_BT, **images):
  return model.apply(variables, tokens_BT, **images)


def full_forward(model, variables, prompt, limit, state, **images):
  """Greedy decoding that runs the whole row again for every id."""
  ids, logprobs = list(prompt), []
  while len(ids) < len(prompt) + limit:
    # Padded on the right to one length, so that it compiles once; causality
    # keeps the padding away.
    row = np.zeros((1, 72), np.int32)
    row[0, : len(ids)] = ids
    logits = np.asarray(forward(model, variables, row, **images))
    logits = logits[0, len(ids) - 1]
    allowed = GRAMMAR.allowed_ZK[int(state)][GRAMMAR.class_V]
    logits = np.where(allowed, logits, -1e30).astype(np.float64)
    token = int(logits.argmax())
    if token == EOT:
      return ids[len(prompt) :], logprobs, True
    shifted = logits - logits.max()
    logprobs.append(shifted[token] - np.log(np.exp(shifted).sum()))
    state = GRAMMAR.next_ZK[int(state), GRAMMAR.class_V[token]]
    ids.append(token)
  return ids[len(prompt) :], logprobs, False


@pytest.mark.parametrize('position', ['sqrt_alibi', 'rope'])
@pytest.mark.parametrize('mode', [State.FREE, State.TEXT, State.SPEECH])
def test_greedy_equals_full_forward_on_ragged_prompts(position, mode):
  model, variables = tiny(position)
  outputs = decode.generate_outputs(
    model,
    variables,
    prompts(),
    max_new_tokens=14,
    grammar=GRAMMAR,
    start=mode,
    shapes=decode.Shapes(batch_size=3),
  )
  distinct = set()
  for prompt, output in zip(prompts(), outputs, strict=True):
    ids, logprobs, stopped = full_forward(model, variables, prompt, 14, mode)
    assert output.tokens.tolist() == ids
    assert output.stopped == stopped
    np.testing.assert_allclose(output.logprobs, logprobs, 2e-5, 2e-5)
    distinct |= set(ids)
  assert len(distinct) > 5  # else the comparison says nothing


def test_one_batch_holds_every_mode_and_its_own_limits():
  model, variables = tiny()
  modes = [State.TEXT, State.SPEECH, State.FREE] * 3
  limits = [5, 10, 0, 1, 15, 3, 2, 5, 7]
  lines = prompts(1, [3, 9, 4, 8, 40, 2, 6, 6, 6])
  outputs = decode.generate(
    model,
    variables,
    lines,
    max_new_tokens=limits,
    grammar=GRAMMAR,
    start=modes,
    shapes=decode.Shapes(batch_size=16),
  )
  for n, output in enumerate(outputs):
    expected = full_forward(model, variables, lines[n], limits[n], modes[n])
    assert output.tolist() == expected[0]
    assert len(output) <= limits[n]


def test_speech_outputs_deinterleave_and_respect_codes_that_exist():
  model, variables = tiny(seed=3)
  grammar = grammar_lib.build(VOCABULARY, linguistic_codes=3, semantic_codes=5)
  outputs = decode.generate(
    model,
    variables,
    prompts(2),
    max_new_tokens=20,
    grammar=grammar,
    start=State.SPEECH,
    sampler=sampling.Sampler(temperature=1.5),
    rng=7,
  )
  for ids in outputs:
    linguistic, semantic = VOCABULARY.deinterleave(ids)
    assert linguistic.max() < 3 and semantic.max() < 5


def test_draws_do_not_depend_on_batch_size_or_neighbours():
  model, variables = tiny()
  common = dict(
    max_new_tokens=9,
    grammar=GRAMMAR,
    sampler=sampling.Sampler(temperature=1.0, top_k=40, top_p=0.95),
    rng=jax.random.key(5),
  )
  lines = prompts(4, [4, 40, 5, 6, 33])
  small = decode.generate(
    model, variables, lines, shapes=decode.Shapes(batch_size=2), **common
  )
  large = decode.generate(
    model,
    variables,
    lines,
    shapes=decode.Shapes(batch_size=8, prompt=64, output=32),
    **common,
  )
  assert [a.tolist() for a in small] == [b.tolist() for b in large]
  other = decode.generate(model, variables, lines, **{**common, 'rng': 6})
  assert [a.tolist() for a in small] != [b.tolist() for b in other]


@dataclasses.dataclass(frozen=True)
class Chain:
  """A model that knows only the last id: logits are a row of its table."""

  def init_cache(self, batch, length):
    return {'index': jnp.zeros((), jnp.int32)}

  def apply(self, variables, tokens_BT, *, cache, **_):
    return variables['table'][tokens_BT], cache


def test_stop_ids_end_a_row_and_are_left_out():
  # 1 → 2 → 3 → 4 → ... with certainty.
  table = jnp.asarray(np.eye(132, k=1) * 9, jnp.float32)
  for stop_ids, expected in (([7], range(2, 7)), ([99, 5], range(2, 5))):
    (output,) = decode.generate_outputs(
      Chain(),
      {'table': table},
      [[1]],
      max_new_tokens=50,
      grammar=GRAMMAR,
      stop_ids=stop_ids,
    )
    assert output.tokens.tolist() == list(expected)
    assert output.stopped
  (output,) = decode.generate_outputs(
    Chain(), {'table': table}, [[1]], max_new_tokens=3, grammar=GRAMMAR
  )
  # 3 is <|EOT|>, the default stop id; 2 comes before it.
  assert output.tokens.tolist() == [2] and output.stopped


def test_logprobs_are_those_of_the_drawn_ids():
  table = np.random.default_rng(0).normal(size=(132, 132)).astype(np.float32)
  outputs = decode.generate_outputs(
    Chain(),
    {'table': jnp.asarray(table)},
    [[5]] * 40,
    max_new_tokens=6,
    grammar=GRAMMAR,
    sampler=sampling.Sampler(temperature=0.7, top_k=9),
    stop_ids=(),
  )
  for output in outputs:
    last = 5
    for token, logprob in zip(output.tokens, output.logprobs, strict=True):
      row = np.where(GRAMMAR.class_V > 0, table[last], -np.inf)
      expected = row[token] - np.log(np.exp(row).sum())
      assert logprob == pytest.approx(expected, abs=1e-5)
      last = token


def test_later_calls_compile_nothing():
  model, variables = tiny()
  shapes = decode.Shapes(batch_size=8, prompt=64, output=32)

  def call(lengths, limit, mode, stop):
    decode.generate(
      model,
      jax.tree.map(lambda x: x + 0.01, variables),
      prompts(0, lengths),
      max_new_tokens=limit,
      grammar=grammar_lib.build(VOCABULARY, linguistic_codes=limit),
      start=mode,
      stop_ids=[stop],
      shapes=shapes,
    )

  call([3, 50], 5, State.TEXT, EOT)
  before = decode.prefill._cache_size(), decode.decode._cache_size()
  call([9, 8, 7, 65, 1], 10, State.SPEECH, 4)
  assert before == (decode.prefill._cache_size(), decode.decode._cache_size())


def test_images_land_in_the_right_places_after_left_padding():
  model, variables = tiny(eyes=True)
  rng = np.random.default_rng(0)
  image = [rng.integers(0, 255, (8, 8, 3), dtype=np.uint8) for _ in range(2)]
  patch, start = CONTROL['<im_patch>'], CONTROL['<text_start>']
  lines = [
    [1, *[patch] * 4, start],
    [1, 90, 91, 92, *[patch] * 4, 95, start],
    [1, 80, start],
  ]
  images, slots = [[image[0]], [image[1]], []], [[1], [4], []]
  outputs = decode.generate(
    model,
    variables,
    lines,
    max_new_tokens=8,
    grammar=GRAMMAR,
    start=State.TEXT,
    images=images,
    image_slots=slots,
    shapes=decode.Shapes(batch_size=4),
  )
  for n, output in enumerate(outputs):
    seen = {}
    if images[n]:
      seen = {
        'images_BNHWC': images[n][0][None, None],
        'image_slots_BN': np.asarray([slots[n]], np.int32),
      }
    expected = full_forward(model, variables, lines[n], 8, State.TEXT, **seen)
    assert output.tolist() == expected[0]
  blind = full_forward(model, variables, lines[0], 8, State.TEXT)[0]
  assert outputs[0].tolist() != blind


def test_no_prompts():
  assert (
    decode.generate(Chain(), {}, [], max_new_tokens=4, grammar=GRAMMAR) == []
  )


@pytest.mark.parametrize(
  'prompt, limit, shapes, message',
  [
    ([], 4, decode.Shapes(), 'prompt 0 is empty'),
    ([1] * 34, 4, decode.Shapes(prompt=32), '34 ids, expected at most 33'),
    ([1], 40, decode.Shapes(output=32), 'max_new_tokens is 40'),
  ],
)
def test_what_does_not_fit_is_named(prompt, limit, shapes, message):
  with pytest.raises(errors.UserError, match=message):
    decode.generate(
      Chain(),
      {},
      [prompt],
      max_new_tokens=limit,
      grammar=GRAMMAR,
      shapes=shapes,
    )
