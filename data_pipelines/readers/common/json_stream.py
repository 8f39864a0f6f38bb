"""The elements of an array in a JSON file that does not fit into memory.

    {"dataset": …, "audios": [{…}, {…}, …]}
    [{…}, {…}, …]

A buffer slides over the file; `JSONDecoder.raw_decode` takes one element
after the other from it. Elements are objects, so that one which parses is
whole. An element that does not parse is passed over by its brackets.
"""

import json
import pathlib
import re
from typing import Any, Iterator

from data_pipelines.readers.common import base
from step_audio_jax import errors
from step_audio_jax.storage import files

CHUNK = 2**20  # characters
ELEMENT = 64 * 2**20  # a longer element is not waited for
_SPACE = re.compile(r'[ \t\r\n]*')
# Strings as a whole, so that brackets in them do not count.
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"?|[{}\[\]]', re.DOTALL)
# An error this near to the end of the buffer may come from the cut.
_NEAR = 16


class _Broken(ValueError):
  """What is there is no JSON."""


class _Window:
  """A sliding part of a text."""

  def __init__(self, handle, pairs: base.Pairs | None = None):
    self._handle = handle
    self._text, self._place, self._dropped = '', 0, 0
    self._decode = json.JSONDecoder(object_pairs_hook=pairs).raw_decode

  @property
  def offset(self) -> int:
    """Characters before the place."""
    return self._dropped + self._place

  def _grow(self) -> bool:
    """Reads as much again; False at the end or at the limit."""
    held = len(self._text) - self._place
    more = self._handle.read(max(CHUNK, held)) if held < ELEMENT else ''
    self._text = self._text[self._place :] + more
    self._dropped += self._place
    self._place = 0
    return bool(more)

  def peek(self) -> str:
    """The next character that is no space; '' at the end."""
    while True:
      self._place = _SPACE.match(self._text, self._place).end()
      if self._place < len(self._text):
        return self._text[self._place]
      if not self._grow():
        return ''

  def skip(self, sign: str) -> None:
    """Goes past one character."""
    found = self.peek()
    if found != sign:
      raise _Broken(f'found {found!r}, expected {sign!r}')
    self._place += 1

  def value(self) -> Any:
    """The next value."""
    self.peek()
    while True:
      try:
        value, end = self._decode(self._text, self._place)
        size = end - self._place
        # A number may go on behind the buffer, whose end may be `1e-`.
        if len(self._text) - end > 2 or not self._grow():
          self._place += size
          return value
      except json.JSONDecodeError as error:
        cut = error.msg.startswith('Unterminated') or (
          error.pos >= len(self._text) - _NEAR
        )
        if not (cut and self._grow()):
          raise _Broken(error.msg) from error
      except (ValueError, RecursionError) as error:
        raise _Broken(str(error)) from error

  def pass_over(self) -> None:
    """Goes behind the closing bracket of an object that does not parse."""
    while True:
      depth = 0
      for token in _TOKENS.finditer(self._text, self._place):
        depth += {'{': 1, '[': 1, '}': -1, ']': -1}.get(token[0], 0)
        if depth <= 0:
          self._place = token.end()
          return
      if not self._grow():
        raise _Broken('no closing bracket')


_TEXT = {'mode': 'r', 'encoding': 'utf-8-sig', 'errors': 'surrogateescape'}


def is_array(path: pathlib.Path) -> bool:
  """Whether what a file holds begins as an array.

  Raises:
    UserError: The file cannot be opened.
  """
  with files.opened(path, **_TEXT) as handle:
    return _Window(handle).peek() == '['


def elements(
  path: pathlib.Path, key: str = '', pairs: base.Pairs | None = None
) -> Iterator[tuple[str, dict[str, Any]] | base.Rejected]:
  """The elements of an array in a file.

  Args:
    path: The file; bytes that are not UTF-8 become lone surrogates.
    key: Names an array of objects in the file's object; if empty the file is
      that array.
    pairs: As `base.json_lines`.

  Yields:
    (where, element); a `Rejected` for one that is no object, and at the end
    for a file that stops too early.

  Raises:
    UserError: The file cannot be opened, or has no such array.
  """
  with files.opened(path, **_TEXT) as handle:
    window = _Window(handle, pairs)
    try:
      if key:
        window.skip('{')
        while window.value() != key:
          window.skip(':')
          window.value()
          window.skip(',')
        window.skip(':')
      window.skip('[')
    except _Broken as error:
      wanted = f'object with an array {key!r}' if key else 'array'
      raise errors.UserError(
        f'{path}: character {window.offset}: {error}; expected a JSON {wanted}.'
      ) from error
    number = 0
    try:
      while window.peek() != ']':
        number += 1
        yield _element(window, f'{path}: {key}[{number - 1}]')
        if window.peek() != ']':
          window.skip(',')
    except _Broken as error:
      yield base.Rejected(
        f'{path}: {key}[{number}]',
        f'cut short or damaged at character {window.offset}: {error}.',
      )


def _element(window, where):
  if window.peek() != '{':
    found = window.value()
    return base.Rejected(where, f'found {found!r:.50}, expected an object.')
  try:
    return where, window.value()
  except _Broken as error:
    window.pass_over()
    return base.Rejected(where, f'not JSON: {error}.')
