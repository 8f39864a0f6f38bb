"""Checks of what is said: keywords, letters, case, commas, language, frames.

Each takes an answer that is not empty and the arguments of an instruction. An
argument that it lacks is a KeyError.
"""

import re
from typing import Any, Callable, Mapping

from step_audio_jax.evaluation.judges.instructions import tongues

UNKNOWN_LANGUAGE = 'unknown_language'
Arguments = Mapping[str, Any]
Check = Callable[[str, Arguments], bool]

_CONSTRAINED = ('My answer is yes.', 'My answer is no.', 'My answer is maybe.')
# With hyphens, apostrophes and full stops inside: U.S., MOTHER-IN-LAW.
_WORD = re.compile(r"[^\W_]+(?:[-'’.&][^\W_]+)*")


class UnknownLanguageError(Exception):
  """Nobody can tell the language of a text."""


def compare(count: int, relation: str, threshold: int) -> bool:
  """`less than` or `at least`.

  Raises:
    ValueError: It is neither.
  """
  if relation not in ('less than', 'at least'):
    raise ValueError(relation)
  return count < threshold if relation == 'less than' else count >= threshold


def _occurrences(text: str, keyword: str) -> int:
  return len(re.findall(re.escape(keyword.strip()), text, re.IGNORECASE))


def _existence(text: str, given: Arguments) -> bool:
  return all(_occurrences(text, one) for one in list(given['keywords']))


def _frequency(text: str, given: Arguments) -> bool:
  count = _occurrences(text, given['keyword'])
  return compare(count, given['relation'], given['frequency'])


def _forbidden(text: str, given: Arguments) -> bool:
  return not any(
    re.search(rf'(?<!\w){re.escape(one)}(?!\w)', text, re.IGNORECASE)
    for one in list(given['forbidden_words'])
  )


def _letters(text: str, given: Arguments) -> bool:
  count = text.lower().count(given['letter'].strip().lower())
  return compare(count, given['let_relation'], given['let_frequency'])


def _language(text: str, given: Arguments) -> bool:
  return _told(text) == given['language']


def _capitals(text: str, _: Arguments) -> bool:
  return text.isupper() and _told(text) == 'en'


def _small(text: str, _: Arguments) -> bool:
  return text.islower() and _told(text) == 'en'


def _capital_words(text: str, given: Arguments) -> bool:
  count = sum(one.isupper() for one in _WORD.findall(text))
  return compare(count, given['capital_relation'], given['capital_frequency'])


def _no_comma(text: str, _: Arguments) -> bool:
  return ',' not in text


def _ends(text: str, given: Arguments) -> bool:
  end = given['end_phrase'].strip().lower()
  return text.strip().strip('"').lower().endswith(end)


def _quotation(text: str, _: Arguments) -> bool:
  said = text.strip()
  return len(said) > 1 and said[0] == said[-1] == '"'


def _repeats(text: str, given: Arguments) -> bool:
  prompt = given['prompt_to_repeat'].strip().lower()
  return text.strip().lower().startswith(prompt)


def _two_responses(text: str, _: Arguments) -> bool:
  parts = [one.strip() for one in text.split('******')]
  inner = parts[1:-1]
  told = [one for one in parts if one]
  return all(inner) and len(told) == 2 and told[0] != told[1]


def _constrained(text: str, _: Arguments) -> bool:
  return any(one in text for one in _CONSTRAINED)


def _told(text: str) -> str:
  found = tongues.told(text)
  if found is None:
    raise UnknownLanguageError
  return found


CHECKS: dict[str, Check] = {
  'change_case:capital_word_frequency': _capital_words,
  'change_case:english_capital': _capitals,
  'change_case:english_lowercase': _small,
  'combination:repeat_prompt': _repeats,
  'combination:two_responses': _two_responses,
  'detectable_format:constrained_response': _constrained,
  'keywords:existence': _existence,
  'keywords:forbidden_words': _forbidden,
  'keywords:frequency': _frequency,
  'keywords:letter_frequency': _letters,
  'language:response_language': _language,
  'punctuation:no_comma': _no_comma,
  'startend:end_checker': _ends,
  'startend:quotation': _quotation,
}
