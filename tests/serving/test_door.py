"""The `serve` door: flags, a server in a process of its own, its end."""

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.serving import door

TOKEN = 'a-token-that-is-long'
# The door with scripted models in place of those that a run holds.
SCRIPT = """
import sys, threading
from step_audio_jax.commands import cli
from step_audio_jax.dialogue import services
from step_audio_jax.serving import door
from tests.dialogue import fakes
may_load = threading.Event()
class Loaded(services.Models):
  def warm_up(self):
    assert may_load.wait(20)
  def gauges(self):
    return {'engine_slots': ('Of all engines.', lambda: 4)}
  def close(self):
    print('closed', file=sys.stderr)
def load(fv):
  found = fakes.models()
  return Loaded(found.name, found.ear, found.mind, found.mouth)
door._loaded = load
threading.Thread(
  target=lambda: (sys.stdin.readline(), may_load.set()), daemon=True
).start()
sys.exit(cli.run('serve', door.DOOR, sys.argv[1:]))
"""


def run(capsys, *argv):
  status = cli.run('serve', door.DOOR, argv)
  captured = capsys.readouterr()
  return status, captured.out, captured.err


def test_dry_run(capsys, monkeypatch, tmp_path):
  monkeypatch.delenv(door.TOKEN, raising=False)
  status, out, _ = run(capsys, '--dry_run', '--json', '--port=1234')
  found = json.loads(out)
  assert status == 0 and found['port'] == 1234
  assert found['host'] == '127.0.0.1' and not found['secured']
  status, _, err = run(capsys, '--dry_run', '--host=0.0.0.0')
  assert status == 2 and 'there is no token' in err
  monkeypatch.setenv(door.TOKEN, TOKEN)
  status, out, _ = run(capsys, '--dry_run', '--host=0.0.0.0', '--json')
  assert status == 0 and json.loads(out)['secured'] and TOKEN not in out
  (tmp_path / 'token').write_text('short\n')
  status, _, err = run(
    capsys, '--dry_run', f'--token_file={tmp_path}/token', '--json'
  )
  assert status == 2 and 'found 5 characters' in err and 'short' not in err


def test_help(capsys):
  status, out, _ = run(capsys, '--help')
  assert status == 0
  for flag in ('--host', '--token_file', '--mind_url', '--drain_seconds'):
    assert flag in out


def test_voices_are_named():
  assert door._voices(['a=b.wav', 'c=d=e.wav']) == {
    'a': 'b.wav',
    'c': 'd=e.wav',
  }
  for wrong in (['a'], ['=b'], ['a='], ['a=b', 'a=c']):
    with pytest.raises(errors.UserError, match='--voice: found'):
      door._voices(wrong)


@pytest.mark.parametrize('flag', ['--port=-1', '--burst=0', '--origin=a'])
def test_limits_that_make_no_sense(capsys, flag):
  status, _, err = run(capsys, '--dry_run', flag)
  assert status == 2 and err.startswith('error: serve: ')


def test_a_life():
  with subprocess.Popen(
    [sys.executable, '-c', SCRIPT, '--port=0', '--json'],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    try:
      url = process.stderr.readline().split()[0]

      def health():
        try:
          with urllib.request.urlopen(f'{url}/health') as response:
            return response.status, json.load(response)['status']
        except urllib.error.HTTPError as error:
          return error.code, json.load(error)['status']

      assert health() == (503, 'warming')
      with pytest.raises(urllib.error.HTTPError, match='503'):
        urllib.request.urlopen(f'{url}/v1/models')
      process.stdin.write('\n')
      process.stdin.flush()
      assert 'is ready after' in process.stderr.readline()
      assert health() == (200, 'ready')
      with urllib.request.urlopen(f'{url}/metrics') as response:
        assert b'step_audio_engine_slots 4.0' in response.read()
      process.send_signal(signal.SIGTERM)
      assert process.wait(20) == 0
      assert json.loads(process.stdout.read())['url'] == url
      assert process.stderr.read() == 'closed\n'
    finally:
      process.kill()
