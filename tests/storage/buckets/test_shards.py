"""Safetensors out of buckets: by ranges, and refused as on a disk."""

import json

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.storage import files
from step_audio_jax.storage import shards
from step_audio_jax.storage.buckets import publishing
from step_audio_jax.storage.clients import failures


def tensors_of():
  rng = np.random.default_rng(0)
  return {
    'a': rng.normal(size=(30, 5)).astype(np.float32),
    'b': rng.normal(size=(2, 3, 2)).astype(np.float16),
    'c': np.asarray(3.5, np.float32),
    'd': np.zeros((0, 4), np.float32),
  }


@pytest.mark.parametrize('limit', [100, 10**6])
def test_what_is_written_is_read_by_ranges(root, monkeypatch, limit):
  monkeypatch.setattr(shards, '_RANGE', 36)
  want = tensors_of()
  root = root / f'{limit}'
  shards.write_folder(root, want, limit)
  found = shards.read_folder(root)
  assert set(found) == set(want)
  for name, value in want.items():
    np.testing.assert_array_equal(np.asarray(found[name]), value)
  a = want['a']
  for part in (np.s_[3:7], np.s_[3:7, 1:2], np.s_[:, 4:], np.s_[30:], np.s_[:]):
    np.testing.assert_array_equal(found['a'][part], a[part])
  np.testing.assert_array_equal(found['b'][1:, :, 1:], want['b'][1:, :, 1:])


def test_a_slice_costs_its_bytes(root):
  big = {'a': np.arange(2**20, dtype=np.float32).reshape(1024, 1024)}
  shards.write_folder(root, big, 10**9)
  before = failures.counts().get('bytes_read', 0)
  found = shards.read_folder(root)['a']
  np.testing.assert_array_equal(found[17:19], big['a'][17:19])
  assert failures.counts()['bytes_read'] - before < 20_000


def test_another_object_of_the_same_name_is_not_read_on(root):
  shards.write_file(root / 'x.safetensors', tensors_of())
  found = shards.read_header(root / 'x.safetensors')
  shards.write_file(root / 'x.safetensors', {'a': np.ones(3, np.float32)})
  with pytest.raises(errors.UserError, match='it is another object now'):
    np.asarray(found['a'])
  files.remove(root / 'x.safetensors')
  with pytest.raises(errors.UserError, match=r'x\.safetensors: no such object'):
    np.asarray(found['b'])


def test_half_a_folder_and_broken_files(root):
  with pytest.raises(errors.UserError, match=f'{root}: found none'):
    shards.read_folder(root)
  shards.write_folder(root, tensors_of(), 100)
  gone = next(iter(files.glob(root, 'model-00001-*')))
  whole = files.read_bytes(gone)
  files.remove(gone)
  with pytest.raises(
    errors.UserError, match=f'{gone}: cannot be read .no such object'
  ):
    shards.read_folder(root)
  for content, told in (
    (whole[:20], 'the file is cut'),
    (b'', 'the file is cut'),
    (b'version https://git-lfs.github.com/spec/v1\n', 'a Git LFS pointer'),
  ):
    files.write_bytes(gone, content)
    with pytest.raises(errors.UserError, match=f'{gone}: .*{told}'):
      shards.read_folder(root)


def test_the_last_object_is_the_one_that_readers_look_for(root, monkeypatch):
  copied = []
  bucket_of = publishing.stores.bucket_of

  class Watched:
    """A bucket that notes what is copied."""

    def __init__(self, bucket):
      self._bucket = bucket

    def __getattr__(self, name):
      return getattr(self._bucket, name)

    def copy(self, key, target):
      copied.append(target.rpartition('/')[2])
      self._bucket.copy(key, target)

  def make(names, **told):
    copied.clear()
    with files.atomic_folder(root / 'x', replace=True, **told) as folder:
      for name in names:
        files.write_json(folder / name, name)
    return copied[-1], sorted(p.name for p in files.list_folder(root / 'x'))

  monkeypatch.setattr(
    publishing.stores, 'bucket_of', lambda path: Watched(bucket_of(path))
  )
  both = ['config.json', 'z']
  assert make(['z', 'config.json']) == ('config.json', both)
  assert make(['a.json', 'z'], last='a.json') == ('a.json', ['a.json', 'z'])
  assert make(['config.json', 'z'], last='z') == ('z', both)
  assert make(['z', 'config.json']) == ('config.json', both)
  assert make(['b', 'c']) == ('c', ['b', 'c'])
  assert json.loads(files.read_text(root / 'x/b')) == 'b'
