"""The order of items: every one once an epoch, like lengths together."""

import collections

import hypothesis
import hypothesis.strategies as st
import pytest

from step_audio_jax.training import buckets


@hypothesis.given(
  lengths=st.lists(st.integers(1, 50), min_size=1, max_size=40),
  count=st.integers(1, 5),
  batch=st.integers(1, 7),
  seed=st.integers(0, 3),
)
@hypothesis.settings(max_examples=50, deadline=None)
def test_a_batch_comes_from_one_bucket_and_fits_it(lengths, count, batch, seed):
  items = sorted(enumerate(lengths), key=lambda item: item[1])
  order = buckets.Buckets(items, count, batch, seed)
  assert [i for bucket in order.buckets for i in bucket] == items
  for step in range(2 * len(order)):
    rows, number = order.rows(step, 0, batch)
    assert len(rows) == batch
    assert set(rows) <= set(order.buckets[number])
    assert max(length for _, length in rows) <= order.buckets[number][-1][1]
    # Any host sees its part of the same batch.
    assert order.rows(step, 1, batch) == (rows[1:], number)


def test_every_item_comes_once_an_epoch_where_batches_are_full():
  order = buckets.Buckets(list(range(24)), 3, 4, seed=5)
  assert len(order) == 6
  for epoch in range(3):
    seen = [
      row for step in range(6) for row in order.rows(epoch * 6 + step, 0, 4)[0]
    ]
    assert collections.Counter(seen) == collections.Counter(range(24))


def test_epochs_and_seeds_have_orders_of_their_own():
  def epoch(seed, number):
    order = buckets.Buckets(list(range(24)), 2, 4, seed)
    return [tuple(order.rows(6 * number + s, 0, 4)[0]) for s in range(6)]

  assert epoch(0, 0) == epoch(0, 0)
  assert epoch(0, 0) != epoch(0, 1)
  assert epoch(0, 0) != epoch(1, 0)


@pytest.mark.parametrize('size', [1, 2])
def test_fewer_items_than_a_batch_are_repeated(size):
  order = buckets.Buckets(list(range(size)), 4, 5, seed=0)
  rows, _ = order.rows(0, 0, 5)
  assert len(rows) == 5 and set(rows) <= set(range(size))
