"""Convention `open-asr` of the Hugging Face Open ASR Leaderboard.

English: Whisper's normaliser with more fillers, `'s` as `is` behind pronouns
and question words alone, its own spelling of some words, compounds (`wi fi`),
names that sound alike, and single letters in a row joined (`b b c`). Other
languages: lower case, no brackets, no symbols, digits as words (num2words), and
compounds joined where both sides have the same letters. kaldialign counts,
neighbours that make one word of the other side are no error. References that
are empty, or say `ignore time segment in scoring`, are dropped. The rate of a
set is micro; the leaderboard's mean over sets is not made here.
"""

import dataclasses
import difflib
import functools
import re

from step_audio_jax.evaluation.conventions import base
from step_audio_jax.evaluation.conventions import edits
from step_audio_jax.evaluation.conventions import libraries
from step_audio_jax.evaluation.conventions import names
from step_audio_jax.evaluation.conventions import whisper

_IGNORED = 'ignore time segment in scoring'
_FILLERS = (
  'hmm mm mhm mmm uh um ah aha ahh ahm eh ehehe em hm huh hum mhum uhm umm uhuh'
)
_IS = 'it he she what that who here there how when where why this'
# Found behind each other, written together (or as said here).
_COMPOUNDS = (
  ('et cetera', 'etc'),
  ('al right', 'alright'),
  ('all right', 'alright'),
  *((pair, pair.replace(' ', '')) for pair in (
    'how ever', 'wi fi', 'hi fi', 'lo fi', 'sci fi', 'e mail', 'e book',
    'e commerce', 'x ray', 't shirt', 'a m', 'p m',
  )),
  ('o k', 'okay'),
)  # fmt: skip
# Where the table of spelling differs from Whisper's; None: not in it.
_SPELLING = {
  'archaeological': 'archeological',
  'archaeology': 'archeology',
  'archeological': None,
  'cancelation': None,
  'cancelations': None,
  'cancellation': 'cancelation',
  'cancellations': 'cancelations',
  'etcetera': 'etc',
  'flyer': 'flier',
  'flyer / flier': None,
  'kay': 'okay',
  'mm': 'hmm',
  'ok': 'okay',
  'pummelled': 'pummeled',
  'pummelling': 'pummeling',
  'snowploughs': 'snowplows',
  'travelog': None,
  'travelogs': None,
  'travelogue': 'travelog',
  'travelogues': 'travelogs',
}
_NOT_WORDS = re.compile(r'[^\w\s]')
_THOUSANDS = re.compile(r'(\d)\s+(\d{3})\b')
_DIGITS = re.compile(r'\d+')
_SPACES = re.compile(r'\s+')


@functools.cache
def _rules() -> whisper.Rules:
  found = whisper.rules()
  possessive = r"'s\b"
  told = rf"\b({_IS.replace(' ', '|')})'s\b"
  compounds = tuple(
    whisper.replacement(r'\b' + pair.replace(' ', r'\s+') + r'\b', joined)
    for pair, joined in _COMPOUNDS
  )
  return dataclasses.replace(
    found,
    fillers=re.compile(rf'\b({_FILLERS.replace(" ", "|")})\b'),
    replacements=tuple(
      whisper.replacement(told, r'\1 is')
      if rule[1].pattern == possessive
      else rule
      for rule in found.replacements
    ),
    spelling={
      word: spelt
      for word, spelt in (found.spelling | _SPELLING).items()
      if spelt is not None
    },
    before_numbers=lambda text: whisper.replaced(text, compounds),
    after_spelling=lambda words: _acronyms(
      [names.NAMES.get(word, word) for word in words]
    ),
  )


def _acronyms(words: list[str]) -> list[str]:
  """Single letters and digits in a row as one word.

  Two are enough, three where `a` or `i` is among them.
  """
  joined: list[str] = []
  run: list[str] = []
  for word in [*words, '']:
    if len(word) == 1 and word.isalnum():
      run.append(word)
      continue
    least = 3 if 'a' in run or 'i' in run else 2
    joined += [''.join(run)] if len(run) >= least else run
    joined += [word] if word else []
    run = []
  return joined


@functools.lru_cache(maxsize=2**15)
def _english(text: str) -> str:
  return whisper.english(text, _rules())


@functools.lru_cache(maxsize=2**15)
def _other(text: str, language: str) -> str:
  num2words = libraries.load('num2words').num2words
  text = whisper.basic(text)
  text = _SPACES.sub(' ', _NOT_WORDS.sub('', text)).strip()

  def said(match):
    try:
      return num2words(int(match.group()), lang=language)
    except Exception:  # pylint: disable=broad-except # as published
      return match.group()

  return _DIGITS.sub(said, _THOUSANDS.sub(r'\1\2', text))


def _joined(
  reference: list[str], hypothesis: list[str]
) -> tuple[list[str], list[str]]:
  """Differing stretches of the same letters, each as one word."""
  matcher = difflib.SequenceMatcher(None, reference, hypothesis)
  ours: list[str] = []
  theirs: list[str] = []
  for _, a, b, c, d in matcher.get_opcodes():
    left, right = reference[a:b], hypothesis[c:d]
    if left != right and ''.join(left) == ''.join(right):
      left = right = [''.join(left)]
    ours += left
    theirs += right
  return ours, theirs


def _read(reference, hypothesis, language):
  if language == 'en':
    texts = _english(reference), _english(hypothesis)
    tokens = [text.split() for text in texts]
  else:
    texts = _other(reference, language), _other(hypothesis, language)
    tokens = _joined(*(text.split() for text in texts))
  if texts[0].strip() == _IGNORED:
    raise base.Dropped(f'the reference says {_IGNORED!r}')
  return base.Pair(*texts, *tokens)


CONVENTIONS = (
  base.Convention(
    'open-asr',
    1,
    'huggingface/open_asr_leaderboard normalizer/eval_utils.py at d1e99b2',
    base.MICRO,
    'word; words that may be joined are one',
    _read,
    edits.compounds,
    languages=frozenset(('en', 'de', 'fr', 'it', 'es', 'pt')),
    scores_empty=False,
  ),
)
