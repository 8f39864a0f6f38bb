"""The recipe's driver: order, resume, failures, memory."""

import json
import subprocess
import sys
import time

import psutil
import pytest

from step_audio_jax import errors
from tpu_launch import quickstart


def python(name, code):
  return quickstart.Command(name, ('-c', code))


@pytest.fixture
def recipe(monkeypatch):
  def use(*steps):
    monkeypatch.setattr(quickstart, 'recipe', lambda root: list(steps))

  return use


def test_finished_commands_are_not_run_again(recipe, tmp_path, capfd):
  mark = tmp_path / 'mark'
  first = python('first', f"open({str(mark)!r}, 'a').write('1')")
  bad = python('second', 'raise SystemExit(3)')
  recipe([first], [bad])
  with pytest.raises(errors.UserError, match='"second" ended with status 3'):
    quickstart.quickstart(str(tmp_path))
  recipe([first], [python('second', 'print("mended")')])
  timing = quickstart.quickstart(str(tmp_path))
  assert mark.read_text() == '1'
  assert [c['name'] for c in timing['commands']] == ['first', 'second']
  assert timing == json.loads((tmp_path / 'timing.json').read_text())
  assert 'mended' in capfd.readouterr().out


def test_commands_of_one_step_run_together(recipe, tmp_path):
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
  recipe(
    [
      python(mine, code.format(root=str(tmp_path), mine=mine, other=other))
      for mine, other in (('a', 'b'), ('b', 'a'))
    ]
  )
  timing = quickstart.quickstart(str(tmp_path))
  assert timing['wall_seconds'] == pytest.approx(
    timing['commands'][0]['seconds'], abs=0.2
  )


def test_a_failure_beside_another_shows_its_last_lines(recipe, tmp_path):
  recipe(
    [
      python('good', 'import time; time.sleep(60)'),
      python('bad', 'print("what went wrong"); raise SystemExit(1)'),
    ]
  )
  with pytest.raises(errors.UserError, match='what went wrong'):
    quickstart.quickstart(str(tmp_path))


def test_peak_memory_counts_the_children(recipe, tmp_path):
  recipe(
    [python('big', 'x = bytearray(300 << 20); import time; time.sleep(2)')]
  )
  timing = quickstart.quickstart(str(tmp_path))
  assert timing['peak_memory_bytes'] > 300 << 20


def test_the_recipe_follows_the_stages_and_starts_from_the_one_before():
  commands = [c for step in quickstart.recipe('R') for c in step]
  names = [c.name for c in commands]
  assert names.index('tokenize') < names.index('build')
  order = [f'train {s}' for s in ('text', 'stage1', 'stage2', 'stage3', 'sft')]
  assert [n for n in names if n in order] == order
  words = {c.name: ' '.join(c.words) for c in commands}
  assert 'INIT_FROM=["R/stage2"]' in words['train stage3']
  assert 'INIT_FROM=["R/text", "R/vision"]' in words['train stage1']
  for stage in quickstart.STAGES:
    assert names.index(f'evaluate {stage}') == names.index(f'train {stage}') + 1
  assert names[-1] == 'report'


def test_dry_run_prints_commands_and_makes_nothing(tmp_path, capsys):
  from step_audio_jax import cli

  out = tmp_path / 'q'
  status = cli.run(
    'quickstart', quickstart.DOOR, ['--dry_run', f'--output={out}']
  )
  assert status == 0 and not out.exists()
  assert 'python -m data_pipelines synthesize' in capsys.readouterr().out


def test_a_killed_quickstart_takes_its_commands_along(tmp_path):
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
      'from tpu_launch import quickstart as q\n'
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
