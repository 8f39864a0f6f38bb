"""The id space, against the published test vectors of Step-Audio."""

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.vocabulary import CONTROL
from step_audio_jax.vocabulary import Vocabulary

STEP_AUDIO = Vocabulary(table_size=74752)


class Letters:
  """A text vocabulary of single characters, behind the control pieces."""

  size = vocabulary_lib.CONTROL_SIZE + 128

  def encode(self, text):
    return [vocabulary_lib.CONTROL_SIZE + ord(c) for c in text]

  def decode(self, ids):
    first = vocabulary_lib.CONTROL_SIZE
    return ''.join(chr(i - first) for i in ids if i >= first)


LETTERS = Vocabulary.over(Letters(), multiple=128)


def codes(size):
  return st.lists(st.integers(0, size - 1), max_size=23)


def test_step_audio_layout():
  assert STEP_AUDIO.linguistic_offset == 65536
  assert STEP_AUDIO.semantic_offset == 66560
  assert STEP_AUDIO.end == 70656
  assert STEP_AUDIO.table_size == 74752


def test_published_interleave():
  ids = STEP_AUDIO.interleave([1, 2, 3, 4], [10, 11, 12, 13, 14, 15])
  assert ids.dtype == np.int32
  assert ids.tolist() == [
    *(65537, 65538, 66570, 66571, 66572),
    *(65539, 65540, 66573, 66574, 66575),
  ]


def test_published_control_pieces():
  assert [CONTROL[f'<{name}>'] for name in ('unk', 's', '/s')] == [0, 1, 2]
  assert CONTROL['<|EOT|>'] == 3 and CONTROL['<|BOT|>'] == 4
  assert CONTROL['<audio_start>'] == 31 and CONTROL['<text_end>'] == 34
  assert [CONTROL[f'<|{n}|>'] for n in ('TTS', 'ASR', 'TQAA', 'AQTA')] == [
    *(35, 36, 37, 38)
  ]
  assert len(set(CONTROL.values())) == len(CONTROL)
  assert max(CONTROL.values()) < vocabulary_lib.CONTROL_SIZE


def test_published_audio_strings():
  assert STEP_AUDIO.from_audio_string('<audio_1><audio_1025>').tolist() == [
    *(65537, 66561)
  ]
  assert STEP_AUDIO.to_audio_string([65537, 66561]) == '<audio_1><audio_1025>'


@pytest.mark.parametrize(
  ('linguistic', 'semantic', 'groups', 'mixed'),
  # The streams of 1, 0.5, 3, 5 and 10 seconds.
  [
    (16, 25, 8, 40),
    (8, 13, 4, 20),
    (50, 75, 25, 125),
    (83, 125, 41, 205),
    (167, 250, 83, 415),
  ],
)
def test_published_lengths(linguistic, semantic, groups, mixed):
  ids = STEP_AUDIO.interleave(np.arange(linguistic), np.arange(semantic))
  assert len(ids) == mixed == 5 * groups


def test_rates():
  assert vocabulary_lib.LINGUISTIC_HZ == pytest.approx(16.667, abs=1e-3)
  assert vocabulary_lib.SEMANTIC_HZ == pytest.approx(25.0)


@hypothesis.given(linguistic=codes(1024), semantic=codes(4096))
def test_interleave_round_trip(linguistic, semantic):
  ids = STEP_AUDIO.interleave(linguistic, semantic)
  groups = min(len(linguistic) // 2, len(semantic) // 3)
  back = STEP_AUDIO.deinterleave(ids)
  assert back[0].tolist() == linguistic[: 2 * groups]
  assert back[1].tolist() == semantic[: 3 * groups]


@hypothesis.given(linguistic=codes(1024), semantic=codes(4096))
def test_audio_string_round_trip(linguistic, semantic):
  ids = LETTERS.interleave(linguistic, semantic)
  text = LETTERS.to_audio_string(ids)
  np.testing.assert_array_equal(LETTERS.from_audio_string(text), ids)
  assert LETTERS.encode(text) == ids.tolist()


@hypothesis.given(
  linguistic=codes(1024).filter(lambda c: len(c) > 1),
  semantic=codes(4096).filter(lambda c: len(c) > 2),
  data=st.data(),
)
def test_one_id_out_of_place_is_found(linguistic, semantic, data):
  ids = STEP_AUDIO.interleave(linguistic, semantic)
  place = data.draw(st.integers(0, len(ids) - 1))
  other = 66560 if place % 5 < 2 else 65536
  ids[place] = data.draw(st.sampled_from([other, 0, 65535, 70656]))
  with pytest.raises(errors.UserError, match=f'at position {place} breaks'):
    STEP_AUDIO.deinterleave(ids)


def test_every_id_has_one_kind():
  ids = np.arange(LETTERS.table_size)
  kinds = np.stack(
    [
      LETTERS.is_text(ids),
      LETTERS.is_linguistic(ids),
      LETTERS.is_semantic(ids),
      ids >= LETTERS.end,
    ]
  )
  np.testing.assert_array_equal(kinds.sum(0), 1)
  assert kinds.sum(1).tolist() == [196, 1024, 4096, LETTERS.table_size - 5316]


def test_over_another_text_vocabulary():
  assert LETTERS.text_size == 196 and LETTERS.table_size == 5376
  assert LETTERS.interleave([0, 1023], [0, 1, 4095]).tolist() == [
    *(196, 1219, 1220, 1221, 5315)
  ]


@hypothesis.given(
  parts=st.lists(
    st.sampled_from(sorted(CONTROL))
    | st.text(st.characters(min_codepoint=32, max_codepoint=59), max_size=5)
    | st.integers(0, 5119).map(lambda k: f'<audio_{k}>'),
    max_size=8,
  )
)
def test_special_pieces_are_atomic(parts):
  wanted = []
  for part in parts:
    if part in CONTROL:
      wanted.append(CONTROL[part])
    elif part.startswith('<audio_'):
      wanted.append(196 + int(part[7:-1]))
    else:
      wanted.extend(Letters().encode(part))
  ids = LETTERS.encode(''.join(parts))
  assert ids == wanted
  plain = [p for p in parts if p not in CONTROL and p[:7] != '<audio_']
  assert LETTERS.decode(ids) == ''.join(plain)


@pytest.mark.parametrize(
  ('call', 'told'),
  [
    (lambda: LETTERS.interleave([1024], [0]), 'linguistic codes: code 1024'),
    (lambda: LETTERS.interleave([0, -1], [0]), 'code -1 at position 1'),
    (lambda: LETTERS.interleave([0], [4096]), 'semantic codes: code 4096'),
    (lambda: LETTERS.interleave([0.5], [1]), 'dtype float64, expected integ'),
    (lambda: LETTERS.deinterleave([196] * 4), 'found 4 ids, expected a mult'),
    (lambda: LETTERS.encode('<audio_5120>'), '<audio_5120>: expected 0..5119'),
    (lambda: LETTERS.from_audio_string('<audio_1> x'), "found 'x', expected"),
    (lambda: Vocabulary(text_size=9, table_size=5128), 'expected at least 51'),
    (lambda: Vocabulary(text_size=9, text=Letters()), 'has 196 pieces'),
  ],
)
def test_bad_input(call, told):
  with pytest.raises(errors.UserError, match=told.replace('+', r'\+')):
    call()


def test_text_needs_a_tokenizer():
  with pytest.raises(ValueError, match='without a text tokenizer'):
    STEP_AUDIO.encode('a')
  with pytest.raises(ValueError, match='without a text tokenizer'):
    STEP_AUDIO.decode([1])
