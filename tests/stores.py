"""Buckets for tests: one server of each store for all tests of a process."""

import contextlib
import tempfile

from benchmarks.buckets import faults
from benchmarks.buckets import servers
from step_audio_jax import addresses
from step_audio_jax.storage import files
from step_audio_jax.storage.clients import failures
from step_audio_jax.storage.clients import gcs
from step_audio_jax.storage.clients import s3
from step_audio_jax.storage.clients import stores

BUCKET = 'bucket'
_STARTS = {'gs': servers.gcs, 's3': servers.s3}


class Servers(contextlib.ExitStack):
  """Servers that are started when they are first asked for."""

  def __init__(self):
    super().__init__()
    self._started = {}
    self.copies = self.enter_context(tempfile.TemporaryDirectory())

  def of(self, kind):
    """The server of 'gs' or 's3'."""
    if kind not in self._started:
      self._started[kind] = self.enter_context(_STARTS[kind]([BUCKET]))
    return self._started[kind]


@contextlib.contextmanager
def folder(kind, started, name, monkeypatch):
  """A folder of a bucket, where a fault is told within seconds.

  Args:
    kind: 'gs' or 's3'.
    started: `Servers`.
    name: Of the folder.
    monkeypatch: Pytest's.
  """
  for variable, value in started.of(kind).environment.items():
    monkeypatch.setenv(variable, value)
  monkeypatch.setenv('STEP_AUDIO_JAX_COPIES', started.copies)
  monkeypatch.setattr(
    failures,
    'LIMITS',
    failures.Limits(tries=4, seconds=5.0, first_pause=0.01, read=2.0),
  )
  forget()
  yield addresses.path(f'{kind}://{BUCKET}/{name}')
  forget()


@contextlib.contextmanager
def behind_proxy(root, started, monkeypatch):
  """A proxy in front of the store of `root`, through which all goes."""
  with faults.front(started.of(root.scheme)) as one:
    for variable, value in one.environment.items():
      monkeypatch.setenv(variable, value)
    forget()
    yield one


def forget():
  """Drops clients, which know the server that they were made for."""
  for opened in (stores._opened, gcs._client, s3._client, s3._session):
    opened.cache_clear()


def upload(source, target):
  """Copies a file or a folder of this machine to a bucket; returns where."""
  paths = [source] if source.is_file() else files.list_files(source)
  for path in paths:
    files.put(path, target.joinpath(*path.relative_to(source).parts))
  return target


def contents(folder):
  """Name → bytes of all files below a folder."""
  return {
    path.relative_to(folder).as_posix(): files.read_bytes(path)
    for path in files.list_files(folder)
  }
