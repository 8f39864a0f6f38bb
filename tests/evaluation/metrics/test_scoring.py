"""Error rates against a plain dynamic programme and hand-counted pairs."""

import hypothesis
from hypothesis import strategies as st
import pytest

from step_audio_jax.evaluation.metrics import scoring

WORDS = st.lists(st.sampled_from('abc'), max_size=9)


def plain_distance(a, b):
  """The textbook table, one cell at a time."""
  table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
  for i in range(len(a) + 1):
    for j in range(len(b) + 1):
      if not i or not j:
        table[i][j] = i + j
      else:
        table[i][j] = min(
          table[i - 1][j] + 1,
          table[i][j - 1] + 1,
          table[i - 1][j - 1] + (a[i - 1] != b[j - 1]),
        )
  return table


@hypothesis.given(WORDS, WORDS)
def test_every_prefix_distance_equals_the_plain_table(a, b):
  assert scoring.distances(a, b).tolist() == plain_distance(a, b)


@hypothesis.given(WORDS, WORDS)
def test_alignment_rebuilds_both_sides_at_the_least_cost(a, b):
  steps = scoring.align(a, b)
  assert [ref for _, ref, _ in steps if ref is not None] == a
  assert [hyp for _, _, hyp in steps if hyp is not None] == b
  for kind, ref, hyp in steps:
    assert kind == (
      'D' if hyp is None else 'I' if ref is None else 'S' if ref != hyp else '='
    )
  assert sum(step[0] != '=' for step in steps) == plain_distance(a, b)[-1][-1]


@hypothesis.given(WORDS, WORDS)
def test_counts_add_up(a, b):
  errors = scoring.count(''.join(a), ''.join(b))
  assert errors.total == scoring.edit_distance(a, b)
  assert errors.reference == len(a)
  # Lengths balance: what was inserted less what was deleted.
  assert errors.insertions - errors.deletions == len(b) - len(a)


@pytest.mark.parametrize(
  'reference, hypothesis_, language, mode, expected',
  [
    ('The  cat\n', 'the cat', 'en', 'character', (7, 0, 0, 0)),
    ('the cat', 'thecat', 'en', 'character', (7, 0, 1, 0)),
    ('the cat sat', 'the bat sat down', 'en', 'word', (3, 1, 0, 1)),
    ('今天 天气', '今天天气', 'zh', 'character', (4, 0, 0, 0)),
    ('今天天气', '今天气', 'zh-CN', 'word', (4, 0, 1, 0)),
    ('', 'ab', 'en', 'character', (0, 0, 0, 2)),
    ('ab', '', 'en', 'character', (2, 0, 2, 0)),
  ],
)
def test_convention(reference, hypothesis_, language, mode, expected):
  errors = scoring.count(reference, hypothesis_, language, mode)
  assert errors.astuple() == expected


@pytest.mark.parametrize(
  'language',
  'zh zh_CN cmn_hans_cn zho Chinese zh-Hant-TW yue wuu Mandarin'.split(),
)
def test_every_spelling_of_chinese_has_the_same_rate(language):
  errors = scoring.count('今天 天气 很好', '今天天汽很好', language, 'word')
  assert errors.rate == pytest.approx(1 / 6)


@pytest.mark.parametrize(
  'language, reference',
  [
    ('th', 'วัน นี้ อากาศ'),
    ('ja_jp', '今日 は 晴れ'),
    ('jpn', '今日 は 晴れ'),
    ('lo', 'ສະ ບາຍ ດີ'),
    ('km', 'សួ ស្តី'),
    ('my', 'မင်္ ဂလာ'),
    ('bo', 'བཀྲ ཤིས'),
    ('unheard-of', '今天 天气'),  # the text decides
    ('en', '今天 天气'),
  ],
)
def test_spaces_are_no_errors_where_none_are_written(language, reference):
  tight = reference.replace(' ', '')
  for mode in ('character', 'word'):
    errors = scoring.count(reference, tight, language, mode)
    assert errors.astuple() == (len(tight), 0, 0, 0)
    wrong = scoring.count(reference, tight[1:], language, mode)
    assert wrong.astuple() == (len(tight), 0, 1, 0)


def test_the_reference_decides_for_both():
  errors = scoring.count('今天', 'to day', 'en', 'word')
  assert errors.reference == 2 and errors.total == 5  # t o d a y
  errors = scoring.count('the cat', '今天 天气', 'en', 'word')
  assert errors.astuple() == (2, 2, 0, 0)


def test_rate_is_corpus_level_not_a_mean_of_rates():
  pairs = [('a', 'b', 'en'), ('abcdefghi', 'abcdefghi', 'en')]
  assert scoring.corpus_errors(pairs).rate == pytest.approx(0.1)


def test_rate_without_references():
  assert scoring.Errors().rate == 0.0
  assert scoring.Errors(insertions=1).rate == float('inf')
  assert scoring.corpus_errors([]).as_dict() == {
    'reference': 0,
    'substitutions': 0,
    'deletions': 0,
    'insertions': 0,
    'rate': 0.0,
  }


def test_insertions_can_pass_one():
  assert scoring.count('a', 'bcde').rate == pytest.approx(4.0)


def test_unknown_mode():
  with pytest.raises(ValueError, match="'character' or 'word'"):
    scoring.tokens('a', mode='phone')


def test_display_lines_up():
  assert scoring.format_alignment('abcd', 'abxde') == (
    'abcd*',
    'abxde',
    '  S I',
  )
  lines = scoring.format_alignment('kitten', 'sitting')
  assert lines == ('kitten*', 'sitting', 'S   S I')
