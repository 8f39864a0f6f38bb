"""Which devices jax looks for, decided when the package is imported."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from step_audio_jax import platforms
from step_audio_jax.commands import cli


def test_jax_is_kept_from_looking_for_absent_tpus(tmp_path, monkeypatch):
  installed = {'libtpu'}
  monkeypatch.setattr(
    platforms.importlib.util,
    'find_spec',
    lambda name: name in installed or None,
  )

  def chosen():
    monkeypatch.delenv('JAX_PLATFORMS', raising=False)
    platforms.leave_absent_tpus_alone(tmp_path)
    return os.environ.get('JAX_PLATFORMS')

  assert chosen() == 'cpu'
  installed.add('jax_cuda12_plugin')
  assert chosen() == 'cuda,cpu'
  installed ^= {'jax_cuda12_plugin', 'jax_cuda13_plugin', 'jax_plugins'}
  assert chosen() == 'cuda,cpu'
  installed.remove('jax_cuda13_plugin')  # another accelerator's plugin
  assert chosen() is None
  (tmp_path / 'accel0').touch()  # a TPU: jax finds out by itself
  assert chosen() is None
  (tmp_path / 'accel0').unlink()
  installed.clear()
  assert chosen() is None
  installed.add('libtpu')
  monkeypatch.setenv('JAX_PLATFORMS', 'tpu,cpu')
  platforms.leave_absent_tpus_alone(tmp_path)
  assert os.environ['JAX_PLATFORMS'] == 'tpu,cpu'


def test_a_door_that_imports_jax_first_thing_does_not_look_for_tpus(tmp_path):
  (tmp_path / 'early_door.py').write_text(
    'import jax\n'
    'from step_audio_jax.commands import cli\n'
    'def main(fv):\n'
    '  print(jax.default_backend())\n'
    "DOOR = cli.Door(summary='', main=main, uses_gin=False)\n"
  )
  env = {k: v for k, v in os.environ.items() if k != 'JAX_PLATFORMS'}
  root = str(pathlib.Path(cli.__file__).parents[2])
  done = subprocess.run(
    [
      sys.executable,
      '-c',
      'from step_audio_jax.commands import cli; '
      "cli.dispatch('p', {'early': ('early_door', '')}, ['p', 'early'])",
    ],
    env={**env, 'PYTHONPATH': os.pathsep.join([root, str(tmp_path)])},
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout and 'TPU' not in done.stderr


@pytest.mark.parametrize(
  'imports', ['step_audio_jax, jax', 'jax, step_audio_jax']
)
@pytest.mark.skipif(
  any(pathlib.Path('/dev').glob('accel*')), reason='there is a TPU'
)
def test_plain_python_does_not_look_for_tpus(imports):
  env = {k: v for k, v in os.environ.items() if k != 'JAX_PLATFORMS'}
  done = subprocess.run(
    [
      sys.executable,
      '-c',
      f'import json, {imports}\nprint(json.dumps(jax.default_backend()))',
    ],
    env=env,
    cwd=pathlib.Path(platforms.__file__).parents[1],
    capture_output=True,
    text=True,
    timeout=100,
    check=True,
  )
  assert json.loads(done.stdout) in ('cpu', 'gpu')
  assert done.stderr == ''


def test_what_the_user_says_of_platforms_stays(tmp_path, monkeypatch):
  monkeypatch.setenv('JAX_PLATFORMS', '')
  platforms.leave_absent_tpus_alone(tmp_path)
  assert os.environ['JAX_PLATFORMS'] == ''
