"""Document layouts, id by id, with their loss weights."""

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from step_audio_jax import documents
from step_audio_jax import errors
from tests.data_pipelines.letters import TABLE
from tests.data_pipelines.letters import codes

BOS, EOT, AUDIO, TEXT = 1, 3, 31, 33

LINGUISTIC = np.array([7, 8, 9, 10, 11], np.uint16)  # two groups, one left
SEMANTIC = np.array([20, 21, 22, 23, 24, 25], np.uint16)
A = [507, 508, 1544, 1545, 1546, 509, 510, 1547, 1548, 1549]
HI = [100 + ord('h'), 100 + ord('i')]


def check(document, tokens, weights):
  assert document.tokens.dtype == np.int32
  assert document.loss_weights.dtype == np.float32
  assert document.tokens.tolist() == tokens
  assert document.loss_weights.tolist() == weights


def test_text():
  check(documents.text(TABLE, 't', 'hi'), [BOS, *HI, EOT], [0, 1, 1, 1])


def test_continuation():
  check(
    documents.continuation(TABLE, 'c', LINGUISTIC, SEMANTIC),
    [BOS, AUDIO, *A, EOT],
    [0, 0, *[1] * 10, 1],
  )


@pytest.mark.parametrize('prompt_loss', [0.0, 0.5, 1.0])
def test_asr(prompt_loss):
  p = prompt_loss
  check(
    documents.asr(TABLE, 'a', 'hi', LINGUISTIC, SEMANTIC, prompt_loss=p),
    [BOS, 36, AUDIO, *A, TEXT, *HI, EOT],
    [0, 0, 0, *[p] * 10, p, 1, 1, 1],
  )


@pytest.mark.parametrize('prompt_loss', [0.0, 1.0])
def test_tts(prompt_loss):
  p = prompt_loss
  check(
    documents.tts(TABLE, 'a', 'hi', LINGUISTIC, SEMANTIC, prompt_loss=p),
    [BOS, 35, TEXT, *HI, AUDIO, *A, EOT],
    [0, 0, 0, p, p, p, *[1] * 10, 1],
  )


def test_image_text():
  image = np.full((4, 4, 3), 9, np.uint8)
  document = documents.image_text(TABLE, 'i', 'hi', image, patches=3)
  check(
    document,
    [BOS, 14, 13, 13, 13, 15, TEXT, *HI, EOT],
    [0, 0, 0, 0, 0, 0, 0, 1, 1, 1],
  )
  assert document.image_slots.tolist() == [2]
  assert document.images.shape == (1, 4, 4, 3)


@pytest.mark.parametrize('prompt_loss', [0.0, 0.5])
def test_chat(prompt_loss):
  p = prompt_loss
  human, assistant = (
    [100 + ord(c) for c in f'{role}\n'] for role in ('human', 'assistant')
  )
  turns = [('user', (LINGUISTIC, SEMANTIC)), ('assistant', 'hi')]
  check(
    documents.chat(TABLE, 'c', turns, prompt_loss=p),
    [BOS, 4, *human, *A, EOT, 4, *assistant, *HI, EOT],
    [
      *[0] * (2 + len(human)),
      *[p] * (len(A) + 1),
      *[0] * (1 + len(assistant)),
      *[1, 1, 1],
    ],
  )
  with pytest.raises(errors.UserError, match='none of the assistant'):
    documents.chat(TABLE, 'c', turns[:1])
  with pytest.raises(errors.UserError, match='text: '):
    documents.chat(TABLE, 'c', [('assistant', '')])


def test_control_pieces_in_a_transcript_are_only_characters():
  tokens = documents.text(TABLE, 't', '<|EOT|>').tokens[1:-1]
  assert EOT not in tokens and len(tokens) == len('<|EOT|>')


def test_nothing_to_say_is_an_error():
  with pytest.raises(errors.UserError, match='has no ids'):
    documents.text(TABLE, 't', '')
  with pytest.raises(errors.UserError, match='at least 2 and 3'):
    documents.continuation(TABLE, 'c', LINGUISTIC[:1], SEMANTIC)
  with pytest.raises(errors.UserError, match='code 1024 at position 0'):
    documents.asr(TABLE, 'c', 'hi', [1024, 1], SEMANTIC)


@hypothesis.given(st.integers(1, 30), st.integers(2, 200))
def test_a_cut_keeps_groups_whole_and_learns_every_id_once(groups, room):
  document = documents.continuation(TABLE, 'c', *codes(groups))
  pieces = document.split(room)
  if pieces is None:
    assert room < 7 or groups == 1 and room < len(document)
    return
  first, second = pieces
  assert len(first) <= room and len(first) % 5 == 2
  assert second.tokens[:2].tolist() == [BOS, AUDIO]
  assert second.loss_weights[:2].tolist() == [0, 0]
  whole = np.concatenate([first.tokens, second.tokens[2:]])
  np.testing.assert_array_equal(whole, document.tokens)
  learnt = first.loss_weights.sum() + second.loss_weights.sum()
  assert learnt == document.loss_weights.sum()


def test_what_may_not_be_cut():
  document = documents.asr(TABLE, 'a', 'hi', LINGUISTIC, SEMANTIC)
  assert document.split(8) is None
  assert documents.text(TABLE, 't', 'abc').split(2)[0].tokens.tolist() == [
    BOS, 100 + ord('a')
  ]  # fmt: skip
