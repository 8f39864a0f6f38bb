"""The tools of a server."""

import asyncio
import contextlib
import json

import pytest

from step_audio_jax import errors
from step_audio_jax.dialogue.tools import catalogue
from step_audio_jax.dialogue.tools import registry


def names(*own, servers=None):
  async def run():
    async with catalogue.opened(own, servers) as tools:
      return tools.names

  return asyncio.run(run())


def test_our_own():
  assert names() == ()
  assert names('clock', 'calculator') == ('clock', 'calculator')
  with pytest.raises(errors.UserError, match="nearest is 'clock'"):
    names('clok')
  with pytest.raises(errors.UserError, match='there already'):
    names('clock', 'clock')


def test_our_own_and_others(tmp_path, monkeypatch):
  path = tmp_path / 'servers.json'
  path.write_text(json.dumps({'mcpServers': {'s': {'command': 'x'}}}))

  @contextlib.asynccontextmanager
  async def opened(servers):
    yield registry.Registry(
      registry.Tool(f'{one.name}_add', '', print) for one in servers
    )

  monkeypatch.setattr(catalogue.mcp, 'opened', opened)
  assert names('clock', servers=str(path)) == ('clock', 's_add')
  with pytest.raises(errors.UserError, match='nothing.json'):
    names(servers=str(tmp_path / 'nothing.json'))
