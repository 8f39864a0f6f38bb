"""The comparison with `trl`: its own logic, and our side alone."""

import argparse
import contextlib
import json
import threading

import numpy as np
import pytest

from benchmarks import side_by_side
from benchmarks.alignment import speed
from tests.benchmarks import scripts


def test_our_side_runs_alone_and_tells_what_a_step_is_spent_on():
  done = scripts.run(
    'alignment/speed', '--tiny', '--no_peer', '--rounds=1', '--json'
  )
  assert done.returncode == 0, done.stderr
  head, line, found = done.stdout.splitlines()
  assert head.startswith('size') and line.startswith('tiny')
  (result,) = json.loads(found)['sizes']
  assert 'ratio' not in result and 'peer_entropy' not in result
  assert result['ours_ids_per_second']['median'] > 0
  assert result['ours_first_turn_seconds'] > 0
  shares = result['ours_shares']
  assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
  assert min(shares['rollout'], shares['evaluation'], shares['update']) > 0
  assert 4 < result['ours_entropy'] < np.log(5248)


def test_a_peer_that_is_not_there_is_told(capsys):
  found = side_by_side.sides(
    argparse.Namespace(no_peer=False), ('json', 'no_such_trl')
  )
  assert found == ('ours',)
  assert 'json or no_such_trl is not installed' in capsys.readouterr().err


def test_help_and_sizes_that_are_none():
  told = scripts.run('alignment/speed', '--help')
  assert 'python benchmarks/alignment/speed.py' in told.stdout
  assert '--sizes' in told.stdout and '--json' in told.stdout
  wrong = scripts.run('alignment/speed', '--sizes=1M,9T')
  assert wrong.returncode == 2 and "found '9T', expected 1M" in wrong.stderr


def test_a_loop_goes_on_by_what_is_asked_and_counts_what_is_drawn():
  turns, steps = speed.Turns(), []

  def loop():
    with contextlib.suppress(SystemExit):  # how a program's main thread ends
      turns.wait()
      while True:
        steps.append(turns.even([[2, 4], [1, 2, 3]]))
        turns.passed(kl=float(len(steps)))

  thread = threading.Thread(target=loop, daemon=True)
  thread.start()
  # What the first step of a turn tells is told.
  assert turns.take(0, 3) == {'drawn': 15, 'kl': 1.0}
  assert len(steps) == 3 and steps[0] == [1.0, pytest.approx(1 / 3)]
  assert turns.take(1, 1) == {'drawn': 5, 'kl': 4.0}
  turns.end()
  thread.join(10)
  assert not thread.is_alive() and len(steps) == 4


def turn(seconds, drawn=64, kl=0.0, entropy=8.0):
  value = {'drawn': drawn, 'kl': kl, 'entropy': entropy}
  return {'seconds': seconds, 'value': value}


def test_ratios_are_of_ids_and_of_pairs():
  answers = {
    'ours': [turn(9.0), turn(1.0), turn(2.0, drawn=32), turn(1.0)],
    'peer': [turn(7.0), turn(2.0), turn(2.0), turn(4.0)],
  }
  found = speed.rates(answers, warm=1)
  assert found['ours_ids_per_second']['max'] == 64
  ratio = found['ratio']
  assert (ratio['min'], ratio['median'], ratio['max']) == (0.5, 2, 4)
  assert found['ours_first_turn_seconds'] == 9
  result = {'size': 'tiny', 'ours_shares': {'update': 0.5}, **found}
  line = speed.table([result]).splitlines()[1]
  assert '2.00 (0.50-4.00)' in line and 'update 50%' in line


@pytest.mark.parametrize('other', [{'kl': 0.01}, {'entropy': 9.0}])
def test_sides_that_differ_are_refused(other):
  speed.agreement({'ours': [turn(1.0)], 'peer': [turn(1.0, entropy=8.1)]})
  with pytest.raises(SystemExit, match='do not compute the same'):
    speed.agreement({'ours': [turn(1.0)], 'peer': [turn(1.0, **other)]})


def test_prompts_are_ragged_and_stand_side_by_side():
  size = speed.SIZES['15M']
  feed = speed.Feed(size)
  batch = feed.batch(3)
  assert batch['tokens'].shape == (32, 128)
  assert len(set(batch['starts'][:: size.group].tolist())) > 2
  for row in range(32):
    np.testing.assert_array_equal(
      batch['tokens'][row], batch['tokens'][row // 8 * 8]
    )
  shape = speed.SIZES['135M'].shape
  model, _ = speed.small_llama.ours(shape)
  assert model.config.transformer.parameters == pytest.approx(134.5e6, rel=1e-3)
