"""Lazy arrays against numpy on the whole array, for any slice."""

import math

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from step_audio_jax.storage import lazy


class Counted(lazy.LazyArray):
  """An array in memory that counts what is read of it."""

  def __init__(self, value):
    self.value, self.shape, self.dtype = value, value.shape, value.dtype
    self.read_values = 0

  def read(self, spans):
    block = self.value[lazy.slices(spans)].copy()
    self.read_values += block.size
    return block


def array(*shape):
  return np.arange(math.prod(shape), dtype=np.float32).reshape(shape)


@st.composite
def cuts(draw, shape):
  index = []
  for size in shape:
    start = draw(st.integers(0, size))
    stop = draw(st.integers(start, size))
    index.append(slice(start, stop))
  return tuple(index)


# (shape of ours, order, split): every kind of weight of a transformer.
KINDS = [
  ((5, 4, 3), (1, 2, 0), 2),  # q: (E, H, D) → (H D, E)
  ((4, 3, 5), (2, 0, 1), 1),  # out: (H, D, E) → (E, H D)
  ((5, 7), (1, 0), 1),  # gate
  ((6, 5), (0, 1), 1),  # table
  ((4, 3), (0, 1), 2),  # bias of q
  ((5,), (0,), 1),  # norm
]


@pytest.mark.parametrize(('shape', 'order', 'split'), KINDS)
@given(data=st.data())
def test_folding_and_unfolding(shape, order, split, data):
  ours = array(*shape)
  turned = ours.transpose(order)
  folded = [turned.shape[:split], turned.shape[split:]]
  theirs = turned.reshape([math.prod(part) for part in folded if part])
  matrix = lazy.Matrix(Counted(ours), order, split)
  back = lazy.Folded(Counted(theirs), shape, order, split)
  assert matrix.shape == theirs.shape and back.shape == shape
  index = data.draw(cuts(theirs.shape))
  np.testing.assert_array_equal(matrix[index], theirs[index])
  index = data.draw(cuts(shape))
  np.testing.assert_array_equal(back[index], ours[index])


@given(data=st.data())
def test_rows_of_several_arrays(data):
  pieces, parts = [], []
  for _ in range(data.draw(st.integers(1, 4))):
    table = array(data.draw(st.integers(1, 5)), 3)
    table += 100 * len(pieces)
    start = data.draw(st.integers(0, len(table)))
    stop = data.draw(st.integers(start, len(table)))
    pieces.append((Counted(table), start, stop))
    parts.append(table[start:stop])
  want = np.concatenate(parts)
  rows = lazy.Rows(pieces)
  assert rows.shape == want.shape
  index = data.draw(cuts(want.shape))
  np.testing.assert_array_equal(rows[index], want[index])


@given(data=st.data())
def test_stacks_and_layers(data):
  parts = [Counted(array(4, 3) + 20 * i) for i in range(3)]
  want = np.stack([part.value for part in parts])
  stacked = lazy.Stacked(parts)
  index = data.draw(cuts(want.shape))
  np.testing.assert_array_equal(stacked[index], want[index])
  np.testing.assert_array_equal(
    lazy.Layer(stacked, 2)[index[1:]], want[2][index[1:]]
  )


def test_only_what_is_asked_for_is_read():
  theirs = Counted(array(12, 5))
  q = lazy.Stacked([lazy.Folded(theirs, (5, 4, 3), (1, 2, 0), 2)])
  assert theirs.read_values == 0
  q[0:1, 2:4, 1:2, :]
  assert theirs.read_values == 2 * 3  # two columns of one head
  matrix = lazy.Matrix(source := Counted(array(5, 4, 3)), (1, 2, 0), 2)
  matrix[3:6, 0:5]
  assert source.read_values == 3 * 5


@given(
  shape=st.lists(st.integers(1, 6), max_size=3),
  limit=st.integers(1, 400),
)
def test_blocks_cover_every_value_once(shape, limit):
  value = array(*shape)
  seen = np.zeros(shape, int)
  for index in lazy.blocks(value, limit):
    seen[index] += 1
    assert value[index].nbytes <= max(limit, 4)
    assert value[index].flags.c_contiguous
  assert (seen == 1).all()


def test_a_lazy_array_is_an_array():
  value = Counted(array(4, 3))
  assert (value.ndim, value.size, value.nbytes, len(value)) == (2, 12, 48, 4)
  np.testing.assert_array_equal(np.asarray(value), value.value)
  np.testing.assert_array_equal(value[1:], value.value[1:])
  cast = lazy.Cast(value, np.float16)
  assert np.asarray(cast).dtype == np.float16
  for wrong in (1, slice(0, 4, 2), (slice(0, 1), slice(0, 1), slice(0, 1))):
    with pytest.raises(TypeError, match='lazy arrays take'):
      value[wrong]
