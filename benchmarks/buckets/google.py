"""`gcp-storage-emulator`, with what it leaves out of the JSON API.

The emulator serves one connection and one request at a time, and knows no
preconditions, no pages of a listing, no empty objects by a media upload, no
`x-goog-generation`, no ranges at an end, and no names that a file system does
not take. Its handlers run here, behind `wire`, one request after another, so
that a precondition and what it guards are one step.
"""

import base64
import io
import json
import re
import socket
import urllib.parse

from gcp_storage_emulator import exceptions
from gcp_storage_emulator import server as emulator

from benchmarks.buckets import held
from benchmarks.buckets import wire

_OBJECTS = re.compile(
  r'(?:/(?:download|upload))?(?:/storage/v1)?/b/(?P<bucket>[^/]+)/o'
  r'(?:/(?P<name>[^/]+))?'
  r'(?:/(?P<action>copyTo|rewriteTo)/b/(?P<into>[^/]+)/o/(?P<copy>[^/]+)'
  r'|/(?P<other>compose|restore|acl))?'
)
_RANGE = re.compile(r'bytes=(\d*)-(\d*)')
_REASONS = {
  400: 'invalid',
  404: 'notFound',
  412: 'conditionNotMet',
  416: 'requestedRangeNotSatisfiable',
  500: 'backendError',
}
_PAGE = 1000


class Handler:
  """What the emulator takes for a connection: one request, and its answer."""

  def __init__(self, request: wire.Request, store: held.Store):
    self.request = request
    self.path = request.target
    self.storage = store
    self.server = self
    self.server_address = ('127.0.0.1', 80)
    self.headers = self
    self.wfile = self
    self.answer = wire.Answer(500)

  def get(self, name, default=None):
    return self.request.headers.get(name.lower(), default)

  def send_response(self, status, phrase):
    del phrase
    self.answer.status = status

  def send_header(self, name, value):
    if name != 'Content-Length':
      self.answer.headers[name] = value

  def end_headers(self):
    pass

  def write(self, content):
    self.answer.body = content


def parts(body: bytes, kind: str) -> list[tuple[dict[str, str], bytes]]:
  """(headers, content) of each part of a body of many."""
  mark = re.search(r'boundary="?([^";]+)"?', kind)[1].encode()
  mark = b'--' + mark
  end = b'\r\n' if body.lstrip().startswith(mark + b'\r\n') else b'\n'
  out = []
  for piece in (end + body.lstrip()).split(end + mark)[1:]:
    if piece.startswith(b'--'):
      break
    piece = piece[len(end) :]
    if piece.startswith(end):
      block, content = b'', piece[len(end) :]
    else:
      block, _, content = piece.partition(end * 2)
    headers = {}
    for line in block.decode('latin-1').splitlines():
      name, _, value = line.partition(':')
      headers[name.lower()] = value.strip()
    out.append((headers, content))
  return out


def read(handler: Handler, query: dict[str, list[str]]):
  """The emulator's reading of a body, for bytes that are not text."""
  body = handler.request.body
  kind = handler.get('content-type', '')
  if kind.startswith('multipart/'):
    (_, meta), (headers, content) = parts(body, kind)
    return {
      'meta': json.loads(meta),
      'content': content,
      'content-type': headers.get('content-type', 'application/octet-stream'),
    }
  raw = 'upload_id' in query or query.get('uploadType') == ['media']
  if kind.startswith('application/json') and not raw:
    return json.loads(body) if body else None
  return body


def refused(status: int, message: str, plain: bool = False) -> wire.Answer:
  """An error as the JSON API says it; of media, one says it in words."""
  if plain:
    kind = {'Content-Type': 'text/html; charset=UTF-8'}
    return wire.Answer(status, kind, message.encode())
  entry = {
    'message': message,
    'domain': 'global',
    'reason': _REASONS.get(status, 'invalid'),
  }
  if status == 412:
    entry.update(locationType='header', location='If-Match')
  found = {'code': status, 'message': message, 'errors': [entry]}
  return answered(found, status, error=True)


def answered(value, status: int = 200, error: bool = False) -> wire.Answer:
  """A JSON value as an answer."""
  text = json.dumps({'error': value} if error else value)
  kind = {'Content-Type': 'application/json; charset=UTF-8'}
  return wire.Answer(status, kind, text.encode())


class Responder:
  """Answers requests of one store."""

  def __init__(self, store: held.Store):
    self._store = store
    emulator._read_data = read

  def __call__(self, request: wire.Request) -> wire.Answer:
    path, _, query = request.target.partition('?')
    query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    media = query.get('alt') == 'media' or path.startswith('/download/')
    try:
      if path.startswith('/batch/'):
        return self._batch(request)
      if not (match := _OBJECTS.fullmatch(path)):
        return self._emulated(request)
      found = {
        k: urllib.parse.unquote(v or '') for k, v in match.groupdict().items()
      }
      return self._objects(request, query, media, **found)
    except held.Refused as error:
      return refused(error.status, str(error), media)
    except Exception as error:
      return refused(500, f'{type(error).__name__}: {error}')

  def _emulated(self, request: wire.Request) -> wire.Answer:
    handler = Handler(request, self._store)
    emulator.Router(handler).handle(request.method)
    answer = handler.answer
    if isinstance(answer.body, str):
      answer.body = answer.body.encode()
    if answer.status >= 400 and not answer.body:
      return refused(answer.status, 'Not found.')
    if request.method == 'DELETE' and answer.status == 200:
      return wire.Answer(204)
    return answer

  def _objects(
    self, request, query, media, bucket, name, action, into, copy, other
  ):
    store, get = self._store, request.method == 'GET'
    if bucket not in store.buckets or (into and into not in store.buckets):
      raise held.Refused(404, 'The specified bucket does not exist.')
    if not name:
      if get:
        return self._list(query, bucket)
      return self._upload(request, query, bucket)
    if action:
      self._named(copy)
      if not store.check(query, bucket, name, 'Source'):
        raise held.no_object(bucket, name)
      store.check({**query, 'generation': ''}, into, copy)
      return self._emulated(request)
    found = self._looked_up(request, query, bucket, name)
    if not found and other != 'compose':
      raise held.no_object(bucket, name)
    if get and media and not other:
      return _media(request, found, store.get_file(bucket, name))
    return self._emulated(request)

  def _looked_up(self, request, query, bucket, name):
    """The object, if the request may have it."""
    try:
      return self._store.check(query, bucket, name)
    except held.Refused as error:
      found = self._store.objects.get(bucket, {}).get(name)
      if error.status == 412 and request.method == 'GET':
        if not found:
          raise held.no_object(bucket, name) from error
        if found['generation'] == query.get('ifGenerationNotMatch'):
          raise held.Refused(304, '') from error
      raise

  def _named(self, name: str) -> None:
    if not name or name in ('.', '..') or re.search('[\r\n]', name):
      raise held.Refused(400, f'Invalid object name: {name!r}')
    if len(name.encode()) > 1024:
      raise held.Refused(400, 'The maximum object length is 1024 characters.')

  def _upload(self, request, query, bucket):
    store = self._store
    if upload := query.get('upload_id'):
      if upload in store.ended:
        return answered(store.ended[upload])
      if request.method == 'DELETE':
        store.resumable.pop(upload, None)
        store._uploads.pop(upload, None)
        return wire.Answer(499)
      answer = self._emulated(request)
      if answer.status == 308 and not store.get_resumable_byte_count(upload):
        answer.headers.pop('Range', None)
      return answer
    kind = request.headers.get('content-type', '')
    meta = {}
    if 'name' not in query and kind.startswith('multipart/'):
      meta = json.loads(parts(request.body, kind)[0][1])
    elif 'name' not in query and request.body:
      meta = json.loads(request.body)
    name = query.get('name') or meta.get('name', '')
    self._named(name)
    store.check(query, bucket, name)
    answer = self._emulated(request)
    if query.get('uploadType') == 'resumable' and answer.status == 200:
      link = urllib.parse.urlsplit(answer.headers['Location'])
      upload = urllib.parse.parse_qs(link.query)['upload_id'][0]
      store.guards[upload] = query
      answer.headers['X-GUploader-UploadID'] = urllib.parse.quote(upload)
    return answer

  def _list(self, query, bucket):
    """A listing in pages: the emulator gives all at once."""
    try:
      files, prefixes = self._store.get_file_list(
        bucket,
        query.get('prefix') or None,
        query.get('delimiter') or None,
        query.get('matchGlob') or None,
      )
    except exceptions.BadRequest as error:
      raise held.Refused(400, str(error)) from error
    found = [(each['name'], each) for each in files]
    found += [(each, None) for each in prefixes]
    found.sort(key=lambda pair: pair[0])
    first, last = query.get('startOffset', ''), query.get('endOffset')
    token = query.get('pageToken')
    after = base64.urlsafe_b64decode(token).decode() if token else ''
    found = [
      pair
      for pair in found
      if pair[0] >= first
      and (not last or pair[0] < last)
      and (not token or pair[0] > after)
    ]
    size = min(int(query.get('maxResults') or _PAGE), _PAGE)
    page = found[:size]
    out = {'kind': 'storage#objects'}
    if items := [each for _, each in page if each]:
      out['items'] = items
    if names := [name for name, each in page if not each]:
      out['prefixes'] = names
    if len(found) > size:
      token = base64.urlsafe_b64encode(page[-1][0].encode()).decode()
      out['nextPageToken'] = token
    return answered(out)

  def _batch(self, request):
    """Each request of a batch, by itself: the emulator knows few of them."""
    out = io.BytesIO()
    kind = request.headers['content-type']
    for headers, content in parts(request.body, kind):
      block, _, body = content.replace(b'\r\n', b'\n').partition(b'\n\n')
      first, *lines = block.decode().split('\n')
      method, target, *_ = first.split(' ')
      target = re.sub('^https?://[^/]+', '', target)
      pairs = (line.partition(':') for line in lines if line)
      inner = {name.lower(): value.strip() for name, _, value in pairs}
      inner.setdefault('host', request.headers.get('host', ''))
      answer = self(wire.Request(method, target, inner, body.strip()))
      named = headers.get('content-id', '').replace('<', '<response-')
      top = {'Content-Type': 'application/http', 'Content-ID': named}
      out.write(wire.head('--batch_of_answers', top))
      inner = {**answer.headers, 'Content-Length': str(len(answer.body))}
      out.write(wire.head(wire.status_line(answer.status), inner))
      out.write(answer.body + b'\r\n')
    out.write(b'--batch_of_answers--\r\n')
    kind = 'multipart/mixed; boundary=batch_of_answers'
    return wire.Answer(200, {'Content-Type': kind}, out.getvalue())


def _media(request, meta: dict, content: bytes) -> wire.Answer:
  """The content, or a range of it."""
  answer = wire.Answer(
    200,
    {
      'Content-Type': meta.get('contentType') or 'application/octet-stream',
      'ETag': meta['etag'],
      'X-Goog-Generation': meta['generation'],
      'X-Goog-Metageneration': meta['metageneration'],
      'X-Goog-Hash': f'crc32c={meta["crc32c"]},md5={meta["md5Hash"]}',
      'X-Goog-Storage-Class': meta['storageClass'],
      'X-Goog-Stored-Content-Length': str(len(content)),
    },
    content,
  )
  asked = _RANGE.fullmatch(request.headers.get('range', '').strip())
  if not asked or asked[0] == 'bytes=-':
    return answer
  size = len(content)
  if asked[1]:
    start, stop = int(asked[1]), int(asked[2] or size) + 1
  else:
    start, stop = max(0, size - int(asked[2])), size
  stop = min(stop, size)
  if start >= stop:
    found = refused(416, f'Request range not satisfiable: {asked[0]}', True)
    found.headers['Content-Range'] = f'bytes */{size}'
    return found
  answer.status = 206
  answer.headers['Content-Range'] = f'bytes {start}-{stop - 1}/{size}'
  answer.body = content[start:stop]
  return answer


def serve(sock: socket.socket, folder: str | None = None) -> None:
  """Serves buckets for ever."""
  wire.run(sock, Responder(held.Store(folder)))
