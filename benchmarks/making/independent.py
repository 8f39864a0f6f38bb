"""Leaks of test texts, counted by brute force: every pair, nothing shared.

Nothing here is taken from `data_pipelines.factory.leaks`: texts are compared
letter by letter, pair by pair. Two texts are the same where their letters and
digits are, whatever their case, punctuation, spaces and width; they overlap by
the n-grams of the one that are in the other, of whichever has fewer.
"""

import itertools
import json
import pathlib
import re
from typing import Any, Iterable
import unicodedata

LETTERS = 6  # of an n-gram; a Chinese character counts as two
FEWEST = 10  # n-grams that a text must have to overlap at all
SHARE = 0.8
_CHINESE = re.compile(r'[㐀-鿿]')


def letters(text: str) -> str:
  """What of a text is compared."""
  plain = unicodedata.normalize('NFKC', text.lower()).lower()
  return ''.join(c for c in plain if c.isalnum())


def pieces(text: str) -> set[str]:
  """Its n-grams."""
  plain = _CHINESE.sub(lambda found: f'{found[0]}-', letters(text))
  return {plain[k : k + LETTERS] for k in range(len(plain) - LETTERS + 1)}


def overlap(one: str, other: str) -> float:
  """Share of common n-grams; 0 where a text is too short to tell."""
  fewer, more = sorted((pieces(one), pieces(other)), key=len)
  if len(fewer) < FEWEST:
    return 0.0
  return sum(piece in more for piece in fewer) / len(fewer)


def lines(corpus: pathlib.Path) -> list[dict[str, Any]]:
  """The manifest of a corpus as it lies there."""
  text = (corpus / 'manifest.jsonl').read_text(encoding='utf-8')
  return [json.loads(line) for line in text.splitlines()]


def leaks(made: Iterable[dict], held_out: Iterable[dict]) -> dict[str, Any]:
  """What of a corpus is in the splits that are held out, by every pair.

  Args:
    made: Lines of the manifest that was made.
    held_out: Lines of the other; all splits but `train` are held out.

  Returns:
    `same` texts, `overlapping` ones and lines by `speakers` whom no training
    split has; the highest overlap that was let through.
  """
  made, held_out = list(made), list(held_out)
  tests = [one for one in held_out if one['split'] != 'train']
  trained = {one.get('speaker') for one in held_out if one['split'] == 'train'}
  voices = {one.get('speaker') for one in tests} - trained - {None}
  texts = {one['text'] for one in tests if one.get('text')}
  same = {letters(text) for text in texts}
  found = {'same': 0, 'overlapping': 0, 'speakers': 0}
  highest = 0.0
  for one in made:
    shares = [overlap(one['text'], text) for text in texts]
    found['same'] += letters(one['text']) in same
    found['overlapping'] += max(shares, default=0.0) >= SHARE
    found['speakers'] += one.get('speaker') in voices
    highest = max([highest, *shares])
  return {**found, 'highest_overlap': round(highest, 3)}


def twice(corpus: pathlib.Path) -> dict[str, int]:
  """What a corpus has twice, or has and does not name."""
  made = lines(corpus)
  ids = [one['id'] for one in made]
  audio = [one['audio'] for one in made]
  there = {f'wav/{path.name}' for path in (corpus / 'wav').iterdir()}
  text = (corpus / 'quarantine.jsonl').read_text(encoding='utf-8')
  refused = [json.loads(line)['id'] for line in text.splitlines()]
  repeated = sum(
    len(list(group)) - 1
    for names in (ids, audio, refused)
    for _, group in itertools.groupby(sorted(names))
  )
  return {
    'items_twice': repeated,
    'kept_and_refused': len(set(ids) & set(refused)),
    'files_unnamed': len(there - set(audio)),
    'files_missing': len(set(audio) - there),
  }
