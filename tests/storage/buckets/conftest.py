"""Servers of the stores' protocols, shared by the tests of this folder."""

import pytest

from benchmarks.buckets import servers
from step_audio_jax import addresses
from step_audio_jax.storage.clients import failures
from step_audio_jax.storage.clients import gcs
from step_audio_jax.storage.clients import s3
from step_audio_jax.storage.clients import stores

BUCKET = 'bucket'


@pytest.fixture(scope='session')
def started():
  """Kind → a server that runs for all tests."""
  with servers.gcs([BUCKET]) as gcs, servers.s3([BUCKET]) as s3:
    yield {'gs': gcs, 's3': s3}


@pytest.fixture
def quick(monkeypatch):
  """Limits under which a fault is told within seconds."""
  monkeypatch.setattr(
    failures,
    'LIMITS',
    failures.Limits(tries=4, seconds=5.0, first_pause=0.01, read=2.0),
  )


@pytest.fixture(params=['gs', 's3'])
def root(request, started, monkeypatch, quick):
  """A folder of a bucket that no other test uses."""
  server = started[request.param]
  for name, value in server.environment.items():
    monkeypatch.setenv(name, value)
  _forget()
  name = request.node.name.partition('[')[0]
  yield addresses.path(f'{request.param}://{BUCKET}/{name}')
  _forget()


def _forget():
  for opened in (stores._opened, gcs._client, s3._client):
    opened.cache_clear()
