"""Our chat template in the hands of `transformers`: the ids of documents."""

import pytest
import transformers

from step_audio_jax.chats import rendering
from tests.chats import conversations
from tests.chats import exports


@pytest.fixture(scope='module', params=exports.KINDS)
def world(request, tmp_path_factory):
  """What was exported, and a tokenizer that reads it."""
  folder = tmp_path_factory.mktemp('export')
  export = exports.Export(folder, request.param(folder))
  return export, transformers.AutoTokenizer.from_pretrained(folder)


def asked(export, tokenizer, value, **settings):
  return tokenizer.apply_chat_template(
    conversations.for_template(export.table, value),
    tools=value.get('tools'),
    tokenize=True,
    return_dict=False,
    **settings,
  )


def test_fifty_conversations(world, parity):
  export, tokenizer = world
  same = 0
  for value in conversations.generated(50):
    turns = conversations.turns_of(export.table, value)
    want, _ = rendering.prompt(export.table, turns)
    found = asked(export, tokenizer, value, add_generation_prompt=True)
    same += found == export.row_of(want)
  parity('chat prompts with the ids of transformers', same, 50, 0)


def test_documents(world, parity):
  export, tokenizer = world
  for value in conversations.generated(20, seed=1):
    turns = conversations.turns_of(export.table, value)
    if turns[-1][0] != 'assistant':
      continue
    want, _ = rendering.document(export.table, 'x', turns)
    found = asked(export, tokenizer, value)
    assert found == export.row_of(want.tokens)
