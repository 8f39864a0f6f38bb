"""Queued resources, executed against a gcloud that only writes down its words.

The lines meant for the machines are run here by a real shell.
"""

import json
import os
import pathlib
import shlex
import subprocess
import time

import pytest

from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.parallel import topology
from step_audio_jax.parallel import xla_flags
from tpu_launch import __main__ as launch
from tpu_launch.backends import jobs
from tpu_launch.backends import queued_resource
from tpu_launch.backends import shell

GCLOUD = r"""#!/bin/bash
printf '%s\0' "$@" >> "$CALLS"; printf '\n' >> "$CALLS"
case "$*" in
  *' describe '*) echo ACTIVE ;;
  *'hostname'*) echo 'vm-0 0'; echo 'vm-1 running' ;;
  *' delete '*) exit 3 ;;
esac
"""
FLAGS = (
  '--name=j',
  '--backend=queued-resource',
  '--accelerator=v5litepod-16',
  '--project=p',
  '--zone=z',
)


@pytest.fixture
def calls(tmp_path, monkeypatch):
  """The words of every gcloud call so far, as lists."""
  bin_folder = tmp_path / 'bin'
  bin_folder.mkdir()
  (bin_folder / 'gcloud').write_text(GCLOUD)
  (bin_folder / 'gcloud').chmod(0o755)
  monkeypatch.setenv('PATH', f'{bin_folder}:{os.environ["PATH"]}')
  monkeypatch.setenv('CALLS', str(tmp_path / 'calls'))
  tree = tmp_path / 'tree'
  tree.mkdir()
  monkeypatch.chdir(tree)

  def read():
    text = (tmp_path / 'calls').read_text()
    return [line.split('\0')[:-1] for line in text.splitlines()]

  return read


def call(*argv):
  return cli.dispatch('tpu_launch', launch.DOORS, ['tpu_launch', *argv])


def test_no_gcloud_is_one_sentence(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('PATH', str(tmp_path))
  assert call('up', *FLAGS) == 2
  err = capsys.readouterr().err
  assert err.startswith('error: gcloud is not on PATH; install it')
  assert err.count('\n') == 1
  assert not (tmp_path / 'runs').exists()


def test_words_reach_gcloud_as_they_are(calls):
  nasty = 'x; touch pwned $(touch pwned) `touch pwned`'
  assert call('up', *FLAGS[:-1], f'--zone={nasty}') == 0
  (words,) = calls()
  assert words[-1] == f'--zone={nasty}'
  assert words[:5] == ['compute', 'tpus', 'queued-resources', 'create', 'j']
  assert '--accelerator-type=v5litepod-16' in words
  assert not pathlib.Path('pwned').exists()


def test_the_life_of_a_job(calls, capsys):
  subprocess.run(['git', 'init', '-q', '.'], check=True)
  pathlib.Path('a.py').write_text('1')
  pathlib.Path('secret.env').write_text('1')
  pathlib.Path('.gitignore').write_text('*.env\nruns/\n')
  assert call('up', *FLAGS) == 0
  assert call('run', '--name=j', '--gin.A="b c"') == 0
  archive = 'runs/launch/j/source.tar.gz'
  packed = subprocess.run(
    ['tar', '-tzf', archive], capture_output=True, text=True, check=True
  ).stdout.split()
  assert sorted(packed) == ['.gitignore', 'a.py']
  _, copy, setup, start = calls()
  assert copy[2:5] == ['tpu-vm', 'scp', archive]
  assert setup[6] == f'--command={queued_resource.SETUP}'
  assert '-m step_audio_jax train' in start[6]
  assert '--zone=z' in start

  capsys.readouterr()
  assert call('status', '--name=j', '--json') == 0
  found = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert found == {
    'state': 'ACTIVE',
    'workers': {'vm-0': '0', 'vm-1': 'running'},
  }
  # A failing gcloud is told and leaves the job as it was.
  assert call('down', '--name=j') == 2
  assert 'delete j ...: exit status 3.' in capsys.readouterr().err
  assert call('status', '--name=j') == 0


def remote(line, home):
  subprocess.run(
    ['sh', '-c', line], check=True, env=os.environ | {'HOME': home}
  )


def test_the_start_line_does_what_it_says(tmp_path):
  python = tmp_path / 'step_audio_jax/.venv/bin/python'
  python.parent.mkdir(parents=True)
  python.write_text(
    '#!/bin/sh\nprintf "%s\\n" "$JAX_PLATFORMS" '
    '"$LIBTPU_INIT_ARGS" "$@"\nexit 5'
  )
  python.chmod(0o755)
  job = jobs.Job(
    name='j',
    backend='queued-resource',
    accelerator='v5e-16',
    project='p',
    zone='z',
  )
  words = ['step_audio_jax', 'train', '--gin.A="b; \'c\' $HOME"', '*']
  remote(queued_resource._start(job, words), str(tmp_path))
  folder = tmp_path / 'step_audio_jobs/j'
  until = time.monotonic() + 20
  while not (folder / 'exit').exists() and time.monotonic() < until:
    time.sleep(0.05)
  time.sleep(0.1)
  assert (folder / 'exit').read_text() == '5\n'
  assert (folder / 'output.log').read_text().splitlines() == [
    'tpu,cpu',
    xla_flags.libtpu_init_args('v5e'),
    '-m',
    *words,
  ]


def test_the_set_up_line_is_good_shell():
  subprocess.run(['sh', '-n', '-c', queued_resource.SETUP], check=True)


def test_shown_commands_can_be_pasted():
  argv = ['printf', '%s|', 'a b', "c'd", '$e', '*']
  line = shell.quoted(argv, {'X': 'y z'})
  assert shlex.split(line) == ['env', 'X=y z', *argv]
  done = subprocess.run(['sh', '-c', line], capture_output=True, text=True)
  assert done.stdout == "a b|c'd|$e|*|"


def test_every_machine_on_offer_has_flags():
  for name, chip in topology.CHIPS.items():
    if chip.accelerator:
      one = xla_flags.libtpu_init_args(name).split()
      many = xla_flags.libtpu_init_args(name, slices=2).split()
      assert set(one) < set(many)
      assert len(set(many)) == len(many)
      assert all(flag.startswith('--xla_') for flag in many)
  with pytest.raises(errors.UserError, match="no flags for 'h100'"):
    xla_flags.libtpu_init_args('h100')
