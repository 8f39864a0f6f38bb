"""Processes that share work, and what becomes of them."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import psutil
import pytest

from step_audio_jax import errors
from step_audio_jax.runtimes import processes

ROOT = pathlib.Path(__file__).parents[2]
# As a user's program: its workers say who they are, and work for long.
LONG = """
import os, pathlib, sys, time
from step_audio_jax.runtimes import processes

def work(folder):
  (pathlib.Path(folder) / str(os.getpid())).touch()
  time.sleep(60)

if __name__ == '__main__':
  list(processes.spread(work, [(sys.argv[1],)] * 2, 2))
"""


def test_one_works_in_place():
  jobs = [(n,) for n in range(3)]
  assert list(processes.spread(os.getppid, [()], 2)) == [os.getppid()]
  assert list(processes.spread(abs, jobs, 1)) == [0, 1, 2]


def test_several():
  jobs = [(n,) for n in range(-3, 3)]
  assert sorted(processes.spread(abs, jobs, 2)) == [0, 1, 1, 2, 2, 3]
  assert os.getpid() in set(processes.spread(os.getppid, [()] * 2, 2))


def test_one_that_is_killed_is_told():
  jobs = [(signal.SIGKILL,)] * 2
  with pytest.raises(
    errors.UserError, match='^--processes: .* ended before its'
  ):
    list(processes.spread(signal.raise_signal, jobs, 2))


def test_they_end_with_who_began_them(tmp_path):
  program = tmp_path / 'long.py'
  program.write_text(LONG)
  (tmp_path / 'workers').mkdir()
  door = subprocess.Popen(
    [sys.executable, program, tmp_path / 'workers'],
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    stderr=subprocess.DEVNULL,  # of semaphores that it could not give back
  )

  def workers():
    return [int(path.name) for path in (tmp_path / 'workers').iterdir()]

  wait_for(lambda: len(workers()) == 2)
  door.kill()
  door.wait()
  wait_for(lambda: not any(map(lives, workers())))


def lives(process):
  try:
    return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
  except psutil.NoSuchProcess:
    return False


def wait_for(true):
  end = time.monotonic() + 20
  while not true():
    assert time.monotonic() < end
    time.sleep(0.02)
