"""Edit counters against their tools' rules, in full and without shortcuts."""

import hypothesis
from hypothesis import strategies as st
import pytest

from step_audio_jax.evaluation.conventions import edits

tokens = st.lists(st.sampled_from('abc'), max_size=8)
COUNTERS = ('diagonal', 'jiwer', 'kaldi', 'wenet')


def by_the_table(reference, hypothesis_, order):
  """(S, D, I) of the cell-by-cell tables of the tools.

  `order` is what a cell prefers among equally cheap ways.
  """
  table = {(0, 0): (0, 0, 0)}
  for i in range(len(reference) + 1):
    for j in range(len(hypothesis_) + 1):
      ways = {}
      if i and j:
        wrong = reference[i - 1] != hypothesis_[j - 1]
        s, d, n = table[i - 1, j - 1]
        ways['S'] = (s + wrong, d, n)
      if i:
        s, d, n = table[i - 1, j]
        ways['D'] = (s, d + 1, n)
      if j:
        s, d, n = table[i, j - 1]
        ways['I'] = (s, d, n + 1)
      if ways:
        table[i, j] = min(
          (ways[kind] for kind in order if kind in ways), key=sum
        )
  return table[len(reference), len(hypothesis_)]


@hypothesis.given(tokens, tokens)
@hypothesis.settings(deadline=None)
def test_ties_are_broken_as_the_tool_breaks_them(a, b):
  for counter, order in (
    ('diagonal', 'SDI'),
    ('kaldi', 'IDS'),
    ('wenet', 'DIS'),
  ):
    assert getattr(edits, counter)(a, b) == by_the_table(a, b, order)


@hypothesis.given(tokens, tokens)
@hypothesis.settings(deadline=None)
def test_all_find_the_least_number_of_edits(a, b):
  least = edits.edit_distance(a, b)
  for counter in COUNTERS:
    found = getattr(edits, counter)(a, b)
    assert sum(found) == least
    assert found[1] - found[2] == len(a) - len(b)


def test_compounds_cost_nothing():
  ours, theirs = 'the ice cream man'.split(), 'the icecream men'.split()
  assert edits.compounds(ours, theirs) == (1, 0, 0)
  assert edits.compounds(theirs, ours) == (1, 0, 0)
  assert edits.kaldi(ours, theirs) == (2, 1, 0)


def test_a_missing_library_is_told(monkeypatch):
  from step_audio_jax import errors
  from step_audio_jax.evaluation.conventions import libraries

  with pytest.raises(errors.UserError, match=r'no_such_library.*conventions\]'):
    libraries.load('no_such_library')
