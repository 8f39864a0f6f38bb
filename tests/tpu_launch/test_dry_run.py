"""Every door with --dry_run prints exactly the commands in tests/…/golden.

After an intended change: GOLDEN=write python -m pytest tests/tpu_launch
"""

import json
import os
import pathlib

import pytest

from step_audio_jax.commands import cli
from tpu_launch import __main__ as launch

GOLDEN = pathlib.Path(__file__).parent / 'golden'

ONE_SLICE = (
  '--backend=queued-resource',
  '--accelerator=v5e-16',
  '--project=our-project',
  '--zone=us-west4-a',
)
TWO_SLICES = (
  '--backend=queued-resource',
  '--accelerator=v6e-256',
  '--slices=2',
  '--spot',
  '--project=our-project',
  '--zone=us-east5-b',
)
V5P = ('--accelerator=v5p-128',)
GIN = ('--gin_file=gin/a.gin', '--gin.RUN_DIR="gs://b/my run"', '--gin.STEPS=9')


def call(*argv):
  return cli.dispatch('tpu_launch', launch.DOORS, ['tpu_launch', *argv])


@pytest.fixture
def here(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  return tmp_path


def save(folder, name, **job):
  """What `up` would have written."""
  path = folder / 'runs/launch' / name / 'job.json'
  path.parent.mkdir(parents=True)
  extra = {'state': job.pop('state', 'requested')}
  path.write_text(json.dumps({'job': {'name': name} | job} | extra))


QUEUED = {
  'backend': 'queued-resource',
  'accelerator': 'v6e-256',
  'slices': 2,
  'project': 'our-project',
  'zone': 'us-east5-b',
}

CASES = {
  'run_local': ('run', '--processes=2', *GIN, '--', '--dry_run'),
  'run_local_one': (
    'run',
    '--door=data_pipelines.tokenize',
    '--',
    '--x=1',
  ),
  'check_queued': ('check', *TWO_SLICES),
  'up_queued': ('up', *ONE_SLICE),
  'up_queued_slices': ('up', *TWO_SLICES),
  'run_queued': ('run', *ONE_SLICE, *GIN),
  'run_queued_slices': ('run', *TWO_SLICES, '--door=evaluate'),
  'run_queued_v5p': ('run', *ONE_SLICE, *V5P),
}
SAVED = {
  'status_queued': ('status',),
  'logs_queued': ('logs', '--worker=65', '--follow'),
  'down_queued': ('down',),
  'run_saved': ('run', *GIN),
}


def compare(name, found):
  path = GOLDEN / f'{name}.txt'
  if os.environ.get('GOLDEN') == 'write':
    path.write_text(found, encoding='utf-8')
  assert found == path.read_text(encoding='utf-8')


@pytest.mark.parametrize('name', CASES)
def test_commands(here, capsys, name):
  door, *argv = CASES[name]
  assert call(door, '--name=job-1', '--dry_run', *argv) == 0
  compare(name, capsys.readouterr().out)
  assert not list(here.iterdir())  # a dry run writes nothing


@pytest.mark.parametrize('name', SAVED)
def test_commands_of_a_saved_job(here, capsys, name):
  save(here, 'job-1', state='started', **QUEUED)
  before = (here / 'runs/launch/job-1/job.json').read_text()
  door, *argv = SAVED[name]
  assert call(door, '--name=job-1', '--dry_run', *argv) == 0
  compare(name, capsys.readouterr().out)
  assert (here / 'runs/launch/job-1/job.json').read_text() == before


def test_golden_files_are_all_used():
  names = {path.stem for path in GOLDEN.iterdir()}
  assert names == set(CASES) | set(SAVED)


@pytest.mark.parametrize(
  ('argv', 'told'),
  [
    (('run', '--name=Job_1'), '--name=Job_1: expected a small letter'),
    (('run', '--name=../x'), '--name=../x: expected a small letter'),
    (('run', '--name=a', '--processes=0'), '--processes=0: expected at least'),
    (('up', '--name=a', '--backend=queued-resource'), '--accelerator: the que'),
    (('up', '--name=a', *ONE_SLICE[:2]), '--project: the queued-resource nee'),
    (('up', '--name=a', *ONE_SLICE, '--slices=0'), '--slices=0: expected'),
    (('up', '--name=a', *ONE_SLICE, '--accelerator=v5e-3'), 'no such slice'),
    (('run', '--name=a', '--door=os.system'), '--door=os.system: expected a'),
    (('status', '--name=a'), '--name=a: no such job, expected runs/launch/a'),
    (('logs', '--name=a'), '--name=a: no such job'),
    (('down', '--name=a'), '--name=a: no such job'),
    (('check', '--name=a', '--gin_file=none.gin'), 'none.gin: no such file'),
    (('up',), '--name must have a value'),
  ],
)
def test_bad_input(here, capsys, argv, told):
  assert call(*argv, '--dry_run') == 2
  out, err = capsys.readouterr()
  assert told in err and err.startswith('error: ') and err.count('\n') == 1
  assert '+ ' not in out


@pytest.mark.parametrize(
  'door', sorted(set(launch.DOORS) - {'adapt', 'quickstart', 'real'})
)
def test_help(capsys, door):
  assert call(door, '--help') == 0
  out = capsys.readouterr().out
  assert f'python -m tpu_launch {door} --name=' in out
  assert '--[no]dry_run' in out and '--name' in out
