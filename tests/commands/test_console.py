"""Standard output and error that are closed, full, or of a small encoding."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from step_audio_jax.commands import console

ROOT = pathlib.Path(console.__file__).parents[2]
NAME = os.fsdecode(b'a\xff.wav')
# A door that prints, writes a file, and returns the file's name as JSON.
DOOR = """
import os, sys
from step_audio_jax.commands import cli
from step_audio_jax.storage import files
from step_audio_jax import progress
def main(fv):
  for _ in progress.bar(range(3), label='work'):
    print('你好 ' * 3000)
  name = os.fsdecode(b'a\\xff.wav')
  print(name, 'warned', file=sys.stderr)
  files.write_json(sys.argv[1], name)
  return {'file': name, 'text': '红猫 😀'}
door = cli.Door(summary='', main=main, uses_gin=False)
sys.exit(cli.run('door', door, sys.argv[2:]))
"""


def door(tmp_path, redirect, **env):
  """(status, stdout, stderr) of the door in a shell; its file is whole."""
  out, script = tmp_path / 'made.json', tmp_path / 'door.py'
  script.write_text(DOOR, encoding='utf-8')
  done = subprocess.run(
    f'"$PYTHON" {script} {out} --json {redirect}',
    shell=True,
    executable='/bin/bash',
    cwd=ROOT,
    env={
      **os.environ,
      'PYTHON': sys.executable,
      'PYTHONPATH': str(ROOT),
      **env,
    },
    capture_output=True,
    check=False,
  )
  assert json.loads(out.read_text(encoding='utf-8')) == NAME
  assert b'Traceback' not in done.stderr + done.stdout
  return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
  'env',
  [
    {'PYTHONIOENCODING': 'utf-8'},
    {'PYTHONIOENCODING': 'ascii'},
    {'PYTHONIOENCODING': 'latin-1'},
    {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'},
  ],
)
def test_any_encoding_prints_and_json_stays_json(tmp_path, env):
  status, out, err = door(tmp_path, '', **env)
  assert status == 0
  line = json.loads(out.splitlines()[-1])
  assert line == {'file': NAME, 'text': '红猫 😀'}
  assert b'\\udcff.wav warned' in err
  if env.get('PYTHONIOENCODING') == 'utf-8':
    assert '红猫 😀'.encode() in out
  else:
    assert out.isascii()


@pytest.mark.parametrize(
  ('redirect', 'reason'),
  [('> /dev/full', 'No space left on device'), ('>&-', 'it is closed')],
)
def test_a_lost_standard_output_is_told_and_costs_no_work(
  tmp_path, redirect, reason
):
  status, _, err = door(tmp_path, redirect)
  assert status == 2
  last = err.decode().splitlines()[-1]
  assert last.startswith('error: door: standard output could not be written')
  assert reason in last
  assert err.count(b'error: ') == 1


@pytest.mark.parametrize('redirect', ['2>&-', '2> /dev/full'])
def test_a_lost_standard_error_costs_nothing(tmp_path, redirect):
  status, out, _ = door(tmp_path, redirect)
  assert status == 0
  assert json.loads(out.splitlines()[-1])['file'] == NAME
  assert b'warned' not in out


def test_nothing_is_left_to_tell_anybody(tmp_path):
  assert door(tmp_path, '>&- 2>&- <&-')[0] == 2


def test_a_file_does_not_take_the_place_of_a_closed_stream(tmp_path):
  code = (
    'import os, sys\n'
    'from step_audio_jax.commands import console\n'
    'def work():\n'
    '  with open(sys.argv[1], "w") as handle:\n'
    '    os.write(1, b"a library speaks")\n'
    '    return handle.fileno()\n'
    'sys.exit(console.call("x", work))'
  )
  done = subprocess.run(
    f"{sys.executable} -c '{code}' {tmp_path / 'x'} >&- <&-",
    shell=True,
    executable='/bin/bash',
    cwd=ROOT,
    check=False,
  )
  assert done.returncode > 2
  assert (tmp_path / 'x').read_bytes() == b''


def test_the_streams_are_given_back(capsys):
  before = sys.stdout, sys.stderr
  assert console.call('x', lambda: console.call('y', lambda: 3)) == 3
  with pytest.raises(RuntimeError):
    console.call('x', lambda: exec('raise RuntimeError'))
  assert (sys.stdout, sys.stderr) == before


def test_json_has_no_numbers_that_are_not_finite():
  value = {
    'a': float('nan'),
    'b': [1.5, float('inf'), (-float('inf'), 2)],
    'c': {'d': np.float32('nan'), 'e': np.float64('inf'), 'f': np.int32(3)},
    'g': np.asarray([0.5, np.nan]),
    'h': pathlib.Path('x'),
    'i': True,
  }
  line = console.json_line(value)
  found = json.loads(line, parse_constant=lambda name: pytest.fail(name))
  assert found == {
    'a': None,
    'b': [1.5, None, [None, 2]],
    'c': {'d': None, 'e': None, 'f': 3},
    'g': [0.5, None],
    'h': 'x',
    'i': True,
  }
