"""A proxy in front of a server of buckets that delays, errs and cuts.

    with servers.gcs(['data']) as server, faults.front(server) as front:
      front.set(delay=0.02, rules=[rules.Rule('answer', op='put', status=503)])
      ...  # with front.environment
      assert front.count('put') == 2

It is a process of its own, as the server is. What it does to requests, and
what it has seen of them, is told over the same port.
"""

import asyncio
import contextlib
import dataclasses
import json
import re
import socket
import struct

from benchmarks.buckets import rules as rules_lib
from benchmarks.buckets import servers
from benchmarks.buckets import wire

_CONTROL = '/-/faults'
_S3_CODES = {
  400: 'ExpiredToken',
  401: 'ExpiredToken',
  403: 'AccessDenied',
  404: 'NoSuchKey',
  429: 'SlowDown',
  500: 'InternalError',
  503: 'SlowDown',
}


class Cut(Exception):
  """The connection of a client is to end."""


class Proxy:
  """Gives requests on to a server, and faults back."""

  def __init__(self, kind: str, port: int):
    self._kind = kind
    self._port = port
    self._delay = 0.0
    self._plan = rules_lib.Plan()
    self._asked: list[rules_lib.Asked] = []
    self._under_way = self._most = 0

  async def connected(self, reader, writer) -> None:
    """Serves one connection of a client with one to the server."""
    server = None
    try:
      while found := await wire.read_head(reader):
        (method, target, _), headers = found
        if target.startswith(_CONTROL):
          await self._control(reader, writer, method, headers)
          continue
        self._under_way += 1
        self._most = max(self._most, self._under_way)
        try:
          server = await self._one(
            reader, writer, server, method, target, headers
          )
        finally:
          self._under_way -= 1
        if wire.closes(headers):
          return
    except (Cut, OSError, asyncio.IncompleteReadError):
      reset(writer)
    finally:
      if server:
        server[1].close()

  async def _control(self, reader, writer, method, headers) -> None:
    body = b''.join([piece async for piece in wire.pieces(reader, headers)])
    if method == 'PUT':
      asked = json.loads(body)
      if asked.get('forget'):
        self._asked, self._most = [], self._under_way
      if asked.get('delay') is not None:
        self._delay = asked['delay']
      if asked.get('rules') is not None:
        given = [rules_lib.Rule(**each) for each in asked['rules']]
        self._plan = rules_lib.Plan(given, asked['seed'])
    told = {
      'most_under_way': self._most,
      'asked': [dataclasses.astuple(each) for each in self._asked],
    }
    kind = {'Content-Type': 'application/json'}
    answer = wire.Answer(200, kind, json.dumps(told).encode())
    await wire.send(writer, method, answer)

  async def _one(self, reader, writer, server, method, target, headers):
    """One request; gives the connection to the server back."""
    body = wire.pieces(reader, headers)
    first = b''
    if 'uploadType=' in target:  # it may be named in the body alone
      await wire.go_on(writer, headers)
      first = await anext(body, b'')
    asked = rules_lib.read(self._kind, method, target, headers, first)
    self._asked.append(asked)
    rule = self._plan.strike(asked)
    asked.fault = fault = rule.fault if rule else ''
    if self._delay:
      await asyncio.sleep(self._delay)
    if fault == 'refuse':
      raise Cut
    if not first:
      await wire.go_on(writer, headers)
    if fault in ('drop', 'answer'):
      asked.sent = len(first) + sum([len(piece) async for piece in body])
      if fault == 'drop':
        raise Cut
      asked.status = rule.status
      await wire.send(writer, method, self._error(rule, target))
      return server
    server = server or await asyncio.open_connection(
      servers.HOST, self._port, limit=wire.PIECE_BYTES
    )
    await self._give_on(server[1], asked, target, headers, first, body)
    found = await wire.read_head(server[0])
    if not found:
      raise Cut
    (_, status, *_), answered = found
    asked.status = int(status)
    back = (
      wire.pieces(server[0], answered, until_end=True)
      if wire.has_body(method, asked.status)
      else None
    )
    if fault == 'lose':
      raise Cut
    if fault == 'late':
      await asyncio.sleep(rule.seconds)
    await self._give_back(writer, asked, rule, answered, back)
    return server

  async def _give_on(self, writer, asked, target, headers, first, body):
    """Sends a request to the server."""
    headers = dict(headers)
    for name in ('expect', 'connection'):
      headers.pop(name, None)
    if headers.pop('transfer-encoding', None):
      first += b''.join([piece async for piece in body])
      headers['content-length'] = str(len(first))
    block = wire.head(f'{asked.method} {target} HTTP/1.1', headers)
    writer.write(block + first)
    asked.sent = len(first)
    async for piece in body:
      writer.write(piece)
      asked.sent += len(piece)
      await writer.drain()
    await writer.drain()

  async def _give_back(self, writer, asked, rule, headers, body) -> None:
    """Sends an answer to the client, or half of it."""
    block = wire.head(wire.status_line(asked.status), headers)
    if body is None:
      writer.write(block)
      await writer.drain()
      return
    fault = rule.fault if rule else ''
    middle = int(headers.get('content-length', 0)) // 2
    async for piece in body:
      if fault in ('half', 'stall') and asked.got + len(piece) > middle:
        writer.write(block + piece[: middle - asked.got])
        await writer.drain()
        block, piece = b'', piece[middle - asked.got :]
        asked.got = middle
        if fault == 'half':
          writer.close()  # what was sent arrives, and no more
          raise Cut
        await asyncio.sleep(rule.seconds)
        fault = ''
      writer.write(block + piece)
      asked.got += len(piece)
      block = b''
      await writer.drain()
    if block:
      writer.write(block)
      await writer.drain()
    if fault == 'half' or 'content-length' not in headers:
      writer.close()
      raise Cut

  def _error(self, rule: rules_lib.Rule, target: str) -> wire.Answer:
    """An error as the server would say it."""
    words = f'A fault on purpose: {rule.status}.'
    if self._kind == 's3':
      code = _S3_CODES.get(rule.status, 'Fault')
      text = f'<Error><Code>{code}</Code><Message>{words}</Message></Error>'
      headers = {'Content-Type': 'application/xml'}
    elif 'alt=media' in target:
      text, headers = words, {'Content-Type': 'text/html'}
    else:
      text = json.dumps({'error': {'code': rule.status, 'message': words}})
      headers = {'Content-Type': 'application/json'}
    if rule.retry_after:
      headers['Retry-After'] = rule.retry_after
    return wire.Answer(rule.status, headers, text.encode())


def reset(writer: asyncio.StreamWriter) -> None:
  """Ends a connection so that the other end is told of a reset."""
  if not writer.is_closing():
    sock = writer.get_extra_info('socket')
    linger = struct.pack('ii', 1, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


def serve(sock: socket.socket, kind: str, port: int) -> None:
  """Serves for ever."""
  asyncio.run(wire.serve(sock, Proxy(kind, port).connected))


@dataclasses.dataclass
class Front(servers.Process):
  """The proxy, from outside.

  Attributes:
    kind: 'gcs' or 's3'.
    server_port: Where the server listens.
  """

  kind: str = 'gcs'
  server_port: int = 0
  probe = _CONTROL

  @property
  def arguments(self) -> list[str]:
    return ['faults', f'--kind={self.kind}', f'--upstream={self.server_port}']

  def set(
    self,
    delay: float | None = None,
    rules: list[rules_lib.Rule] | None = None,
    seed: int = 0,
    forget: bool = False,
  ) -> None:
    """Changes what is done to requests from now on.

    Args:
      delay: Seconds that each waits; None leaves it as it is.
      rules: Take the place of all rules there are; None leaves them.
      seed: Of their chances.
      forget: Whether what was seen so far is forgotten.
    """
    given = rules
    if rules is not None:
      given = [dataclasses.asdict(rule) for rule in rules]
    asked = {'delay': delay, 'rules': given, 'seed': seed, 'forget': forget}
    self._told('PUT', json.dumps(asked))

  def _told(self, method: str, body: str | None = None) -> dict:
    status, found = servers.ask(self.port, method, _CONTROL, body)
    if status != 200:
      raise RuntimeError(f'The proxy answers {status}.')
    return json.loads(found)

  @property
  def asked(self) -> list[rules_lib.Asked]:
    """Every request, in the order in which they came."""
    return [rules_lib.Asked(*each) for each in self._told('GET')['asked']]

  @property
  def most_under_way(self) -> int:
    """How many requests were under way at once, at most."""
    return self._told('GET')['most_under_way']

  def count(self, op: str = '.*', name: str = '') -> int:
    """How many requests there were.

    Args:
      op: Of which kind; a pattern that has to match the whole of it.
      name: Of which objects; a pattern, searched in 'bucket/object'.
    """
    return sum(
      bool(re.fullmatch(op, each.op) and re.search(name, each.name))
      for each in self.asked
    )


@contextlib.contextmanager
def front(
  server: servers.Server,
  delay: float = 0.0,
  rules: list[rules_lib.Rule] | None = None,
  seed: int = 0,
):
  """A proxy in front of a server, until the `with` ends."""
  proxy = Front(kind=server.kind, server_port=server.port)
  try:
    proxy.start()
    proxy.set(delay, rules, seed)
    yield proxy
  finally:
    proxy.kill()
