"""Tools of MCP servers (Model Context Protocol), by the official client.

    {"mcpServers": {
      "files": {"command": "server", "args": ["/data"], "env": {"A": "…"}},
      "search": {"url": "https://example.org/mcp", "headers": {"X-Key": "…"}}}}

The file is written as other programs have it. A server is a process that is
started (stdio), or an address (streamable HTTP). What it calls `find` is the
tool `search_find` here. Each server is held open by a task of its own, so that
one that breaks takes nobody with it; the next call opens it again.
"""

import asyncio
import contextlib
import dataclasses
import logging
import re
from typing import Any, AsyncIterator, Mapping, Sequence
import urllib.parse

from step_audio_jax import errors
from step_audio_jax.chats import checks
from step_audio_jax.dialogue.tools import registry
from step_audio_jax.storage import files

_LOG = logging.getLogger(__name__)
KEY = 'mcpServers'
_NAME = re.compile(r'[a-zA-Z0-9_-]{1,32}')
_FIELDS = ('command', 'args', 'env', 'cwd', 'url', 'headers', 'type', 'seconds')
_PAGES = 20  # of a list of tools
_MOST = 128  # tools of a server
_DESCRIPTION = 2000  # characters


@dataclasses.dataclass(frozen=True)
class Server:
  """Where a server is.

  Attributes:
    name: In front of the names of its tools.
    command: That starts it; '' where it has an address.
    args: Of the command.
    env: Of the command, beside the few variables that are handed on.
    cwd: Where the command runs.
    url: Its address.
    headers: That are sent with every request.
    seconds: Until it is open, and for each of its answers.
  """

  name: str
  command: str = ''
  args: Sequence[str] = ()
  env: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
  cwd: str | None = None
  url: str = ''
  headers: Mapping[str, str] = dataclasses.field(
    default_factory=dict, repr=False
  )
  seconds: float = 20.0


def read(path: str) -> list[Server]:
  """The servers that a file names.

  Raises:
    UserError: There is no such file, or it is wrong; the field is named.
  """
  place = files.path(path)
  return parse(files.read_json(place), str(place))


def parse(value: Any, where: str) -> list[Server]:
  """The servers of a file's JSON.

  Raises:
    UserError: As `read`.
  """
  found = value.get(KEY) if isinstance(value, Mapping) else None
  if not isinstance(found, Mapping):
    raise errors.UserError(
      f'{where}: found {found!r:.60} as {KEY}, expected servers by name.'
    )
  return [_server(k, v, f'{where}: {KEY}.{k}') for k, v in found.items()]


def _server(name: str, value: Any, field: str) -> Server:
  if not _NAME.fullmatch(name):
    raise errors.UserError(
      f'{field:.200}: found the name {name!r:.60}, expected 1 to 32 of a-z, '
      'A-Z, 0-9, "_" and "-".'
    )
  if not isinstance(value, Mapping):
    raise errors.UserError(f'{field}: found {value!r:.60}, expected an object.')
  for one in value:
    if one not in _FIELDS:
      raise errors.UserError(
        f'{field}.{one}: unknown field, expected {", ".join(_FIELDS)}'
        f'{checks.nearest(one, _FIELDS)}.'
      )
  command, url = value.get('command', ''), value.get('url', '')
  texts = {'command': command, 'url': url, 'cwd': value.get('cwd') or ''}
  for one, text in texts.items():
    if not isinstance(text, str):
      raise errors.UserError(
        f'{field}.{one}: found {text!r:.60}, expected a string.'
      )
  if bool(command) == bool(url):
    both = 'both' if url else 'neither'
    raise errors.UserError(
      f'{field}: found {both} of command and url, expected one of them.'
    )
  if url and urllib.parse.urlsplit(url).scheme not in ('http', 'https'):
    raise errors.UserError(
      f'{field}.url: found {url!r:.60}, expected http:// or https://.'
    )
  args = value.get('args', [])
  if not isinstance(args, list) or not all(isinstance(a, str) for a in args):
    raise errors.UserError(
      f'{field}.args: found {args!r:.60}, expected a list of strings.'
    )
  tables = {}
  for one in ('env', 'headers'):
    tables[one] = value.get(one, {})
    good = isinstance(tables[one], Mapping)
    if not good or not all(isinstance(v, str) for v in tables[one].values()):
      # Secrets may stand there: they are not told.
      raise errors.UserError(
        f'{field}.{one}: expected an object of strings by name.'
      )
  seconds = value.get('seconds', Server.seconds)
  if not isinstance(seconds, (int, float)) or not 0 < seconds <= 3600:
    raise errors.UserError(
      f'{field}.seconds: found {seconds!r:.40}, expected up to 3600.'
    )
  return Server(
    name,
    command,
    tuple(args),
    tables['env'],
    value.get('cwd') or None,
    url,
    tables['headers'],
    float(seconds),
  )


@contextlib.asynccontextmanager
async def opened(servers: Sequence[Server]) -> AsyncIterator[registry.Registry]:
  """The tools of servers, as long as they are held open.

  Raises:
    UserError: The client is not installed, or a server cannot be reached.
  """
  held = [Connection(server) for server in servers]
  found = registry.Registry()
  try:
    for tools in await asyncio.gather(*(one.tools() for one in held)):
      for tool in tools:
        found.add(tool)
    yield found
  finally:
    await asyncio.gather(*(one.aclose() for one in held))


class Connection:
  """One server that is held open."""

  def __init__(self, server: Server, target: Any = None):
    """Not yet open.

    Args:
      server: Where it is.
      target: What the client connects to in place of that; a server of the
        same process.
    """
    self._server, self._target = server, target
    self._task: asyncio.Task | None = None
    self._ready: asyncio.Future | None = None  # the client
    self._stop = asyncio.Event()
    self._tasks: set[asyncio.Task] = set()  # also of connections that broke

  async def tools(self) -> list[registry.Tool]:
    """Its tools; those that are none by our rules are left out, and logged.

    Raises:
      UserError: It cannot be reached.
    """
    found: list[registry.Tool] = []
    cursor, names = None, set()
    for _ in range(_PAGES):
      page = await self._asked(
        lambda client, at=cursor: client.list_tools(cursor=at)
      )
      for one in page.tools:
        if len(found) == _MOST:
          _LOG.warning('%s has more than %d tools.', self._server.name, _MOST)
          return found
        tool = self._tool(one)
        if tool is not None and tool.name not in names:
          names.add(tool.name)
          found.append(tool)
      cursor = page.next_cursor
      if cursor is None:
        break
    return found

  def _tool(self, one) -> registry.Tool | None:
    async def run(**arguments: Any) -> str:
      return await self._call(one.name, arguments)

    description = one.description or one.title or one.name
    try:
      return registry.Tool(
        f'{self._server.name}_{one.name}',
        description[:_DESCRIPTION],
        run,
        one.input_schema,
        self._server.seconds,
      )
    except errors.UserError as error:
      _LOG.warning('A tool of %s is left out: %s', self._server.name, error)
      return None

  async def _call(self, name: str, arguments: Mapping[str, Any]) -> str:
    """What a tool says, in words.

    Raises:
      UserError: It says that it has failed, or cannot be reached.
    """
    result = await self._asked(
      lambda client: client.call_tool(name, dict(arguments))
    )
    told = '\n'.join(map(_words, result.content)).strip()
    if result.is_error:
      raise errors.UserError(told or f'{name} failed.')
    return told

  async def _asked(self, ask) -> Any:
    """What the server answers.

    Raises:
      UserError: It does not, or not in time.
    """
    failed = f'The server {self._server.name} of tools does not answer.'
    try:
      async with asyncio.timeout(self._server.seconds):
        return await ask(await self._client())
    except errors.UserError:
      raise
    except asyncio.CancelledError:
      raise
    except Exception as error:
      _LOG.warning('%s %s: %s', failed, type(error).__name__, error)
      if _is_lost(error):
        self._stop.set()  # the next one opens it again
      raise errors.UserError(failed) from error

  async def _client(self):
    if self._task is None or self._task.done() or self._stop.is_set():
      self._stop = asyncio.Event()
      self._ready = asyncio.get_running_loop().create_future()
      self._task = asyncio.create_task(self._hold(self._ready, self._stop))
      self._tasks.add(self._task)
      self._task.add_done_callback(self._tasks.discard)
    return await asyncio.shield(self._ready)

  async def _hold(self, ready: asyncio.Future, stop: asyncio.Event) -> None:
    """Enters and leaves the client in one task, as it has to be."""
    try:
      async with self._made() as client:
        ready.set_result(client)
        await stop.wait()
    except Exception as error:
      if ready.done():
        _LOG.warning(
          'The server %s of tools was lost: %s', self._server.name, error
        )
      elif isinstance(error, errors.UserError):
        ready.set_exception(error)
      else:
        _LOG.warning(
          'The server %s of tools cannot be opened.',
          self._server.name,
          exc_info=error,
        )
        failed = errors.UserError(
          f'The server {self._server.name} of tools cannot be opened.'
        )
        ready.set_exception(failed)
    finally:
      if not ready.done():
        ready.cancel()
      elif not ready.cancelled():
        ready.exception()  # whoever waited may have gone

  @contextlib.asynccontextmanager
  async def _made(self):
    """A client that is connected."""
    try:
      import mcp
      from mcp.client import streamable_http
      from mcp.shared import _httpx_utils
    except ImportError as error:
      raise errors.UserError(
        'The client of MCP is not installed: pip install mcp.'
      ) from error
    server = self._server
    async with contextlib.AsyncExitStack() as stack:
      target = self._target
      if target is None and server.url:
        http = await stack.enter_async_context(
          _httpx_utils.create_mcp_http_client(headers=dict(server.headers))
        )
        target = streamable_http.streamable_http_client(
          server.url, http_client=http
        )
      elif target is None:
        target = mcp.StdioServerParameters(
          command=server.command,
          args=list(server.args),
          env=dict(server.env),
          cwd=server.cwd,
        )
      yield await stack.enter_async_context(
        mcp.Client(target, read_timeout_seconds=server.seconds)
      )

  async def aclose(self) -> None:
    """Closes it; a process that was started is ended."""
    self._stop.set()
    if not self._tasks:
      return
    _, left = await asyncio.wait(self._tasks, timeout=self._server.seconds)
    for task in left:
      task.cancel()
    if left:
      await asyncio.wait(left, timeout=self._server.seconds)


def _is_lost(error: Exception) -> bool:
  """Whether a connection is of no more use."""
  import mcp
  import mcp_types

  if isinstance(error, TimeoutError):
    return False
  if isinstance(error, mcp.MCPError):
    return error.code == mcp_types.CONNECTION_CLOSED
  return True


def _words(block: Any) -> str:
  """A block of a result as words; what is no text is named."""
  text = getattr(block, 'text', None)
  if isinstance(text, str):
    return text
  inner = getattr(getattr(block, 'resource', None), 'text', None)
  return inner if isinstance(inner, str) else f'[{block.type}]'
