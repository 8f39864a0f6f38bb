"""HTTP/1.1 over asyncio's streams: as much as servers of buckets need.

Connections stay open between requests, and a body is given on in pieces, so
that one process serves a few thousand requests a second.
"""

import asyncio
import dataclasses
import http
import socket
from typing import AsyncIterator, Callable

# Pieces of a body, and what a connection reads ahead.
PIECE_BYTES = 1 << 18


@dataclasses.dataclass(slots=True)
class Request:
  """A request.

  Attributes:
    method: 'GET' and so on.
    target: Path and query, as they were sent.
    headers: By names in lower case.
    body: Whole, without the marks of chunks.
  """

  method: str
  target: str
  headers: dict[str, str]
  body: bytes = b''


@dataclasses.dataclass(slots=True)
class Answer:
  """An answer; the length of the body is not among its headers."""

  status: int
  headers: dict[str, str] = dataclasses.field(default_factory=dict)
  body: bytes = b''


async def read_head(
  reader: asyncio.StreamReader,
) -> tuple[list[str], dict[str, str]] | None:
  """The words of the first line and the headers, by names in lower case.

  Returns:
    None where the other end has closed the connection instead.
  """
  try:
    block = await reader.readuntil(b'\r\n\r\n')
  except (asyncio.IncompleteReadError, ConnectionError):
    return None
  first, *lines = block[:-4].decode('latin-1').split('\r\n')
  headers = {}
  for line in lines:
    name, _, value = line.partition(':')
    headers[name.lower()] = value.strip()
  return first.split(' ', 2), headers


async def pieces(
  reader: asyncio.StreamReader,
  headers: dict[str, str],
  until_end: bool = False,
) -> AsyncIterator[bytes]:
  """A body, in pieces, without the marks of chunks.

  Args:
    reader: Stands behind the head.
    headers: Of the head.
    until_end: Whether a body of unknown length lasts until the connection
      ends: one of an answer does, a request has none then.

  Yields:
    Bytes, never none.

  Raises:
    asyncio.IncompleteReadError: The connection ended before the body did.
  """
  if headers.get('transfer-encoding', '').lower() == 'chunked':
    while size := int((await reader.readuntil(b'\r\n')).split(b';')[0], 16):
      yield await reader.readexactly(size)
      await reader.readexactly(2)
    while await reader.readuntil(b'\r\n') != b'\r\n':
      pass
    return
  if 'content-length' in headers:
    left = int(headers['content-length'])
    while left:
      piece = await reader.read(min(left, PIECE_BYTES))
      if not piece:
        raise asyncio.IncompleteReadError(b'', left)
      left -= len(piece)
      yield piece
  elif until_end:
    while piece := await reader.read(PIECE_BYTES):
      yield piece


def head(first: str, headers: dict[str, str]) -> bytes:
  """A first line and headers as they are sent."""
  lines = [first, *(f'{name}: {value}' for name, value in headers.items())]
  return ('\r\n'.join(lines) + '\r\n\r\n').encode('latin-1')


def status_line(status: int) -> str:
  """The first line of an answer."""
  try:
    phrase = http.HTTPStatus(status).phrase
  except ValueError:
    phrase = 'Unnamed'
  return f'HTTP/1.1 {status} {phrase}'


def has_body(method: str, status: int) -> bool:
  """Whether anything stands behind the head of an answer."""
  return method != 'HEAD' and status >= 200 and status not in (204, 304)


async def send(
  writer: asyncio.StreamWriter, method: str, answer: Answer
) -> None:
  """Sends a whole answer."""
  headers = dict(answer.headers)
  if has_body(method, answer.status):
    headers['Content-Length'] = str(len(answer.body))
  block = head(status_line(answer.status), headers)
  body = answer.body if has_body(method, answer.status) else b''
  if len(body) < PIECE_BYTES:
    writer.write(block + body)
  else:
    writer.write(block)
    view = memoryview(body)
    for start in range(0, len(view), PIECE_BYTES):
      # What a connection does not take at once is copied: little at a time.
      writer.write(view[start : start + PIECE_BYTES])
      await writer.drain()
  await writer.drain()


async def go_on(writer: asyncio.StreamWriter, headers: dict[str, str]) -> None:
  """Asks for the body, where the other end waits to be asked."""
  if headers.get('expect', '').lower() == '100-continue':
    writer.write(b'HTTP/1.1 100 Continue\r\n\r\n')
    await writer.drain()


def closes(headers: dict[str, str]) -> bool:
  """Whether the other end closes the connection behind this message."""
  return headers.get('connection', '').lower() == 'close'


async def serve(sock: socket.socket, connected: Callable) -> None:
  """Calls `connected(reader, writer)` of each connection, for ever."""

  async def one(reader, writer):
    try:
      await connected(reader, writer)
    except (asyncio.IncompleteReadError, ConnectionError):
      pass  # the client has gone
    finally:
      writer.close()

  server = await asyncio.start_server(one, sock=sock, limit=PIECE_BYTES)
  async with server:
    await server.serve_forever()


def run(sock: socket.socket, respond: Callable[[Request], Answer]) -> None:
  """Serves for ever; one request at a time is responded to, whole."""

  async def connected(reader, writer):
    while found := await read_head(reader):
      (method, target, _), headers = found
      await go_on(writer, headers)
      body = [piece async for piece in pieces(reader, headers)]
      whole = body[0] if len(body) == 1 else b''.join(body)
      request = Request(method, target, headers, whole)
      await send(writer, method, respond(request))
      if closes(headers):
        return

  asyncio.run(serve(sock, connected))
