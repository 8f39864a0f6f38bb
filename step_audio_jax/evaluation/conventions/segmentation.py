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
import unicodedata

# Code points between which sacreBLEU puts spaces. U+2001 to U+2A6D and U+2F81
# to U+2FA1 are its reading of planes beyond the first: quotes, dashes and
# ellipses are among them.
_CHINESE = re.compile(
  '(['
  '\u2001-\u2a6d\u2e80-\u2eff\u2f00-\u2fdf\u2ff0-\u2fff\u3000-\u303f'
  '\u3100-\u312f\u31a0-\u31bf\u31c0-\u31ef\u3200-\u33ff\u3400-\u4db5'
  '\u4e00-\u9fbb\uf900-\ufa2d\ufa30-\ufa6a\ufa70-\ufad9\ufe10-\ufe1f'
  '\ufe30-\ufe4f\uff00-\uffef'
  '])'
)
_MTEVAL = (
  (re.compile(r'([{-~[-` -&(-+:-@/])'), r' \1 '),
  (re.compile(r'([^0-9])([.,])'), r'\1 \2 '),
  (re.compile(r'([.,])([^0-9])'), r' \1 \2'),
  (re.compile(r'([0-9])(-)'), r'\1 \2 '),
)
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
  return _mteval(_CHINESE.sub(r' \1 ', text.strip()))


def sacrebleu_13a(text: str) -> list[str]:
  """Western text."""
  for entity, meant in _ENTITIES:
    text = text.replace(entity, meant)
  return _mteval(f' {text} ')


def _mteval(text: str) -> list[str]:
  for pattern, by in _MTEVAL:
    text = pattern.sub(by, text)
  return text.split()


def without_punctuation(tokens: list[str]) -> list[str]:
  """Tokens that are not punctuation alone (Unicode's classes P)."""
  return [
    token
    for token in tokens
    if not all(unicodedata.category(c)[0] == 'P' for c in token)
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
