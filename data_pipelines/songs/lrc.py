"""LRC: lyrics with times.

    [ar:Ann & Bob]                       a tag: artist; ti, al, by, length, …
    [offset:+500]                        ms by which all lines come sooner
    [00:12.00]First line                 minutes, seconds and parts of one
    [00:15.30][01:02.30]A refrain        is sung twice
    [00:18.00]<00:18.00>By <00:18.40>words<00:19.10>
    [00:22.00]                           here the line before ends

A line lasts until the next time, the last one until somebody says how long the
track is. Words, where they are told, begin at their tags; the end of a word is
the next tag. Lines that begin with `#` are remarks.
"""

import bisect
import dataclasses
import os
import re
from typing import Mapping

from step_audio_jax import errors
from step_audio_jax.storage import files

ENDING = '.lrc'
_LARGEST = 10**6  # bytes; a song has a few thousand
_BRACKET = re.compile(r'\s*\[([^\[\]]*)\]')
_TIME = re.compile(r'(\d{1,3}):(\d{1,2})(?:[.:,](\d{1,3}))?')
_NAMED = re.compile(r'\s*([A-Za-z#][\w ]*?)\s*:(.*)', re.DOTALL)
_WORD = re.compile(r'<([^<>]*)>')
_OFFSET = re.compile(r'[+-]?\d{1,6}')

Word = tuple[str, float, float]


@dataclasses.dataclass(frozen=True)
class Lyric:
  """A line that is sung.

  Attributes:
    start: Seconds from the beginning of the track.
    end: Of its time, seconds; None for the last line of the track.
    text: Without tags.
    words: (word, start, end) with seconds from the beginning of the track; the
      last end is None where the line's is. Empty where no word has a time.
    number: Line of the file, from 1.
  """

  start: float
  end: float | None
  text: str
  words: tuple[Word, ...]
  number: int


@dataclasses.dataclass(frozen=True)
class Lyrics:
  """Lyrics of a track.

  Attributes:
    lines: By their start.
    tags: What the file says of the track: `ar`, `ti`, …, lower case.
  """

  lines: tuple[Lyric, ...]
  tags: Mapping[str, str]

  @property
  def artist(self) -> str | None:
    """Who sings; None where the file does not say."""
    return self.tags.get('ar') or None


def read(path: str | os.PathLike, encoding: str = 'utf-8-sig') -> Lyrics:
  """Reads a file.

  Raises:
    UserError: It is missing, no text in this encoding, or as `parse`.
  """
  with files.opened(path) as handle:
    raw = handle.read(_LARGEST + 1)
  if len(raw) > _LARGEST:
    raise errors.UserError(
      f'{path}: more than {_LARGEST} bytes, expected lyrics of one track.'
    )
  try:
    text = raw.decode(encoding)
  except UnicodeDecodeError as error:
    raise errors.UserError(
      f'{path}: not {encoding.removesuffix("-sig")} at byte {error.start}, '
      'expected text in that encoding.'
    ) from error
  return parse(text, str(path))


def parse(text: str, name: str = 'lrc') -> Lyrics:
  """Lyrics of a text.

  Args:
    text: Of a file.
    name: What messages call it.

  Raises:
    UserError: A line has no time or a wrong one, two texts are sung at the
      same time, words are not in order, or nothing is sung at all.
  """
  tags: dict[str, str] = {}
  found: list[tuple[float, str, tuple, int]] = []
  for number, line in enumerate(text.splitlines(), start=1):
    if line.strip() and not line.lstrip().startswith('#'):
      found += _line(line, tags, f'{name}:{number}', number)
  shift = _offset(tags, name)
  return Lyrics(tuple(_timed(found, shift, name)), tags)


def _line(line, tags, where, number):
  """Times, text and words of a line; takes its tags."""
  times, place = [], 0
  while match := _BRACKET.match(line, place):
    named = _NAMED.fullmatch(match[1])
    if named and not times:
      key = named[1].lower()
      value = named[2].strip()
      if key == 'offset' and tags.get(key, value) != value:
        raise errors.UserError(
          f'{where}: offset: found {value} behind {tags[key]}, expected one.'
        )
      tags.setdefault(key, value)
    elif not match[1].strip()[:1].isdigit():
      break  # words in brackets
    else:
      times.append(_seconds(match[1], where))
    place = match.end()
  rest = line[place:].strip()
  if not times:
    if rest:
      raise errors.UserError(
        f'{where}: found {_shown(rest)} without a time, expected '
        '[minutes:seconds] before it.'
      )
    return []
  text, words = _words(rest, where)
  if words and len(times) > 1:
    raise errors.UserError(
      f'{where}: {len(times)} times and times of words, expected one time: '
      'words cannot be sung at two.'
    )
  if words and words[0][1] < times[0] - 1e-6:
    raise errors.UserError(
      f'{where}: a word at {words[0][1]:g} s, expected none before its line, '
      f'at {times[0]:g} s.'
    )
  return [(time, text, words, number) for time in times]


def _words(rest, where):
  """Text of a line, and (word, start, end or None) where they have times."""
  pieces = _WORD.split(rest)
  if len(pieces) == 1:
    return ' '.join(rest.split()), ()
  times = [_seconds(piece, where) for piece in pieces[1::2]]
  if times != sorted(times):
    late = next(a for a, b in zip(times, times[1:]) if b < a)
    raise errors.UserError(
      f'{where}: a word behind {late:g} s is earlier, expected rising times.'
    )
  if pieces[0].strip():
    raise errors.UserError(
      f'{where}: found {_shown(pieces[0].strip())} before the first time of a '
      'word, expected a time for it.'
    )
  ends = [*times[1:], None]
  words = tuple(
    (' '.join(piece.split()), time, end)
    for piece, time, end in zip(pieces[2::2], times, ends)
    if piece.strip()
  )
  return ' '.join(''.join(pieces[::2]).split()), words


def _seconds(text, where) -> float:
  match = _TIME.fullmatch(text.strip())
  if match is None or int(match[2]) >= 60:
    raise errors.UserError(
      f'{where}: found the time {_shown(text)}, expected minutes:seconds with '
      'seconds below 60, as in 01:23.45.'
    )
  part = match[3] or ''
  seconds = 60 * int(match[1]) + int(match[2])
  return seconds + (int(part) / 10 ** len(part) if part else 0.0)


def _offset(tags, name) -> float:
  text = tags.get('offset') or '0'
  if not _OFFSET.fullmatch(text):
    raise errors.UserError(
      f'{name}: offset: found {_shown(text)}, expected whole milliseconds, as '
      'in +500.'
    )
  return int(text) / 1000


def _timed(found, shift, name):
  """Lines by their start, with their ends."""
  found = sorted(found, key=lambda one: one[0])
  times = sorted({one[0] for one in found})
  sung = [one for one in found if one[1]]
  for one, other in zip(sung, sung[1:]):
    if one[0] == other[0] and one[1] != other[1]:
      raise errors.UserError(
        f'{name}:{other[3]}: found {_shown(other[1])} at {one[0]:g} s, where '
        f'line {one[3]} has another text; expected one: translations belong '
        'into a file of their own.'
      )
  lines = []
  for start, text, words, number in sung:
    later = bisect.bisect_right(times, start)
    end = times[later] if later < len(times) else None
    if words and end is not None and words[-1][1] > end + 1e-6:
      raise errors.UserError(
        f'{name}:{number}: a word at {words[-1][1]:g} s, expected none behind '
        f'the end of its line, {end:g} s.'
      )
    if start < shift:
      raise errors.UserError(
        f'{name}:{number}: {start:g} s less the offset of {shift:g} s is '
        'before the beginning.'
      )
    ends = [end if one is None else one for _, _, one in words]
    ends = [None if x is None else min(x, end or x) for x in ends]
    words = tuple(
      (word, _moved(at, shift), _moved(stop, shift))
      for (word, at, _), stop in zip(words, ends)
    )
    lines.append(
      Lyric(_moved(start, shift), _moved(end, shift), text, words, number)
    )
  if not lines:
    raise errors.UserError(
      f'{name}: nothing is sung in it, expected lines as [00:12.00]text.'
    )
  seen, kept = set(), []
  for line in lines:  # the same refrain twice at one time
    if (line.start, line.text) not in seen:
      seen.add((line.start, line.text))
      kept.append(line)
  return kept


def _moved(time: float | None, shift: float) -> float | None:
  return None if time is None else round(time - shift, 6)


def _shown(text: str) -> str:
  return repr(text if len(text) <= 40 else f'{text[:40]}…')
