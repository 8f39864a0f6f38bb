"""Global batches: pure functions of the step, the same for any host count."""

import json
import subprocess
import sys

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.training.feeds import feed
from tests.training import toy_rows


@pytest.fixture
def rows(tmp_path):
  toy_rows.write_source(tmp_path, 'a', 11)
  toy_rows.write_source(tmp_path, 'b', 5, images=2)
  return tmp_path


def make(rows, **kwargs):
  arguments = {'ratios': {'a': 2, 'b': 1}, 'batch_size': 8} | kwargs
  return feed.RowFeed(rows=str(rows), **arguments)


@pytest.mark.parametrize('hosts', [1, 2, 4, 8])
def test_hosts_share_one_global_batch(rows, hosts):
  whole = make(rows).batch(3)
  size = 8 // hosts
  parts = [
    make(rows).batch(3, host * size, (host + 1) * size) for host in range(hosts)
  ]
  for name, array in whole.items():
    np.testing.assert_array_equal(
      np.concatenate([part[name] for part in parts]), array
    )


def test_tags_are_those_of_all_rows(rows):
  assert make(rows).tags == []
  for task, tags in (('a', ['快速1', '悲伤1']), ('b', ['快速1', '停顿2'])):
    path = rows / task / 'train' / 'stats.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'tags': tags}))
  assert make(rows).tags == sorted(('快速1', '悲伤1', '停顿2'))
  assert make(rows, ratios={'a': 1}).tags == sorted(('快速1', '悲伤1'))


CURRICULUM = [(0, {'a': 1}), (2, {'a': 1, 'b': 3}), (5, {'b': 1})]


@pytest.mark.parametrize('hosts', [1, 2, 4, 8])
def test_a_curriculum_is_a_function_of_the_step_alone(rows, hosts):
  whole = make(rows, ratios=CURRICULUM)
  size = 8 // hosts
  # Steps in any order, each by a feed that has seen no other.
  for step in (4, 5, 1, 9, 2):
    parts = [
      make(rows, ratios=CURRICULUM).batch(step, host * size, (host + 1) * size)
      for host in range(hosts)
    ]
    for name, array in whole.batch(step).items():
      np.testing.assert_array_equal(
        np.concatenate([part[name] for part in parts]), array
      )


def test_a_curriculum_changes_at_its_steps_and_repeats_no_row_early(rows):
  stream = make(rows, ratios=CURRICULUM)
  share_of_b = [stream.batch(step)['source'].mean() for step in range(7)]
  assert share_of_b == [0, 0, 0.75, 0.75, 0.75, 1, 1]
  places = [stream.locate(k) for k in range(56)]
  for source, size in ((0, 11), (1, 5)):
    drawn = [index for found, index in places if found == source]
    for epoch in range(len(drawn) // size):
      assert sorted(drawn[epoch * size : (epoch + 1) * size]) == list(
        range(size)
      )
  told = stream.describe()
  assert [phase['row'] for phase in told['phases']] == [0, 16, 40]
  assert told['phases'][1]['shares'] == ['1/4', '3/4']
  assert json.loads(json.dumps(told)) == told
  counts = stream.counts(7)
  assert counts['rows/a'] + counts['rows/b'] == 56
  seen = stream.epochs(0, 56)
  assert [line['rows'] for line in seen] == [
    counts['rows/a'], counts['rows/b']
  ]  # fmt: skip


HOST = """
import sys
import numpy as np
from step_audio_jax.training.feeds import feed
rows, host, hosts, out = sys.argv[1:]
stream = feed.RowFeed(rows=rows, ratios={'a': 2, 'b': 1}, batch_size=8)
size = 8 // int(hosts)
start = int(host) * size
np.savez(out, **stream.batch(5, start, start + size))
"""


@pytest.mark.parametrize('hosts', [2, 4])
def test_processes_of_their_own_share_one_global_batch(rows, tmp_path, hosts):
  workers = [
    subprocess.Popen(
      [
        sys.executable,
        '-c',
        HOST,
        str(rows),
        str(host),
        str(hosts),
        str(tmp_path / f'{host}.npz'),
      ]
    )
    for host in range(hosts)
  ]
  assert [worker.wait() for worker in workers] == [0] * hosts
  parts = [np.load(tmp_path / f'{host}.npz') for host in range(hosts)]
  for name, array in make(rows).batch(5).items():
    np.testing.assert_array_equal(
      np.concatenate([part[name] for part in parts]), array
    )


def test_every_row_of_a_source_is_seen_once_an_epoch(rows):
  stream = make(rows)
  seen = {0: [], 1: []}
  for k in range(33):
    source, index = stream.locate(k)
    seen[source].append(index)
  assert sorted(seen[0][:11]) == list(range(11))
  assert sorted(seen[0][11:22]) == list(range(11))
  assert sorted(seen[1][:5]) == list(range(5))


def test_rows_come_from_the_source_that_the_schedule_names(rows):
  stream = make(rows)
  batch = stream.batch(0)
  for i, source in enumerate(batch['source']):
    _, index = stream.locate(i)
    stored = stream.sources[source].row(index)
    np.testing.assert_array_equal(batch['tokens'][i], stored['tokens'])
    count = len(stored.get('image_slots', ()))
    assert (batch['image_slots'][i, :count] >= 0).all()
    assert (batch['image_slots'][i, count:] == -1).all()


def test_row_ids_say_where_the_rows_of_a_batch_are_stored(rows):
  stream = make(rows)
  by_name = {source.name: source for source in stream.sources}
  batch, ids = stream.batch(3), stream.row_ids(3)
  assert len(ids) == stream.batch_size
  for tokens, place in zip(batch['tokens'], ids):
    name, index = place.split('/')
    stored = by_name[name].row(int(index))
    np.testing.assert_array_equal(tokens, stored['tokens'])


def test_seed_changes_the_order_and_step_alone_decides(rows):
  first, again, other = make(rows), make(rows), make(rows, seed=7)
  again.batch(9)
  np.testing.assert_array_equal(
    first.batch(2)['tokens'], again.batch(2)['tokens']
  )
  assert (first.batch(2)['tokens'] != other.batch(2)['tokens']).any()


def test_positions_restart_with_each_segment():
  segments = np.array([[1, 1, 1, 2, 3, 3, 0, 0]])
  np.testing.assert_array_equal(
    feed.positions(segments), [[0, 1, 2, 0, 0, 1, 0, 1]]
  )


def test_counts_add_up_to_what_was_fed(rows):
  stream = make(rows)
  seen = np.concatenate([stream.batch(s)['source'] for s in range(5)])
  counts = stream.counts(5)
  assert counts['rows/a'] == (seen == 0).sum()
  assert counts['tokens/b'] == (seen == 1).sum() * stream.length


def test_bad_folders_are_named(rows, tmp_path):
  with pytest.raises(errors.UserError, match="names the task 'c'"):
    make(rows, ratios={'a': 1, 'c': 1})
  with pytest.raises(errors.UserError, match='no such folder'):
    make(tmp_path / 'none')
  stats = rows / 'a' / 'train' / 'stats.json'
  facts = json.loads(stats.read_text())
  stats.write_text(json.dumps(facts | {'rows': 0}))
  with pytest.raises(errors.UserError, match='has no rows'):
    make(rows)
  stats.write_text(json.dumps(facts | {'rows': 12}))
  with pytest.raises(errors.UserError, match='found 11 records, expected 12'):
    make(rows)
  stats.write_text(json.dumps(facts | {'length': 64}))
  with pytest.raises(errors.UserError, match='row lengths differ'):
    make(rows)
