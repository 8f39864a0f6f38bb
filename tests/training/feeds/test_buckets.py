"""The order of items: every one once an epoch, like lengths together."""

import collections
import dataclasses

import hypothesis
import hypothesis.strategies as st
import pytest

from step_audio_jax.corpus import manifest
from step_audio_jax.training.feeds import buckets


@dataclasses.dataclass(frozen=True)
class Item:
  utterance: manifest.Utterance
  samples: int


def items_of(lengths):
  return [
    Item(manifest.Utterance(id=f'u{i:03}', text='a'), length)
    for i, length in enumerate(lengths)
  ]


@hypothesis.given(
  lengths=st.lists(st.integers(1, 50), min_size=1, max_size=40),
  count=st.integers(1, 5),
  batch=st.integers(1, 7),
  seed=st.integers(0, 3),
)
@hypothesis.settings(max_examples=50, deadline=None)
def test_a_batch_comes_from_one_bucket_and_fits_it(lengths, count, batch, seed):
  items = items_of(lengths)
  order = buckets.Buckets(items, count, batch, seed)
  ascending = [i for bucket in order.buckets for i in bucket]
  assert [i.samples for i in ascending] == sorted(lengths)
  assert set(ascending) == set(items)
  assert order.widths(1) == [bucket[-1].samples for bucket in order.buckets]
  for step in range(2 * len(order)):
    rows, number = order.rows(step, 0, batch)
    assert len(rows) == batch
    assert set(rows) <= set(order.buckets[number])
    assert max(row.samples for row in rows) <= order.longest(number)
    # Any host sees its part of the same batch.
    assert order.rows(step, 1, batch) == (rows[1:], number)


def test_every_item_comes_once_an_epoch_where_batches_are_full():
  order = buckets.Buckets(items_of(range(24)), 3, 4, seed=5)
  assert len(order) == 6
  items = items_of(range(24))
  for epoch in range(3):
    seen = [
      row for step in range(6) for row in order.rows(epoch * 6 + step, 0, 4)[0]
    ]
    assert collections.Counter(seen) == collections.Counter(items)


def test_epochs_and_seeds_have_orders_of_their_own():
  def epoch(seed, number):
    order = buckets.Buckets(items_of(range(24)), 2, 4, seed)
    return [tuple(order.rows(6 * number + s, 0, 4)[0]) for s in range(6)]

  assert epoch(0, 0) == epoch(0, 0)
  assert epoch(0, 0) != epoch(0, 1)
  assert epoch(0, 0) != epoch(1, 0)


@pytest.mark.parametrize('size', [1, 2])
def test_fewer_items_than_a_batch_are_repeated(size):
  items = items_of(range(size))
  rows, _ = buckets.Buckets(items, 4, 5, seed=0).rows(0, 0, 5)
  assert len(rows) == 5 and set(rows) <= set(items)
