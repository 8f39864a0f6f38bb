"""Where a text is cut to be spoken."""

import re

import hypothesis
from hypothesis import strategies as st
import pytest

from step_audio_jax.decoder import sentences


@pytest.mark.parametrize(
  'pieces',
  [
    ['Dr. Smith lives on St. James St. in London.', 'He works.'],
    ['I met St. Peter, Mr. J. R. R. Lee and Mrs. Jones.', 'They came.'],
    ['Prof. Dr. Li, M.D., saw Lt. Col. Ray vs. Gen. Lee at 5 p.m. sharp.'],
    ['Use e.g. this one, i.e. that; see Fig. 3 and No. 5 etc. and so on.'],
    ['Version 2.0.1 cost $3.50, or 1,000.5 each.', 'Good.'],
    ['Wait... what?', 'No way!!', 'He left…', 'She stayed… or not.'],
    ['I said "Stop!" and he left.', '"Go!" she cried.', "He said 'No.'"],
    ['He said, “I am here.”', 'Then he left.'],
    ['U.S. rules hold in the U.S. and in Washington D.C. too.', 'Yes.'],
    ['the cat sees a dog.', 'it runs.', 'who?', 'me!'],
    ['no end'],
    ['مرحبا.', 'كيف حالك؟', 'جيد.'],
    ['नमस्ते।', 'आप कैसे हैं?'],
  ],
)
def test_sentences_with_spaces(pieces):
  assert sentences.split(' '.join(pieces)) == pieces
  assert sentences.split('\n'.join(pieces)) == pieces


@pytest.mark.parametrize(
  'pieces',
  [
    ['他说：“你好。”', '然后走了。'],
    ['她说：「好！」', '他笑了。', '『是吗？！』', '（真的。）', '是'],
    ['谢谢。」', '「不客气。」'],
    ['今天好。', '我有书！', '好；', '走。'],
    ['他说："你好。"', '然后走了。', '"二。"', '三'],
    ['我是Dr. Wang。', '你好!', 'How are you?', '我很好。', '3.14是圆周率。'],
    ['圆周率是3.14，不是3.15。', '是的……好吧。'],
    ['こんにちは。', '元気ですか？', '「はい。」', 'と言った。'],
  ],
)
def test_sentences_without(pieces):
  assert sentences.split(''.join(pieces)) == pieces


@pytest.mark.parametrize('text', ['', ' \n ', '\u2028'])
def test_nothing_has_no_sentence(text):
  assert sentences.split(text) == []


@hypothesis.given(
  st.lists(
    st.sampled_from(
      ['Dr. ', 'a. ', '。', '”', '“', '"', "'", '… ', '?! ', '\n', '好', 'The ']
    )
    | st.text(st.characters(exclude_categories=['Cs']), max_size=4),
    max_size=12,
  ).map(''.join)
)
def test_every_character_is_spoken_once(text):
  pieces = sentences.split(text)
  assert re.sub(r'\s+', '', ''.join(pieces)) == re.sub(r'\s+', '', text)
  assert all(piece == piece.strip() != '' for piece in pieces)
  assert pieces == sentences.split(text)
