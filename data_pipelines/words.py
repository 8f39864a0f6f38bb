"""Words of a text, in scripts with spaces and without.

Where a word begins and ends, with the punctuation that goes with it: what
alignment times and what interleaving chooses from.
"""

import re
from typing import Sequence
import unicodedata

from step_audio_jax import errors

# Scripts that are written without spaces: one character is one word.
_UNSPACED = (
  '\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff'
  '\uf900-\ufaff\uff66-\uff9f\U00020000-\U000323af'
)
_WORD = re.compile(
  f'[{_UNSPACED}][\u3099\u309a]*|(?![{_UNSPACED}])[^\\W_][^\\s{_UNSPACED}]*'
)
_OPENING = ('Ps', 'Pi')  # punctuation that goes with the word behind it

Place = tuple[int, int]


def spans(text: str) -> tuple[Place, ...]:
  """Cuts a text into words with the punctuation that goes with them.

  Words are separated by white space; in scripts without it every character
  is one. What has neither letter nor digit is no word.
  """
  found = [match.span() for match in _WORD.finditer(text)]
  if not found and text.strip():
    found = [(0, len(text))]
  return cover_gaps(text, found)


def count(text: str) -> int:
  """How many `spans` there are."""
  return sum(1 for _ in _WORD.finditer(text)) or int(bool(text.strip()))


def locate(transcript: str, words: Sequence[str]) -> list[Place]:
  """(start, end) of each word in the transcript, in order."""
  places, at = [], 0
  for word in words:
    found = transcript.find(word, at)
    if found < 0:
      raise errors.UserError(
        f'words: {word!r} does not occur in order in the text '
        f'{transcript[:40]!r}.'
      )
    at = found + len(word)
    places.append((found, at))
  return places


def cover_gaps(text: str, places: Sequence[Place]) -> tuple[Place, ...]:
  """Word spans that cover the text: a gap goes to one of its neighbours."""
  if not places:
    return ()
  edges = [(0, _leading_space(text))]
  for (_, end), (start, _) in zip(places, places[1:]):
    before, behind = _gap(text[end:start])
    edges.append((end + before, end + behind))
  edges.append((len(text.rstrip()), len(text)))
  return tuple((a[1], b[0]) for a, b in zip(edges, edges[1:]))


def _gap(gap: str) -> Place:
  """How much of a gap goes with the word before, and where the next begins."""
  if gap == ' ':  # nearly always
    return 0, 1
  if not gap:
    return 0, 0
  head = len(gap.split(maxsplit=1)[0]) if not gap[0].isspace() else 0
  if head < len(gap):
    return head, head + _leading_space(gap[head:])
  while head and unicodedata.category(gap[head - 1]) in _OPENING:
    head -= 1
  return head, head


def _leading_space(text: str) -> int:
  return len(text) - len(text.lstrip())
