"""Error rates: what is counted, and how.

Convention `plain` (the only one so far; it is written beside every figure):

    lower case; runs of whitespace become one space, ends stripped; in
    languages written without spaces (`languages.is_spaceless`, of the tag and
    the reference) all whitespace is removed. Nothing else is touched: no
    number, punctuation or spelling rules.

Character mode counts every character, the single spaces included. Word mode
splits at spaces; in a spaceless language each character is a word. Rates are
corpus level: sum of edits / sum of reference lengths, a fraction (0.05 is 5 %).
"""

import dataclasses
import re
from typing import Iterable, Sequence

import numpy as np

from step_audio_jax import languages

CONVENTION = 'plain'
VERSION = 2  # of the convention and of the counting; figures may differ

_SPACE = re.compile(r'\s+')


@dataclasses.dataclass(frozen=True)
class Errors:
  """Edit counts against `reference` tokens; they add up over utterances."""

  reference: int = 0
  substitutions: int = 0
  deletions: int = 0
  insertions: int = 0

  def __add__(self, other: 'Errors') -> 'Errors':
    return Errors(
      *(a + b for a, b in zip(self.astuple(), other.astuple(), strict=True))
    )

  def astuple(self) -> tuple[int, int, int, int]:
    """(reference, substitutions, deletions, insertions)."""
    return dataclasses.astuple(self)

  @property
  def total(self) -> int:
    """Substitutions + deletions + insertions."""
    return self.substitutions + self.deletions + self.insertions

  @property
  def rate(self) -> float:
    """A fraction. Without any reference: 0 without errors, else inf."""
    if not self.reference:
      return float('inf') if self.total else 0.0
    return self.total / self.reference

  def as_dict(self) -> dict[str, float]:
    """The counts and the rate, for JSON."""
    return {**dataclasses.asdict(self), 'rate': self.rate}


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
  if mode not in ('character', 'word'):
    raise ValueError(f"mode is {mode!r}, expected 'character' or 'word'.")
  like = text if like is None else like
  text = normalise(text, language, like)
  if mode == 'word' and not languages.is_spaceless(language, like):
    return text.split()
  return list(text)


def distances(reference: Sequence, hypothesis: Sequence) -> np.ndarray:
  """All prefix edit distances, int32 (len(reference)+1, len(hypothesis)+1).

  Row by row. Inside a row the insertions chain from left to right,
  D[j] = min_k≤j (E[k] + j - k), which is a running minimum of E[k] - k.
  """
  ids: dict = {}
  a = np.asarray([ids.setdefault(t, len(ids)) for t in reference], np.int32)
  b = np.asarray([ids.setdefault(t, len(ids)) for t in hypothesis], np.int32)
  columns = np.arange(len(b) + 1, dtype=np.int32)
  table = np.empty((len(a) + 1, len(b) + 1), np.int32)
  table[0] = columns
  for i, token in enumerate(a):
    row = table[i + 1]
    row[:] = table[i] + 1
    np.minimum(row[1:], table[i, :-1] + (b != token), out=row[1:])
    row[:] = np.minimum.accumulate(row - columns) + columns
  return table


def edit_distance(reference: Sequence, hypothesis: Sequence) -> int:
  """The least number of substitutions, deletions and insertions."""
  return int(distances(reference, hypothesis)[-1, -1])


def align(reference: Sequence, hypothesis: Sequence) -> list[tuple]:
  """One cheapest alignment: (operation, reference token, hypothesis token).

  Operations are '=', 'S', 'D' (hypothesis token None) and 'I' (reference token
  None). Among equally cheap ones the diagonal is preferred, then deletion; so
  the split into S, D and I is reproducible, and their sum is unique.
  """
  table = distances(reference, hypothesis)
  i, j = len(reference), len(hypothesis)
  steps = []
  while i or j:
    same = bool(i and j) and reference[i - 1] == hypothesis[j - 1]
    if i and j and table[i, j] == table[i - 1, j - 1] + (not same):
      i, j = i - 1, j - 1
      steps.append(('=' if same else 'S', reference[i], hypothesis[j]))
    elif i and table[i, j] == table[i - 1, j] + 1:
      i -= 1
      steps.append(('D', reference[i], None))
    else:
      j -= 1
      steps.append(('I', None, hypothesis[j]))
  return steps[::-1]


def count(
  reference: str,
  hypothesis: str,
  language: str = 'en',
  mode: str = 'character',
) -> Errors:
  """Errors of one utterance under the convention."""
  reference_tokens = tokens(reference, language, mode)
  hypothesis_tokens = tokens(hypothesis, language, mode, like=reference)
  kinds = [step[0] for step in align(reference_tokens, hypothesis_tokens)]
  return Errors(
    len(reference_tokens), kinds.count('S'), kinds.count('D'), kinds.count('I')
  )


def corpus_errors(
  triples: Iterable[tuple[str, str, str]], mode: str = 'character'
) -> Errors:
  """Errors summed over (reference, hypothesis, language) triples."""
  return sum(
    (count(ref, hyp, language, mode) for ref, hyp, language in triples),
    Errors(),
  )


def format_alignment(
  reference: Sequence, hypothesis: Sequence
) -> tuple[str, str, str]:
  """Three lines of equal length: reference, hypothesis, operations.

  Tokens are joined as they are (characters), gaps shown as `*`; the operation
  line has a space where both agree.
  """
  steps = align(reference, hypothesis)
  lines = (
    ''.join('*' if ref is None else str(ref) for _, ref, _ in steps),
    ''.join('*' if hyp is None else str(hyp) for _, _, hyp in steps),
    ''.join(' ' if kind == '=' else kind for kind, _, _ in steps),
  )
  return lines
