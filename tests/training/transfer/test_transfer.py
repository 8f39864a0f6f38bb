"""Growing a vocabulary and starting from other runs."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.models.language import speech_text
from step_audio_jax.parallel import mesh as mesh_lib
from step_audio_jax.storage import lazy
from step_audio_jax.training.transfer import transfer


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
  table = transfer.grow(old, 40_500, axis=0, seed=1)
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


class Lazy(lazy.LazyArray):
  """An array in memory that says which slices were read."""

  def __init__(self, value):
    self.value, self.shape, self.dtype = value, value.shape, value.dtype
    self.spans = []

  def read(self, spans):
    self.spans.append(list(spans))
    return self.value[lazy.slices(spans)].copy()


def test_lazy_growth_is_eager_growth(monkeypatch):
  monkeypatch.setattr(transfer, '_ROWS', 7)  # several blocks of old rows
  old = np.random.default_rng(0).normal(2.0, 1.0, (20, 6)).astype(np.float32)
  want = transfer.grow(old, 50, 0, 3)
  np.testing.assert_array_equal(want[:20], old)
  table = transfer.GrownTable(Lazy(old), 50, 0, 3)
  for index in (
    (slice(0, 50), slice(0, 6)),
    (slice(18, 33), slice(2, 5)),
    (slice(25, 30), slice(0, 6)),
    (slice(3, 9), slice(1, 2)),
    (slice(4, 4), slice(0, 6)),
  ):
    np.testing.assert_allclose(table[index], want[index], atol=1e-5)
  sideways = transfer.GrownTable(Lazy(old.T.copy()), 50, 1, 3)
  np.testing.assert_allclose(np.asarray(sideways), want.T, atol=1e-5)


def test_old_rows_alone_are_read_for_old_rows():
  table = transfer.GrownTable(
    old := Lazy(np.ones((20, 6), np.float32)), 50, 0, 3
  )
  table[2:4, 1:3]
  assert old.spans == [[(2, 4), (1, 3)]]


@pytest.mark.parametrize('tied', [False, True])
def test_lazy_sources_keep_old_logits_on_a_mesh(tied):
  def model_of(vocab):
    config = speech_text.TransformerConfig(
      *(vocab, 8, 1, 2, 1, 8), tied_head=tied
    )
    model = speech_text.SpeechTextModel(speech_text.SpeechTextConfig(config))
    shapes = jax.eval_shape(
      model.init, jax.random.key(0), jnp.zeros((1, 3), jnp.int32)
    )
    return model, shapes

  small, small_shapes = model_of(20)
  grown, grown_shapes = model_of(40)
  saved = numbers(small_shapes, 0)
  variables, fresh = transfer.transfer(
    grown_shapes, [('hf', jax.tree.map(Lazy, saved))], zeros(grown_shapes)
  )
  assert not fresh
  mesh = mesh_lib.MeshConfig(fsdp=2, tensor=4).build()
  shardings = mesh_lib.shardings(grown_shapes, mesh, mesh_lib.DEFAULT_RULES)
  arrays = jax.tree.map(
    lambda leaf, sharding: transfer.place_on_mesh(leaf, sharding, np.float32),
    variables,
    shardings,
  )
  table = arrays['params']['transformer']['embedding']
  assert table.addressable_shards[0].data.shape == (10, 4)
  tokens = jnp.arange(12).reshape(2, 6)
  old = jax.jit(small.apply)(saved, tokens)
  new = jax.jit(grown.apply)(jax.device_get(arrays), tokens)
  np.testing.assert_allclose(new[..., :20], old, atol=1e-6)


def test_what_stays_comes_from_the_params_of_a_source():
  leaf = np.ones((2, 2), np.float32)
  target = {'params': {'a': leaf}, 'base': {'w': leaf, 'v': leaf}}
  source = {'params': {'w': 2 * leaf}, 'base': {'v': 3 * leaf}}
  out, fresh = transfer.transfer(
    target, [('run', source)], lambda paths: {p: 0 * leaf for p in paths}
  )
  assert fresh == ['params/a']
  assert (out['base']['w'] == 2).all() and (out['base']['v'] == 3).all()
