"""Whisper's normalisers: English, and the basic one of other languages.

English lower-cases, drops what stands in brackets and fillers (uh, um, hmm),
writes contractions and titles out, spoken numbers as digits, and British
spelling as American; symbols go, but `.%$¢€£` at numbers. Basic lower-cases,
drops brackets, and makes marks, symbols and punctuation of the NFKC form
spaces. Radford et al., arXiv 2212.04356, appendix C.

Rules and tables are those of `whisper-normalizer` without the four replacements
that it adds; the steps are ours, with checks that skip what cannot apply.
"""

import dataclasses
import functools
import re
from typing import Callable
import unicodedata

from step_audio_jax.evaluation.conventions import libraries
from step_audio_jax.evaluation.conventions import segmentation

# The library's own additions, which openai-whisper does not have.
_ADDED = (r'\bkinda\b', r'\bsorta\b', r'\bdunno\b', r'\bcause\b')
_KEPT = '.%$¢€£'  # what belongs to numbers
# In these languages of the paper each character is a word; Cantonese came with
# a later model.
SPLIT = frozenset(('zh', 'yue', 'ja', 'th', 'lo', 'my'))

_SPACES = re.compile(r'\s+')
_BRACKETS = re.compile(r'[<\[][^>\]]*[>\]]')
_PARENTHESES = re.compile(r'\(([^)]+?)\)')
_BEFORE_APOSTROPHE = re.compile(r"\s+'")
_COMMA_IN_NUMBER = re.compile(r'(\d),(\d)')
_FULL_STOP = re.compile(r'\.([^0-9]|$)')
_LOST_PREFIX = re.compile(r'[.$¢€£]([^0-9])')
_LOST_PERCENT = re.compile(r'([^0-9])%')
_DIGIT = re.compile(r'\d')

Replacement = tuple[str, re.Pattern[str], str]


@dataclasses.dataclass(frozen=True)
class Rules:
  """What the English normalisers differ in.

  Attributes:
    fillers: Words that are left out.
    replacements: (what a text must have, pattern, replacement), in order.
    number_words: Words that the number normaliser may change, or change by.
    numbers: The number normaliser.
    spelling: Word → its American spelling.
    extra_brackets: A further pattern that is left out, or None.
    before_numbers: A change of the text whose symbols are gone.
    after_spelling: A change of the words behind the table of spelling.
  """

  fillers: re.Pattern[str]
  replacements: tuple[Replacement, ...]
  number_words: frozenset[str]
  numbers: Callable[[str], str]
  spelling: dict[str, str]
  extra_brackets: re.Pattern[str] | None = None
  before_numbers: Callable[[str], str] | None = None
  after_spelling: Callable[[list[str]], list[str]] | None = None


@functools.cache
def rules() -> Rules:
  """Those of openai-whisper.

  Raises:
    UserError: `whisper-normalizer` is not installed.
  """
  library = libraries.load('whisper_normalizer.english')
  found = library.EnglishTextNormalizer()
  numbers = found.standardize_numbers
  return Rules(
    re.compile(found.ignore_patterns),
    tuple(
      replacement(pattern, by)
      for pattern, by in found.replacers.items()
      if pattern not in _ADDED
    ),
    # `and` changes nothing by itself; `and a half` may.
    frozenset(numbers.words - {'and'} | {'half'}),
    numbers,
    found.standardize_spellings.mapping,
  )


def replacement(pattern: str, by: str) -> Replacement:
  """A rule with a piece of text without which its pattern cannot match."""
  plain = re.sub(r'\(.*\)', '', pattern).replace(r'\b', '')
  needed = max(re.split(r'\\s\+', plain), key=len)
  return needed, re.compile(pattern), by


def english(text: str, rules: Rules) -> str:
  """English text under `rules`; ends are not stripped, as published."""
  text = _without_brackets(text.lower(), rules.extra_brackets)
  text = rules.fillers.sub('', text)
  text = _BEFORE_APOSTROPHE.sub("'", text)
  text = replaced(text, rules.replacements)
  text = _COMMA_IN_NUMBER.sub(r'\1\2', text)
  text = _FULL_STOP.sub(r' \1', text)
  text = unicodedata.normalize('NFKD', text).translate(_plain_letters())
  if rules.before_numbers:
    text = rules.before_numbers(text)
  if _DIGIT.search(text) or not rules.number_words.isdisjoint(text.split()):
    text = rules.numbers(text)
  words = [rules.spelling.get(word, word) for word in text.split()]
  if rules.after_spelling:
    words = rules.after_spelling(words)
  text = _LOST_PREFIX.sub(r' \1', ' '.join(words))
  text = _LOST_PERCENT.sub(r'\1 ', text)
  return _SPACES.sub(' ', text)


def replaced(text: str, replacements: tuple[Replacement, ...]) -> str:
  """`text` after each of the replacements, in order."""
  for needed, pattern, by in replacements:
    if needed in text:
      text = pattern.sub(by, text)
  return text


@functools.lru_cache(maxsize=2**15)
def whisper_english(text: str) -> str:
  """EnglishTextNormalizer of openai-whisper."""
  return english(text, rules())


@functools.lru_cache(maxsize=2**15)
def basic(text: str, split: bool = False) -> str:
  """BasicTextNormalizer of openai-whisper, which keeps diacritics.

  Args:
    text: In any language.
    split: A space between all characters (extended grapheme clusters).
  """
  text = _without_brackets(text.lower())
  text = without_symbols(text).lower()
  if split:
    regex = libraries.load('regex')
    text = ' '.join(regex.findall(r'\X', text, regex.U))
  return _SPACES.sub(' ', text)


def without_symbols(text: str) -> str:
  """The NFKC form, with spaces for marks, symbols and punctuation."""
  return unicodedata.normalize('NFKC', text).translate(_SYMBOLS)


def _without_brackets(text, extra=None):
  if '>' in text or ']' in text:
    text = _BRACKETS.sub('', text)
  if ')' in text:
    text = _PARENTHESES.sub('', text)
  return extra.sub('', text) if extra else text


_SYMBOLS = segmentation.Table(
  lambda c: ' ' if unicodedata.category(c)[0] in 'MSP' else c
)


@functools.cache
def _plain_letters() -> segmentation.Table:
  """Letters without marks, spaces for symbols; what numbers need stays."""
  library = libraries.load('whisper_normalizer.basic')

  def becomes(character):
    if character in _KEPT:
      return character
    if character in library.ADDITIONAL_DIACRITICS:
      return library.ADDITIONAL_DIACRITICS[character]
    kind = unicodedata.category(character)
    return '' if kind == 'Mn' else ' ' if kind[0] in 'MSP' else character

  return segmentation.Table(becomes)
