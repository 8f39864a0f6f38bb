"""A folder of a bucket, and doors that are called on it."""

import json

import pytest

from data_pipelines import __main__ as doors
from step_audio_jax.commands import cli
from tests.storage.buckets import conftest as servers

root = servers.root


@pytest.fixture
def call(capsys):
  """(door, flags) → (status, what it printed last as JSON, or the error)."""

  def go(door, *flags):
    argv = ['data_pipelines', door, '--json', *map(str, flags)]
    status = cli.dispatch('data_pipelines', doors.DOORS, argv)
    out = capsys.readouterr()
    if not status:
      return status, json.loads(out.out.splitlines()[-1])
    lines = [x for x in out.err.splitlines() if not x.startswith('note: ')]
    assert len(lines) == 1, out.err
    return status, lines[0]

  return go
