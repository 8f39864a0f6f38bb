"""Tools and their schemas."""

import math

import pytest

from step_audio_jax import errors
from step_audio_jax.chats import checks
from step_audio_jax.chats import conversation as chats
from step_audio_jax.dialogue.tools import calculator
from step_audio_jax.dialogue.tools import clock
from step_audio_jax.dialogue.tools import registry


def test_schemas_are_those_of_chats():
  tools = registry.Registry([clock.tool(), calculator.tool()])
  assert tools.names == ('clock', 'calculator') and 'clock' in tools
  turn = chats.Turn(chats.TOOLS, tools=tools.schemas)
  user = chats.Turn(chats.USER, ('Hi',))
  checks.check(chats.Conversation((turn, user)))
  assert tools.get('clock').name == 'clock' and tools.get('x') is None
  with pytest.raises(errors.UserError, match='there already'):
    tools.add(clock.tool())


DEEP = {}
for _ in range(200):
  DEEP = {'properties': {'a': DEEP}}


@pytest.mark.parametrize(
  'fields, told',
  [
    ({'name': 'a b'}, 'found the name'),
    ({'name': ''}, 'found the name'),
    ({'name': 'a' * 65}, 'found the name'),
    ({'name': None}, 'found the name'),
    ({'parameters': {'type': 'strng'}}, 'parameters'),
    ({'parameters': DEEP}, 'nested more than'),
    ({'parameters': {'x': math.nan}}, 'cannot hold'),
    ({'parameters': {'properties': {'a': {'pattern': '('}}}}, 'pattern'),
    ({'parameters': {'title': '\ud800'}}, 'half a character'),
    ({'parameters': {'a': {'pattern': 'a{9999999999999}'}}}, 'pattern'),
    (
      {'parameters': {'properties': {'a': {'pattern': 'a{9999999999999}'}}}},
      'repetition number is too large',
    ),
    ({'parameters': {'properties': {'a': {'pattern': '(' * 5000}}}}, 'a'),
    ({'seconds': 0}, 'seconds'),
    ({'seconds': math.nan}, 'seconds'),
  ],
)
def test_what_is_no_tool(fields, told):
  with pytest.raises(errors.UserError, match=told):
    registry.Tool(**({'name': 'a', 'description': '', 'run': print} | fields))
