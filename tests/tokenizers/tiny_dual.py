"""A small random dual tokenizer and noise that sounds a little like speech."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax.models import paraformer
from step_audio_jax.models import s3
from step_audio_jax.tokenizers import dual
from step_audio_jax.tokenizers import linguistic
from step_audio_jax.tokenizers import semantic


@functools.cache
def small(seed=0):
  """A random dual tokenizer whose positional table holds 0.8 s."""
  one = paraformer.ParaformerConfig(width=16, heads=2, mlp_width=16, layers=2)
  two = s3.S3Config(width=16, heads=2, layers=1, positions=20, codes=9)
  keys = jax.random.split(jax.random.key(seed), 4)
  params = nn.unbox(
    jax.jit(paraformer.SanmEncoder(one).init)(
      keys[0], jnp.zeros((1, 4, 560)), jnp.array([4])
    )
  )['params']
  params_two = nn.unbox(
    jax.jit(s3.S3Encoder(two).init)(
      keys[1], jnp.zeros((1, 8, 128)), jnp.array([8])
    )
  )['params']
  cmvn = {'shift': np.full(560, -10.0), 'scale': np.full(560, 0.3)}
  return dual.DualTokenizer(
    linguistic.LinguisticTokenizer(
      one, params, cmvn, jax.random.normal(keys[2], (7, 16))
    ),
    semantic.SemanticTokenizer(
      two, params_two, s3.unit(jax.random.normal(keys[3], (9, 16)))
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
