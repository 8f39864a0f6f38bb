"""State dicts written without torch are read back; torch reads them in parity.

The oracle here is `pickles.Checkpoint`, which reads what torch writes.
"""

import pickletools
import zipfile

import numpy as np
import pytest

from step_audio_jax.interop.formats import pickles
from step_audio_jax.interop.formats import torch_archive

ARRAYS = {
  'a.weight': np.arange(24, dtype=np.float32).reshape(2, 3, 4),
  'scalar': np.array(2.5, np.float32),
  'none.bias': np.zeros((0, 4), np.float32),
  'é.long': np.linspace(-1, 1, 1000, dtype=np.float32),
  'turned': np.arange(12, dtype=np.float32).reshape(3, 4).T,
}


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  path = tmp_path_factory.mktemp('archive') / 'flow.pt'
  torch_archive.write(path, ARRAYS)
  return path


def test_arrays_come_back_in_order_and_to_the_bit(path):
  found = pickles.Checkpoint(path)
  assert list(found) == list(ARRAYS)
  for name, value in ARRAYS.items():
    assert found.shape(name) == value.shape
    np.testing.assert_array_equal(found[name], value)


def test_equal_arrays_give_equal_files(path, tmp_path):
  torch_archive.write(tmp_path / 'flow.pt', ARRAYS)
  assert (tmp_path / 'flow.pt').read_bytes() == path.read_bytes()
  assert [p.name for p in tmp_path.iterdir()] == ['flow.pt']


def test_the_pickle_calls_nothing_but_tensors(path):
  with zipfile.ZipFile(path) as archive:
    assert archive.testzip() is None
    names = archive.namelist()
    raw = archive.read('flow/data.pkl')
  assert names[0] == 'flow/data.pkl' and 'flow/version' in names
  called = {
    argument
    for opcode, argument, _ in pickletools.genops(raw)
    if opcode.name == 'GLOBAL'
  }
  assert called == {
    'collections OrderedDict',
    'torch FloatStorage',
    'torch._utils _rebuild_tensor_v2',
  }
  pickletools.dis(raw, out=open('/dev/null', 'w'))  # the stack ends empty


def test_storages_can_be_mapped(path):
  """Unpacked, and on a multiple of 64 bytes."""
  whole = path.read_bytes()
  with zipfile.ZipFile(path) as archive:
    for info in archive.infolist():
      name, extra = (
        int.from_bytes(whole[info.header_offset + at :][:2], 'little')
        for at in (26, 28)
      )
      start = info.header_offset + 30 + name + extra
      assert start % 64 == 0
      assert info.compress_type == zipfile.ZIP_STORED
      assert whole[start : start + info.file_size] == archive.read(info)


def test_a_failure_leaves_no_file(tmp_path):
  broken = {**ARRAYS, 'bad': np.array(['text'])}
  with pytest.raises(ValueError, match='could not convert'):
    torch_archive.write(tmp_path / 'flow.pt', broken)
  assert not list(tmp_path.iterdir())
