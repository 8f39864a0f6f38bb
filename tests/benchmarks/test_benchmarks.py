"""The comparisons' own logic: toy sizes, our side, no torch."""

import collections
import json
import pathlib

import numpy as np
import pytest

from benchmarks import side_by_side
from benchmarks import small_llama
from benchmarks.pipelines import material
from benchmarks.pipelines import packing
from benchmarks.training import decode
from benchmarks.training import packed_rows
from benchmarks.training import train_step
from data_pipelines.rows import verify
from data_pipelines.tasks import definitions
from tests.benchmarks import scripts

run = scripts.run

SCRIPTS = (
  'training/train_step',
  'training/packed_rows',
  'training/decode',
  'training/gpu_train_step',
)


@pytest.mark.parametrize('script', SCRIPTS)
def test_our_side_runs_without_torch(script):
  done = run(script, '--tiny', '--no_peer', '--rounds=2', '--threads=1')
  assert done.returncode == 0, done.stderr
  result = json.loads(done.stdout.splitlines()[-1])
  assert script == f'training/{result["benchmark"]}'
  assert 'ratio' not in result
  seconds = next(v for k, v in result.items() if k.endswith('_seconds'))
  assert 0 < seconds['min'] <= seconds['median'] <= seconds['max']
  if script != 'training/decode':
    return
  assert result['distinct_ids'] > 3  # else greedy says nothing


@pytest.mark.parametrize('script', SCRIPTS)
def test_help_is_the_docstring(script):
  done = run(script, '--help')
  assert done.returncode == 0
  assert f'python benchmarks/{script}.py' in done.stdout
  assert '--side' not in done.stdout


@pytest.mark.skipif(
  pathlib.Path('/dev/nvidia0').exists(), reason='there is a GPU'
)
def test_without_a_gpu_one_sentence_says_so():
  done = run('training/gpu_train_step')
  assert done.returncode == 1 and not done.stdout
  assert done.stderr.count('\n') == 1 and 'found no NVIDIA GPU' in done.stderr


def test_ratios_are_of_pairs_and_leave_out_what_only_warms_up():
  def answers(*seconds):
    return [{'seconds': s, 'cpu_seconds': s} for s in seconds]

  given = {'ours': answers(9, 1, 2, 4), 'peer': answers(1, 2, 8, 4)}
  found = side_by_side.compared(given, warm=1)
  assert found['ratio']['min'] == 1 and found['ratio']['max'] == 4
  assert found['ratio']['median'] == 2
  assert found['ours_seconds']['median'] == 2
  assert 'ratio' not in side_by_side.compared({'ours': given['ours']})


def test_sides_take_turns():
  order = []

  class Echo:
    def __init__(self, side):
      self._side = side

    def ask(self, what, number):
      order.append((self._side, number))
      return {'seconds': 1.0, 'cpu_seconds': 1.0}

  workers = {side: Echo(side) for side in side_by_side.SIDES}
  side_by_side.interleaved(workers, 'step', rounds=1, warm=1)
  assert order == [('ours', 0), ('peer', 0), ('ours', 1), ('peer', 1)]


@pytest.mark.parametrize(
  'module, right, wrong',
  [
    (train_step, (2.0, 2.00005), (2.0, 2.001)),
    (decode, ([[1, 2]], [[1, 2]]), ([[1, 2]], [[1, 3]])),
  ],
)
def test_sides_that_differ_are_refused(module, right, wrong):
  def answers(pair):
    return {s: [{'value': v}] for s, v in zip(side_by_side.SIDES, pair)}

  module.agreement(answers(right))
  with pytest.raises(SystemExit, match='do not compute the same'):
    module.agreement(answers(wrong))


def test_data_measures_its_parts_in_processes_of_their_own():
  done = run('pipelines/data', '--tiny', '--only=shares,feed,packed,hosts')
  assert done.returncode == 0, done.stderr
  (line,) = done.stdout.splitlines()
  result = json.loads(line)
  assert result['benchmark'] == 'data'
  for part in ('shares', 'packed', 'hosts'):
    assert result[part]['met'] is True and 'must' in result[part]
  assert result['feed']['state_bytes'] < 1000
  assert result['hosts']['identical'] == {'1': True, '2': True}
  packed = result['packed']['rope']
  assert packed['rows'][0] < packed['rows'][1]
  assert packed['largest_gradient'] > 1e3 * packed['gradients']
  done = run('pipelines/data', '--only=shares,build,nothing')
  assert done.returncode == 1 and "found 'nothing'" in done.stderr
  told = run('pipelines/data', '--help').stdout
  assert 'python benchmarks/pipelines/data.py' in told


@pytest.mark.parametrize('cut', [0, 5])
def test_padding_is_that_of_the_same_documents(cut):
  sizes = np.random.default_rng(1).integers(50, 900, 300)
  made = list(material.documents(sizes, cut))
  assert [len(one) for one in made] == sizes.tolist()
  assert all((one.split(300) is not None) == bool(cut) for one in made[:9])
  again = list(material.documents(sizes, cut))
  np.testing.assert_array_equal(made[7].tokens, again[7].tokens)
  result = packing.padding(tiny=True)
  assert result['met'] and result['sft']['seqio_padding'] is None
  assert result['pretraining']['documents'] == 300


def test_the_corpus_of_the_build_is_one_that_the_jobs_left(tmp_path):
  material.make_corpus(tmp_path, 501)  # one more than a shard of codes
  checked = collections.Counter()
  assert list(verify.code_faults(tmp_path / 'codes', checked)) == []
  assert checked['codes'] == 501
  assert len(list((tmp_path / 'codes').glob('*.array_record'))) == 2
  task = definitions.speech(
    'bench', tmp_path / 'speech', tmp_path / 'codes', tmp_path / 'text.model'
  )[0]
  examples = list(task.examples('train'))
  assert len(examples) == 501
  assert all(
    len(one['linguistic']) / 2 == len(one['semantic']) / 3 >= 8
    for one in examples
  )


def test_sizes_are_what_they_are_called():
  for size in ('25M', '100M'):
    model, vocabulary = small_llama.ours(size)
    config = model.config.transformer
    assert config.parameters == pytest.approx(1e6 * int(size[:-1]), rel=0.02)
    assert vocabulary.table_size == config.vocab_size


def test_ragged_rows_hold_several_documents_that_start_at_nought():
  batch = train_step.rows(3, '25M', True, (4, 512))
  segments, positions = batch['segment_ids'], batch['positions']
  assert (segments.max(axis=1) > 1).all() and segments.min() == 1
  starts = np.diff(segments, axis=1, prepend=0) > 0
  assert (positions[starts] == 0).all()
  again = train_step.rows(3 + train_step.BATCHES, '25M', True, (4, 512))
  np.testing.assert_array_equal(again['tokens'], batch['tokens'])


def test_both_sides_of_packing_see_the_same_documents():
  plan = packed_rows.Plan('25M', 2048, 2, 2, packed_rows.MEAN)
  documents = plan.documents()
  lengths = [len(ids) for ids in documents]
  assert np.mean(lengths) == pytest.approx(packed_rows.MEAN, rel=0.01)
  rows = plan.packed()
  assert sum((r.segment_ids > 0).sum() for r in rows) == sum(lengths)
  assert len(rows) == plan.steps * plan.rows
  packed = sorted(
    tuple(row.tokens[row.segment_ids == n])
    for row in rows
    for n in range(1, row.segment_ids.max() + 1)
  )
  assert packed == sorted(map(tuple, documents))
  for convention in ('longest', 'row'):
    batches = list(plan.padded(convention))
    for batch in batches:
      widest = max(map(len, batch)) if convention == 'longest' else 2048
      assert len(batch) * widest <= plan.tokens
    flat = [ids for batch in batches for ids in batch]
    assert [len(ids) for ids in flat] == lengths  # in the order they come


def test_a_short_last_step_of_packed_rows_is_filled_with_padding():
  plan = packed_rows.Plan('tiny', 128, 3, 1, 16)
  feed = packed_rows.Feed(plan)
  last = feed.batch(feed.steps - 1)
  assert last['tokens'].shape == (3, 128)
  assert not last['loss_weights'][last['segment_ids'] == 0].any()


@pytest.mark.parametrize(
  'format, more',
  [
    ('nemo', ()),
    ('kaldi', ()),
    ('wenetspeech', ()),
    ('nemo', ('--open', '--recordings=1200')),
  ],
)
def test_every_made_utterance_is_counted(format, more):
  done = run('pipelines/ingest', '--lines=2008', f'--format={format}', *more)
  assert done.returncode == 0, done.stderr
  (line,) = done.stdout.splitlines()
  result = json.loads(line)
  assert result['benchmark'] == 'ingest' and result['format'] == format
  # Lines 7, 8 and 9 of a thousand are bad; the last thousand has one of them.
  assert (result['read'], result['quarantined']) == (2008, 7)
  assert result['counts_add_up'] is True and result['met'] is True
  assert 0 < result['cpu_seconds'] and 0 < result['peak_gigabytes'] < 1
  assert result['opened'] is bool(more)


def test_an_ingestion_that_fails_is_no_figure():
  done = run('pipelines/ingest', '--lines=0')
  assert done.returncode == 1 and 'none of 0 lines' in done.stderr


def test_rows_that_are_far_are_compared_and_counted():
  done = run('buckets/bucket_feed', '--tiny', '--rounds=1', '--batch=4')
  assert done.returncode == 0, done.stderr
  result = json.loads(done.stdout)
  assert result['bit_equal'] is True
  assert 0 < result['requests_at_step_10m'] <= 4
  assert result['requests_to_open'] == result['shards'] == 2
  assert result['most_in_flight'] > 4  # more than one batch
  for side in ('local', 'far'):
    assert result[side]['tokens_per_second'] > 0
