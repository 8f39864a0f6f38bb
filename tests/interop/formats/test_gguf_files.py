"""GGUF files that the package `gguf` wrote, whole and broken."""

import struct

import gguf
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.interop.formats import gguf_files
from tests.interop.language import tiny_gguf

KINDS = gguf.GGMLQuantizationType


def can_be_written(kind):
  try:
    gguf.quants.quantize(np.ones((1, 256), np.float32), kind)
  except NotImplementedError:
    return False
  return True


WRITTEN = [kind for kind in KINDS if can_be_written(kind)]
# What no writer is there for: random blocks.
READ = [
  *(KINDS.Q2_K, KINDS.Q3_K, KINDS.Q4_K, KINDS.Q5_K, KINDS.Q6_K),
  *(KINDS.IQ2_XXS, KINDS.IQ4_XS),
]


@pytest.fixture
def file(tmp_path):
  """A file of three tensors and some values."""
  rng = np.random.default_rng(0)
  tensors = {
    name: rng.normal(size=shape).astype(np.float32)
    for name, shape in (('a', (6, 64)), ('b', (5,)), ('c', (3, 2)))
  }
  values = {'x.name': 'Käse', 'x.many': ['a', 'b'], 'x.count': np.uint32(7)}
  path = tiny_gguf.write(tmp_path / 'm.gguf', 'x', values, tensors)
  return path, tensors


def test_values_and_tensors(file):
  path, tensors = file
  found = gguf_files.read(path)
  assert found.values['general.architecture'] == 'x'
  assert found.values['x.name'] == 'Käse' and found.values['x.count'] == 7
  assert found.values['x.many'] == ['a', 'b']
  for name, value in tensors.items():
    np.testing.assert_array_equal(np.asarray(found.tensors[name]), value)
  np.testing.assert_array_equal(
    found.tensors['a'][2:4, 3:40], tensors['a'][2:4, 3:40]
  )
  assert found.tensors['a'][2:2].shape == (0, 64)


@pytest.mark.parametrize('kind', WRITTEN, ids=lambda kind: kind.name)
def test_every_quantisation_that_can_be_written(tmp_path, kind):
  rows = np.random.default_rng(1).normal(size=(5, 512)).astype(np.float32)
  path = tiny_gguf.write(tmp_path / 'm', 'x', {}, {'a': rows}, {'a': kind})
  tensor = gguf_files.read(path).tensors['a']
  want = gguf.quants.dequantize(gguf.quants.quantize(rows, kind), kind)
  assert tensor.dtype == np.float32 and tensor.kind == kind.name
  np.testing.assert_array_equal(np.asarray(tensor), want)
  np.testing.assert_array_equal(tensor[1:3, 7:300], want[1:3, 7:300])


@pytest.mark.parametrize('kind', READ, ids=lambda kind: kind.name)
def test_other_quantisations_are_what_the_package_makes_of_them(tmp_path, kind):
  values, size = gguf.GGML_QUANT_SIZES[kind]
  raw = np.random.default_rng(2).integers(0, 64, (4, 2 * size), np.uint8)
  writer = gguf.GGUFWriter(tmp_path / 'm', 'x')
  writer.add_tensor('a', raw, raw_dtype=kind)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  tensor = gguf_files.read(tmp_path / 'm').tensors['a']
  assert tensor.shape == (4, 2 * values)
  np.testing.assert_array_equal(
    np.asarray(tensor), gguf.quants.dequantize(raw, kind)
  )


def refused(path, match):
  with pytest.raises(errors.UserError, match=match) as caught:
    gguf_files.read(path)
  assert str(caught.value).startswith(f'{path}: ')
  assert '\n' not in str(caught.value)


def test_a_file_cut_anywhere_says_so(file):
  path, _ = file
  whole = path.read_bytes()
  last = gguf_files.read(path).tensors.values()
  for count in range(8, max(tensor.end for tensor in last), 37):
    path.write_bytes(whole[:count])
    refused(path, 'cut short')
  for count in range(4, 8):
    path.write_bytes(whole[:count])
    refused(path, f'cut short in the head: the file has {count} bytes')
  path.write_bytes(whole[:3])
  refused(path, 'no GGUF file')


def test_values_have_a_kind(file):
  found = gguf_files.read(file[0])
  assert found.get('x.name', str) == 'Käse'
  assert found.get('x.count', int) == found.get('x.count', float) == 7
  assert found.get('x.none', bool) is None
  assert found.get('x.none', bool, True) is True
  found.values.update({'x.flag': True, 'x.long': 'a' * 1000})
  found.values['x.array'] = np.ones(3, bool)
  assert found.get('x.flag', bool) is True
  for name, kind, match in (
    ('x.flag', int, 'x.flag is True, expected a whole number'),
    ('x.flag', float, 'x.flag is True, expected a number'),
    ('x.count', str, 'x.count is 7, expected a text'),
    ('x.count', bool, 'x.count is 7, expected true or false'),
    ('x.many', str, 'x.many is an array of 2 values, expected a text'),
    ('x.array', int, 'x.array is an array of 3 values, expected a whole'),
    ('x.long', int, r"x.long is 'a+\.\.\.a+', expected a whole number"),
  ):
    with pytest.raises(errors.UserError, match=match):
      found.get(name, kind)


def test_an_alignment_is_a_whole_number(tmp_path):
  path = tiny_gguf.write(tmp_path / 'm', 'x', {'general.alignment': True}, {})
  refused(path, 'general.alignment is True, expected a whole number')


def test_something_else(file, tmp_path):
  path, _ = file
  assert gguf_files.is_gguf(path)
  other = tmp_path / 'other.gguf'
  other.write_bytes(b'PK\x03\x04 and more')
  assert gguf_files.is_gguf(other)
  refused(other, r"begins with b'PK.*expected b'GGUF'")
  other.write_bytes(b'')
  refused(other, 'begins with')
  other.write_bytes(b'GGUF' + struct.pack('>I', 3) + bytes(40))
  refused(other, 'GGUF version is 50331648, expected 2 or 3')
  assert not gguf_files.is_gguf(tmp_path / 'absent.gguf')


def test_counts_that_lie(file):
  path, _ = file
  whole = bytearray(path.read_bytes())
  for place in (8, 16):  # of tensors, of values
    broken = bytearray(whole)
    struct.pack_into('<Q', broken, place, 2**62)
    path.write_bytes(broken)
    refused(path, 'cut short|type')
  where = whole.index(b'x.many') + 6 + 8  # its count of strings
  struct.pack_into('<Q', whole, where, 2**40)
  path.write_bytes(whole)
  refused(path, "cut short in the value 'x.many'")


def entry(path, name, field, value):
  """Overwrites a field of a tensor's entry of two axes."""
  raw = bytearray(path.read_bytes())
  start = raw.rindex(struct.pack('<Q', len(name)) + name.encode())
  start += 8 + len(name)
  place = {'axes': 0, 'size': 4, 'kind': 20, 'offset': 24}[field]
  code = '<Q' if field in ('size', 'offset') else '<I'
  struct.pack_into(code, raw, start + place, value)
  path.write_bytes(raw)


@pytest.mark.parametrize(
  ('field', 'value', 'match'),
  [
    ('axes', 9, "tensor 'a' has 9 axes, expected 1 to 4"),
    ('size', 2**40, "cut short: tensor 'a' ends at byte"),
    ('size', 0, "tensor 'a' has shape .6, 0., expected rows"),
    ('kind', 26, "tensor 'a' is quantised as I32, which cannot be read"),
    ('kind', 999, "tensor 'a' is quantised as type 999, .*Q4_K"),
    ('kind', 12, 'shape .6, 64., expected rows of a multiple of 256 .* Q4_K'),
    ('offset', 2**50, "cut short: tensor 'a' ends"),
    ('offset', 2**63, "cut short: tensor 'a' ends"),
  ],
)
def test_entries_that_lie(file, field, value, match):
  path, _ = file
  entry(path, 'a', field, value)
  refused(path, match)


def test_tensors_over_one_another(file):
  path, _ = file
  entry(path, 'c', 'offset', 0)
  refused(path, "lies over the bytes of '[ac]'")
