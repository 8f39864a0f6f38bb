"""Document layouts, id by id, with their loss weights."""

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from data_pipelines import documents
from step_audio_jax import errors
from step_audio_jax import vocabulary

BOS, EOT, AUDIO, TEXT = 1, 3, 31, 33


class Letters:
  """Text ids 100 + code point; two ids above the control pieces."""

  size = 500

  def encode(self, text):
    return [100 + ord(c) % 300 for c in text]

  def decode(self, ids):
    return ''.join(chr(i - 100) for i in ids)


TABLE = vocabulary.Vocabulary.over(Letters())
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


def spans_of(document):
  """Takes an interleaved document apart: [(marker, ids)]."""
  tokens = document.tokens.tolist()
  assert tokens[0] == BOS and tokens[-1] == EOT
  spans = []
  for token in tokens[1:-1]:
    if token in (AUDIO, TEXT):
      spans.append((token, []))
    else:
      spans[-1][1].append(token)
  return spans


def codes(groups):
  rng = np.random.default_rng(groups)
  return rng.integers(0, 1024, 2 * groups), rng.integers(0, 4096, 3 * groups)


@hypothesis.given(
  st.lists(st.floats(0.01, 0.9), min_size=1, max_size=12),
  st.integers(1, 40),
  st.integers(0, 99),
)
def test_interleaving_says_every_word_once_and_in_order(gaps, groups, seed):
  letters = 'abcdefghijkl'[: len(gaps)]
  starts = np.cumsum([0.03, *gaps[:-1]])
  words = [
    (letter, start, start + gap)
    for letter, start, gap in zip(letters, starts, gaps)
  ]
  pair = codes(groups)
  document = documents.interleaved(
    TABLE, 'x', words, ' '.join(letters), *pair, np.random.default_rng(seed)
  )
  spans = spans_of(document)
  borders = documents.group_borders(starts, groups)
  whole = TABLE.interleave(*pair).reshape(-1, 5)
  place = 0
  for marker, ids in spans:
    assert ids
    if marker == TEXT:
      text = TABLE.text.decode(ids)
      assert text == ' '.join(letters)[2 * place : 2 * place + len(text)]
      place += len(text.split())
    else:
      # Which words end where this audio ends? The next text span tells; a
      # run of words without a group of their own rides along.
      assert len(ids) % 5 == 0
      start = int(borders[place])
      assert ids == whole[start : start + len(ids) // 5].reshape(-1).tolist()
      stop = start + len(ids) // 5
      ends = [k for k in range(place + 1, len(gaps) + 1) if borders[k] == stop]
      following = [i for m, i in spans if m == TEXT]
      done = [
        TABLE.text.decode(i).split()[0]
        for i in following
        if letters.index(TABLE.text.decode(i)[0]) >= place
      ]
      place = letters.index(done[0]) if done else len(gaps)
      assert place in ends
  assert place == len(gaps)
  markers = [marker for marker, _ in spans]
  assert all(a != b for a, b in zip(markers, markers[1:]))
  assert document.loss_weights.tolist() == [
    0.0, 0.0, *[1.0] * (len(document) - 2)
  ]  # fmt: skip


def test_spans_are_one_to_three_words_of_both_kinds():
  borders = np.arange(0, 121, 4)
  lengths, kinds = [], []
  for seed in range(200):
    spans = documents.draw_spans(borders, np.random.default_rng(seed))
    assert spans[0][1] == 0 and spans[-1][2] == 30
    assert all(a[2] == b[1] for a, b in zip(spans, spans[1:]))
    lengths += [last - first for _, first, last in spans[:-1]]
    kinds.append(spans[0][0])
  assert set(lengths) == {1, 2, 3}
  assert 60 < sum(kinds) < 140


def test_borders_share_out_every_group():
  borders = documents.group_borders([0.07, 0.3, 0.31, 2.0], 10)
  assert borders.tolist() == [0, 2, 3, 10, 10]


def test_words_must_be_in_the_text():
  with pytest.raises(errors.UserError, match="'cat' does not occur"):
    documents.interleaved(
      TABLE, 'x', [('cat', 0, 1)], 'the dog', *codes(9),
      np.random.default_rng(0),
    )  # fmt: skip


def test_mandarin_words_are_joined_as_the_text_has_them():
  words = [('小猫', 0.0, 0.5), ('喜欢', 0.5, 1.0), ('书', 1.0, 1.2)]
  found = set()
  for seed in range(40):
    document = documents.interleaved(
      TABLE, 'x', words, '小猫喜欢书', *codes(10), np.random.default_rng(seed)
    )
    for marker, ids in spans_of(document):
      if marker == TEXT:
        found.add(len(ids))
  assert found <= {1, 2, 3, 4, 5} and {1, 2, 4, 5} <= found


def test_segments_alternate():
  segments = [(f'u{k}', 'ab'[k % 2] * 2, *codes(k + 1)) for k in range(4)]
  first = set()
  for seed in range(10):
    document = documents.interleaved_segments(
      TABLE, segments, np.random.default_rng(seed)
    )
    assert document.id == 'u0+u1+u2+u3'
    spans = spans_of(document)
    assert len(spans) == 4
    first.add(spans[0][0])
    for (marker, ids), (_, text, *pair) in zip(spans, segments):
      want = TABLE.text.encode(text)
      if marker == AUDIO:
        want = TABLE.interleave(*pair).tolist()
      assert ids == want
  assert first == {AUDIO, TEXT}


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
