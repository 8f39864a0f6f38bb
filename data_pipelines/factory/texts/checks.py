"""Whether a text that a model wrote can be said, and trained on.

It is what a stranger sent: every text is looked at by itself, and what is wrong
with one is one sentence. What no rule here sees (a wrong fact, another language
of the same script) is left to the gates that hear the speech.
"""

import dataclasses
import functools
import re
import unicodedata

from data_pipelines.factory.leaks import overlaps
from step_audio_jax import errors
from step_audio_jax import languages
from step_audio_jax.decoder import text_to_codes
from step_audio_jax.storage import digests
from step_audio_jax.styles import markup

# What a model says in place of what it was asked for.
REFUSALS = (
  r"\bI(?:'m| am) (?:sorry|unable|not able)\b.{0,60}\b(?:can(?:'t|not)|unable|"
  r'assist|help)',
  r'\bI can(?:\'t|not|not) (?:assist|help|comply|fulfil|provide|rewrite)',
  r'\bas an? (?:AI|artificial intelligence|language model)\b',
  '作为(?:一个|一名)?(?:AI|人工智能|语言模型)',
  '(?:抱歉|对不起).{0,20}(?:无法|不能|没办法)',
)
_MARKS = re.compile(r'[*_#`~^|\\<>{}\[\]]|https?://')
_QUOTES = ('""', '“”', '‘’', '「」', '『』', '«»')
# Categories of what nobody writes, joiners of Indic and Arabic letters aside.
_CONTROL = ('Cc', 'Cf', 'Cs', 'Co', 'Cn', 'Zl', 'Zp')
_JOINERS = '\u200c\u200d'
_SYLLABLE = 3  # letters, of a character of a script without spaces
# ISO 15924 → how the Unicode names of its letters begin.
_SCRIPTS = {
  'Arab': ('ARABIC',),
  'Cyrl': ('CYRILLIC',),
  'Deva': ('DEVANAGARI',),
  'Grek': ('GREEK',),
  'Hans': ('CJK',),
  'Hant': ('CJK',),
  'Hebr': ('HEBREW',),
  'Jpan': ('CJK', 'HIRAGANA', 'KATAKANA'),
  'Kore': ('HANGUL', 'CJK'),
  'Latn': ('LATIN',),
  'Thai': ('THAI',),
}


@dataclasses.dataclass(frozen=True)
class Rules:
  """What a written text must be like.

  Attributes:
    longest: Characters.
    ratio: Lowest and highest of its letters over those of the text that it was
      made of; characters of scripts without spaces count as three.
    script: Share of its letters that are of its language's script, at least.
    refusals: Patterns of what is no answer, in any case.
    marks: Pattern of what cannot be said.
  """

  longest: int = 300
  ratio: tuple[float, float] = (0.3, 3.0)
  script: float = 0.6
  refusals: tuple[str, ...] = REFUSALS
  marks: str = _MARKS.pattern

  def __post_init__(self):
    errors.at_least_one('writer', self, ('longest',))
    if len(self.ratio) != 2 or not 0 <= self.ratio[0] <= self.ratio[1]:
      raise errors.UserError(
        f'writer: ratio: found {self.ratio!r}, expected (lowest, highest).'
      )
    if not 0 <= self.script <= 1:
      raise errors.UserError(
        f'writer: script: found {self.script}, expected a share.'
      )
    errors.patterns('writer: refusals, marks', (*self.refusals, self.marks))


class Checks:
  """Looks at texts as they come; knows which were there before."""

  def __init__(self, rules: Rules):
    """Nothing was seen yet."""
    self._rules = rules

  def clean(self, text: str) -> str:
    """A text without white space and quotes around it."""
    text = unicodedata.normalize('NFC', text).strip()
    for first, last in _QUOTES:
      inner = text[1:-1]
      if len(text) > 2 and text[0] == first and text[-1] == last:
        if first not in inner and last not in inner:
          return inner.strip()
    return text

  def fault(self, text: str, language: str, given: str | None) -> str:
    """Why a text is not said, in one sentence; '' where it can be.

    Args:
      text: Of `clean`.
      language: Subtag that it should be of.
      given: The text that it was made of, if it was.
    """
    rules = self._rules
    shown = f'{" ".join(text.split())[:40]!r}'
    if len(text.splitlines()) > 1:
      return f'text: found {len(text.splitlines())} lines, expected one.'
    for place, character in enumerate(text):
      kind = unicodedata.category(character)
      if kind in _CONTROL and character not in _JOINERS:
        return (
          f'text: found the control character U+{ord(character):04X} at '
          f'{place}, expected only words.'
        )
    if not any(map(str.isalpha, text)):
      return f'text: found {shown}, expected words.'
    if len(text) > rules.longest:
      return (
        f'text: found {len(text)} characters, expected at most {rules.longest}.'
      )
    for pattern in rules.refusals:
      if found := re.search(pattern, text, re.IGNORECASE):
        return f'text: found {found[0][:60]!r}, expected no refusal.'
    if found := re.search(rules.marks, text):
      return f'text: found {found[0]!r} in {shown}, expected only words.'
    try:
      text_to_codes.check_text(text)
      tags = markup.tags_of(markup.parse(text))
    except errors.UserError as error:
      return str(error)
    if tags:
      return f'text: found ({tags[0].english}), expected words without tags.'
    return self._wrong_script(text, language) or self._wrong_size(text, given)

  def _wrong_script(self, text: str, language: str) -> str:
    script = script_of(language)
    names = _SCRIPTS.get(script, ())
    letters = [unicodedata.name(one, '') for one in text if one.isalpha()]
    right = sum(name.startswith(names) for name in letters)
    if names and right < self._rules.script * len(letters):
      return (
        f'language: found {right} of {len(letters)} letters in the script '
        f'{script} of {language!r}, expected at least '
        f'{self._rules.script:.0%}.'
      )
    return ''

  def _wrong_size(self, text: str, given: str | None) -> str:
    if given is None:
      return ''
    lowest, highest = self._rules.ratio
    ratio = letters(text) / max(1, letters(given))
    if lowest <= ratio <= highest:
      return ''
    return (
      f'text: found {ratio:.2g} times the letters of the text that it was made '
      f'of, expected {lowest:g} to {highest:g}.'
    )


def letters(text: str) -> int:
  """How many letters it takes to write a text with an alphabet, about."""
  plain = overlaps.normalise(text)
  return len(plain) * (_SYLLABLE if languages.looks_spaceless(text) else 1)


def mark_of(text: str) -> int:
  """A number that texts have in common that say the same."""
  return digests.number(overlaps.normalise(text))


@functools.cache
def script_of(language: str) -> str:
  """ISO 15924 code of the script that a language is mostly written in."""
  import langcodes

  return langcodes.get(language).maximize().script or 'Zyyy'
