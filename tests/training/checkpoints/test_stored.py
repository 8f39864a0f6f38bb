"""Checkpoints on disk, opened and made slice by slice."""

import jax
import ml_dtypes
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.storage import lazy
from step_audio_jax.training.checkpoints import checkpoints
from step_audio_jax.training.checkpoints import stored


def tree_of(seed=0):
  rng = np.random.default_rng(seed)
  return {
    'params': {
      'a': {'kernel': rng.normal(size=(5, 7, 3)).astype(np.float32)},
      'b': rng.normal(size=(11,)).astype(ml_dtypes.bfloat16),
      'zeros': np.zeros((4, 2), np.float32),
    },
    'counts': {'steps': np.asarray(3, np.int32)},
  }


def same(found, want):
  flat, other = (dict(jax.tree.leaves_with_path(t)) for t in (found, want))
  assert set(flat) == set(other)
  for path, value in other.items():
    got = np.asarray(flat[path])
    assert got.dtype == value.dtype and got.shape == value.shape, path
    np.testing.assert_array_equal(got, value)


@pytest.mark.parametrize('chunk', [30, 2**20])
def test_what_is_written_is_an_orbax_checkpoint(tmp_path, monkeypatch, chunk):
  monkeypatch.setattr(stored, 'CHUNK_BYTES', chunk)
  told = []
  stored.write_variables(tmp_path, 7, tree_of(), told.append)
  found, step = checkpoints.load_variables(tmp_path)
  assert step == 7
  same(found, tree_of())
  assert max(told) <= max(chunk, 4)


def test_orbax_checkpoints_are_opened_unread(tmp_path):
  store = checkpoints.Checkpoints(tmp_path)
  optimizer = {'count': np.asarray(1)}
  store.save(1, tree_of(1), optimizer, {'row': 0})
  mean = tree_of(3)['params']
  store.save(2, tree_of(2), optimizer, {'row': 0}, mean)
  store.close()
  tree, _ = stored.open_variables(tmp_path, ema=True)
  same(tree, {**tree_of(2), 'params': mean})
  with pytest.raises(errors.UserError, match='no mean of the parameters'):
    stored.open_variables(tmp_path, 1, ema=True)
  for step, seed in ((None, 2), (1, 1)):
    tree, at = stored.open_variables(tmp_path, step)
    assert at == seed
    leaves = jax.tree.leaves(tree)
    assert all(isinstance(leaf, lazy.LazyArray) for leaf in leaves)
    same(tree, tree_of(seed))
  kernel = tree['params']['a']['kernel']
  want = tree_of(1)['params']['a']['kernel']
  np.testing.assert_array_equal(kernel[2:4, :, 1:2], want[2:4, :, 1:2])


def test_a_slice_reads_its_chunks_alone(tmp_path, monkeypatch):
  monkeypatch.setattr(stored, 'CHUNK_BYTES', 100)
  stored.write_variables(tmp_path, 0, tree_of())
  tree, _ = stored.open_variables(tmp_path)
  assert tree['params']['a']['kernel'].chunk == (1, 7, 3)


def test_lazy_arrays_are_written_block_by_block(tmp_path, monkeypatch):
  monkeypatch.setattr(stored, 'CHUNK_BYTES', 64)
  value = np.arange(60, dtype=np.float32).reshape(6, 10)
  sizes = []

  class Spy(lazy.LazyArray):
    shape, dtype = value.shape, value.dtype

    def read(self, spans):
      block = value[lazy.slices(spans)].copy()
      sizes.append(block.nbytes)
      return block

  stored.write_variables(tmp_path, 0, {'params': {'x': Spy()}})
  found, _ = checkpoints.load_variables(tmp_path)
  np.testing.assert_array_equal(found['params']['x'], value)
  assert max(sizes) <= 64


def test_broken_checkpoints_are_told(tmp_path):
  with pytest.raises(errors.UserError, match='no finished checkpoint'):
    stored.open_variables(tmp_path)
  stored.write_variables(tmp_path, 4, tree_of())
  with pytest.raises(errors.UserError, match='no checkpoint of step 5'):
    stored.open_variables(tmp_path, 5)
  folder = stored.variables_folder(tmp_path, 4)
  (folder / '_METADATA').write_text('{')
  with pytest.raises(errors.UserError, match='cannot be read as a checkpoint'):
    stored.open_variables(tmp_path)
