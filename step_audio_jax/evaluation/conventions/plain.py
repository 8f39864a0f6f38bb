"""Convention `plain`: as little as can be done.

    lower case; runs of whitespace become one space, ends stripped; in
    languages written without spaces (`languages.is_spaceless`, of the tag and
    the reference) all whitespace is removed. Nothing else is touched: no
    number, punctuation or spelling rules.

Character mode counts every character, the single spaces included. Word mode
splits at spaces; in a spaceless language each character is a word.
"""

import re

from step_audio_jax import languages
from step_audio_jax.evaluation.conventions import base
from step_audio_jax.evaluation.conventions import edits

CONVENTION = 'plain'
VERSION = 2  # of the convention and of the counting; figures may differ
MODES = ('character', 'word')

_SPACE = re.compile(r'\s+')


def normalise(text: str, language: str = 'en', like: str | None = None) -> str:
  """`text` under the convention above.

  Args:
    text: What is compared.
    language: Its tag, in any form that `languages.language_subtag` takes.
    like: The text that it is compared with, whose script then decides for
      both; None means `text` itself.
  """
  spaceless = languages.is_spaceless(language, text if like is None else like)
  return _SPACE.sub('' if spaceless else ' ', text.lower()).strip()


def tokens(
  text: str,
  language: str = 'en',
  mode: str = 'character',
  like: str | None = None,
) -> list[str]:
  """Normalised text as a list of the tokens that are counted.

  Args:
    text: As in `normalise`, with `language` and `like`.
    language: Its tag.
    mode: 'character' or 'word'.
    like: The reference, where `text` is a hypothesis.

  Raises:
    ValueError: `mode` is neither 'character' nor 'word'.
  """
  if mode not in MODES:
    raise ValueError(f"mode is {mode!r}, expected 'character' or 'word'.")
  like = text if like is None else like
  text = normalise(text, language, like)
  if mode == 'word' and not languages.is_spaceless(language, like):
    return text.split()
  return list(text)


def _pair(mode, reference, hypothesis, language):
  return base.Pair(
    normalise(reference, language),
    normalise(hypothesis, language, reference),
    tokens(reference, language, mode),
    tokens(hypothesis, language, mode, reference),
  )


def _characters(reference, hypothesis, language):
  return _pair('character', reference, hypothesis, language)


def _words(reference, hypothesis, language):
  return _pair('word', reference, hypothesis, language)


_SOURCE = 'this project, docs/evaluation.md'
CONVENTIONS = (
  base.Convention(
    CONVENTION,
    VERSION,
    _SOURCE,
    base.MICRO,
    'character, single spaces included',
    _characters,
    edits.diagonal,
  ),
  base.Convention(
    f'{CONVENTION}-words',
    VERSION,
    _SOURCE,
    base.MICRO,
    'word; in languages without spaces character',
    _words,
    edits.diagonal,
  ),
)
