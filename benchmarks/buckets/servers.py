"""Servers of Google Cloud Storage's and of S3's protocol, on loopback.

    with servers.gcs(buckets=['data']) as server:
      subprocess.run(..., env={**os.environ, **server.environment})

Each is a process of its own, so that it can be killed and started again at
the same address. It ends with the `with`, and with the process that started
it, however that one ends.
"""

import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import select
import socket
import subprocess
import sys
import tempfile
import time

# How long a server may take to answer its first request; importing moto is
# most of it, on a busy machine.
PATIENCE_SECONDS = 60
HOST = '127.0.0.1'

# What keeps clients from looking for keys, or for a cloud, anywhere else.
_OFFLINE = {
  'AWS_ACCESS_KEY_ID': 'nobody',
  'AWS_SECRET_ACCESS_KEY': 'nothing',
  'AWS_DEFAULT_REGION': 'us-east-1',
  'AWS_REGION': 'us-east-1',
  'AWS_EC2_METADATA_DISABLED': 'true',
  'FSSPEC_GCS_TOKEN': 'anon',
  'GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT': 'false',
  # TensorStore looks for keys at the first request, and complains.
  'GOOGLE_AUTH_TOKEN_FOR_TESTING': 'nobody',
  'GOOGLE_CLOUD_PROJECT': 'nowhere',
  'NO_GCE_CHECK': 'true',
}


def environment(kind: str, url: str) -> dict[str, str]:
  """What clients have to find in the environment, to come to a server.

  Args:
    kind: 'gcs' or 's3'.
    url: Where it, or a proxy in front of it, listens: 'http://host:port'.

  Returns:
    Variables for google-cloud-storage, gcsfs and TensorStore, or for boto3,
    s3fs and TensorStore.
  """
  if kind == 'gcs':
    names = ('STORAGE_EMULATOR_HOST', 'TENSORSTORE_GCS_HTTP_URL')
  else:
    names = ('AWS_ENDPOINT_URL',)
  return {**_OFFLINE, **dict.fromkeys(names, url)}


@dataclasses.dataclass
class Process:
  """A process that listens: started, killed, started again at one address.

  Attributes:
    port: Where it listens, once it was started.
    process: The process, or None.
    kind: 'gcs' or 's3': which clients it has.
    arguments: What it is told, besides where to listen.
    probe: A path that it answers once it is there.
  """

  port: int = 0
  process: subprocess.Popen | None = None
  kind: str = 'gcs'
  probe = '/'

  @property
  def arguments(self) -> list[str]:
    raise NotImplementedError

  @property
  def url(self) -> str:
    return f'http://{HOST}:{self.port}'

  @property
  def environment(self) -> dict[str, str]:
    """What clients have to find in the environment."""
    return environment(self.kind, self.url)

  def start(self) -> None:
    """Starts it, and returns once it answers.

    Raises:
      RuntimeError: It ended, or did not answer in time.
    """
    with listening(self.port) as sock, tempfile.TemporaryFile() as said:
      self.port = sock.getsockname()[1]
      argv = [sys.executable, '-m', 'benchmarks.buckets.serving']
      argv += [f'--socket={sock.fileno()}', *self.arguments]
      # The child ends when its input does: with this process, at the latest.
      self.process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stderr=said,
        pass_fds=[sock.fileno()],
        cwd=pathlib.Path(__file__).parents[2],
      )
      sock.close()
      try:
        wait(self.port, self.process, self.probe)
      except BaseException as error:
        self.kill()
        said.seek(0)
        error.add_note(said.read().decode(errors='replace')[-4000:])
        raise

  def kill(self) -> None:
    """Ends it by SIGKILL; nothing happens to one that is not running."""
    process, self.process = self.process, None
    if process is not None:
      process.kill()
      process.stdin.close()
      process.wait()


@dataclasses.dataclass
class Server(Process):
  """A server of one of the protocols.

  Attributes:
    folder: Where a server of Google's protocol keeps its objects; None is
      memory, which is lost with the process.
  """

  folder: pathlib.Path | None = None

  @property
  def arguments(self) -> list[str]:
    if self.folder is None:
      return [self.kind]
    return [self.kind, f'--folder={self.folder}']

  def make_bucket(self, name: str) -> None:
    """Makes a bucket, which must not be there."""
    if self.kind == 'gcs':
      text = json.dumps({'name': name}).encode()
      kind = {'Content-Type': 'application/json'}
      found = ask(self.port, 'POST', '/storage/v1/b', text, kind)
    else:
      found = ask(self.port, 'PUT', f'/{name}')
    if found[0] != 200:
      raise RuntimeError(f'Bucket {name} was not made: {found}.')


def ask(port, method, path, body=None, headers=None, timeout=10):
  """One request of its own connection: the answer's status and body."""
  connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
  with contextlib.closing(connection):
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    return answer.status, answer.read()


def listening(port: int = 0) -> socket.socket:
  """A socket that listens on loopback; clients may come from now on."""
  sock = socket.socket()
  sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
  sock.bind((HOST, port))
  sock.listen(1024)
  return sock


def wait(port: int, process: subprocess.Popen, path: str = '/') -> None:
  """Returns once a server answers.

  Raises:
    RuntimeError: Its process ended, or `PATIENCE_SECONDS` are over.
  """
  deadline = time.monotonic() + PATIENCE_SECONDS
  while True:
    left = deadline - time.monotonic()
    try:
      if left > 0:
        ask(port, 'GET', path, timeout=left)
        return
    except OSError:
      # Refused or reset: it has ended, or is about to.
      select.select([], [], [], 0.1)
    if process.poll() is not None or left <= 0:
      raise RuntimeError(f'No server answers at {HOST}:{port}.')


@contextlib.contextmanager
def serve(kind: str, buckets=(), folder: str | os.PathLike | None = None):
  """A server that runs until the `with` ends, with these buckets made."""
  folder = None if folder is None else pathlib.Path(folder)
  server = Server(kind=kind, folder=folder)
  try:
    server.start()
    for name in buckets:
      server.make_bucket(name)
    yield server
  finally:
    server.kill()


def gcs(buckets=(), folder: str | os.PathLike | None = None):
  """A server of Google Cloud Storage's JSON API; see `serve`.

  Args:
    buckets: Names of buckets to make.
    folder: Where it keeps the objects, to be found after a kill. In memory
      without.

  Returns:
    A context manager that gives a `Server`.
  """
  return serve('gcs', buckets, folder)


def s3(buckets=()):
  """A server of S3's protocol, in memory; see `serve`."""
  return serve('s3', buckets)
