"""Freed memory stays with the process."""

import platform
import subprocess
import sys

import pytest

from step_audio_jax import memory

# 200 MB, touched and freed, again and again: page faults of the last rounds.
PROGRAM = """
import resource, sys
import numpy as np
from step_audio_jax import memory
if sys.argv[1] == 'keep':
  assert memory.keep_freed()
def touch():
  np.ones(25_000_000).sum()
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
  touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM, how],
    capture_output=True,
    text=True,
    check=True,
  )
  return int(done.stdout)


@pytest.mark.skipif(
  platform.libc_ver()[0] != 'glibc', reason='mallopt is glibc'
)
def test_pages_of_freed_arrays_are_not_faulted_again():
  assert faults('keep') < 100 < faults('forget')


def test_other_libraries_are_left_alone(monkeypatch):
  monkeypatch.setattr(platform, 'libc_ver', lambda: ('', ''))
  assert memory.keep_freed() is False
