"""The image encoder and the contrastive pair against a plain-numpy ViT."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.models.language import vision

WIDE = vision.VisionConfig(
  image_size=8, patch_size=4, width=12, layers=2, heads=3, mlp_width=10
)
FINE = vision.VisionConfig(
  image_size=9, patch_size=3, width=8, layers=1, heads=1, mlp_width=16
)


def randomised(variables, seed=0):
  """Numbers that no initialiser would give: norms and biases count too."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: rng.normal(0.2, 0.5, x.shape).astype(np.float32),
    nn.unbox(variables),
  )


def encoder_of(config, seed=0):
  model = vision.VisionEncoder(config)
  side = config.image_size
  boxed = jax.eval_shape(
    model.init, jax.random.key(0), jnp.zeros((1, side, side, 3), jnp.uint8)
  )
  return jax.jit(model.apply), randomised(boxed, seed)


def pixels(config, count, seed=0):
  side = config.image_size
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (count, side, side, 3)).astype(np.uint8)


# The oracle: float64, loops, nothing shared with the model.


def dense(p, x):
  return x @ p['kernel'].astype(np.float64) + p['bias']


def norm(p, x, epsilon=1e-6):
  centred = x - x.mean(-1, keepdims=True)
  variance = np.square(centred).mean(-1, keepdims=True)
  return centred / np.sqrt(variance + epsilon) * p['scale'] + p['bias']


def gelu(x):
  cubic = x + 0.044715 * x**3
  return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * cubic))


def softmax(x):
  e = np.exp(x - x.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def attend(p, x, heads):
  """One image: (P, W) → (P, W); each head holds its q, k and v together."""
  qkv = dense(p['qkv'], x)
  size = x.shape[1] // heads
  outs = []
  for head in range(heads):
    own = qkv[:, 3 * size * head : 3 * size * (head + 1)]
    q, k, v = own[:, :size], own[:, size : 2 * size], own[:, 2 * size :]
    outs.append(softmax(q @ k.T / np.sqrt(size)) @ v)
  return dense(p['out'], np.concatenate(outs, -1))


def patches_of(image, size):
  """Row by row, each patch as its pixels in reading order."""
  side = image.shape[0] // size
  return np.stack(
    [
      image[size * i : size * (i + 1), size * j : size * (j + 1)].reshape(-1)
      for i in range(side)
      for j in range(side)
    ]
  )


def encode(params, config, image):
  x = patches_of(image.astype(np.float64) / 127.5 - 1, config.patch_size)
  x = dense(params['patch'], x) + params['positions']
  for i in range(config.layers):
    p = params[f'block_{i}']
    x = x + attend(p, norm(p['attention_norm'], x), config.heads)
    h = gelu(dense(p['up'], norm(p['mlp_norm'], x)))
    x = x + dense(p['down'], h)
  return norm(params['final_norm'], x)


@pytest.mark.parametrize('config', [WIDE, FINE])
def test_the_encoder_equals_the_oracle(config):
  apply, variables = encoder_of(config)
  images = pixels(config, 3)
  got = apply(variables, images)
  assert got.shape == (3, config.patches, config.width)
  assert got.dtype == jnp.float32
  for image, features in zip(images, got):
    np.testing.assert_allclose(
      features, encode(variables['params'], config, image), atol=2e-4
    )


def test_patches_are_a_set_apart_from_their_positions():
  """Without positions, exchanged patches exchange features and no more."""
  apply, variables = encoder_of(WIDE)
  variables['params']['positions'] = np.zeros((4, 12), np.float32)
  (image,) = pixels(WIDE, 1)
  turned = image.copy()
  turned[:4, 4:], turned[4:, :4] = image[4:, :4], image[:4, 4:]
  a, b = apply(variables, np.stack([image, turned]))
  np.testing.assert_allclose(a[np.array([0, 2, 1, 3])], b, atol=1e-5)
  assert np.abs(a - b).max() > 1e-3


def test_images_of_a_batch_do_not_meet():
  apply, variables = encoder_of(WIDE)
  images = pixels(WIDE, 3)
  other = images.copy()
  other[1] = 255 - other[1]
  a, b = apply(variables, images), apply(variables, other)
  np.testing.assert_array_equal(a[::2], b[::2])
  assert np.abs(a[1] - b[1]).max() > 1e-3


@pytest.mark.parametrize('config', [WIDE, FINE])
def test_patches_are_places_in_a_row(config):
  side = config.image_size // config.patch_size
  assert config.patches == side * side


def test_the_projector_is_two_layers():
  model = vision.Projector(7)
  x = np.random.default_rng(1).normal(size=(2, 3, 5)).astype(np.float32)
  variables = randomised(jax.eval_shape(model.init, jax.random.key(0), x))
  p = variables['params']
  expected = dense(p['down'], gelu(dense(p['up'], x.astype(np.float64))))
  np.testing.assert_allclose(model.apply(variables, x), expected, atol=1e-5)


@pytest.fixture(scope='module')
def pair():
  """The contrastive model, its variables, images, captions and their mask."""
  model = vision.VisionText(WIDE, vocab_size=11, width=6)
  tokens = np.array([[1, 2, 3, 0], [4, 0, 0, 0], [5, 6, 7, 8]], np.int32)
  mask = (np.arange(4)[None] < np.array([3, 1, 4])[:, None]).astype(np.float32)
  images = pixels(WIDE, 3, seed=5)
  boxed = jax.eval_shape(model.init, jax.random.key(0), images, tokens, mask)
  return jax.jit(model.apply), randomised(boxed, 3), images, tokens, mask


def unit(x):
  return x / np.linalg.norm(x + 1e-6)


def test_contrastive_logits_equal_the_oracle(pair):
  apply, variables, images, tokens, mask = pair
  p = variables['params']
  got = apply(variables, images, tokens, mask)
  for i, image in enumerate(images):
    features = encode(p['vision'], WIDE, image).reshape(-1)
    one = unit(dense(p['image_out'], features))
    for j, (row, valid) in enumerate(zip(tokens, mask)):
      words = p['text_embedding'][row[: int(valid.sum())]].astype(np.float64)
      h = gelu(dense(p['text_up'], words.mean(0)))
      two = unit(dense(p['text_out'], h))
      expected = np.exp(p['scale']) * one @ two + p['bias']
      np.testing.assert_allclose(got[i, j], expected, atol=2e-4)


def test_what_is_behind_a_caption_does_not_matter(pair):
  apply, variables, images, tokens, mask = pair
  want = apply(variables, images, tokens, mask)
  other = np.where(mask > 0, tokens, 9).astype(np.int32)
  np.testing.assert_array_equal(apply(variables, images, other, mask), want)
  shuffled = tokens.copy()
  shuffled[2] = shuffled[2][::-1]  # a caption is the mean of its words
  np.testing.assert_allclose(
    apply(variables, images, shuffled, mask), want, atol=1e-5
  )


def test_captions_are_columns_and_images_rows(pair):
  apply, variables, images, tokens, mask = pair
  want = apply(variables, images, tokens, mask)
  order = np.array([2, 0, 1])
  np.testing.assert_allclose(
    apply(variables, images, tokens[order], mask[order]),
    want[:, order],
    atol=1e-5,
  )
  np.testing.assert_allclose(
    apply(variables, images[order], tokens, mask), want[order], atol=1e-5
  )


def test_an_empty_caption_gives_numbers(pair):
  apply, variables, images, tokens, mask = pair
  empty = mask.copy()
  empty[1] = 0
  got = np.asarray(apply(variables, images, tokens, empty))
  assert np.isfinite(got).all()
  want = np.asarray(apply(variables, images, tokens, mask))
  np.testing.assert_allclose(got[:, ::2], want[:, ::2], atol=1e-5)
  assert np.abs(got[:, 1] - want[:, 1]).max() > 1e-3


@pytest.mark.parametrize(
  ('change', 'told'),
  [
    ({'image_size': 30}, 'image_size 30 is no multiple of patch_size 8'),
    ({'image_size': 0}, 'image_size 0 is no multiple'),
    ({'heads': 5}, 'width is 64 and heads 5; heads must divide'),
    ({'heads': 0}, 'heads is 0, expected at least 1'),
    ({'patch_size': 0}, 'patch_size is 0, expected at least 1'),
    ({'layers': -1}, 'layers is -1, expected at least 1'),
  ],
)
def test_a_wrong_configuration_says_what_would_be_right(change, told):
  with pytest.raises(errors.UserError, match=told):
    vision.VisionConfig(**change)
