"""moto's server of S3, one request at a time."""

import io
import socket
import sys
import urllib.parse

from benchmarks.buckets import wire


class Held:
  """Bytes that were written at once and are read as often as wanted.

  moto keeps an object in a temporary file, which it reads, and copies, whole
  for every range that is asked of it.
  """

  def __init__(self, max_size: int = 0):
    del max_size
    self._bytes = b''
    self._at = 0

  def write(self, data: bytes) -> int:
    if self._at:
      data = self._bytes[: self._at] + data
    self._bytes, self._at = data, len(data)
    return len(data)

  def read(self, size: int = -1) -> bytes:
    start, stop = self._at, len(self._bytes)
    if size >= 0:
      stop = min(stop, start + size)
    self._at = stop
    return self._bytes if not start else self._bytes[start:stop]

  def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
    base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at}.get(whence, len(self._bytes))
    self._at = base + offset
    return self._at

  def tell(self) -> int:
    return self._at

  def truncate(self, size: int | None = None) -> int:
    self._bytes = self._bytes[: self._at if size is None else size]
    return len(self._bytes)

  def close(self) -> None:
    self._bytes = b''


def environ(request: wire.Request, address: tuple[str, int]) -> dict:
  """What an application of WSGI is told of a request."""
  path, _, query = request.target.partition('?')
  out = {
    'REQUEST_METHOD': request.method,
    'SCRIPT_NAME': '',
    'PATH_INFO': urllib.parse.unquote(path, 'latin-1'),
    'QUERY_STRING': query,
    'RAW_URI': request.target,
    'REQUEST_URI': request.target,
    'REMOTE_ADDR': address[0],
    'SERVER_NAME': address[0],
    'SERVER_PORT': str(address[1]),
    'SERVER_PROTOCOL': 'HTTP/1.1',
    'CONTENT_TYPE': request.headers.get('content-type', ''),
    'CONTENT_LENGTH': str(len(request.body)),
    'wsgi.version': (1, 0),
    'wsgi.url_scheme': 'http',
    'wsgi.input': io.BytesIO(request.body),
    'wsgi.errors': sys.stderr,
    'wsgi.multithread': False,
    'wsgi.multiprocess': False,
    'wsgi.run_once': False,
  }
  for name, value in request.headers.items():
    if name not in ('content-type', 'content-length', 'transfer-encoding'):
      out['HTTP_' + name.upper().replace('-', '_')] = value
  return out


def serve(sock: socket.socket) -> None:
  """Serves buckets in memory for ever."""
  from moto.moto_server import werkzeug_app
  from moto.s3 import models

  class Temporary:
    SpooledTemporaryFile = Held

  models.tempfile = Temporary
  app = werkzeug_app.DomainDispatcherApplication(
    werkzeug_app.create_backend_app
  )
  address = sock.getsockname()

  def respond(request: wire.Request) -> wire.Answer:
    answer = wire.Answer(500)

    def start(status, headers, exc_info=None):
      del exc_info
      answer.status = int(status.split()[0])
      answer.headers = dict(headers)

    found = app(environ(request, address), start)
    try:
      answer.body = b''.join(found)
    finally:
      if hasattr(found, 'close'):
        found.close()
    length = answer.headers.pop('Content-Length', None)
    if request.method == 'HEAD' and length:
      answer.headers['Content-Length'] = length
    return answer

  wire.run(sock, respond)
