"""A text in sentences.

Full stops are judged by Wikimedia's `sentencex`, which knows abbreviations
(Dr., St., e.g.), initials, numbers and quotations in any language. What East
Asian texts end with ends a sentence always, closing quotation marks and
brackets included, and so does a line.
"""

import re
import unicodedata

import sentencex

# What follows an end and still belongs to it.
_CLOSING = '”’」』）】〉》〕〗｣\\)\\]»'
_WIDE_END = re.compile(
  f'[。！？；｡]+[。！？；｡!?…]*(?:[{_CLOSING}]|(?P<straight>["\']))*'
)
# An ellipsis ends a sentence where a capital letter follows.
_ELLIPSIS = re.compile(f'(?<=…)[{_CLOSING}]*\\s+(?=\\W*[^\\W\\d_])')
# `sentencex` was made for languages with spaces; its rules for full stops do
# not depend on the language but for some abbreviations.
_LANGUAGE = 'en'


def split(text: str) -> list[str]:
  """The sentences of a text, in order, without the space between them."""
  found = []
  for line in text.splitlines():
    for part in _wide_parts(line):
      found += _join_closing(_narrow_parts(part))
  return [piece.strip() for piece in found if piece.strip()]


def _wide_parts(line: str) -> list[str]:
  """A line cut behind East Asian ends."""
  parts, begin = [], 0
  for match in _WIDE_END.finditer(line):
    end = match.end()
    if match['straight']:
      # It closes what was opened before, else it opens what follows.
      end = match.start('straight')
      if line[begin:end].count(match['straight']) % 2:
        end = match.end()
    parts.append(line[begin:end])
    begin = end
  return [*parts, line[begin:]]


def _narrow_parts(text: str) -> list[str]:
  """What is cut at full stops, exclamation and question marks."""
  # An abbreviation is looked for from the space before it on.
  shown = ''.join(
    ' ' if _is_wide(here) and following.isascii() else here
    for here, following in zip(text, [*text[1:], ''])
  )
  pieces, begin = [], 0
  for piece in sentencex.segment(_LANGUAGE, shown):
    pieces += _behind_ellipses(text[begin : begin + len(piece)])
    begin += len(piece)
  return [*pieces, text[begin:]]


def _is_wide(character: str) -> bool:
  return (
    unicodedata.category(character) == 'Lo'
    and unicodedata.east_asian_width(character) == 'W'
  )


def _behind_ellipses(text: str) -> list[str]:
  parts, begin = [], 0
  for match in _ELLIPSIS.finditer(text):
    letters = filter(str.isalpha, text[match.end() :])
    if next(letters, '').isupper():
      parts.append(text[begin : match.end()])
      begin = match.end()
  return [*parts, text[begin:]]


def _join_closing(pieces: list[str]) -> list[str]:
  """Closing marks go with the sentence that they close."""
  found: list[str] = []
  for piece in pieces:
    rest = piece.lstrip(_CLOSING.replace('\\', ''))
    if found and rest != piece and found[-1] == found[-1].rstrip():
      found[-1] += piece[: len(piece) - len(rest)]
      piece = rest
    found.append(piece)
  return found
