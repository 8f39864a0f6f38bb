"""Recipes: order, resume, failures, memory."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest

from step_audio_jax import errors
from tpu_launch.recipes import recipe


def python(name, code):
  return recipe.Command(name, ('-c', code))


def test_finished_commands_are_not_run_again(tmp_path, capfd):
  mark = tmp_path / 'mark'
  first = python('first', f"open({str(mark)!r}, 'a').write('1')")
  bad = python('second', 'raise SystemExit(3)')
  with pytest.raises(errors.UserError, match='"second" ended with status 3'):
    recipe.follow([[first], [bad]], str(tmp_path))
  mended = python('second', 'print("mended")')
  timing = recipe.follow([[first], [mended]], str(tmp_path))
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

  recipe.follow(steps('a', 'b', 'c'), str(tmp_path))
  timing = recipe.follow(steps('a', 'B', 'c'), str(tmp_path))
  assert mark.read_text() == 'abcBc'
  assert [c['name'] for c in timing['commands']] == ['c0', 'c1', 'c2']
  assert recipe.follow(steps('a', 'B', 'c'), str(tmp_path)) == timing
  assert mark.read_text() == 'abcBc'


def test_a_changed_gin_file_is_a_changed_command(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'inner.gin').write_text('STEPS = 1')
  (tmp_path / 'outer.gin').write_text("include 'inner.gin'\n")
  code = "open('mark', 'a').write('x')"
  step = [recipe.Command('c', ('-c', code, '--gin_file=outer.gin'))]
  for marks in ('x', 'x'):
    recipe.follow([step], str(tmp_path))
    assert (tmp_path / 'mark').read_text() == marks
  (tmp_path / 'inner.gin').write_text('STEPS = 2')
  recipe.follow([step], str(tmp_path))
  assert (tmp_path / 'mark').read_text() == 'xx'


def test_what_was_done_before_gin_files_counted_stays_done(tmp_path):
  mark = tmp_path / 'mark'
  step = [python('c', f"open({str(mark)!r}, 'a').write('x')")]
  timing = recipe.follow([step], str(tmp_path))
  del timing['commands'][0]['settings']
  (tmp_path / 'timing.json').write_text(json.dumps(timing))
  recipe.follow([step], str(tmp_path))
  assert mark.read_text() == 'x'


def test_a_step_may_depend_on_those_before_it(tmp_path):
  def steps():
    yield [python('ask', f"open({str(tmp_path / 'n')!r}, 'w').write('7')")]
    found = (tmp_path / 'n').read_text()
    yield [
      python('use', f"open({str(tmp_path / 'm')!r}, 'w').write('{found}')")
    ]

  recipe.follow(steps(), str(tmp_path))
  assert (tmp_path / 'm').read_text() == '7'


def test_commands_of_one_step_run_together(tmp_path):
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
  step = [
    python(mine, code.format(root=str(tmp_path), mine=mine, other=other))
    for mine, other in (('a', 'b'), ('b', 'a'))
  ]
  timing = recipe.follow([step], str(tmp_path))
  assert timing['wall_seconds'] == pytest.approx(
    timing['commands'][0]['seconds'], abs=0.2
  )


def test_a_failure_beside_another_shows_its_last_lines(tmp_path):
  step = [
    python('good', 'import time; time.sleep(60)'),
    python('bad', 'print("what went wrong"); raise SystemExit(1)'),
  ]
  with pytest.raises(errors.UserError, match='what went wrong'):
    recipe.follow([step], str(tmp_path))


def test_peak_memory_counts_the_children(tmp_path):
  big = python('big', 'x = bytearray(300 << 20); import time; time.sleep(2)')
  timing = recipe.follow([[big]], str(tmp_path))
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
      'from tpu_launch.recipes import recipe as q\n'
      f'q.run([q.Command("sleeper", ("-c", {child!r}))], {str(tmp_path)!r})',
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
  files = [tmp_path / name for name in 'ab']
  recipe.run(
    [python(p.name, code.format(path=str(p))) for p in files], str(tmp_path)
  )
  one, two = (eval(p.read_text()) for p in files)
  mine = os.sched_getaffinity(0)
  assert one <= mine and two <= mine and len(one) == len(two)
  assert one.isdisjoint(two) or len(mine) == 1
  recipe.run([python('all', code.format(path=str(files[0])))], str(tmp_path))
  assert eval(files[0].read_text()) == mine


def test_logs_are_named_after_their_commands(tmp_path, capfd):
  recipe.run(
    [python('train one', 'print("in", 6 * 7)'), python('two', 'print(2)')],
    str(tmp_path),
  )
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


@pytest.mark.parametrize('text', ['{"commands"', ''])
def test_a_broken_timing_file_is_told(tmp_path, text):
  (tmp_path / 'timing.json').write_text(text)
  with pytest.raises(errors.UserError, match='timing.json: not valid JSON'):
    recipe.follow([], str(tmp_path))
