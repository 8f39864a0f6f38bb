"""Rows read by ranges: the same batches, from few requests in flight."""

import shutil

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.storage import array_records
from step_audio_jax.storage import files
from step_audio_jax.training import placement
from step_audio_jax.training.feeds import feed
from tests.storage.ranged import sources
from tests.training import toy_rows


@pytest.fixture
def rows(tmp_path):
  toy_rows.write_source(tmp_path, 'a', 11)
  toy_rows.write_source(tmp_path, 'b', 5, images=2)
  # Three shards, of which two hold other rows.
  folder = tmp_path / 'a' / 'train'
  for name, count in (('more', 7), ('last', 4)):
    other = toy_rows.write_source(tmp_path / 'other', name, count)
    (shard,) = other.glob('*.array_record')
    shutil.copyfile(shard, folder / f'{name}.array_record')
  stats = files.read_json(folder / 'stats.json')
  files.write_json(folder / 'stats.json', stats | {'rows': 22})
  return tmp_path


class Store:
  """Every file as one that is read by ranges, and what was asked of all."""

  def __init__(self, seconds=0.0):
    self.opened, self._seconds = {}, seconds

  def __call__(self, path):
    source = sources.HeldSource(files.read_bytes(path), self._seconds)
    self.opened[path.parent.parent.name, path.name] = source
    return source

  def requests(self):
    return sum(len(source.requests) for source in self.opened.values())


def local(rows, **more):
  return feed.RowFeed(
    rows=str(rows), ratios={'a': 2, 'b': 1}, batch_size=12, **more
  )


def far(rows, store=None, **more):
  """A feed whose rows lie elsewhere."""
  made = local(rows, **more)
  for source in made.sources:
    source.records = array_records.open_records(
      sorted(files.glob(source.folder, '*.array_record')), store or Store()
    )
  return made


def same(one, other):
  assert one.keys() == other.keys()
  for name, array in one.items():
    assert array.dtype == other[name].dtype
    np.testing.assert_array_equal(array, other[name])


def test_batches_are_those_of_local_files(rows):
  near, elsewhere = local(rows, seed=3), far(rows, seed=3)
  assert [len(s) for s in elsewhere.sources] == [22, 5]
  for step in (0, 1, 2, 5, 100_003):
    same(elsewhere.batch(step), near.batch(step))
    same(elsewhere.batch(step, 3, 8), near.batch(step, 3, 8))
  same(elsewhere.sources[0].row(21), near.sources[0].row(21))
  assert (near.read_ahead, elsewhere.read_ahead) == (1, 8)


def test_near_and_far_sources_are_mixed(rows):
  near, mixed = local(rows), far(rows)
  mixed.sources[0].records = near.sources[0].records
  same(mixed.batch(7), near.batch(7))


def test_a_batch_is_asked_for_at_once(rows):
  store = Store(seconds=0.05)
  stream = far(rows, store)
  assert stream.batch(0)['tokens'].shape[0] == 12
  # By shard one after the other here, as the simplest of sources does.
  assert sum(source.most for source in store.opened.values()) >= 4


def test_opening_and_a_late_batch_take_few_requests(rows):
  store = Store()
  stream = far(rows, store)
  shards = 4
  assert store.requests() == shards
  late = stream.batch(10_000_000)
  # A request for each row at most, and none to find out which they are.
  assert 0 < store.requests() - shards <= len({*stream.row_ids(10_000_000)})
  same(late, local(rows).batch(10_000_000))
  before = store.requests()
  stream.settings(), stream.counts(10_000_000), stream.row_ids(10_000_000)
  assert store.requests() == before


def test_batches_that_are_read_ahead_keep_their_order(rows):
  near, stream = local(rows), far(rows, Store(seconds=0.002))
  batches = placement.read_ahead(stream.batch, range(5, 17), stream.read_ahead)
  found = list(batches)
  assert len(found) == 12
  for step, batch in enumerate(found, 5):
    same(batch, near.batch(step))


def test_faults_name_the_shard_and_the_record(rows):
  store = Store()
  stream = far(rows, store)
  shard, place = stream.sources[0].records.locate(2)
  source = store.opened['a', 'last.array_record']
  assert shard.name.endswith('/a/train/last.array_record') and place == 2
  content = bytearray(source.content)
  content[shard._span(2)[0] + 50] ^= 1
  source.content = bytes(content)
  found = 'a/train/last.array_record: not .*: record 2: the data of the chunk'
  with pytest.raises(errors.UserError, match=found):
    for step in range(3):
      stream.batch(step)


def test_what_is_no_row_is_told(rows):
  stream = far(rows)
  stream.sources[1].records = [b'no row'] * 5
  with pytest.raises(errors.UserError, match='b/train: record . is not a row'):
    stream.batch(0)


def test_shards_that_cannot_be_opened_are_named(rows):
  shard = rows / 'a' / 'train' / 'more.array_record'
  shard.write_bytes(shard.read_bytes()[:-1])
  with pytest.raises(errors.UserError, match='more.array_record: not a whole'):
    array_records.open_records([shard], Store())
  with pytest.raises(errors.UserError, match='a shard is not a whole ArrayRec'):
    array_records.open_records([shard])


def test_numbers_that_are_not_there(rows):
  records = far(rows).sources[0].records
  for index in (-1, 22):
    with pytest.raises(IndexError):
      records[index]
  assert records[21] == local(rows).sources[0].records[21]
