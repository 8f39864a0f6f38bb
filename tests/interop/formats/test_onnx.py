"""The ONNX reader: what is stored comes back; broken files are refused."""

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.interop.formats import onnx
from tests.interop.tokenizer import released_tokenizer as released

STATE = released.arrays(released.s3_interop.shapes(released.S3), 4)


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  path = tmp_path_factory.mktemp('onnx') / 'm.onnx'
  released.save_onnx(path, STATE)
  return path


def test_nodes_and_constants_come_back(path):
  nodes, constants = onnx.read(path)
  conv = nodes[0]
  assert (conv.name, conv.kind, conv.strides) == ('/conv1/Conv', 'Conv', (2,))
  assert conv.inputs == ('x', 'encoders.conv1.weight', 'encoders.conv1.bias')
  for name in conv.inputs[1:]:
    want = STATE[name.replace('encoders', 'encoder')]
    np.testing.assert_array_equal(constants[name], want)
  query = next(n for n in nodes if n.name == '/blocks.1/attn/query/MatMul')
  want = STATE['encoder.blocks.1.attn.query.weight']
  np.testing.assert_array_equal(constants[query.inputs[1]].T, want)


def test_constants_may_be_nodes(tmp_path):
  value = np.arange(6, dtype=np.float32).reshape(2, 3)
  attribute = released.field(1, 'value') + released.field(
    5, released.tensor('', value)
  )
  node = released.node('/Constant', 'Constant', [])
  graph = released.field(1, node + released.field(5, attribute))
  path = tmp_path / 'm.onnx'
  path.write_bytes(released.field(7, graph))
  nodes, constants = onnx.read(path)
  assert [n.kind for n in nodes] == ['Constant']
  np.testing.assert_array_equal(constants['/Constant_out'], value)


def test_weights_in_another_file_are_refused(tmp_path):
  elsewhere = released.tensor('w', np.zeros(2, np.float32))
  elsewhere += released.field(14, 1)
  path = tmp_path / 'm.onnx'
  path.write_bytes(released.field(7, released.field(5, elsewhere)))
  with pytest.raises(errors.UserError, match='w lies in another file'):
    onnx.read(path)


@pytest.mark.parametrize('raw', [b'', b'text, not protobuf', b'\x00' * 9])
def test_other_files_are_refused(tmp_path, raw):
  path = tmp_path / 'm.onnx'
  path.write_bytes(raw)
  with pytest.raises(errors.UserError, match=r'm\.onnx: not a whole ONNX'):
    onnx.read(path)


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(errors.UserError, match=r'm\.onnx: no such file'):
    onnx.read(tmp_path / 'm.onnx')


@hypothesis.settings(max_examples=40)
@hypothesis.given(share=st.floats(0, 0.999), flip=st.booleans())
def test_cut_and_mangled_files_give_a_sentence_or_arrays(path, share, flip):
  """Never another exception."""
  whole = bytearray(path.read_bytes())
  place = int(share * len(whole))
  if flip:
    whole[place] ^= 0x5A
  else:
    del whole[place:]
  other = path.with_name('other.onnx')
  other.write_bytes(whole)
  try:
    onnx.read(other)
  except errors.UserError as error:
    assert str(error).startswith(str(other))
