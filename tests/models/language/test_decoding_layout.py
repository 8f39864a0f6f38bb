"""Decoding from laid out parameters gives what the model gives."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax.models.language import speech_text
from step_audio_jax.models.language import transformer

SIZES = dict(
  vocab_size=70, width=32, layers=2, heads=4, kv_heads=2, mlp_width=48
)
CHANGES = {
  'step1': dict(),
  'qwen2': dict(position='rope', qkv_bias=True, tied_head=True),
  'qwen3': dict(position='rope', qk_norm=True, head_dim=12),
}


def filled(params):
  """Parameters with no zeros among the biases."""
  keys = iter(jax.random.split(jax.random.key(1), 99))
  return jax.tree.map(
    lambda p: p + 0.1 * jax.random.normal(next(keys), p.shape), params
  )


@pytest.mark.parametrize('change', CHANGES)
def test_tiles_give_the_logits_of_the_model(change):
  config = transformer.TransformerConfig(**SIZES, **CHANGES[change])
  model = speech_text.SpeechTextModel(speech_text.SpeechTextConfig(config))
  tokens_BT = np.random.default_rng(0).integers(1, 70, (3, 7))
  variables = filled(
    nn.unbox(jax.jit(model.init)(jax.random.key(0), tokens_BT))
  )
  full_BTV = jax.jit(model.apply)(variables, tokens_BT)
  laid = model.for_decoding(variables, tiles=True)
  names = set(laid['params']['transformer']['blocks'][0]['attention'])
  assert names >= {'q_k_v', 'out'} and not names & {'q', 'k', 'v'}
  step = jax.jit(lambda t, p, c: model.apply(laid, t, positions_BT=p, cache=c))
  cache = model.init_cache(3, 7)
  for t in range(7):
    logits_B1V, cache = step(
      tokens_BT[:, t : t + 1], jnp.full((3, 1), t), cache
    )
    np.testing.assert_allclose(
      logits_B1V[:, 0], full_BTV[:, t], rtol=1e-4, atol=1e-4
    )


def test_parameters_lie_apart_without_tiles():
  config = transformer.TransformerConfig(**SIZES)
  model = speech_text.SpeechTextModel(speech_text.SpeechTextConfig(config))
  shapes = jax.eval_shape(
    model.init, jax.random.key(0), jnp.zeros((1, 4), jnp.int32)
  )
  laid = jax.eval_shape(model.for_decoding, shapes)
  blocks = laid['params']['transformer']['blocks']
  assert len(blocks) == 2
  assert blocks[0]['mlp']['gate']['kernel'].shape == (32, 48)
