"""A small random dual tokenizer and noise that sounds a little like speech."""

import functools
import json

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax.interop.tokenizer import paraformer as import_paraformer
from step_audio_jax.models.tokenizer import paraformer
from step_audio_jax.models.tokenizer import s3
from step_audio_jax.tokenizers.speech import dual
from step_audio_jax.tokenizers.speech import linguistic
from step_audio_jax.tokenizers.speech import semantic


def _random(rng, model, features):
  """Random parameters without compiling the model's own initialisation."""
  boxed = jax.eval_shape(
    model.init, jax.random.key(0), features, jnp.array([features.shape[1]])
  )

  def draw(path, leaf):
    if path[-1].key == 'scale':
      return 1 + 0.1 * rng.normal(size=leaf.shape)
    inner = leaf.shape[-2] if leaf.ndim > 1 else 100
    return rng.normal(size=leaf.shape) / np.sqrt(inner)

  tree = jax.tree_util.tree_map_with_path(draw, nn.unbox(boxed)['params'])
  return jax.tree.map(np.float32, tree)


@functools.cache
def small(seed=0):
  """A random dual tokenizer whose positional table holds 0.8 s."""
  one = paraformer.ParaformerConfig(width=16, heads=2, mlp_width=16, layers=2)
  two = s3.S3Config(width=16, heads=2, layers=1, positions=20, codes=9)
  rng = np.random.default_rng(seed)
  params = _random(rng, paraformer.SanmEncoder(one), jnp.zeros((1, 4, 560)))
  params_two = _random(rng, s3.S3Encoder(two), jnp.zeros((1, 8, 128)))
  cmvn = {'shift': np.full(560, -10.0), 'scale': np.full(560, 0.3)}
  return dual.DualTokenizer(
    linguistic.LinguisticTokenizer(one, params, cmvn, rng.normal(size=(7, 16))),
    semantic.SemanticTokenizer(
      two, params_two, s3.l2_normalise(rng.normal(size=(9, 16)))
    ),
  )


def speechlike(samples, seed=0):
  """Coloured noise whose loudness rises and falls, float32 (samples,).

  Nothing in it is constant: of a signal without sound only rounding errors
  would be left to encode.
  """
  rng = np.random.default_rng(seed)
  noise = np.convolve(rng.normal(size=samples), [1.0, 1.5, 1.0, 0.3], 'same')
  loudness = 0.06 * (1.1 + np.sin(np.arange(samples) / 900.0 + seed))
  return (noise[:samples] * loudness).astype(np.float32)


def weights(z):
  """The weights of a recording under their original names."""
  return {k[2:]: z[k] for k in z.files if k.startswith('w/')}


def recorded_linguistic(golden):
  """The linguistic tokenizer of a recording."""
  c = json.loads(str(golden['config']))['encoder']
  config = paraformer.ParaformerConfig(
    input_size=c['input_size'],
    width=c['output_size'],
    heads=c['attention_heads'],
    mlp_width=c['linear_units'],
    layers=c['num_blocks'],
  )
  shift, scale = golden['in/cmvn']
  return linguistic.LinguisticTokenizer(
    config,
    import_paraformer.encoder_params(weights(golden)),
    {'shift': shift, 'scale': scale},
    golden['in/kmeans'],
  )
