"""docs/evaluation.md, followed literally."""

import pathlib
import re

from step_audio_jax import languages

GUIDE = pathlib.Path(__file__).parents[2] / 'docs' / 'evaluation.md'


def tables():
  """The rows of the guide's tables, each a list of cells of `code`."""
  for line in GUIDE.read_text(encoding='utf-8').splitlines():
    if line.startswith('| ') and '`' in line:
      yield [
        (cell, re.findall('`([^`]+)`', cell)) for cell in line.split('|')[1:-1]
      ]


def test_the_tags_that_it_names_are_known():
  rows = [row for row in tables() if len(row) == 2]
  spellings = [row for row in rows if row[0][1]]
  assert len(spellings) == 7
  for (_, tags), (cell, becomes) in spellings:
    for tag in tags:
      if 'itself' in cell:
        assert languages.language_subtag(tag) is None, tag
      else:
        assert [languages.normalise(tag)] == becomes, tag


def test_it_names_every_language_without_spaces():
  named = [tag for row in tables() if not row[0][1] for tag in row[1][1]]
  assert sorted(named) == sorted(languages.SPACELESS)
