"""The decoder: closed-form sizes, packing, cache, configurations."""

import dataclasses
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.models.language import speech_text
from step_audio_jax.models.language import transformer

TINY = transformer.TransformerConfig(
  vocab_size=50,
  width=24,
  layers=3,
  heads=12,
  kv_heads=3,
  mlp_width=32,
)


@functools.lru_cache
def model_of(config, vision=None):
  model = speech_text.SpeechTextModel(
    speech_text.SpeechTextConfig(config, vision)
  )
  variables = nn.unbox(
    jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 4), jnp.int32))
  )
  return model, variables


@pytest.mark.parametrize(
  'change',
  [
    {},
    {'position': 'rope', 'tied_head': True, 'qkv_bias': True},
    {'position': 'rope', 'qk_norm': True, 'head_dim': 6},
  ],
)
def test_parameter_count_is_the_closed_form(change):
  config = dataclasses.replace(TINY, **({'head_dim': 0} | change))
  model = speech_text.SpeechTextModel(speech_text.SpeechTextConfig(config))
  shapes = jax.eval_shape(
    model.init, jax.random.key(0), jnp.zeros((1, 4), jnp.int32)
  )
  assert config.parameters == sum(x.size for x in jax.tree.leaves(shapes))


def test_published_sizes():
  step1_130b = transformer.TransformerConfig(
    vocab_size=74752,
    width=12288,
    layers=88,
    heads=96,
    kv_heads=8,
    mlp_width=31232,
  )
  step1_3b = transformer.TransformerConfig(
    vocab_size=74752,
    width=3072,
    layers=32,
    heads=48,
    kv_heads=4,
    mlp_width=8192,
  )
  assert step1_130b.parameters == 131_946_590_208
  assert step1_3b.parameters == 3_529_706_496


@pytest.mark.parametrize('position', ['sqrt_alibi', 'rope'])
def test_packed_rows_equal_documents_alone(position):
  model, variables = model_of(dataclasses.replace(TINY, position=position))
  rng = np.random.default_rng(0)
  lengths = [3, 7, 1, 5]
  documents = [rng.integers(0, 50, n) for n in lengths]
  # Row 0 packs all documents; rows 1.. hold one each, at the front.
  tokens = np.zeros((5, 20), int)
  segments, positions = np.zeros_like(tokens), np.zeros_like(tokens)
  place = 0
  for i, document in enumerate(documents):
    n = len(document)
    for row, start in ((0, place), (i + 1, 0)):
      tokens[row, start : start + n] = document
      segments[row, start : start + n] = i + 1
      positions[row, start : start + n] = np.arange(n)
    place += n
  logits = jax.jit(model.apply)(
    variables,
    jnp.asarray(tokens),
    segment_ids_BT=jnp.asarray(segments),
    positions_BT=jnp.asarray(positions),
  )
  place = 0
  for i, n in enumerate(lengths):
    np.testing.assert_allclose(
      logits[0, place : place + n], logits[i + 1, :n], atol=1e-5
    )
    place += n


def test_cached_decoding_equals_the_full_pass():
  model, variables = model_of(TINY)
  tokens = jax.random.randint(jax.random.key(1), (2, 9), 0, 50)
  full = jax.jit(model.apply)(variables, tokens)
  step = jax.jit(
    lambda t, p, c: model.apply(variables, t, positions_BT=p, cache=c)
  )
  cache = model.init_cache(2, 11)
  pieces, place = [], 0
  for size in (4, 1, 1, 3):
    logits, cache = step(
      tokens[:, place : place + size],
      jnp.tile(jnp.arange(place, place + size), (2, 1)),
      cache,
    )
    pieces.append(logits)
    place += size
  np.testing.assert_allclose(jnp.concatenate(pieces, 1), full, atol=1e-5)
  assert int(cache['index']) == 9


@pytest.mark.parametrize(
  'position, attention', [('sqrt_alibi', 'blockwise'), ('rope', 'auto')]
)
def test_branches_of_a_row_equal_rows_of_their_own(position, attention):
  model, variables = model_of(
    dataclasses.replace(TINY, position=position, attention=attention)
  )
  rng = np.random.default_rng(0)
  trunks = [rng.integers(0, 50, n) for n in (5, 3)]
  branches = rng.integers(0, 50, (2, 3, 4))  # the last has pads behind it
  tokens, segments, positions = np.zeros((3, 2, 5 + 12), np.int32)
  for row, trunk in enumerate(trunks):
    n = len(trunk)
    tokens[row] = [*np.zeros(5 - n), *trunk, *branches[row].flat]
    segments[row] = [*np.zeros(5 - n), *np.ones(n + 12)]
    positions[row] = [*np.zeros(5 - n), *range(n), *[*range(n, n + 4)] * 3]
  segments[:, -2:] = 0
  features, head = model.apply(
    variables,
    tokens,
    segment_ids_BT=segments,
    positions_BT=positions,
    branches=(3, 4),
    method='features_and_head',
  )
  found = np.asarray(features @ head.T)
  for row, trunk in enumerate(trunks):
    for number, branch in enumerate(branches[row]):
      one = np.concatenate([trunk, branch])[None]
      truth = np.asarray(model.apply(variables, one))[0]
      own = found[row, 5 + 4 * number :][: 2 if number == 2 else 4]
      n = len(trunk)
      np.testing.assert_allclose(found[row, 5 - n : 5], truth[:n], atol=2e-5)
      np.testing.assert_allclose(own, truth[n:][: len(own)], atol=2e-5)


@pytest.mark.parametrize('position', ['sqrt_alibi', 'rope'])
def test_a_long_prompt_in_a_new_cache_and_in_one_passed_in(position):
  """A cache made in the same trace is known to be empty, one passed is not."""
  model, variables = model_of(dataclasses.replace(TINY, position=position))
  tokens = jax.random.randint(jax.random.key(1), (2, 25), 0, 50)
  starts = jnp.asarray([3, 0])
  places = jnp.arange(20)[None] - starts[:, None]
  first = dict(
    segment_ids_BT=(places >= 0).astype(jnp.int32),
    positions_BT=jnp.maximum(places, 0),
  )

  @jax.jit
  def prefill(cache=None):
    cache = model.init_cache(2, 40) if cache is None else cache
    return model.apply(variables, tokens[:, :20], cache=cache, **first)

  @jax.jit
  def more(cache):
    positions = jnp.arange(20, 25)[None] - starts[:, None]
    return model.apply(
      variables, tokens[:, 20:], positions_BT=positions, cache=cache
    )[0]

  logits, cache = prefill()
  want, other = prefill(jax.tree.map(jnp.asarray, model.init_cache(2, 40)))
  for b, start in enumerate((3, 0)):
    np.testing.assert_allclose(logits[b, start:], want[b, start:], atol=1e-5)
  np.testing.assert_allclose(more(cache), more(other), atol=1e-5)
  # Read back from the device, it is no empty cache.
  fetched = jax.device_get(cache)
  np.testing.assert_allclose(more(fetched), more(cache), atol=1e-6)


@pytest.mark.parametrize(
  'remat', ['full', ('query', 'attention_out', 'mlp_up')]
)
def test_remat_and_unrolling_change_nothing(remat):
  model, variables = model_of(TINY)
  other, _ = model_of(dataclasses.replace(TINY, remat=remat, scan_unroll=3))
  tokens = jnp.arange(12).reshape(2, 6)

  def loss(m):
    return lambda v: (m.apply(v, tokens) ** 2).mean()

  want = jax.jit(jax.grad(loss(model)))(variables)
  got = jax.jit(jax.grad(loss(other)))(variables)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), want, got
  )


def test_images_fill_their_slots_and_only_those():
  vision = speech_text.VisionConfig(
    image_size=8, patch_size=4, width=8, layers=1, heads=2, mlp_width=8
  )
  model, variables = model_of(TINY, vision)
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (2, 2, 8, 8, 3)).astype(np.uint8)
  tokens = jnp.asarray(rng.integers(0, 50, (2, 10)))
  apply = jax.jit(model.apply)

  def run(slots, pixels=images):
    return np.asarray(
      apply(
        variables,
        tokens,
        images_BNHWC=jnp.asarray(pixels),
        image_slots_BN=jnp.asarray(slots),
      )
    )

  none = run([[-1, -1], [-1, -1]])
  np.testing.assert_allclose(none, apply(variables, tokens), atol=1e-6)
  some = run([[2, -1], [-1, 5]])
  assert np.allclose(some[0, :2], none[0, :2], atol=1e-6)  # causal
  assert not np.allclose(some[0, 2:6], none[0, 2:6], atol=1e-3)
  assert np.allclose(some[1, :5], none[1, :5], atol=1e-6)
  assert not np.allclose(some[1, 5:9], none[1, 5:9], atol=1e-3)
  other = images.copy()
  other[0, 1] = 0  # an image without a slot is not seen
  np.testing.assert_allclose(
    run([[2, -1], [-1, 5]], other)[0], some[0], atol=1e-6
  )


def test_the_encoder_gets_no_gradient_and_the_projector_does():
  vision = speech_text.VisionConfig(
    image_size=8, patch_size=4, width=8, layers=1, heads=2, mlp_width=8
  )
  model, variables = model_of(TINY, vision)
  images = np.random.default_rng(0).integers(0, 256, (1, 1, 8, 8, 3))

  def loss(params):
    logits = model.apply(
      {'params': params},
      jnp.arange(8)[None],
      images_BNHWC=jnp.asarray(images, jnp.uint8),
      image_slots_BN=jnp.array([[1]]),
    )
    return (logits**2).mean()

  grads = jax.jit(jax.grad(loss))(variables['params'])

  def size(tree):
    return sum(float(jnp.abs(x).sum()) for x in jax.tree.leaves(tree))

  assert size(grads['vision']) == 0.0
  assert size(grads['projector']) > 0.0


@pytest.mark.parametrize(
  'change, words',
  [
    ({'kv_heads': 5}, 'kv_heads must divide heads'),
    ({'position': 'learned'}, "expected 'sqrt_alibi' or 'rope'"),
    ({'remat': 'some'}, "expected 'none', 'full' or"),
    ({'remat': ('query', 'quarry')}, 'names of'),
    ({'rope_scaling': {'kind': 'ntk', 'factor': 2}}, "kind is 'ntk'"),
    ({'position': 'rope', 'head_dim': 3}, 'expected an even number'),
    ({'layers': 0}, 'layers is 0, expected at least 1'),
    ({'width': 25, 'head_dim': 0}, 'no multiple of heads'),
  ],
)
def test_a_wrong_configuration_says_what_would_be_right(change, words):
  with pytest.raises(errors.UserError, match=words):
    dataclasses.replace(TINY, **change)
