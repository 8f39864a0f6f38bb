"""Which of several options an answer chooses, read strictly.

A letter counts alone (`B`, `(b)`, `**B**`), in front of its own text or of a
full stop (`B. Paris`, `B. For …`), and behind words that say so (`the answer
is B`, `答案是B`). An option's own text counts alone and behind such words.
Looked at are the whole answer, its first and its last line, and what stands
behind such words; all that is found has to be the same one.
"""

import re
from typing import Iterator, Sequence

from step_audio_jax.evaluation.judges import parsing
from step_audio_jax.evaluation.judges import placement
from step_audio_jax.evaluation.judges import verdicts
from step_audio_jax.evaluation.metrics import quiz

_SAID = re.compile(
  r"\banswer(?: is|'s|’s)?\b|\b(?:option|choice)(?: is)?\b"
  r'|\b(?:choose|select|pick)\b|答案(?:是|为|选)?|应该?选|选(?:项|择)?',
  re.IGNORECASE,
)
_AROUND = ' \t\r\n*_`"\'“”‘’:：'
_ENDS = re.compile(r'[.;。；]\s')
_BEHIND = r'(?:or|and|nor|/|,|、|&|和|或|跟|与)'
_SEVERAL = re.compile(
  rf'\(?([A-Za-z])\)?(?:\s*{_BEHIND}\s*\(?[A-Z]\)?)+(?![\w\'’])'
)
_LETTERED = re.compile(
  r'(?P<open>[(\[（]?)(?P<letter>[A-Za-z])(?![\w\'’])[*_`"\'”]*'
  r'(?P<mark>\s*[.:：,，、)\]）\n-]+)?\s*[*_`"\'“]*(?P<rest>.*)',
  re.DOTALL,
)
_ROOM = 80  # characters of a claim beside the longest option
_REASON = re.compile(r'(?:because|since|as|for|，|因为)', re.IGNORECASE)


def chosen(said: str, options: Sequence[str]) -> verdicts.Verdict:
  """Place of the option that an answer chooses, from 0; or why there is none.

  Args:
    said: The answer.
    options: As they were shown, at most as many as there are letters.
  """
  texts = [tuple(quiz.words(one)) for one in options]
  places: set[int] = set()
  longest = max((len(one) for one in options), default=0)
  for claim in _claims(said, longest + _ROOM):
    places |= _read(claim.strip(_AROUND), texts)
  if len(places) > 1:
    return verdicts.Verdict(None, parsing.CONTRADICTORY)
  if not places:
    return verdicts.Verdict(None, parsing.PROSE)
  (place,) = places
  if place >= len(options):
    return verdicts.Verdict(None, parsing.OFF_SCALE)
  return verdicts.Verdict(float(place))


def _claims(said: str, most: int) -> Iterator[str]:
  """Where a choice may stand, with so many characters behind its words."""
  lines = [line for line in said.splitlines() if line.strip()]
  yield said
  for line in lines[:1] + lines[1:][-1:]:
    yield line
  for line in lines:
    for match in _SAID.finditer(line):
      behind = line[match.end() : match.end() + most]
      yield behind
      yield _ENDS.split(behind.strip().rstrip('.。!！'), maxsplit=1)[0]


def _read(claim: str, texts: Sequence[tuple[str, ...]]) -> set[int]:
  """Places that a claim names."""
  words = tuple(quiz.words(claim))
  # A text of one letter is that letter: `B` where the options are notes.
  found = {place for place, text in enumerate(texts) if text and text == words}
  if several := _SEVERAL.match(claim):
    letters = re.findall(r'(?<!\w)[A-Z](?!\w)', several[0].upper())
    return {placement.LETTERS.index(one) for one in letters}
  lettered = _LETTERED.fullmatch(claim)
  if not lettered:
    return found
  letter, rest = lettered['letter'], lettered['rest']
  place = placement.LETTERS.index(letter.upper())
  behind = tuple(quiz.words(rest))
  named = {place for place, text in enumerate(texts) if text and text == behind}
  if not behind:
    return found or {place}
  if named:
    return named | {place}
  is_marked = lettered['mark'] and (letter.isupper() or lettered['open'])
  if is_marked or letter.isupper() and _REASON.match(rest):
    return {place}
  return found
