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


@pytest.mark.skipif(
  platform.libc_ver()[0] != 'glibc', reason='mallopt is glibc'
)
def test_gaps_between_blocks_that_are_kept_are_given_back():
  program = """
import sys
import numpy as np
from step_audio_jax import memory
np.ones(3_000_000)  # from here on glibc keeps blocks of as much
kept = []
for _ in range(40):
  kept.append((np.ones(2**17), np.ones(100)))
kept = [small for large, small in kept]
if sys.argv[1] == 'back':
  assert memory.give_back_freed()
status = open('/proc/self/status').read()
print(int(status.split('VmRSS:')[1].split()[0]) // 1024)
"""
  usual, back = (
    int(
      subprocess.run(
        [sys.executable, '-c', program, how],
        capture_output=True,
        text=True,
        check=True,
      ).stdout
    )
    for how in ('usual', 'back')
  )
  assert back < usual - 20  # MiB, of 40


def test_other_libraries_are_left_alone(monkeypatch):
  monkeypatch.setattr(platform, 'libc_ver', lambda: ('', ''))
  assert memory.keep_freed() is memory.give_back_freed() is False
