"""A small part of SSML 1.1 (W3C, 2010) as a text with tags.

    <speak>Come <prosody rate="fast" pitch="+2st">on.</prosody>
    <break time="700ms"/> No hurry.</speak>
    → Come (快速2)(高音2)on. (正常)(停顿3) No hurry.

    speak                  `xml:lang` is the language of it all
    prosody rate           120%, +20%, 1.2, x-slow … x-fast
            pitch          +2st, -10%, x-low … x-high
            volume         +4dB, x-soft … x-loud
    break   time           0.25 to 1.4 s, strength: none, x-weak … x-strong
    lang    xml:lang       of the languages and dialects that are tags

Figures become the nearest of five levels (`levels`); relative ones inside each
other add up. All else is refused with its name and place. It is read by expat
with no document type, entity or instruction, so that nothing is looked up.
"""

import dataclasses
import math
import re
from typing import NamedTuple
from xml.parsers import expat

from step_audio_jax import errors
from step_audio_jax import languages
from step_audio_jax.styles import levels
from step_audio_jax.styles import markup
from step_audio_jax.styles import tags as tags_lib

_LONGEST, _DEEPEST = 100_000, 32  # characters, elements in each other
_STARTS = re.compile(
  r'\s*(?:<\?xml\b[^>]*\?>\s*)?(?:<!--.*?-->\s*)*<speak\b', re.S
)
# Words for levels; `medium` and `default` are none.
_WORDS = {
  'rate': ('x-slow', 'slow', 'fast', 'x-fast'),
  'pitch': ('x-low', 'low', 'high', 'x-high'),
  'volume': ('x-soft', 'soft', 'loud', 'x-loud'),
}
_LEVELS = (-5, -2, 2, 5)  # of the words
_PLAIN = ('medium', 'default')
_NAMES = {  # lower and upper end
  'rate': ('慢速', '快速'),
  'pitch': ('低音', '高音'),
  'volume': ('小声', '大声'),
}
_EXPECTED = {
  'rate': '57% to 176%, or x-slow to x-fast',
  'pitch': '-5st to +5st, -25% to +33%, or x-low to x-high',
  'volume': '-10dB to +10dB, or x-soft to x-loud',
}
_STRENGTHS = ('none', 'x-weak', 'weak', 'medium', 'strong', 'x-strong')
_USUAL = 'medium'  # of a break that says nothing
_LANGUAGES = {
  'zh': '中文', 'en': '英文', 'ja': '日语', 'ko': '韩语', 'yue': '粤语',
}  # fmt: skip
_ATTRIBUTES = {
  'speak': ('version', 'xmlns', 'xml:lang', 'xmlns:xsi', 'xsi:schemaLocation'),
  'prosody': ('rate', 'pitch', 'volume'),
  'break': ('time', 'strength'),
  'lang': ('xml:lang',),
}
_NUMBER = r'([+-]?)(\d{1,6}(?:\.\d{1,6})?|\.\d{1,6})'


class Document(NamedTuple):
  """What was read.

  Attributes:
    spans: As of `markup.parse`.
    language: Subtag that `speak` names; None where it names none.
  """

  spans: tuple[markup.Span, ...]
  language: str | None


class _Held(NamedTuple):
  """What holds inside an element: steps of each axis, and a language."""

  rate: float = 0.0
  pitch: float = 0.0
  volume: float = 0.0
  language: str | None = None


def is_ssml(text: str) -> bool:
  """Whether a text begins as a document of SSML does."""
  return _STARTS.match(text) is not None


def parse(text: str) -> Document:
  """A document of SSML.

  Raises:
    UserError: It is not well-formed, has what is not supported here, or
      nothing is said in it; the sentence names element, line and column.
  """
  if len(text) > _LONGEST:
    raise errors.UserError(
      f'ssml: found {len(text)} characters, expected at most {_LONGEST}.'
    )
  return _Reader().read(text)


class _Reader:
  """One document."""

  def __init__(self):
    self._parser = parser = expat.ParserCreate('utf-8')
    parser.buffer_text = True
    parser.StartElementHandler = self._start
    parser.EndElementHandler = self._end
    parser.CharacterDataHandler = self._said
    parser.StartDoctypeDeclHandler = self._refused('a document type')
    parser.EntityDeclHandler = self._refused('an entity declaration')
    parser.ProcessingInstructionHandler = self._refused('an instruction')
    parser.SkippedEntityHandler = self._refused('an entity')
    self._open: list[str] = []
    self._held: list[_Held] = []
    self._language: str | None = None
    self._spans: list[markup.Span] = []
    self._pause = 0

  def read(self, text: str) -> Document:
    try:
      self._parser.Parse(text.encode('utf-8', 'surrogatepass'), True)
    except expat.ExpatError as error:
      told = expat.ErrorString(error.code)
      raise errors.UserError(
        f'ssml: line {error.lineno}, column {error.offset + 1}: {told}.'
      ) from error
    if self._pause:
      raise errors.UserError(
        'ssml: <break>: found with no word behind it, expected words.'
      )
    if not any(any(map(str.isalnum, one.text)) for one in self._spans):
      raise errors.UserError('ssml: found no word, expected something to say.')
    last = self._spans[-1]
    self._spans[-1] = dataclasses.replace(last, text=last.text.rstrip())
    return Document(tuple(self._spans), self._language)

  def _fault(self, fault: str) -> errors.UserError:
    line = self._parser.CurrentLineNumber
    column = self._parser.CurrentColumnNumber + 1
    return errors.UserError(f'ssml: line {line}, column {column}: {fault}')

  def _refused(self, what: str):
    def refuse(*_):
      raise self._fault(f'found {what}, expected none.')

    return refuse

  def _start(self, name: str, attributes: dict[str, str]) -> None:
    known = _ATTRIBUTES.get(name)
    if known is None:
      names = ', '.join(f'<{one}>' for one in _ATTRIBUTES)
      raise self._fault(
        f'<{name[:40]}>: not supported, expected one of {names}.'
      )
    if (name == 'speak') == bool(self._open):
      raise self._fault(
        f'<{name}>: found '
        f'{"inside" if self._open else "without"} <speak>, expected one '
        'around it all.'
      )
    if self._open and self._open[-1] == 'break':
      raise self._fault(f'<{name}>: found in a <break>, expected nothing.')
    if len(self._open) >= _DEEPEST:
      raise self._fault(f'<{name}>: more than {_DEEPEST} in each other.')
    for attribute in attributes:
      if attribute not in known:
        raise self._fault(
          f'<{name} {attribute[:40]}>: not supported, expected '
          f'{", ".join(known)}.'
        )
    held = self._held[-1] if self._held else _Held()
    if name == 'prosody':
      for axis, value in attributes.items():
        held = held._replace(**{axis: self._steps(axis, value, held)})
    elif name == 'break':
      self._pause = max(self._pause, self._level(attributes))
    elif 'xml:lang' in attributes:
      held = held._replace(language=self._known(name, attributes['xml:lang']))
    elif name == 'lang':
      raise self._fault('<lang>: xml:lang is missing.')
    self._open.append(name)
    self._held.append(held)

  def _end(self, name: str) -> None:
    self._open.pop()
    self._held.pop()

  def _known(self, name: str, value: str) -> str | None:
    subtag = languages.language_subtag(value)
    if name == 'speak':
      self._language = subtag
    if subtag is None or (name == 'lang' and subtag not in _LANGUAGES):
      raise self._fault(
        f'<{name} xml:lang>: found {value[:40]!r}, expected '
        f'{", ".join(_LANGUAGES)}.'
      )
    return subtag

  def _steps(self, axis: str, value: str, held: _Held) -> float:
    """Level of an axis, not yet rounded."""
    value, before = value.strip(), getattr(held, axis)
    if value in _PLAIN:
      return 0.0
    if value in _WORDS[axis]:
      return float(_LEVELS[_WORDS[axis].index(value)])
    steps = _READ[axis](value)
    # Rounded they are a level of five.
    if steps is None or abs(before + steps) >= tags_lib.LEVELS + 0.5:
      raise self._fault(
        f'<prosody {axis}>: found {value[:40]!r}, expected {_EXPECTED[axis]}.'
      )
    return before + steps

  def _level(self, attributes: dict[str, str]) -> int:
    """Of a break."""
    if 'time' not in attributes:
      strength = attributes.get('strength', _USUAL)
      if strength not in _STRENGTHS:
        raise self._fault(
          f'<break strength>: found {strength[:40]!r}, expected one of '
          f'{", ".join(_STRENGTHS)}.'
        )
      return _STRENGTHS.index(strength)
    time = attributes['time'].strip()
    found = re.fullmatch(rf'{_NUMBER}(ms|s)', time)
    seconds = -1.0
    if found and found[1] != '-':
      seconds = float(found[2]) / (1000 if found[3] == 'ms' else 1)
    if seconds == 0:
      return 0
    if not levels.PAUSES[0] / 2 <= seconds <= levels.PAUSES[-1] * 1.1:
      raise self._fault(
        f'<break time>: found {time[:40]!r}, expected {levels.PAUSES[0]}s to '
        f'{levels.PAUSES[-1]}s, or 0s.'
      )
    away = [abs(math.log(seconds / pause)) for pause in levels.PAUSES]
    return 1 + away.index(min(away))

  def _said(self, text: str) -> None:
    if self._open[-1] == 'break':
      raise self._fault('<break>: found text in it, expected nothing.')
    text = re.sub(r'\s+', ' ', text)
    spans = self._spans
    if text.startswith(' ') and spans and not spans[-1].text.endswith(' '):
      spans[-1] = dataclasses.replace(spans[-1], text=f'{spans[-1].text} ')
    text = text.lstrip(' ')
    if not text:
      return
    style = self._style()
    if not any(map(str.isalnum, text)):  # marks alone go with what is before
      if spans:
        spans[-1] = dataclasses.replace(spans[-1], text=spans[-1].text + text)
        return
      style = tags_lib.Style()
    pause = 0
    if any(map(str.isalnum, text)):
      pause, self._pause = self._pause, 0
    if spans and not pause and spans[-1].style == style:
      last = spans.pop()
      text, pause = last.text + text, last.pause
    spans.append(markup.Span(text, style, pause))

  def _style(self) -> tags_lib.Style:
    held, found = self._held[-1], []
    for axis, (lower, upper) in _NAMES.items():
      level = round(getattr(held, axis))
      if level:
        name = upper if level > 0 else lower
        found.append(tags_lib.Tag(name, abs(level)))
    if held.language not in (None, self._language):
      found.append(tags_lib.Tag(_LANGUAGES[held.language]))
    return tags_lib.Style(tuple(found))


def _ratio(value: str) -> float | None:
  """120%, +20%, 1.2 → a factor above 0."""
  found = re.fullmatch(rf'{_NUMBER}(%?)', value)
  if not found:
    return None
  sign, number = found[1], float(found[2])
  if found[3]:
    number /= 100
    if sign:
      number = 1 + number if sign == '+' else 1 - number
  elif sign:
    return None
  return number if number > 0 else None


def _rate(value: str) -> float | None:
  ratio = _ratio(value)
  return None if ratio is None else math.log(ratio) / math.log(levels.RATE)


def _pitch(value: str) -> float | None:
  if found := re.fullmatch(rf'{_NUMBER}st', value):
    return float(found[1] + found[2]) / levels.SEMITONES
  ratio = _ratio(value) if value.endswith('%') and value[0] in '+-' else None
  return None if ratio is None else 12 * math.log2(ratio) / levels.SEMITONES


def _volume(value: str) -> float | None:
  found = re.fullmatch(rf'{_NUMBER}dB', value)
  return float(found[1] + found[2]) / levels.GAIN_DB if found else None


_READ = {'rate': _rate, 'pitch': _pitch, 'volume': _volume}
