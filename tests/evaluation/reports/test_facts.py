"""What runs say about themselves, on records written by hand."""

from fractions import Fraction
import json

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.corpus import schedule
from step_audio_jax.corpus import stages
from step_audio_jax.evaluation.reports import facts


def record(run, sources, shares, row_length=32):
  run.mkdir(parents=True, exist_ok=True)
  np.save(run / 'sources.npy', np.asarray(sources, np.int16))
  (run / 'sources.json').write_text(
    json.dumps(
      {
        'names': list(shares),
        'shares': [str(s) for s in shares.values()],
        'rows': len(sources),
        'row_length': row_length,
      }
    )
  )
  return run


def brute_force(sources, source, share, first):
  return max(
    abs(sum(s == source for s in sources[:n]) - share * n)
    for n in range(first, len(sources) + 1)
  )


def test_errors_are_the_largest_over_all_prefixes(tmp_path):
  rng = np.random.default_rng(0)
  sources = rng.choice(3, 400, p=[0.5, 0.3, 0.2]).tolist()
  shares = {'a': Fraction(1, 2), 'b': Fraction(3, 10), 'c': Fraction(1, 5)}
  table = facts.shares(record(tmp_path, sources, shares))
  for n, (line, share) in enumerate(zip(table, shares.values(), strict=True)):
    expected = brute_force(sources, n, float(share), 100)
    assert line['error_rows'] == pytest.approx(expected)
    assert line['rows'] == sources.count(n)
    assert line['tokens'] == 32 * sources.count(n)
    assert line['realised'] == pytest.approx(sources.count(n) / 400)
    assert line['requested'] == float(share)


def test_short_prefixes_do_not_count_but_a_short_run_does(tmp_path):
  shares = {'a': Fraction(1, 2), 'b': Fraction(1, 2)}
  # Wrong at the start (30 rows ahead), even from row 60 on.
  late = [0] * 30 + [1] * 30 + [0, 1] * 100
  table = facts.shares(record(tmp_path / 'late', late, shares))
  assert table[0]['error_rows'] == pytest.approx(0.5)
  short = facts.shares(record(tmp_path / 'short', [0, 0, 0, 0], shares))
  assert short[0]['error_rows'] == pytest.approx(2.0)


def test_phases_are_counted_each_from_its_beginning(tmp_path):
  mixtures = [(0, {'a': 1, 'b': 1}), (150, {'a': 1, 'b': 3})]
  order = schedule.create(mixtures)
  sources = order.sources(0, 500).tolist()
  first = dict(zip(order.names, order.phases[0].shares))
  run = record(tmp_path, sources, first)
  told = json.loads((run / 'sources.json').read_text())
  told['phases'] = [
    {'row': phase.start, 'shares': list(map(str, phase.shares))}
    for phase in order.phases
  ]
  (run / 'sources.json').write_text(json.dumps(told))
  a, b = facts.shares(run)
  assert a['requested'] == pytest.approx((150 / 2 + 350 / 4) / 500)
  assert a['requested'] + b['requested'] == pytest.approx(1)
  assert max(a['error_rows'], b['error_rows']) < 1
  # The second mixture everywhere is many rows off in the first phase.
  record(
    tmp_path / 'wrong',
    schedule.Schedule({'a': 1, 'b': 3}).sources(0, 500),
    first,
  )
  (tmp_path / 'wrong' / 'sources.json').write_text(json.dumps(told))
  assert facts.shares(tmp_path / 'wrong')[0]['error_rows'] > 30


@pytest.mark.parametrize('stage', list(stages.STAGES))
def test_the_real_schedule_stays_within_a_row(tmp_path, stage):
  order = schedule.Schedule(stages.STAGES[stage])
  shares = dict(zip(order.names, order.shares, strict=True))
  table = facts.shares(record(tmp_path, order.sources(0, 3000), shares))
  assert max(line['error_rows'] for line in table) <= 1


def test_a_record_that_contradicts_itself(tmp_path):
  shares = {'a': Fraction(1)}
  run = record(tmp_path, [0, 0, 1], shares)
  with pytest.raises(errors.UserError, match='ids up to 1, expected 3 rows'):
    facts.shares(run)
  run = record(tmp_path, [0, 0], shares)
  np.save(run / 'sources.npy', np.zeros(5, np.int16))
  with pytest.raises(errors.UserError, match='found 5 rows'):
    facts.shares(run)


def test_a_run_without_a_record(tmp_path):
  assert facts.shares(tmp_path) == []
  assert facts.curve(tmp_path) == {}
  assert facts.newest_result(tmp_path) == {}
  assert facts.timing(None) == {}
  assert facts.padding([[]], tmp_path) is None


def stats(rows, source, pad_tokens, count=10, length=100):
  folder = rows / source / 'train'
  folder.mkdir(parents=True)
  (folder / 'stats.json').write_text(
    json.dumps({'rows': count, 'length': length, 'pad_tokens': pad_tokens})
  )


def test_padding_is_weighted_by_what_was_consumed(tmp_path):
  stats(tmp_path, 'x_a', 100)  # 10 % padding
  stats(tmp_path, 'x_b', 0)
  tables = [
    [{'source': 'a', 'rows': 30}, {'source': 'b', 'rows': 50}],
    [{'source': 'b', 'rows': 20}],
  ]
  found = facts.padding(tables, tmp_path, prefix='x_')
  assert found == pytest.approx(0.1 * 30 / 100)
  with pytest.raises(errors.UserError, match='stats.json: no such file'):
    facts.padding(tables, tmp_path, prefix='y_')


def test_curves_of_a_run(tmp_path):
  lines = [
    {'step': 10, 'loss': 3.0, 'loss/text': 2.0},
    {'step': 20, 'loss': 2.0, 'note': 'text is passed over'},
  ]
  (tmp_path / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, lines)))
  assert facts.curve(tmp_path) == {
    'loss': ([10, 20], [3.0, 2.0]),
    'loss/text': ([10], [2.0]),
  }


def test_thinning_keeps_the_mean_and_short_curves():
  assert facts.downsample([1, 2], [3, 4]) == ([1, 2], [3, 4])
  x, y = facts.downsample(list(range(1000)), list(range(1000)), most=10)
  assert len(x) == len(y) == 10 and x == y
  assert np.mean(x) == pytest.approx(499.5)


def test_timing_runs_until_now_without_an_end(tmp_path):
  path = tmp_path / 'timing.json'
  path.write_text(json.dumps({'started': 1.0, 'commands': []}))
  assert facts.timing(path)['wall_seconds'] > 1e9
  path.write_text(json.dumps({'started': 1.0, 'wall_seconds': 7.5}))
  assert facts.timing(path)['wall_seconds'] == 7.5


def test_error_rates_of_a_result():
  result = {'asr': {'dev': {'cer': 5.0}, 'odd': {'cer': float('inf')}}}
  assert facts.cer(result, 'asr', 'dev') == 5.0
  assert facts.cer(result, 'asr', 'odd') is None
  assert facts.cer(result, 'tts', 'dev') is None
