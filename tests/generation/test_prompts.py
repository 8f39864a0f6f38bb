"""Prompts against layouts written out by hand."""

import pytest

from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.generation import prompts

CONTROL = vocabulary_lib.CONTROL
BOS, EOT, BOT = CONTROL['<s>'], CONTROL['<|EOT|>'], CONTROL['<|BOT|>']


class Letters:
  """Letters as ids; like SentencePiece it puts a space before the first."""

  pieces = '▁\nabcdefghijklmnopqrstuvwxyz '
  size = vocabulary_lib.CONTROL_SIZE + len(pieces)
  prefix = '▁'

  def encode(self, text):
    first = vocabulary_lib.CONTROL_SIZE
    return [first + self.pieces.index(x) for x in self.prefix + text]

  def decode(self, ids):
    return ''.join(self.pieces[i - vocabulary_lib.CONTROL_SIZE] for i in ids)


class Joined(Letters):
  """Makes one piece of a line break and the letter behind it."""

  def encode(self, text):
    return [9] * (text == '\n') or super().encode(text.removeprefix('\n'))


def vocabulary(text):
  return vocabulary_lib.Vocabulary(text_size=120, text=text)


VOCABULARY = vocabulary(Letters())


def ids(text):
  first = vocabulary_lib.CONTROL_SIZE
  return [first + Letters.pieces.index(x) for x in text]


def test_documents_are_those_of_the_rows():
  codes = VOCABULARY.interleave([3, 4], [0, 1, 2])
  assert prompts.asr(VOCABULARY, codes) == [
    BOS,
    CONTROL['<|ASR|>'],
    CONTROL['<audio_start>'],
    *codes.tolist(),
    CONTROL['<text_start>'],
  ]
  assert prompts.tts(VOCABULARY, 'ab') == [
    BOS,
    CONTROL['<|TTS|>'],
    CONTROL['<text_start>'],
    *ids('▁ab'),
    CONTROL['<audio_start>'],
  ]


def test_turns_have_one_start_and_one_space_before_each_role():
  codes = VOCABULARY.interleave([3, 4, 5, 6], [0, 1, 2, 9, 9, 9])
  found = prompts.tts_turns(
    VOCABULARY,
    'go on',
    system='be kind',
    voice_text='hi',
    voice_ids=codes,
  )
  assert found == [
    BOS,
    *[BOT, *ids('▁system\n'), *ids('be kind'), EOT],
    *[BOT, *ids('▁human\n'), *ids('hi'), EOT],
    *[BOT, *ids('▁assistant\n'), *codes.tolist(), EOT],
    *[BOT, *ids('▁human\n'), *ids('go on'), EOT],
    *[BOT, *ids('▁assistant\n')],
  ]
  assert all(type(i) is int for i in found)


def test_turns_without_a_voice_leave_its_two_out():
  assert prompts.tts_turns(VOCABULARY, 'a') == [
    BOS,
    *[BOT, *ids('▁system\n'), EOT],
    *[BOT, *ids('▁human\n'), *ids('a'), EOT],
    *[BOT, *ids('▁assistant\n')],
  ]


@pytest.mark.parametrize('prefix', ['▁', ''])
def test_the_space_goes_only_where_the_tokenizer_puts_one(prefix):
  text = Letters()
  text.prefix = prefix
  assert prompts.tts_turns(vocabulary(text), 'ab', system='c') == [
    BOS,
    *[BOT, *ids(f'{prefix}system\n'), *ids('c'), EOT],
    *[BOT, *ids(f'{prefix}human\n'), *ids('ab'), EOT],
    *[BOT, *ids(f'{prefix}assistant\n')],
  ]


def test_a_tokenizer_that_joins_the_line_break_gets_the_plain_text():
  found = prompts.tts_turns(vocabulary(Joined()), 'ab')
  turn = [BOT, *ids('▁human\n'), *ids('▁ab'), EOT]
  assert found[-len(turn) - 12 : -12] == turn
