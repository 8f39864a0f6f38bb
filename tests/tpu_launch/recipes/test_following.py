"""Recipes as they are followed: order, lanes, resume, failures, memory."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest

from step_audio_jax import errors
from tpu_launch.recipes import following
from tpu_launch.recipes import recipe


def python(name, code, *needs, **more):
  return recipe.Command(name, ('-c', code), needs, **more)


def test_finished_commands_are_not_run_again(tmp_path, capfd):
  mark = tmp_path / 'mark'
  first = python('first', f"open({str(mark)!r}, 'a').write('1')")
  bad = python('second', 'raise SystemExit(3)')
  with pytest.raises(errors.UserError, match='"second" ended with status 3'):
    following.follow([[first], [bad]], str(tmp_path))
  mended = python('second', 'print("mended")')
  timing = following.follow([[first], [mended]], str(tmp_path))
  assert mark.read_text() == '1'
  assert [c['name'] for c in timing['commands']] == ['first', 'second']
  assert timing == json.loads((tmp_path / 'timing.json').read_text())
  assert 'mended' in capfd.readouterr().out


def test_a_changed_command_and_all_behind_it_run_again(tmp_path):
  mark = tmp_path / 'mark'

  def steps(*texts):
    return [
      [python(f'c{i}', f"open({str(mark)!r}, 'a').write({text!r})")]
      for i, text in enumerate(texts)
    ]

  following.follow(steps('a', 'b', 'c'), str(tmp_path))
  timing = following.follow(steps('a', 'B', 'c'), str(tmp_path))
  assert mark.read_text() == 'abcBc'
  assert [c['name'] for c in timing['commands']] == ['c0', 'c1', 'c2']
  assert following.follow(steps('a', 'B', 'c'), str(tmp_path)) == timing
  assert mark.read_text() == 'abcBc'


def test_only_what_needs_a_changed_command_runs_again(tmp_path):
  mark = tmp_path / 'mark'

  def part(**texts):
    def command(name, *needs):
      code = f"open({str(mark)!r}, 'a').write({texts.get(name, name)!r})"
      return python(name, code, *needs)

    return [
      command('a'), command('b', 'a'), command('c', 'b'), command('d', 'c', 'x')
    ]  # fmt: skip

  def aside(text):
    return python('x', f"open({str(mark)!r}, 'a').write({text!r})", 'a')

  def follow(x='x', **texts):
    a, b, c, d = part(**texts)
    mark.write_text('')
    following.follow([[a, b, c, aside(x), d]], str(tmp_path))
    return mark.read_text()

  assert sorted(follow()) == ['a', 'b', 'c', 'd', 'x']
  assert follow() == ''
  assert follow(b='B') == 'Bcd'
  assert sorted(follow(b='B', x='X')) == ['X', 'd']
  assert follow(b='B', x='X', d='D') == 'D'


def test_a_changed_gin_file_is_a_changed_command(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'inner.gin').write_text('STEPS = 1')
  (tmp_path / 'outer.gin').write_text("include 'inner.gin'\n")
  code = "open('mark', 'a').write('x')"
  step = [recipe.Command('c', ('-c', code, '--gin_file=outer.gin'))]
  for marks in ('x', 'x'):
    following.follow([step], str(tmp_path))
    assert (tmp_path / 'mark').read_text() == marks
  (tmp_path / 'inner.gin').write_text('STEPS = 2')
  following.follow([step], str(tmp_path))
  assert (tmp_path / 'mark').read_text() == 'xx'


def test_what_was_done_before_gin_files_counted_stays_done(tmp_path):
  mark = tmp_path / 'mark'
  step = [python('c', f"open({str(mark)!r}, 'a').write('x')")]
  timing = following.follow([step], str(tmp_path))
  del timing['commands'][0]['settings']
  (tmp_path / 'timing.json').write_text(json.dumps(timing))
  following.follow([step], str(tmp_path))
  assert mark.read_text() == 'x'


def test_a_step_may_depend_on_those_before_it(tmp_path):
  def steps():
    yield [python('ask', f"open({str(tmp_path / 'n')!r}, 'w').write('7')")]
    found = (tmp_path / 'n').read_text()
    yield [
      python('use', f"open({str(tmp_path / 'm')!r}, 'w').write('{found}')")
    ]

  following.follow(steps(), str(tmp_path))
  assert (tmp_path / 'm').read_text() == '7'


@pytest.mark.skipif(
  len(os.sched_getaffinity(0)) < 2, reason='one core has one lane'
)
def test_what_needs_nothing_of_another_runs_beside_it(tmp_path):
  # Each waits for the file of the other: only together do they end.
  code = (
    'import pathlib, time\n'
    'root = pathlib.Path({root!r})\n'
    '(root / {mine!r}).touch()\n'
    'deadline = time.time() + 60\n'
    'while not (root / {other!r}).exists():\n'
    '  assert time.time() < deadline\n'
    '  time.sleep(0.05)\n'
  )
  part = [
    python(mine, code.format(root=str(tmp_path), mine=mine, other=other), *need)
    for mine, other, *need in (('a', 'b'), ('b', 'a'), ('c', 'b', 'a'))
  ]
  timing = following.follow([part], str(tmp_path))
  by_name = {c['name']: c for c in timing['commands']}
  ends = {n: c['began'] + c['seconds'] for n, c in by_name.items()}
  assert by_name['c']['began'] >= ends['a'] - 0.2
  assert timing['wall_seconds'] == pytest.approx(max(ends.values()), abs=0.5)


def test_the_first_in_the_list_goes_first(tmp_path, monkeypatch):
  monkeypatch.setattr(following, 'cut', lambda cores: [tuple(cores)])
  mark = tmp_path / 'mark'
  part = [
    python(name, f"open({str(mark)!r}, 'a').write({name!r})", *needs)
    for name, *needs in ('a', 'fa', 'e', 'df', 'b')
  ]
  following.follow([part], str(tmp_path))
  assert mark.read_text() == 'afedb'


def test_a_need_that_no_command_makes_is_a_mistake_of_the_recipe(tmp_path):
  with pytest.raises(ValueError, match='b needs what no command makes'):
    following.follow([[python('b', '', 'a')]], str(tmp_path))


def test_time_is_counted_over_kills(tmp_path):
  path = tmp_path / 'timing.json'
  part = [python('a', ''), python('b', 'raise SystemExit(3)', 'a')]
  with pytest.raises(errors.UserError):
    following.follow([part], str(tmp_path))
  told = json.loads(path.read_text())
  assert told['wall_seconds'] is None and 0 < told['ran_seconds'] < 60
  assert told['started'] == pytest.approx(
    time.time() - told['ran_seconds'], abs=5
  )
  path.write_text(json.dumps({**told, 'ran_seconds': 100.0}))
  part[1] = python('b', '', 'a')
  timing = following.follow([part], str(tmp_path))
  assert 100 < timing['wall_seconds'] < 160
  assert 100 <= timing['commands'][1]['began'] < 160
  # Nothing of before is kept: the time begins anew.
  timing = following.follow([[python('a', ' '), part[1]]], str(tmp_path))
  assert timing['wall_seconds'] < 60


def test_a_timing_file_of_steps_that_shared_their_time_is_continued(tmp_path):
  part = [python('a', ''), python('b', ''), python('c', '', 'a', 'b')]
  told = following.follow([part], str(tmp_path))['commands'][:2]
  for one in told:
    del one['began']
    one |= {'seconds': 50.0, 'together': 2}
  (tmp_path / 'timing.json').write_text(
    json.dumps({'commands': told, 'peak_memory_bytes': 7, 'started': 0})
  )
  timing = following.follow([part], str(tmp_path))
  assert 50 < timing['wall_seconds'] < 110
  assert [c['name'] for c in timing['commands']] == ['a', 'b', 'c']


def test_a_failure_beside_another_shows_its_last_lines(tmp_path):
  part = [
    python('good', 'import time; time.sleep(60)'),
    python('bad', 'print("what went wrong"); raise SystemExit(1)'),
  ]
  started = time.monotonic()
  with pytest.raises(errors.UserError, match='what went wrong'):
    following.follow([part], str(tmp_path))
  assert time.monotonic() - started < 50


def test_peak_memory_counts_the_children(tmp_path):
  big = python('big', 'x = bytearray(300 << 20); import time; time.sleep(2)')
  timing = following.follow([[big]], str(tmp_path))
  assert timing['peak_memory_bytes'] > 300 << 20


def test_a_killed_recipe_takes_its_commands_along(tmp_path):
  pid = tmp_path / 'pid'
  child = (
    'import os, pathlib, time\n'
    f'pathlib.Path({str(pid)!r}).write_text(str(os.getpid()))\n'
    'time.sleep(60)\n'
  )
  driver = subprocess.Popen(
    [
      sys.executable,
      '-c',
      'from tpu_launch.recipes import following, recipe\n'
      f'sleeper = recipe.Command("sleeper", ("-c", {child!r}))\n'
      f'following.follow([[sleeper]], {str(tmp_path)!r})',
    ]
  )
  deadline = time.monotonic() + 60
  while not (pid.exists() and pid.read_text()):
    assert time.monotonic() < deadline
    time.sleep(0.05)
  driver.kill()
  driver.wait()
  while psutil.pid_exists(int(pid.read_text())):
    assert time.monotonic() < deadline
    time.sleep(0.05)


def test_commands_side_by_side_have_cores_of_their_own(tmp_path):
  code = (
    'import os, pathlib\n'
    'pathlib.Path({path!r}).write_text(repr(os.sched_getaffinity(0)))\n'
  )

  def cores(*names, **more):
    part = [
      python(n, code.format(path=str(tmp_path / n)), **more) for n in names
    ]
    following.follow([part], str(tmp_path))
    return [eval((tmp_path / n).read_text()) for n in names]

  mine = os.sched_getaffinity(0)
  one, two = cores('a', 'b')
  assert one <= mine and two <= mine and len(one) == len(two)
  assert one.isdisjoint(two) or len(mine) == 1
  assert cores('c') == [mine]
  # Sums of other cores are other sums: training has the same ones always.
  assert cores('d', trains=True) == [one]


def test_lanes():
  assert following.cut([3]) == [(3,)]
  assert following.cut([0, 1]) == [(0,), (1,)]
  assert following.cut([0, 2, 5]) == [(0,), (2,)]
  assert following.cut(range(8)) == [(0, 1, 2, 3), (4, 5, 6, 7)]


def test_logs_are_named_after_their_commands(tmp_path, capfd):
  part = [python('train one', 'print("in", 6 * 7)'), python('two', 'print(2)')]
  following.follow([part], str(tmp_path))
  assert (tmp_path / 'logs/train-one.log').read_text() == 'in 42\n'
  assert (tmp_path / 'logs/two.log').read_text() == '2\n'
  assert 'in 42' not in capfd.readouterr().out


def test_the_environment_is_ours_first(monkeypatch, tmp_path):
  monkeypatch.setenv('JAX_PLATFORMS', 'tpu')
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR', raising=False)
  monkeypatch.chdir(tmp_path)
  env = recipe.environment('q')
  assert env['JAX_PLATFORMS'] == 'tpu'
  assert env['JAX_COMPILATION_CACHE_DIR'] == f'{tmp_path}/q/compiled'
  assert 'TF_CPP_MIN_LOG_LEVEL' in env
  # What compiles for a CPU is told how; other backends have their own ways.
  monkeypatch.delenv('XLA_FLAGS', raising=False)
  assert 'XLA_FLAGS' not in recipe.environment('q')
  monkeypatch.delenv('JAX_PLATFORMS')
  assert 'optimization_level' in recipe.environment('q')['XLA_FLAGS']


@pytest.mark.parametrize('text', ['{"commands"', ''])
def test_a_broken_timing_file_is_told(tmp_path, text):
  (tmp_path / 'timing.json').write_text(text)
  with pytest.raises(errors.UserError, match='timing.json: not valid JSON'):
    following.follow([], str(tmp_path))
