"""Tools of other servers."""

import asyncio
import json
import pathlib
import socket
import sys

import pytest

from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats
from step_audio_jax.dialogue.tools import mcp
from step_audio_jax.dialogue.tools import registry
from step_audio_jax.dialogue.tools import runner
from tests.dialogue.tools import mcp_server


def started():
  """A server that is a process."""
  root = pathlib.Path(__file__).parents[3]
  return mcp.Server(
    's',
    sys.executable,
    ('-m', 'tests.dialogue.tools.mcp_server'),
    env={'WHO': 'me'},
    cwd=str(root),
  )


def test_a_server_that_is_started():
  pytest.importorskip('mcp')
  server = started()

  async def run():
    async with mcp.opened([server]) as tools:
      assert set(tools.names) == {'s_add', 's_fail', 's_whoami', 's_quit_now'}
      run = runner.Runner(tools)
      found = await run.results(
        [
          chats.Call('s_add', {'a': 2, 'b': 3}),
          chats.Call('s_add', {'a': 'x', 'b': 3}),
          chats.Call('s_whoami'),
        ]
      )
      found += await run.results([chats.Call('s_quit_now')])
      # It is opened again when it is asked again.
      found += await run.results([chats.Call('s_whoami')])
      return [turn.text for turn in found]

  assert asyncio.run(run()) == [
    '5',
    "The arguments of s_add do not fit: a: 'x' is not of type 'integer'.",
    'me',
    'The server s of tools does not answer.',
    'me',
  ]


def test_a_server_of_this_process():
  pytest.importorskip('mcp')

  async def run():
    held = mcp.Connection(mcp.Server('s', 'x'), mcp_server.made())
    try:
      tools = registry.Registry(await held.tools())
      call = chats.Call('s_fail', {'why': 'There is no\nsuch city.'})
      (found,) = await runner.Runner(tools).results([call])
      assert 'There is no such city.' in found.text
      assert '\n' not in found.text and 'Traceback' not in found.text
    finally:
      await held.aclose()

  asyncio.run(run())


def test_a_server_with_an_address():
  pytest.importorskip('mcp')
  uvicorn = pytest.importorskip('uvicorn')

  async def run():
    app = mcp_server.made().streamable_http_app()
    settings = uvicorn.Config(
      app, port=0, log_level='error', timeout_graceful_shutdown=1
    )
    web = uvicorn.Server(settings)
    with socket.socket() as sock:
      sock.bind(('127.0.0.1', 0))
      serving = asyncio.create_task(web.serve(sockets=[sock]))
      url = f'http://127.0.0.1:{sock.getsockname()[1]}/mcp'
      server = mcp.Server('s', url=url, headers={'X-Key': 'k'})
      async with mcp.opened([server]) as tools:
        call = chats.Call('s_add', {'a': 2, 'b': 3})
        (found,) = await runner.Runner(tools).results([call])
      web.should_exit = True
      await serving
    return found.text

  assert asyncio.run(run()) == '5'


def test_a_server_that_cannot_be_opened():
  pytest.importorskip('mcp')

  async def run(server):
    async with mcp.opened([server]):
      pass

  for server in (
    mcp.Server('s', '/no/such/program', seconds=5),
    mcp.Server('s', url='http://127.0.0.1:9/mcp', seconds=5),
  ):
    with pytest.raises(errors.UserError, match='The server s of tools'):
      asyncio.run(run(server))


def test_a_file_names_servers(tmp_path):
  path = tmp_path / 'servers.json'
  path.write_text(
    json.dumps(
      {
        'mcpServers': {
          'a': {'command': 'x', 'args': ['y'], 'env': {'K': 'secret'}},
          'b': {'url': 'https://h/mcp', 'headers': {'K': 'secret'}},
        }
      }
    )
  )
  first, second = mcp.read(str(path))
  assert first.command == 'x' and first.args == ('y',)
  assert second.url == 'https://h/mcp' and 'secret' not in repr((first, second))


@pytest.mark.parametrize(
  'value, told',
  [
    ([], 'found None as mcpServers'),
    ({'mcpServers': []}, 'expected servers by name'),
    ({'mcpServers': {'a b': {}}}, 'found the name'),
    ({'mcpServers': {'a': []}}, 'expected an object'),
    ({'mcpServers': {'a': {}}}, 'found neither of command and url'),
    ({'mcpServers': {'a': {'command': 'x', 'url': 'http://h'}}}, 'found both'),
    ({'mcpServers': {'a': {'comand': 'x'}}}, "nearest is 'command'"),
    ({'mcpServers': {'a': {'command': ['x']}}}, 'a.command: found'),
    ({'mcpServers': {'a': {'url': 'file:///etc'}}}, 'a.url: found'),
    ({'mcpServers': {'a': {'command': 'x', 'args': 'y'}}}, 'a.args: found'),
    ({'mcpServers': {'a': {'command': 'x', 'env': {'K': 1}}}}, 'a.env: exp'),
    ({'mcpServers': {'a': {'command': 'x', 'seconds': 0}}}, 'a.seconds'),
  ],
)
def test_what_names_no_servers(value, told):
  with pytest.raises(errors.UserError, match=told) as caught:
    mcp.parse(value, 'servers.json')
  assert str(caught.value).startswith('servers.json: ')
