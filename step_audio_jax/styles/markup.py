r"""Texts with tags in them.

    (高兴1)(fast 2) Good news. (sad 1) And bad, (pause 2) very bad.

    text   = {words | group}
    group  = bracket {white space or a comma, bracket}
    bracket = "(" tag {("," | "、" | ";") tag} ")"      also （ … ）

A tag holds from its place on, until another of its axis takes its place or
`(normal)` takes back all. A pause is at its place and holds no longer.

Ordinary brackets are text, by one rule. A bracket is a group's where everything
in it is a tag. It is taken for a misspelt one, and refused with the nearest,

* where it is nearly a tag's name with a level from 1 to 5, as `(fasst 2)`;
* before the first word of the text, where it is any one word of two letters or
  more with such a level, as `(jolly 2)`, or nearly a tag's name, as `(sadd)`.

So `(see page 3)`, `(1)` and `(图3)` are spoken wherever they stand, and
`(chapter 2)` is but at the start. `\(` is a bracket that is spoken, always.
"""

import dataclasses
import re
from typing import Iterable, Sequence

from step_audio_jax import errors
from step_audio_jax.styles import tags as tags_lib

_BRACKET = re.compile(r'(?<!\\)[(（]([^()（）]*)[)）]')
_ESCAPE = re.compile(r'\\([(（])')
_BETWEEN = ' \t\r\n\u3000,，、;；'  # brackets of one group
_LIST = re.compile(r'[,，、;；]')
Tag = tags_lib.Tag
Style = tags_lib.Style


@dataclasses.dataclass(frozen=True)
class Span:
  """A part of a text that is spoken in one way.

  Attributes:
    text: What is said, with the white space around it.
    style: How.
    pause: Level of the pause before it; 0 for none.
  """

  text: str
  style: Style = Style()
  pause: int = 0


def parse(text: str, style: Style = Style()) -> tuple[Span, ...]:
  """A text in spans; their texts, joined, are it without its tags.

  Args:
    text: With tags anywhere, or none.
    style: What holds before the first tag.

  Returns:
    At least one span, whose words may be none where there is no tag.

  Raises:
    UserError: A tag does not exist or has no such level, two of a group
      contradict each other, or nothing stands behind one.
  """
  spans = []
  for group, words in _chunks(text):
    if group and not any(map(str.isalnum, words)):
      raise errors.UserError(
        f'text: found {_shown(group)} with no word behind it, expected tags '
        'before what they are about.'
      )
    pauses = [tag for tag in group if _is_pause(tag)]
    for other in pauses[1:]:
      if other != pauses[0]:
        raise tags_lib.contradiction(pauses[0], other)
    held = [tag for tag in group if tag and not _is_pause(tag)]
    if None in group:
      style = Style(tuple(held))
    elif held:
      style = style.changed(held)
    pause = pauses[0].level if pauses else 0
    if spans and not pause and style == spans[-1].style:
      last = spans.pop()
      words, pause = last.text + words, last.pause
    spans.append(Span(words, style, pause))
  return tuple(spans)


def write(spans: Iterable[Span], escape: bool = True) -> str:
  """Spans as a text, in the one spelling of tags; `parse` gives them back.

  Args:
    spans: Of `parse`, or some in their order.
    escape: Whether brackets that are spoken, and look like tags, are marked as
      such; a model is asked without.
  """
  parts, held = [], Style()
  for span in spans:
    axes = {tag.axis for tag in span.style.tags}
    group = str(span.style)
    if any(tag.axis not in axes for tag in held.tags):
      group = f'({tags_lib.NORMAL}){group}'
    else:
      new = tuple(tag for tag in span.style.tags if tag not in held.tags)
      group = str(Style(new))
    if span.pause:
      group += f'({Tag("停顿", span.pause)})'
    text = _BRACKET.sub(_escaped, span.text) if escape else span.text
    parts += [group, text]
    held = span.style
  return ''.join(parts)


def plain(spans: Iterable[Span]) -> str:
  """What is said, without tags."""
  return ''.join(span.text for span in spans)


def cut(spans: Sequence[Span], start: int, stop: int) -> tuple[Span, ...]:
  """The spans of characters `start` … `stop` of `plain`."""
  found, at = [], 0
  for span in spans:
    begin, end = max(start - at, 0), min(stop - at, len(span.text))
    if begin < end:
      pause = 0 if span.text[:begin].strip() else span.pause
      found.append(Span(span.text[begin:end], span.style, pause))
    at += len(span.text)
  return tuple(found)


def tags_of(spans: Iterable[Span]) -> tuple[Tag, ...]:
  """All tags that are in a text, each once."""
  found: list[Tag] = []
  for span in spans:
    found += span.style.tags
    found += [Tag('停顿', span.pause)] if span.pause else []
  return tuple(dict.fromkeys(found))


def style(text: str) -> Style:
  """Tags alone, as `(fast 2)(四川话)` or without brackets, `fast 2`.

  Raises:
    UserError: Something is no tag, or two contradict each other.
  """
  found, at = [], 0
  for match in _BRACKET.finditer(text):
    if between := text[at : match.start()].strip(_BETWEEN):
      raise tags_lib.unknown(between)
    found += _LIST.split(match[1])
    at = match.end()
  if rest := text[at:].strip(_BETWEEN):
    found += _LIST.split(rest)
  held = []
  for part in found:
    if tags_lib.is_normal(part):
      continue
    if (tag := tags_lib.find(part)) is None:
      raise tags_lib.unknown(part.strip())
    held.append(tag)
  if not found:
    raise errors.UserError(
      'style: found nothing, expected tags such as (fast 2).'
    )
  return Style(tuple(held))


def _chunks(text: str) -> list[tuple[list[Tag | None], str]]:
  """(tags, words behind them); None among the tags takes all back."""
  chunks: list[tuple[list, str]] = [([], '')]

  def add(words: str) -> None:
    group, before = chunks[-1]
    words = _ESCAPE.sub(r'\1', words)
    earlier = before or (chunks[-2][1] if len(chunks) > 1 else '')
    if not before and (not earlier or earlier[-1].isspace()):
      words = words.lstrip()
    chunks[-1] = (group, before + words)

  at = 0
  for match in _BRACKET.finditer(text):
    before = text[at : match.start()]
    said = before + ''.join(words for _, words in chunks)
    found = _meant(match[1], leading=not any(map(str.isalnum, said)))
    if found is None:
      continue
    at = match.end()
    if before.strip(_BETWEEN):
      add(before)
      chunks.append((found, ''))
    else:
      chunks[-1][0].extend(found)
  add(text[at:])
  return chunks


def _meant(content: str, leading: bool) -> list[Tag | None] | None:
  """The tags of a bracket; None where it is text.

  Raises:
    UserError: It is meant as a tag, and there is none such.
  """
  found = []
  for part in _LIST.split(content):
    tag = tags_lib.find(part)
    if tag is None and not tags_lib.is_normal(part):
      break
    found.append(tag)
  else:
    return found
  if _is_misspelt(content, leading):
    known = tags_lib.unknown(content.strip())
    raise errors.UserError(rf'{known} `\(` is a bracket that is spoken.')
  return None


def _is_misspelt(content: str, leading: bool) -> bool:
  name, level = tags_lib.split(content)
  if len(name) < 2 or not name.replace(' ', '').isalpha():
    return False
  near = tags_lib.nearest(name) is not None
  if level is None:
    return leading and near
  if not 1 <= level <= tags_lib.LEVELS:
    return False
  return near or (leading and ' ' not in name)


def _escaped(match: re.Match) -> str:
  """A bracket of a text, so that it is read as text."""
  try:
    is_text = _meant(match[1], leading=True) is None
  except errors.UserError:
    is_text = False
  return match[0] if is_text else f'\\{match[0]}'


def _is_pause(tag: Tag | None) -> bool:
  return tag is not None and tag.axis == 'pause'


def _shown(group: Sequence[Tag | None]) -> str:
  return ''.join(f'({tag.english if tag else "normal"})' for tag in group)
