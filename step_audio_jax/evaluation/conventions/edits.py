"""Edit distances, and how each public tool splits one into its kinds.

The least number of edits is unique; how many of them are substitutions is not,
where several alignments are as cheap. Each counter here breaks ties as one tool
does, so that S, D and I are that tool's:

* `diagonal`  ours: substitution, then deletion, then insertion, from the end
* `jiwer`     rapidfuzz, which jiwer counts with
* `kaldi`     Kaldi's compute-wer, from kaldialign: insertion, deletion,
              substitution
* `wenet`     WeNet's compute-wer: deletion, insertion, substitution; Kaldi's
              with the sides exchanged
* `compounds` kaldialign with words that may be joined: `ice cream`, `icecream`

What both texts begin with can be left out for all of them: distances between
what follows are the same, and once the path has reached the common beginning
only edits of one kind are left. A common end can be left out for `diagonal`
alone, which always matches there.
"""

import dataclasses
from typing import Sequence

import numpy as np

from step_audio_jax.evaluation.conventions import libraries

Tokens = Sequence[str]


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


def diagonal(reference: Tokens, hypothesis: Tokens) -> tuple[int, int, int]:
  """(S, D, I) of `align`."""
  reference, hypothesis = _behind_the_beginning(reference, hypothesis)
  end = 0
  for one, other in zip(reversed(reference), reversed(hypothesis)):
    if one != other:
      break
    end += 1
  steps = align(
    reference[: len(reference) - end], hypothesis[: len(hypothesis) - end]
  )
  kinds = [step[0] for step in steps]
  return kinds.count('S'), kinds.count('D'), kinds.count('I')


def jiwer(reference: Tokens, hypothesis: Tokens) -> tuple[int, int, int]:
  """(S, D, I) of jiwer."""
  library = libraries.load('rapidfuzz.distance.Levenshtein')
  kinds = [
    step.tag for step in library.editops(list(reference), list(hypothesis))
  ]
  return kinds.count('replace'), kinds.count('delete'), kinds.count('insert')


def kaldi(reference: Tokens, hypothesis: Tokens) -> tuple[int, int, int]:
  """(S, D, I) of Kaldi's compute-wer."""
  reference, hypothesis = _behind_the_beginning(reference, hypothesis)
  if not reference or not hypothesis:
    return 0, len(reference), len(hypothesis)
  library = libraries.load('kaldialign')
  found = library.edit_distance(reference, hypothesis)
  return found['sub'], found['del'], found['ins']


def wenet(reference: Tokens, hypothesis: Tokens) -> tuple[int, int, int]:
  """(S, D, I) of WeNet's compute-wer."""
  substitutions, insertions, deletions = kaldi(hypothesis, reference)
  return substitutions, deletions, insertions


def compounds(reference: Tokens, hypothesis: Tokens) -> tuple[int, int, int]:
  """(S, D, I) of kaldialign, where neighbours may be joined at no cost."""
  if list(reference) == list(hypothesis):
    return 0, 0, 0
  library = libraries.load('kaldialign')
  found = library.edit_distance(reference, hypothesis, merge_compounds=True)
  return found['sub'], found['del'], found['ins']


def _behind_the_beginning(a: Tokens, b: Tokens) -> tuple[Tokens, Tokens]:
  begin = 0
  for one, other in zip(a, b):
    if one != other:
      break
    begin += 1
  return a[begin:], b[begin:]
