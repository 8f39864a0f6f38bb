"""Growing a vocabulary and starting from other runs."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.models import speech_text
from step_audio_jax.training import transfer


def boxed(vocab, vision=False):
  model = speech_text.SpeechTextModel(
    speech_text.SpeechTextConfig(
      speech_text.TransformerConfig(
        vocab_size=vocab, width=8, layers=1, heads=2, kv_heads=1, mlp_width=8
      ),
      speech_text.VisionConfig(
        image_size=4, patch_size=4, width=8, layers=1, heads=2, mlp_width=8
      )
      if vision
      else None,
    )
  )
  return model, jax.eval_shape(
    model.init, jax.random.key(0), jnp.zeros((1, 3), jnp.int32)
  )


def numbers(shapes, seed):
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: rng.standard_normal(x.shape, np.float32), nn.unbox(shapes)
  )


def zeros(shapes):
  flat = transfer.flatten(nn.unbox(shapes))
  return lambda paths: {p: np.zeros(flat[p].shape) for p in paths}


def test_new_rows_have_the_mean_and_covariance_of_the_old():
  rng = np.random.default_rng(0)
  mixing = rng.standard_normal((4, 4))
  old = (rng.standard_normal((500, 4)) @ mixing + 3.0).astype(np.float32)
  table = transfer.grown(old, 40_500, axis=0, seed=1)
  np.testing.assert_array_equal(table[:500], old)
  new = table[500:]
  np.testing.assert_allclose(new.mean(0), old.mean(0), atol=0.1)
  np.testing.assert_allclose(
    np.cov(new.T), np.cov(old.T), atol=0.05 * np.abs(np.cov(old.T)).max()
  )


def test_old_logits_do_not_change_when_the_vocabulary_grows():
  small, small_boxed = boxed(20)
  grown, grown_boxed = boxed(33, vision=True)
  saved = numbers(small_boxed, 0)
  variables, fresh = transfer.transfer(
    grown_boxed, [('text', saved)], zeros(grown_boxed)
  )
  tokens = jnp.arange(12).reshape(2, 6)
  old = jax.jit(small.apply)(saved, tokens)
  new = jax.jit(grown.apply)(variables, tokens)
  np.testing.assert_allclose(new[..., :20], old, atol=1e-6)
  assert new.shape[-1] == 33
  assert all('/vision/' in p or '/projector/' in p for p in fresh) and fresh


def test_the_first_source_that_holds_a_path_gives_it():
  _, target = boxed(20, vision=True)
  a = numbers(boxed(20)[1], 0)
  b = jax.tree.map(lambda x: np.full(x.shape, 7.0), nn.unbox(target))
  out, fresh = transfer.transfer(target, [('a', a), ('b', b)], zeros(target))
  np.testing.assert_array_equal(
    out['params']['transformer']['embedding'],
    a['params']['transformer']['embedding'],
  )
  assert (out['params']['vision']['positions'] == 7).all() and not fresh


def test_misfits_are_named():
  _, target = boxed(20)
  saved = numbers(boxed(33)[1], 0)
  with pytest.raises(errors.UserError, match=r'embedding has shape \(33, 8\)'):
    transfer.transfer(target, [('run', saved)], zeros(target))
  with pytest.raises(errors.UserError, match='nothing in this checkpoint'):
    transfer.transfer(
      target, [('run', {'params': {'x': np.ones(2)}})], zeros(target)
    )
