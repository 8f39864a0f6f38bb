"""Repetition against a count by hand."""

import hypothesis
from hypothesis import strategies
import pytest

from step_audio_jax import errors
from step_audio_jax.evaluation.quality import repetition


@hypothesis.given(
  strategies.lists(strategies.integers(0, 3), max_size=12),
  strategies.integers(1, 4),
)
def test_it_is_a_count(parts, length):
  seen, repeated = [], 0
  for start in range(len(parts) - length + 1):
    gram = parts[start : start + length]
    repeated += gram in seen
    seen.append(gram)
  found = repetition.count(parts, length)
  assert (found.repeated, found.total) == (repeated, len(seen))
  assert found.share == (repeated / len(seen) if seen else None)


def test_runs_and_sums():
  assert repetition.count('abbbca').longest == 3
  assert repetition.count('').longest == 0
  one, two = repetition.count([7] * 5), repetition.count(range(10))
  both = repetition.total([one, two])
  assert (both.repeated, both.total, both.longest) == (2, 11, 5)
  assert repetition.total([]).share is None


def test_words_of_chinese_are_characters():
  assert repetition.of_text('好的好的好的').repeated == 2
  assert repetition.of_text('Good, good GOOD good').repeated == 1
  with pytest.raises(errors.UserError, match='length is 0'):
    repetition.count('abc', 0)
