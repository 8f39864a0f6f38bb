"""Benchmarks run as scripts, as a user runs them."""

import os
import pathlib
import re
import subprocess
import sys

FOLDER = pathlib.Path(__file__).parents[2] / 'benchmarks'


def run(script: str, *flags: str) -> subprocess.CompletedProcess:
  """Runs `benchmarks/SCRIPT.py`."""
  # One device, as a user has; the suite forces several.
  forced = r'--xla_force_host_platform_device_count=\d+'
  return subprocess.run(
    [sys.executable, f'{script}.py', *flags],
    cwd=FOLDER,
    env={
      **os.environ,
      'XLA_FLAGS': re.sub(forced, '', os.environ['XLA_FLAGS']),
      'PYTHONPATH': str(FOLDER.parent),
    },
    capture_output=True,
    text=True,
  )
