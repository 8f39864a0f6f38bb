"""Rows in a bucket: read by ranges, and known again by few requests."""

import dataclasses
import json

import numpy as np
import pytest

from benchmarks.buckets import faults
from benchmarks.buckets import rules
from step_audio_jax import errors
from step_audio_jax.storage import array_records
from step_audio_jax.storage import digests
from step_audio_jax.storage import files
from step_audio_jax.storage.clients import failures
from step_audio_jax.storage.clients import stores
from step_audio_jax.training import placement
from step_audio_jax.training.feeds import contents
from step_audio_jax.training.feeds import feed
from tests import stores as servers
from tests.training import toy_rows


def write(folder, count=7):
  """Rows of a task in two shards, with all that a build says of them."""
  made = toy_rows.write_source(folder, 'a', count)
  (shard,) = made.glob('*.array_record')
  other = toy_rows.write_source(folder / 'other', 'more', 4)
  names = [shard.name, 'rows-00001.array_record']
  (made / names[1]).write_bytes(next(other.glob('*.array_record')).read_bytes())
  stats = files.read_json(made / 'stats.json') | {
    'rows': count + 4,
    'sha256': digests.of_files(made, names),
    'bytes': {name: files.size(made / name) for name in names},
  }
  files.write_json(made / 'stats.json', stats)
  return made


def upload(folder, target):
  for path in sorted(folder.iterdir()):
    files.write_bytes(target / path.name, path.read_bytes())


@pytest.fixture
def here(tmp_path):
  return write(tmp_path)


@pytest.fixture
def there(here, root):
  folder = root / 'rows' / 'a' / 'train'
  upload(here, folder)
  return folder


def feed_of(train):
  return feed.RowFeed(rows=str(train.parents[1]), ratios={'a': 1}, batch_size=6)


def test_batches_are_those_of_this_disk(here, there):
  near, far = feed_of(here), feed_of(there)
  assert far.read_ahead > near.read_ahead
  for step in (0, 1, 2, 10_000_000):
    one, other = near.batch(step), far.batch(step)
    assert one.keys() == other.keys()
    for name, array in one.items():
      np.testing.assert_array_equal(other[name], array)
  assert near.settings() == far.settings()
  assert json.loads(json.dumps(far.describe())) == far.describe()


def told(folder, known=None):
  stats = files.read_json(folder / 'stats.json')
  return contents.rows(folder, stats, contents.ByteBudget(2**30), known)


@pytest.fixture
def asked(monkeypatch):
  """Where ends were read."""
  found, read = [], contents._far_ends
  monkeypatch.setattr(
    contents, '_far_ends', lambda *told: found.append(told[0]) or read(*told)
  )
  return found


def test_what_was_not_written_since_is_not_read_again(here, there, asked):
  before = told(there)
  assert len(asked) == 2
  assert {k: before[k] for k in ('rows', 'sha256')} == told(here)
  assert told(there, before) == before
  assert len(asked) == 2
  # A copy may be another version with the same ends; a disk knows of neither.
  assert told(there, before | {'versions': 'others'}) == before
  assert told(there, told(here)) == before
  assert len(asked) == 6
  upload(here, there)
  again = told(there, before)
  assert again == before | {'versions': again['versions']}


def test_rows_of_before_the_digests_are_known_elsewhere(
  here, there, monkeypatch
):
  stats = files.read_json(here / 'stats.json')
  del stats['sha256'], stats['bytes']
  for folder in (here, there):
    files.write_json(folder / 'stats.json', stats)
  before = told(there)
  assert {k: before[k] for k in ('rows', 'sha256')} == told(here)
  monkeypatch.setattr(digests, 'of_file', None)
  assert told(there, before) == before


@pytest.fixture
def requests(monkeypatch):
  """What stores are asked, in order."""
  found = []
  for name in ('head', 'get', 'list'):
    method = getattr(stores.Bucket, name)

    def counted(self, *told, name=name, method=method, **more):
      found.append(name)
      return method(self, *told, **more)

    monkeypatch.setattr(stores.Bucket, name, counted)
  return found


def test_a_late_resume_asks_for_its_rows_alone(there, requests):
  far = feed_of(there)
  # Where things are and stats.json; of each shard its state and its index.
  assert requests.count('head') <= 2 + 2 and requests.count('get') == 1 + 2
  known = json.loads(json.dumps(far.contents()))
  again = feed_of(there)
  requests.clear()
  assert again.contents(known) == known
  again.settings(), again.counts(10_000_000), again.epochs(0, 60_000_000)
  assert requests == ['list'] and len(requests) <= 3
  again.batch(10_000_000)
  # Rows alone; what lies side by side comes together.
  assert requests.count('get') <= 6 == again.batch_size
  assert set(requests[1:]) == {'get'}


def test_another_shard_of_the_same_size_is_found(here, there):
  before = told(there)
  path = sorted(here.glob('*.array_record'))[0]
  content = bytearray(path.read_bytes())
  content[70] ^= 1
  files.write_bytes(there / path.name, bytes(content))
  assert told(there, before)['all_ends'] != before['all_ends']


def test_shards_that_stats_json_does_not_tell_of_are_named(here, there):
  (first, second) = sorted(here.glob('*.array_record'))
  files.write_bytes(there / second.name, second.read_bytes() + bytes(2**16))
  with pytest.raises(errors.UserError, match=f'{second.name}: .* bytes'):
    told(there)
  files.remove(there / second.name)
  with pytest.raises(errors.UserError, match='is not there, expected the 2 sh'):
    told(there)
  with pytest.raises(errors.UserError, match='found 7 records, expected 11'):
    feed_of(there)


def test_a_shard_that_is_replaced_while_it_is_read_is_told(here, there):
  far = feed_of(there)
  for path in here.glob('*.array_record'):
    files.write_bytes(there / path.name, path.read_bytes() + bytes(2**16))
  with pytest.raises(failures.StoreError, match=str(there)):
    far.batch(0)


def test_shards_that_are_not_whole_are_named(there):
  shard = next(files.glob(there, '*.array_record'))
  content = files.read_bytes(shard)
  files.write_bytes(shard, content[:-1])
  with pytest.raises(errors.UserError, match=f'{shard}: not a whole ArrayRec'):
    array_records.open_records([shard])
  files.write_bytes(shard, content[:64] + bytes(99) + content[163:])
  records = array_records.open_records([shard])
  with pytest.raises(errors.UserError, match=f'{shard}: not .* record 0: '):
    records[0]


def test_records_one_after_the_other_need_no_copy(here, there, monkeypatch):
  shard = sorted(here.glob('*.array_record'))[0]
  expected = array_records.read_records(shard)
  monkeypatch.setattr(files, 'as_local', None)
  far = there / shard.name
  assert array_records.count_records(far) == len(expected) == 7
  assert array_records.read_records(str(far)) == expected
  assert list(array_records.stream_records(far, 3, chunk=2)) == expected[3:]
  with pytest.raises(errors.UserError, match='none.*: no such object'):
    array_records.read_records(there / 'none')
  files.write_bytes(far, shard.read_bytes()[: 2**16])
  with pytest.raises(errors.UserError, match=f'{far}: not a whole ArrayRecord'):
    array_records.count_records(far)


def test_faults_on_the_way_change_no_batch(
  here, there, bucket_servers, monkeypatch
):
  limits = dataclasses.replace(
    failures.LIMITS, tries=30, seconds=60.0, longest_pause=0.02
  )
  monkeypatch.setattr(failures, 'LIMITS', limits)
  with faults.front(bucket_servers.of(there.scheme)) as front:
    for name, value in front.environment.items():
      monkeypatch.setenv(name, value)
    servers.forget()
    front.set(
      rules=[
        rules.Rule('answer', times=-1, chance=0.2),
        rules.Rule('half', op='get', times=-1, chance=0.2),
        rules.Rule('lose', times=-1, chance=0.1),
      ]
    )
    near, far = feed_of(here), feed_of(there)
    steps = range(40, 50)
    found = list(placement.read_ahead(far.batch, steps, far.read_ahead))
    assert sum(bool(one.fault) for one in front.asked) > 10
  for step, batch in zip(steps, found, strict=True):
    for name, array in near.batch(step).items():
      np.testing.assert_array_equal(batch[name], array)
