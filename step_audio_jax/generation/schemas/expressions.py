r"""Regular expressions of JSON Schema as trees over sets of code points.

Of ECMA-262's language: characters, classes, groups, alternatives and
repetitions; `^` and `$` where a whole alternative begins or ends. What is not
regular (look-around, back references) or needs tables of Unicode (`\p`) is
refused.

Implementations differ in what `\d`, `\w`, `\s` and `.` match beyond ASCII, so
every set is a pair: what all of them match, and what any of them does. Only
what all match is generated.
"""

import functools
import re
from typing import Iterable

from step_audio_jax.generation.schemas import limits

Ranges = tuple[tuple[int, int], ...]  # of code points, sorted, disjoint
# ('set', ranges), ('all', nodes in order), ('any', alternatives), ('repeat',
# node, least, most or None).
Node = tuple
Refused = limits.Refused

ALL: Ranges = ((0, 0xD7FF), (0xE000, 0x10FFFF))
LONGEST, DEEPEST, MOST = 2000, 40, 1000
_COUNT = re.compile(r'\{(\d{1,6})(,(\d{1,6})?)?\}')
_ESCAPES = {'t': 9, 'n': 10, 'v': 11, 'f': 12, 'r': 13, '0': 0}
_DIGITS = ((48, 57),)
_WORDS = ((48, 57), (65, 90), (95, 95), (97, 122))
_BREAKS = ((10, 10), (13, 13), (0x2028, 0x2029))
_SPACES = ((9, 13), (32, 32), (0xA0, 0xA0), (0x1680, 0x1680))
_SPACES += ((0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F))
_SPACES += ((0x205F, 0x205F), (0x3000, 0x3000))
_ASTRAL = ((0x10000, 0x10FFFF),)


def union(*sets: Iterable[tuple[int, int]]) -> Ranges:
  """Code points of any."""
  out: list[tuple[int, int]] = []
  for low, high in sorted(r for some in sets for r in some):
    if out and low <= out[-1][1] + 1:
      out[-1] = out[-1][0], max(out[-1][1], high)
    else:
      out.append((low, high))
  return tuple(out)


def complement(ranges: Ranges) -> Ranges:
  """All other code points; surrogates are none."""
  out = []
  for first, last in ALL:
    for low, high in ranges:
      if high < first or low > last:
        continue
      if low > first:
        out.append((first, low - 1))
      first = high + 1
    if first <= last:
      out.append((first, last))
  return tuple(out)


@functools.cache
def _beyond_ascii(letter: str) -> Ranges:
  """What some implementation calls a digit or a part of a word."""
  test = str.isdigit if letter == 'd' else str.isalnum
  places = [(c, c) for c in range(128, 0x10000) if test(chr(c))]
  return union(places, _ASTRAL)


@functools.cache
def _shorthand(letter: str) -> tuple[Ranges, Ranges]:
  r"""(what all match, what any matches) of `\d` and its like."""
  kind = letter.lower()
  if kind == 's':
    sure = _SPACES
    maybe = union(sure, ((0x1C, 0x1F), (0x85, 0x85), (0xFEFF, 0xFEFF)))
  else:
    sure = _DIGITS if kind == 'd' else _WORDS
    maybe = union(sure, _beyond_ascii(kind))
  if letter != kind:
    return complement(maybe), complement(sure)
  return sure, maybe


def literal(text: str) -> Node:
  """The tree of one text."""
  return ('all', [('set', ((ord(c), ord(c)),)) for c in text])


def whole(pattern: str) -> Node:
  """The tree of all texts in which a pattern is found.

  Raises:
    Refused: It is not supported.
  """
  if len(pattern) > LONGEST:
    raise Refused(f'it has {len(pattern)} characters, at most {LONGEST}')
  reader = _Reader(pattern)
  tree = reader.alternatives(0, top=True)
  if reader.place < len(pattern):
    raise Refused(f'")" at {reader.place} closes nothing')
  return tree


class _Reader:
  """Reads a pattern from left to right."""

  def __init__(self, pattern: str):
    self.pattern, self.place = pattern, 0

  def _next(self, count: int = 1) -> str:
    return self.pattern[self.place : self.place + count]

  def _take(self, what: str) -> bool:
    found = self.pattern.startswith(what, self.place)
    self.place += len(what) if found else 0
    return found

  def alternatives(self, depth: int, top: bool = False) -> Node:
    if depth > DEEPEST:
      raise Refused(f'groups are nested more than {DEEPEST} deep')
    found = [self._sequence(depth, top)]
    while self._take('|'):
      found.append(self._sequence(depth, top))
    return found[0] if len(found) == 1 else ('any', found)

  def _sequence(self, depth: int, top: bool) -> Node:
    anything = ('repeat', ('set', ALL), 0, None)
    items: list[Node] = []
    opened = closed = False
    while self.place < len(self.pattern) and self._next() not in '|)':
      if closed:
        raise Refused('"$" stands before the end of an alternative')
      if self._take('^'):
        if items or not top or opened:
          raise Refused('"^" stands inside an alternative or a group')
        opened = True
      elif self._take('$'):
        if not top:
          raise Refused('"$" stands in a group')
        closed = True
      else:
        items.append(self._repeated(self._atom(depth)))
    if top:
      items = [anything] * (not opened) + items + [anything] * (not closed)
    return items[0] if len(items) == 1 else ('all', items)

  def _repeated(self, node: Node) -> Node:
    counts = {'*': (0, None), '+': (1, None), '?': (0, 1)}
    found = None
    if self._next() in counts and self._next():
      found = counts[self._next()]
      self.place += 1
    elif match := _COUNT.match(self.pattern, self.place):
      least = int(match[1])
      most = least if match[2] is None else int(match[3]) if match[3] else None
      if max(least, most or 0) > MOST:
        raise Refused(f'{match[0]} repeats more than {MOST} times')
      if most is not None and most < least:
        raise Refused(f'{match[0]} is no range')
      self.place, found = match.end(), (least, most)
    if found is None:
      if self._next() == '{':
        raise Refused(f'"{{" at {self.place} is no repetition; write "\\{{"')
      return node
    self._take('?')  # a lazy one matches the same texts
    if self._next() in ('*', '+', '?') or _COUNT.match(
      self.pattern, self.place
    ):
      raise Refused(f'two repetitions follow each other at {self.place}')
    return ('repeat', node, *found)

  def _atom(self, depth: int) -> Node:
    start = self.place
    if self._take('('):
      if self._take('?') and not self._take(':'):
        name = re.match(r'<[A-Za-z_]\w*>', self.pattern[self.place :])
        if name is None:
          raise Refused(f'"(?{self._next()}" at {start} is not supported')
        self.place += name.end()
      node = self.alternatives(depth + 1)
      if not self._take(')'):
        raise Refused(f'"(" at {start} is not closed')
      return node
    if self._take('['):
      return ('set', self._class()[0])
    if self._take('.'):
      return ('set', complement(_BREAKS))
    if self._take('\\'):
      return ('set', self._escaped(False)[0])
    if self._next() in '*+?{':
      raise Refused(f'"{self._next()}" at {start} repeats nothing')
    return ('set', self._literal())

  def _literal(self) -> Ranges:
    code = ord(self._next())
    if 0xD800 <= code <= 0xDFFF:
      raise Refused('half a surrogate pair is no character')
    self.place += 1
    return ((code, code),)

  def _escaped(self, inside: bool) -> tuple[Ranges, Ranges]:
    """(sure, maybe) of what is behind a backslash."""
    letter = self._next()
    self.place += 1
    if letter and letter in 'dwsDWS':
      return _shorthand(letter)
    code = None
    if letter in _ESCAPES and letter:
      if letter == '0' and self._next().isdigit():
        raise Refused('octal escapes are not supported')
      code = _ESCAPES[letter]
    elif letter == 'b' and inside:
      code = 8
    elif letter == 'x':
      code = self._hex(2)
    elif letter == 'u':
      code = self._hex(4)
    elif letter and not letter.isalnum():
      code = ord(letter)
    if code is None or 0xD800 <= code <= 0xDFFF:
      raise Refused(f'"\\{letter}" is not supported')
    return ((code, code),), ((code, code),)

  def _hex(self, digits: int) -> int | None:
    match = re.compile(f'[0-9A-Fa-f]{{{digits}}}').match(
      self.pattern, self.place
    )
    if match is None:
      return None
    self.place = match.end()
    return int(match[0], 16)

  def _class(self) -> tuple[Ranges, Ranges]:
    """(sure, maybe) of what is behind a bracket, up to its end."""
    start, negative = self.place - 1, self._take('^')
    sure: list[Ranges] = []
    maybe: list[Ranges] = []
    if self._next() == ']':
      raise Refused(f'the class at {start} is empty')
    while not self._take(']'):
      if self.place >= len(self.pattern):
        raise Refused(f'"[" at {start} is not closed')
      one = self._member()
      if self._next() == '-' and self._next(2) not in ('-]', '-'):
        self.place += 1
        last = self._member()
        if not (_is_one(one) and _is_one(last)):
          raise Refused(f'a range of the class at {start} has no ends')
        if last[0][0][0] < one[0][0][0]:
          raise Refused(f'a range of the class at {start} runs backwards')
        span = ((one[0][0][0], last[0][0][0]),)
        one = _without_surrogates(span), span
      sure.append(one[0])
      maybe.append(one[1])
    found = union(*sure), union(*maybe)
    return (complement(found[1]), complement(found[0])) if negative else found

  def _member(self) -> tuple[Ranges, Ranges]:
    if self._take('\\'):
      return self._escaped(True)
    one = self._literal()
    return one, one


def _is_one(member: tuple[Ranges, Ranges]) -> bool:
  ranges = member[0]
  return len(ranges) == 1 and ranges[0][0] == ranges[0][1]


def _without_surrogates(ranges: Ranges) -> Ranges:
  return complement(complement(ranges))
