"""The exported chat template and tokenizer give the ids of our documents.

The template is rendered as `transformers` does it, and read by the `tokenizers`
library; tests/parity asks `transformers` itself.
"""

import jinja2
import pytest

from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.chats import rendering
from step_audio_jax.chats import template
from step_audio_jax.interop.language import chat_marks
from tests.chats import conversations
from tests.chats import exports


@pytest.fixture(scope='module', params=exports.KINDS)
def export(request, tmp_path_factory):
  folder = tmp_path_factory.mktemp('export')
  return exports.Export(folder, request.param(folder))


def test_fifty_conversations_have_the_ids_of_documents(export):
  for number, value in enumerate(conversations.generated(50)):
    turns = conversations.turns_of(export.table, value)
    if turns[-1][0] == 'assistant':
      want, _ = rendering.document(export.table, 'x', turns)
      assert export.ids(value) == export.row_of(want.tokens), number
    want, _ = rendering.prompt(export.table, turns)
    found = export.ids(value, add_generation_prompt=True)
    assert found == export.row_of(want), number


def test_what_is_spelt_is_no_piece(export):
  """The control pieces of a prompt are those of its turns."""
  words = (
    ''.join(vocabulary_lib.CONTROL) + '<audio_7>' + ''.join(exports.SPECIAL)
  )
  value = {'messages': [{'role': 'user', 'content': words}]}
  ids = export.ids(value, add_generation_prompt=True)
  added = {
    one['id']: one['content']
    for one in export.tree['added_tokens']
    if one['special'] or one['content'].startswith('<audio')
  }
  names = [added[i] for i in ids if i in added]
  bos = export.bos
  assert [bos, '<|BOT|>', '<|EOT|>', '<|BOT|>'] == [
    name for name in names if name != '<unk>'
  ]
  text = export.tokenizer.decode(ids, skip_special_tokens=False)
  assert ''.join(words.split()) in ''.join(text.split())


def test_a_tokenizer_is_marked_once(export):
  cuts = chat_marks.joins(export.tree)
  again = chat_marks.marked(export.tree, cuts)
  for key in ('normalizer', 'pre_tokenizer', 'added_tokens'):
    assert again[key] == export.tree[key]


@pytest.mark.parametrize(
  ('messages', 'said'),
  [
    ([{'role': 'bot', 'content': 'x'}], 'role: expected one of system'),
    ([{'role': 'user', 'content': template.PARTED}], 'noncharacter'),
    ([{'role': 'user', 'content': [{'type': 'image'}]}], 'types text and'),
    (
      [{'role': 'user', 'content': [{'type': 'speech', 'speech': '<s>'}]}],
      'speech: expected',
    ),
    (
      [
        {
          'role': 'user',
          'content': [{'type': 'speech', 'speech': '<audio_7><s>'}],
        }
      ],
      'speech: expected',
    ),
  ],
)
def test_a_template_refuses_what_it_cannot_say(messages, said):
  source = template.write({})
  with pytest.raises(jinja2.TemplateError, match=said):
    exports.rendered(source, messages, bos_token='<s>')


def test_the_released_habit(tmp_path):
  source = template.write({}, starts=True)
  text = exports.rendered(
    source,
    [{'role': 'user', 'content': 'hi'}],
    bos_token='<s>',
    add_generation_prompt=True,
  )
  assert text == '<s><|BOT|><s>human\nhi<|EOT|><|BOT|><s>assistant\n'
