"""Every convention against the public tool's own output, line by line."""

import pytest

from step_audio_jax.evaluation import conventions
from tests.evaluation.conventions import goldens

# The pairs of which papers give one error rate each, in percent.
SAME_PAIR = {
  'qwen2audio': (20.0, 0.0, 0.0, 42.9, 12.5),
  'kimi': (23.1, 0.0, 0.0, 42.9, 16.7),
  'seed-tts': (25.0, 42.9, 44.4, 42.9, 12.5),
  'jiwer-cer': (28.6, 42.9, 44.4, 42.9, 30.0),
}
NAMES = [name for name in conventions.CONVENTIONS if name != 'plain-words']


@pytest.fixture(scope='module')
def scored():
  return conventions.score_all(NAMES, goldens.utterances())


@pytest.mark.parametrize('name', NAMES)
def test_as_the_public_tool(name, scored):
  rows = {row.id: row for row in scored[name].rows}
  convention = conventions.find(name)
  given = {utterance[0]: utterance[1:] for utterance in goldens.utterances()}
  lines = goldens.lines(name)
  assert len(lines) >= 200
  for line in lines:
    row = rows[line['id']]
    assert row.counted == ('dropped' not in line), line
    if not row.counted:
      assert row.reason
      continue
    counts = [row.length, row.substitutions, row.deletions, row.insertions]
    if len(line['counts']) == 2:  # a tool that tells no kinds apart
      counts = [row.length, row.errors]
    assert counts == line['counts'], line
    if 'normalised' in line:
      assert [row.reference, row.hypothesis] == line['normalised']
    if 'tokens' in line:
      tokens = convention.tokens(*given[line['id']])
      assert [' '.join(one) for one in tokens] == line['tokens']


@pytest.mark.parametrize('name', NAMES)
def test_what_has_no_golden_line_is_dropped_with_a_reason(name, scored):
  there = {line['id'] for line in goldens.lines(name)}
  for row in scored[name].rows:
    if row.id not in there:
      assert not row.counted and 'is not covered' in row.reason


@pytest.mark.parametrize('name', SAME_PAIR)
def test_one_pair_has_many_rates(name):
  pairs = [one for one in goldens.utterances() if one[0].endswith('a')][:5]
  found = conventions.score(name, pairs)
  rates = tuple(round(100 * row.rate, 1) for row in found.rows)
  assert rates == SAME_PAIR[name]
