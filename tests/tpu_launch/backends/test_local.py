"""The local backend with real processes."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import psutil
import pytest

from step_audio_jax.commands import cli
from tpu_launch import __main__ as launch
from tpu_launch.backends import jobs
from tpu_launch.backends import local

# Stands in for a door: says who it is, then does what its flags say.
WORKER = """
import os, sys, time
me = os.environ.get('JAX_PROCESS_ID', 'alone')
print('worker', me, 'of', os.environ.get('JAX_NUM_PROCESSES', 1), sys.argv[1:],
      flush=True)
for word in sys.argv[1:]:
  who, _, what = word.partition(':')
  if who in ('all', me):
    if what == 'sleep':
      time.sleep(60)
    elif what == 'stubborn':
      import signal
      signal.signal(signal.SIGTERM, signal.SIG_IGN)
      print('ready', flush=True)
      time.sleep(60)
    elif what == 'kill':
      os.kill(os.getpid(), 9)
    else:
      sys.exit(int(what))
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
  (tmp_path / 'a_worker.py').write_text(WORKER)
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv(
    'PYTHONPATH', f'{tmp_path}:{pathlib.Path(launch.__file__).parents[1]}'
  )
  return tmp_path


def job(processes=2, **settings):
  return jobs.Job(name='j', processes=processes, **settings)


def run(processes, *words, grace=5.0):
  backend = local.Local(grace_seconds=grace)
  return backend.run(job(processes), ['a_worker', *words])


def saved():
  return json.loads(pathlib.Path('runs/launch/j/job.json').read_text())


def test_workers_know_each_other(here, capfd):
  assert run(3, 'x y', '--gin.A="b"') == {
    'state': 'succeeded',
    'exit_codes': [0, 0, 0],
  }
  lines = capfd.readouterr().out.splitlines()
  addresses = set()
  for index in range(3):
    wanted = f"worker {index} of 3 ['x y', '--gin.A=\"b\"']"
    assert f'[{index}] {wanted}' in lines
    log = pathlib.Path(f'runs/launch/j/worker-{index}.log').read_text()
    assert log == f'{wanted}\n'
    (shown,) = [k for k in lines if f'JAX_PROCESS_ID={index} ' in k]
    addresses.add(shown.split('JAX_COORDINATOR_ADDRESS=')[1].split()[0])
  assert len(addresses) == 1
  state = saved()
  assert state['state'] == 'succeeded' and state['exit_codes'] == [0, 0, 0]
  assert state['command'][1:] == ['-m', 'a_worker', 'x y', '--gin.A="b"']


def test_one_worker_is_alone(here, capfd):
  run(1)
  assert 'worker alone of 1 []' in capfd.readouterr().out.splitlines()


def test_one_failure_ends_all(here, capfd):
  began = time.monotonic()
  with pytest.raises(SystemExit) as caught:
    run(3, '1:7', 'all:sleep')
  assert caught.value.code == 7
  assert time.monotonic() - began < 30
  err = capfd.readouterr().err
  assert (
    'error: worker 1 of j ended with status 7; its output is in runs' in err
  )
  assert saved()['state'] == 'failed'
  assert saved()['exit_codes'] == [-signal.SIGTERM, 7, -signal.SIGTERM]


def test_a_killed_worker_is_a_failure(here, capfd):
  with pytest.raises(SystemExit) as caught:
    run(2, '0:kill', 'all:sleep')
  assert caught.value.code == 137
  assert 'worker 0 of j ended with signal 9' in capfd.readouterr().err


def test_a_worker_that_ignores_the_signal_is_killed(here, capfd):
  # Worker 1 fails only after worker 0 has set its handler.
  (here / 'a_worker.py').write_text(
    WORKER.replace('sys.exit(int', 'time.sleep(1.5); sys.exit(int')
  )
  with pytest.raises(SystemExit):
    run(2, '0:stubborn', '1:4', grace=0.5)
  assert saved()['exit_codes'] == [-signal.SIGKILL, 4]


@pytest.fixture
def started(here):
  """A job of two sleeping workers under a supervisor of its own."""
  supervisor = subprocess.Popen(
    [
      sys.executable,
      '-c',
      # A suite that a shell runs in the background ignores interrupts.
      'import signal; from tpu_launch.backends import jobs, local;'
      'signal.signal(signal.SIGINT, signal.default_int_handler);'
      'local.Local(grace_seconds=3.0).run('
      "jobs.Job(name='j', processes=2), ['a_worker', 'all:sleep'])",
    ],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  until = time.monotonic() + 60
  while time.monotonic() < until:
    path = pathlib.Path('runs/launch/j/job.json')
    logs = [path.with_name(f'worker-{i}.log') for i in range(2)]
    if path.exists() and saved()['state'] == 'running':
      if all(log.exists() and log.read_text() for log in logs):
        break
    time.sleep(0.05)
  workers = [psutil.Process(pid) for pid, _ in saved()['processes'][1:]]
  assert len(workers) == 2
  yield supervisor, workers
  supervisor.kill()
  supervisor.wait()
  for worker in workers:
    if worker.is_running():
      worker.kill()


def call(*argv):
  return cli.dispatch(
    'tpu_launch', launch.DOORS, ['tpu_launch', *argv, '--name=j', '--json']
  )


def result(capfd, *argv):
  assert call(*argv) == 0
  return json.loads(capfd.readouterr().out.splitlines()[-1])


def gone(processes):
  return not psutil.wait_procs(processes, timeout=20)[1]


def test_status_logs_and_down(started, capfd):
  supervisor, workers = started
  assert result(capfd, 'status')['state'] == 'running'
  assert call('run') == 2
  assert 'the job is still running' in capfd.readouterr().err
  assert call('logs', '--worker=1', '--lines=5') == 0
  assert 'worker 1 of 2' in capfd.readouterr().out
  assert call('logs', '--worker=5') == 2
  assert 'worker-5.log: no such file' in capfd.readouterr().err

  assert result(capfd, 'down', '--dry_run') == {'stopped': 3}
  assert supervisor.poll() is None
  assert result(capfd, 'down') == {'stopped': 3}
  supervisor.wait(60)
  assert gone(workers)
  assert result(capfd, 'status')['state'] == 'stopped'
  assert result(capfd, 'down') == {'stopped': 0}


def test_down_finds_workers_whose_supervisor_was_killed(started, capfd):
  supervisor, workers = started
  supervisor.kill()
  supervisor.wait()
  assert result(capfd, 'status')['state'] == 'running'
  assert result(capfd, 'down') == {'stopped': 2}
  assert gone(workers)
  assert result(capfd, 'status')['state'] == 'stopped'


def test_a_machine_that_went_down_leaves_a_lost_job(here, capfd):
  job().save(state='running', processes=[[2**22 + 1, 0.0]])
  assert result(capfd, 'status')['state'] == 'lost'
  assert result(capfd, 'down') == {'stopped': 0}


def test_a_reused_process_id_is_left_alone(here, capfd):
  job().save(state='running', processes=[[os.getpid(), 1.0]])
  assert result(capfd, 'down') == {'stopped': 0}


def test_an_interrupt_stops_the_workers(started):
  supervisor, workers = started
  supervisor.send_signal(signal.SIGINT)
  supervisor.wait(60)
  assert gone(workers)
  assert saved()['state'] == 'stopped'


def test_check_and_up(here, capfd):
  assert result(capfd, 'check')['cores'] == os.cpu_count()
  assert result(capfd, 'up') == {'state': 'up'}
  assert result(capfd, 'status')['state'] == 'up'
