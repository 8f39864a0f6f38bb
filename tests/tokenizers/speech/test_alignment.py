"""Codes and times: closed forms, both directions, the original's tails."""

import json
import pathlib

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.tokenizers.speech import alignment
from tests.tokenizers.speech import tiny_dual

GOLDEN = pathlib.Path(__file__).parents[2] / 'golden'


def test_spans_are_those_of_the_rates():
  begin, end = alignment.time_span(np.arange(3))
  np.testing.assert_allclose(begin, [0, 0.12, 0.24])
  np.testing.assert_allclose(end, [0.12, 0.24, 0.36])
  assert alignment.time_span(50, 'linguistic') == (3.0, 3.06)
  assert alignment.time_span(50, 'semantic') == (2.0, 2.04)


@hypothesis.given(
  st.integers(0, 10**6), st.sampled_from(sorted(alignment.SAMPLES))
)
def test_times_and_indices_are_inverse(index, stream):
  """Exactly, at every boundary: floats that are a hair off do not matter."""
  begin, end = alignment.time_span(index, stream)
  assert alignment.index_at(begin, stream) == index
  assert alignment.index_at((begin + end) / 2, stream) == index
  assert alignment.index_at(end, stream) == index + 1


@hypothesis.given(st.integers(0, 5000))
def test_every_id_lies_inside_its_group(place):
  begin, end = alignment.id_span(place)
  group = place // vocabulary.GROUP
  outer = alignment.time_span(group)
  assert outer[0] <= begin < end <= outer[1]
  stream = 'linguistic' if place % vocabulary.GROUP < 2 else 'semantic'
  ids = vocabulary.STEP_AUDIO.interleave(
    np.arange(2 * (group + 1)) % 1024, np.arange(3 * (group + 1)) % 4096
  )
  one, two = vocabulary.STEP_AUDIO.deinterleave(ids)
  at = alignment.index_at(begin, stream)
  code = one[at] if stream == 'linguistic' else two[at] + 1024
  assert ids[place] == 65536 + code


def test_ids_of_one_group_in_order():
  begin, end = alignment.id_span(np.arange(5, 10))
  np.testing.assert_allclose(begin, [0.12, 0.18, 0.12, 0.16, 0.20])
  np.testing.assert_allclose(end, [0.18, 0.24, 0.16, 0.20, 0.24])


def test_a_word_and_its_ids():
  assert alignment.groups_between(0.13, 0.36) == (1, 3)
  assert alignment.groups_between(0.12, 0.361) == (1, 4)
  assert alignment.groups_between(0.12, 0.12) == (1, 1)
  assert alignment.ids_between(0.13, 0.36) == slice(5, 15)
  assert alignment.seconds(10) == 0.24
  assert alignment.seconds(14) == 0.24


@pytest.mark.parametrize(
  'seconds, expected',
  # Published lengths of the original: linguistic, semantic, groups.
  [(1, (16, 25, 8)), (0.5, (8, 13, 4)), (3, (50, 75, 25)), (5, (83, 125, 41))]
  + [(10, (167, 250, 83)), (0.01, (0, 0, 0)), (30.02, (500, 750, 250))],
)
def test_counts_of_a_signal(seconds, expected):
  assert alignment.code_counts(round(seconds * 16000)) == expected


def test_counts_are_those_of_the_tokenizer():
  tokenizer = tiny_dual.small()
  for samples in (100, 700, 1919, 1920, 8000, 12800):
    pair = tokenizer.encode(tiny_dual.speechlike(samples, 1))
    counts = alignment.code_counts(samples)
    assert tuple(map(len, pair)) == counts[:2]
    ids = vocabulary.STEP_AUDIO.interleave(*pair)
    assert len(ids) == counts[2] * vocabulary.GROUP


def test_packing_matches_golden_in_both_directions():
  """Codes → ids → text → ids → codes, as the original packs them."""
  table = vocabulary.STEP_AUDIO
  z = np.load(GOLDEN / 'preprocess_A.npz')
  cases = json.loads(str(z['out/packing_json']))
  assert cases
  for case in cases.values():
    ids = table.interleave(case['vq02'], case['vq06'])
    assert ids.tolist() == case['ids']
    assert table.to_audio_string(ids) == case['text']
    np.testing.assert_array_equal(table.from_audio_string(case['text']), ids)
    one, two = table.deinterleave(ids)
    assert one.tolist() == case['vq02'][: len(one)]
    assert two.tolist() == case['vq06'][: len(two)]


@pytest.mark.parametrize(
  'call, pattern',
  [
    (lambda: alignment.time_span(-1), 'group index: found -1'),
    (lambda: alignment.time_span(1, 'text'), "stream: found 'text'"),
    (lambda: alignment.index_at(-0.5), 'time: found -0.5'),
    (lambda: alignment.index_at(float('nan')), 'not a finite'),
    (lambda: alignment.groups_between(2.0, 1.0), 'the end behind the begin'),
    (lambda: alignment.id_span(-3), 'position: found -3'),
  ],
)
def test_bad_times_and_indices_are_told(call, pattern):
  with pytest.raises(errors.UserError, match=pattern):
    call()
