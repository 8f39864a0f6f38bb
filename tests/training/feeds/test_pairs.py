"""Pairs of answers in batches, from folders that have some and none."""

import json

import numpy as np
import pytest

from step_audio_jax.training.feeds import feed
from step_audio_jax.training.feeds import pairs
from tests.training import toy_rows


def with_pairs(root, task, rows, names):
  """Rows whose segments are paired, one more a row; returns the pairs."""
  folder = toy_rows.write_source(root, task, rows)
  path = folder / 'stats.json'
  source = feed.Source(task, folder)
  made, most = [], 0
  for k in range(rows):
    row = source.row(k)
    count = min(k, int(row['segment_ids'].max()) // 2)
    numbers = np.arange(1, 2 * count + 1, dtype=np.int32).reshape(-1, 2)
    row |= {
      'pairs': numbers[:, ::-1].copy(),
      'margins': np.arange(count, dtype=np.float32) + k,
      'categories': np.array([j % (len(names) + 1) - 1 for j in range(count)]),
    }
    most = max(most, count)
    made.append(row)
  toy_rows.write_rows(folder, made)
  stats = json.loads(path.read_text(encoding='utf-8'))
  stats |= {pairs.MOST: most, pairs.CATEGORIES: names}
  path.write_text(json.dumps(stats), encoding='utf-8')
  return made


@pytest.fixture
def rows(tmp_path):
  toy_rows.write_source(tmp_path, 'c', 4)
  return tmp_path, {
    'a': with_pairs(tmp_path, 'a', 5, ['deaf', 'silence']),
    'b': with_pairs(tmp_path, 'b', 3, ['chat', 'deaf']),
    'c': None,
  }


NAMES = {'a': ['deaf', 'silence'], 'b': ['chat', 'deaf']}


def test_a_batch_has_the_pairs_of_its_rows(rows):
  root, made = rows
  ratios = {'a': 2, 'b': 1, 'c': 1}
  made_feed = feed.RowFeed(rows=str(root), ratios=ratios, batch_size=8)
  assert made_feed.categories == ['chat', 'deaf', 'silence']
  most = max(len(row['pairs']) for name in 'ab' for row in made[name])
  assert most > 1
  seen = 0
  for step in range(3):
    batch = made_feed.batch(step)
    assert batch['pairs'].shape == (8, most, 2)
    assert batch['margins'].shape == batch['categories'].shape == (8, most)
    assert batch['pairs'].dtype == batch['categories'].dtype == np.int32
    assert batch['margins'].dtype == np.float32
    for place, told in enumerate(made_feed.row_ids(step)):
      name, _, index = told.partition('/')
      row = made[name][int(index)] if made[name] else {'pairs': ()}
      count = len(row['pairs'])
      seen += count
      np.testing.assert_array_equal(batch['pairs'][place, count:], 0)
      np.testing.assert_array_equal(batch['categories'][place, count:], -1)
      np.testing.assert_array_equal(batch['margins'][place, count:], 0)
      if not count:
        continue
      np.testing.assert_array_equal(batch['pairs'][place, :count], row['pairs'])
      np.testing.assert_array_equal(
        batch['margins'][place, :count], row['margins']
      )
      want = [NAMES[name][c] if c >= 0 else None for c in row['categories']]
      got = batch['categories'][place, :count]
      assert want == [made_feed.categories[c] if c >= 0 else None for c in got]
  assert seen > 8
  part = made_feed.batch(1, 2, 5)
  for name, array in made_feed.batch(1).items():
    np.testing.assert_array_equal(part[name], array[2:5])


def test_rows_without_pairs_have_none(rows):
  root, _ = rows
  batch = feed.RowFeed(rows=str(root), ratios={'c': 1}, batch_size=2).batch(0)
  assert not {'pairs', 'margins', 'categories'} & set(batch)


def test_blank_batches_have_their_shapes():
  batch = feed.BlankFeed(batch_size=4, length=6, pairs=3).batch(0, 1, 3)
  assert batch['pairs'].shape == (2, 3, 2) and not batch['pairs'].any()
  assert batch['margins'].shape == (2, 3)
  assert (batch['categories'] == -1).all()
