"""Texts into tokens, as the public tools cut them.

* `sacrebleu_zh`  sacreBLEU 1.5.1's `zh`: spaces around each Chinese character
                  and full-width form, then the rules of mteval-v13a
* `sacrebleu_13a` sacreBLEU 1.5.1's `13a`, mteval-v13a's rules for Western text
* `wenet`         compute-wer with `--char=1`: each letter without case by
                  itself (Unicode's class Lo), runs of ASCII together
* `kaldi_characters`  Kaldi's score_kaldi_cer.sh: characters, tags whole
* `jiwer_words`   jiwer's default transform of words
"""

import functools
import re
from typing import Callable
import unicodedata


class Table(dict):
  """For `str.translate`: asks once what becomes of a character."""

  def __init__(self, becomes: Callable[[str], str]):
    super().__init__()
    self._becomes = becomes

  def __missing__(self, point: int) -> str:
    self[point] = found = self._becomes(chr(point))
    return found


# What sacreBLEU puts spaces around. U+2001 to U+2A6D and U+2F81 to U+2FA1 are
# its reading of planes beyond the first: quotes, dashes and ellipses are among
# them.
_CHINESE = re.compile(
  '['
  '\u2001-\u2a6d\u2e80-\u2eff\u2f00-\u2fdf\u2ff0-\u2fff\u3000-\u303f'
  '\u3100-\u312f\u31a0-\u31bf\u31c0-\u31ef\u3200-\u33ff\u3400-\u4db5'
  '\u4e00-\u9fbb\uf900-\ufa2d\ufa30-\ufa6a\ufa70-\ufad9\ufe10-\ufe1f'
  '\ufe30-\ufe4f\uff00-\uffef'
  ']'
)
_SYMBOL = re.compile(r'[{-~[-` -&(-+:-@/]')
_APART = Table(lambda c: f' {c} ' if _SYMBOL.match(c) else c)
_CHINESE_APART = Table(
  lambda c: f' {c} ' if _SYMBOL.match(c) or _CHINESE.match(c) else c
)
_STOP_BEHIND = re.compile(r'([^0-9])([.,])')
_STOP_BEFORE = re.compile(r'([.,])([^0-9])')
_DASH = re.compile(r'([0-9])(-)')
_ENTITIES = (
  *(('<skipped>', ''), ('-\n', ''), ('\n', ' '), ('&quot;', '"')),
  *(('&amp;', '&'), ('&lt;', '<'), ('&gt;', '>')),
)

_WENET_PUNCTUATION = frozenset('!,?、。！，；？：「」︰『』《》')
_WENET_SPACES = ' \t\r\n'
_WENET_TAG = re.compile(r'<[^\x80-\U0010ffff \t\r\n>]*>?')
_WENET_RUN = re.compile(r'.[^\x80-\U0010ffff \t\r\n]*', re.DOTALL)
_WENET_TAGS = re.compile(r'<[^>]*>?')

_KALDI_TAG = re.compile(r'\[.*\]|<.*>|!SIL')
_MANY_SPACES = re.compile(r'\s\s+')


def sacrebleu_zh(text: str) -> list[str]:
  """Chinese characters by themselves, the rest as Western text."""
  return _mteval(text.strip().translate(_CHINESE_APART))


def sacrebleu_13a(text: str) -> list[str]:
  """Western text."""
  for entity, meant in _ENTITIES:
    text = text.replace(entity, meant)
  return _mteval(f' {text} '.translate(_APART))


def _mteval(text: str) -> list[str]:
  """Stops apart unless digits are at both sides, dashes behind digits."""
  if '.' in text or ',' in text:
    text = _STOP_BEHIND.sub(r'\1 \2 ', text)
    text = _STOP_BEFORE.sub(r' \1 \2', text)
  if '-' in text:
    text = _DASH.sub(r'\1 \2 ', text)
  return text.split()


def without_punctuation(tokens: list[str]) -> list[str]:
  """Tokens that are not punctuation alone (Unicode's classes P)."""
  return [
    token
    for token in tokens
    if token.isalnum()
    or not all(unicodedata.category(c)[0] == 'P' for c in token)
  ]


@functools.lru_cache(maxsize=2**16)
def _wenet_kind(character: str) -> str:
  kind = unicodedata.category(character)
  if character in _WENET_PUNCTUATION or character in _WENET_SPACES:
    return 'left out'
  if kind in ('Zs', 'Cn'):
    return 'left out'
  return 'letter' if kind == 'Lo' else 'run'


def wenet(text: str) -> list[str]:
  """Tokens in upper case; tags and a fixed list of punctuation are left out.

  Punctuation inside a run (`don't`, `ok,`) stays.
  """
  tokens, i = [], 0
  while i < len(text):
    kind = _wenet_kind(text[i])
    if kind == 'run':
      pattern = _WENET_TAG if text[i] == '<' else _WENET_RUN
      end = pattern.match(text, i).end()
    else:
      end = i + 1
    if kind != 'left out':
      token = _WENET_TAGS.sub('', text[i:end].upper())
      tokens += [token] if token else []
    i = end
  return tokens


def kaldi_characters(text: str) -> list[str]:
  """Characters of every word; a word with a tag in it stays whole."""
  tokens: list[str] = []
  for word in text.split():
    tokens += [word] if _KALDI_TAG.search(word) else word
  return tokens


def jiwer_words(text: str) -> list[str]:
  """What blanks part: two or more of any kind, or one space."""
  text = _MANY_SPACES.sub(' ', text).strip()
  return [word for word in text.split(' ') if word]
