"""Our reader and writer of safetensors against the library of that name."""

import json
import pickle
import struct

from hypothesis import given
from hypothesis import strategies as st
import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from step_audio_jax import errors
from step_audio_jax.storage import lazy
from step_audio_jax.storage import shards


def tensors_of(seed=0):
  rng = np.random.default_rng(seed)
  return {
    'a': rng.normal(size=(3, 5)).astype(np.float32),
    'b.c': rng.normal(size=(7,)).astype(ml_dtypes.bfloat16),
    'd': rng.normal(size=(2, 3, 2)).astype(np.float16),
    'e': np.asarray(3.5, np.float32),
    'f': np.zeros((0, 4), np.float32),
  }


def same(found, want):
  assert set(found) == set(want)
  for name, value in want.items():
    assert found[name].shape == value.shape, name
    assert found[name].dtype == value.dtype, name
    np.testing.assert_array_equal(np.asarray(found[name]), value)


def test_we_read_what_the_library_writes(tmp_path):
  want = tensors_of()
  safetensors_numpy.save_file(want, tmp_path / 'x.safetensors')
  found = shards.read_header(tmp_path / 'x.safetensors')
  same(found, want)
  np.testing.assert_array_equal(found['a'][1:3, 2:4], want['a'][1:3, 2:4])


def test_the_library_reads_what_we_write(tmp_path):
  want = tensors_of()
  told = []
  shards.write_file(tmp_path / 'x.safetensors', want, told.append)
  same(safetensors_numpy.load_file(tmp_path / 'x.safetensors'), want)
  assert sum(told) == sum(value.nbytes for value in want.values())


@pytest.mark.parametrize('limit', [1, 60, 10**6])
def test_folders_of_files(tmp_path, limit):
  want = tensors_of()
  count = shards.write_folder(tmp_path, want, limit)
  assert count == {1: 5, 60: 2, 10**6: 1}[limit]
  same(shards.read_folder(tmp_path), want)
  assert (tmp_path / shards.INDEX).is_file() == (count > 1)
  for path in tmp_path.glob('*.safetensors'):
    assert len(safetensors_numpy.load_file(path)) >= 1


def test_a_lazy_tensor_is_written_block_by_block(tmp_path, monkeypatch):
  monkeypatch.setattr(shards, '_BLOCK', 64)
  value = np.arange(300, dtype=np.float32).reshape(30, 10)
  largest = []

  class Spy(lazy.LazyArray):
    shape, dtype = value.shape, value.dtype

    def read(self, spans):
      block = value[lazy.slices(spans)].copy()
      largest.append(block.nbytes)
      return block

  shards.write_file(tmp_path / 'x.safetensors', {'v': Spy()})
  same(shards.read_header(tmp_path / 'x.safetensors'), {'v': value})
  assert max(largest) <= 64


def refused(path, match):
  with pytest.raises(errors.UserError, match=match) as caught:
    shards.read_folder(path)
  assert str(caught.value).count('. ') == 0  # one sentence


def raw(folder, header, data=b''):
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  (folder / 'model.safetensors').write_bytes(
    struct.pack('<Q', len(text)) + text + data
  )


ENTRY = {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 8]}


@pytest.mark.parametrize(
  ('header', 'told'),
  [
    (b'{"a": 1', 'not valid JSON'),
    (b'[]', 'not valid JSON'),
    (b'\xff\xfe', 'not valid JSON'),
    ({'a': 1}, "entry of tensor 'a' is malformed"),
    ({'a': {**ENTRY, 'shape': [-2]}}, 'malformed'),
    ({'a': {**ENTRY, 'shape': ['2']}}, 'malformed'),
    ({'a': {**ENTRY, 'data_offsets': [0]}}, 'malformed'),
    ({'a': {**ENTRY, 'data_offsets': [8, 0]}}, 'needs 8 bytes'),
    ({'a': {**ENTRY, 'data_offsets': [0, 12]}}, 'needs 8 bytes'),
    ({'a': {**ENTRY, 'data_offsets': [4, 12]}}, 'needs 8 bytes, found 4'),
    ({'a': {**ENTRY, 'shape': [10**30]}}, 'bytes, found'),
    ({'a': {**ENTRY, 'dtype': 'I64'}}, 'has dtype I64, expected one of F32'),
    ({'a': {**ENTRY, 'dtype': 'F8_E4M3'}}, 'has dtype F8_E4M3'),
    ({'a': ENTRY, 'b': ENTRY}, 'over the bytes of another'),
    (b'{"a": {}, "a": {}}', 'stands twice'),
  ],
)
def test_malformed_headers(tmp_path, header, told):
  raw(tmp_path, header, b'\0' * 8)
  refused(tmp_path, told)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_words(tmp_path_factory, data):
  path = tmp_path_factory.mktemp('x') / 'x.safetensors'
  path.write_bytes(data)
  try:
    shards.read_header(path)
  except errors.UserError as error:
    assert str(path) in str(error)


def test_a_cut_file(tmp_path):
  shards.write_file(tmp_path / 'model.safetensors', tensors_of())
  data = (tmp_path / 'model.safetensors').read_bytes()
  (tmp_path / 'model.safetensors').write_bytes(data[:-4])
  refused(tmp_path, "'d' of shape|'e' of shape|the file is cut")
  (tmp_path / 'model.safetensors').write_bytes(data[:6])
  refused(tmp_path, 'no safetensors header')


def test_no_pickle_is_opened(tmp_path):
  class Boom:
    def __reduce__(self):
      return (open, (str(tmp_path / 'touched'), 'w'))

  (tmp_path / 'pytorch_model.bin').write_bytes(pickle.dumps(Boom()))
  refused(tmp_path, 'found pytorch_model.bin, which is a pickle; expected')
  assert not (tmp_path / 'touched').exists()


@pytest.mark.parametrize(
  'file',
  ['../x.safetensors', '/etc/x.safetensors', 'a/x.safetensors', 'x.bin', 3],
)
def test_an_index_stays_in_its_folder(tmp_path, file):
  inner = tmp_path / 'model'
  inner.mkdir()
  shards.write_file(tmp_path / 'x.safetensors', tensors_of())
  (inner / shards.INDEX).write_text(json.dumps({'weight_map': {'a': file}}))
  refused(inner, 'expected the bare name of a safetensors file')


def test_index_and_files_must_agree(tmp_path):
  shards.write_folder(tmp_path, tensors_of(), 60)
  path = tmp_path / shards.INDEX
  index = json.loads(path.read_text())
  whole = dict(index['weight_map'])

  def change(table):
    path.write_text(json.dumps({'weight_map': table}))

  change(whole | {'new': whole['a']})
  refused(tmp_path, "00001-of-00002.safetensors: tensor 'new' is missing")
  change({k: v for k, v in whole.items() if k != 'd'})
  refused(tmp_path, "tensor 'd' is unexpected: .* places it in no file")
  change({})
  refused(tmp_path, 'found no "weight_map"')
  change(whole)
  (tmp_path / whole['a']).unlink()
  refused(tmp_path, 'cannot be read')


def test_a_name_in_two_files(tmp_path):
  for name in ('one', 'two'):
    shards.write_file(tmp_path / f'{name}.safetensors', tensors_of())
  refused(tmp_path, "two.safetensors: tensor 'a' is in one.safetensors as well")
