"""Checkpoints of torch without torch; hostile ones do nothing."""

import collections
import zipfile

import ml_dtypes
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.interop.formats import pickles
from tests.interop.tokenizer import released_tokenizer as released


def refused(path, match):
  with pytest.raises(errors.UserError, match=match) as caught:
    dict(pickles.Checkpoint(path))
  text = str(caught.value)
  assert text.startswith(str(path)) and '\n' not in text


@pytest.mark.parametrize('nested', [False, True])
def test_arrays_come_back_to_the_bit(tmp_path, nested):
  rng = np.random.default_rng(0)
  tree = collections.OrderedDict(
    a=rng.normal(size=(3, 4)).astype(np.float32),
    b=rng.normal(size=(5,)).astype(np.float16),
    c=rng.normal(size=(2, 1, 3)).astype(ml_dtypes.bfloat16),
    d=np.array(7, np.int64),
    e=np.zeros((0, 4), np.float32),
    note='not a tensor',
  )
  path = tmp_path / 'm.pt'
  released.save_pt(path, {'state_dict': tree, 'n': 3} if nested else tree)
  found = pickles.Checkpoint(path)
  assert list(found) == ['a', 'b', 'c', 'd', 'e']
  for name, value in found.items():
    assert found.shape(name) == value.shape == tree[name].shape
    assert value.dtype == tree[name].dtype
    np.testing.assert_array_equal(value, tree[name])


@pytest.mark.parametrize(
  'module, name',
  [
    ('os', 'system'),
    ('posix', 'system'),
    ('builtins', 'eval'),
    ('builtins', 'getattr'),
    ('subprocess', 'Popen'),
    ('torch', 'load'),
    ('numpy', 'load'),
    ('step_audio_jax.interop.formats.pickles', 'os.system'),
  ],
)
def test_a_pickle_that_wants_to_run_something_does_not(tmp_path, module, name):
  victim = tmp_path / 'it_ran'
  path = tmp_path / 'm.pt'
  hostile = released.Call(module, name, f'touch {victim}')
  released.save_pt(path, {'a': np.ones(3, np.float32), 'b': hostile})
  refused(path, f'asks for {module}.{name}, expected nothing but tensors')
  assert not victim.exists()


def test_a_tensor_cannot_look_beyond_its_storage(tmp_path):
  storage = ('storage', released.named('torch', 'FloatStorage'), '0', 'cpu', 4)
  for offset, shape, strides in (
    (0, (5,), (1,)),
    (2, (3,), (1,)),
    (0, (2, 2), (3, 2)),
    (-1, (2,), (1,)),
    (0, (2,), (-1,)),
    (0, (2, 2), (1,)),
  ):
    path = tmp_path / 'm.pt'
    call = released.Call(
      'torch._utils', '_rebuild_tensor_v2', storage, offset, shape, strides
    )
    released.save_pt(path, {'a': call})
    with zipfile.ZipFile(path, 'a') as archive:
      archive.writestr('archive/data/0', bytes(16))
    refused(path, 'its pickle is broken: a (malformed )?tensor')


def test_a_view_with_strides_is_read_as_one(tmp_path):
  path = tmp_path / 'm.pt'
  storage = ('storage', released.named('torch', 'FloatStorage'), '0', 'cpu', 6)
  call = released.Call(
    'torch._utils', '_rebuild_tensor_v2', storage, 1, (2, 2), (1, 2)
  )
  released.save_pt(
    path,
    {'a': released.Call('torch._utils', '_rebuild_parameter', call, True, {})},
  )
  with zipfile.ZipFile(path, 'a') as archive:
    archive.writestr('archive/data/0', np.arange(6, dtype=np.float32).tobytes())
  np.testing.assert_array_equal(pickles.Checkpoint(path)['a'], [[1, 3], [2, 4]])


def test_state_of_what_was_made_cannot_be_set(tmp_path):
  """BUILD after the checks would move a tensor beyond its storage."""
  storage = ('storage', released.named('torch', 'FloatStorage'), '0', 'cpu', 1)
  call = released.Call(
    'torch._utils', '_rebuild_tensor_v2', storage, 0, (1,), (1,)
  )
  for state in ({'offset': 9}, (None, {'offset': 9})):
    path = tmp_path / 'm.pt'
    released.save_pt(path, {'a': released.Build(call, state)})
    refused(path, 'its pickle is broken')


def test_other_files_are_refused_in_words(tmp_path):
  path = tmp_path / 'm.pt'
  refused(path, 'no such file')
  path.write_text('a text')
  refused(path, 'found something else or cut short')
  path.write_bytes(pickles._LEGACY + b'rest')
  refused(path, 'before PyTorch 1.6')
  released.save_pt(path, [np.ones(2, np.float32)])
  refused(path, 'found a list, expected a state dict')
  released.save_pt(path, {'a': np.ones((50, 50), np.float32)})
  whole = path.read_bytes()
  path.write_bytes(whole[: len(whole) // 2])
  refused(path, 'cut short')
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('archive/data.pkl', b'\x80\x02}q')
  refused(path, 'its pickle is broken')
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('other', b'')
  refused(path, 'found 0 data.pkl')


def test_storages_are_checked(tmp_path):
  path, copy = tmp_path / 'm.pt', tmp_path / 'copy.pt'
  released.save_pt(path, {'a': np.ones(64, np.float32)})
  for change in ('missing', 'short', 'packed', 'big'):
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(copy, 'w') as out:
      for name in source.namelist():
        raw, how = source.read(name), zipfile.ZIP_STORED
        if name.endswith('/0'):
          if change == 'missing':
            continue
          raw = raw[:-4] if change == 'short' else raw
          how = zipfile.ZIP_DEFLATED if change == 'packed' else how
        elif name.endswith('byteorder') and change == 'big':
          raw = b'big'
        out.writestr(name, raw, how)
    refused(copy, 'big-endian' if change == 'big' else 'a: its storage')
