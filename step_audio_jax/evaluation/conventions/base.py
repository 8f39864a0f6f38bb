"""What a scoring convention is, and what scoring under one gives back."""

import dataclasses
from typing import Any, Callable, Sequence

from step_audio_jax.evaluation.conventions import edits

MICRO, MACRO = 'micro', 'macro'


class Dropped(Exception):
  """A pair that a convention does not score; the text is the reason."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
  """A reference and a hypothesis, as a convention compares them.

  Attributes:
    reference: Its normalised text.
    hypothesis: Likewise.
    reference_tokens: What is counted of the reference.
    hypothesis_tokens: What it is aligned with.
  """

  reference: str
  hypothesis: str
  reference_tokens: Sequence[str]
  hypothesis_tokens: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Convention:
  """A published way to compare transcripts.

  Attributes:
    name: What it is called by, here and beside every figure.
    version: Of our implementation; another one may give other figures.
    source: Where it is published: repository, file, revision.
    average: 'micro' is Σ errors / Σ reference tokens, 'macro' the mean of the
      utterances' rates.
    unit: What a token is, for people.
    read: (reference, hypothesis, language) → `Pair`; raises `Dropped`. The
      language is a BCP 47 subtag, or a tag that nobody knows.
    count: (reference tokens, hypothesis tokens) → (substitutions, deletions,
      insertions), with the tie breaks of the published tool.
    languages: The subtags that it covers; None means all.
    scores_empty: Whether references without tokens count, by their insertions
      alone. Where not they are dropped, as the published tool refuses them.
  """

  name: str
  version: int
  source: str
  average: str
  unit: str
  read: Callable[[str, str, str], Pair]
  count: Callable[[Sequence[str], Sequence[str]], tuple[int, int, int]]
  languages: frozenset[str] | None = None
  scores_empty: bool = True

  def __post_init__(self):
    if self.average not in (MICRO, MACRO):
      raise ValueError(f'average is {self.average!r}, expected micro or macro.')

  def pair(self, reference: str, hypothesis: str, language: str) -> Pair:
    """Both texts, normalised and cut into tokens.

    Raises:
      Dropped: The convention does not score such a pair.
    """
    if self.languages is not None and language not in self.languages:
      raise Dropped(f'language {language} is not covered')
    pair = self.read(reference, hypothesis, language)
    if not self.scores_empty and not pair.reference_tokens:
      raise Dropped('the reference is empty')
    return pair

  def tokens(
    self, reference: str, hypothesis: str, language: str
  ) -> tuple[Sequence[str], Sequence[str]]:
    """The tokens of both; raises `Dropped` as `pair` does."""
    pair = self.pair(reference, hypothesis, language)
    return pair.reference_tokens, pair.hypothesis_tokens


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
  """One scored utterance.

  Attributes:
    id: Of the utterance.
    reference: Its normalised text; as it came where the row is dropped.
    hypothesis: Likewise; None where there was none.
    length: Tokens of the reference.
    substitutions: Of tokens, as deletions and insertions are.
    deletions: Tokens of the reference that nothing stands for.
    insertions: Tokens of the hypothesis that stand for nothing.
    rate: Errors by length, a fraction; None without a length, and of rows
      that are dropped.
    reason: Why there is no rate.
    counted: Whether the row is in the totals.
  """

  id: str
  reference: str | None
  hypothesis: str | None
  length: int = 0
  substitutions: int = 0
  deletions: int = 0
  insertions: int = 0
  rate: float | None = None
  reason: str | None = None
  counted: bool = False

  @property
  def errors(self) -> int:
    """Substitutions, deletions and insertions together."""
    return self.substitutions + self.deletions + self.insertions

  def as_dict(self) -> dict[str, Any]:
    """All of it, for JSON."""
    return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Scored:
  """A set of utterances under one convention.

  Attributes:
    convention: Its name.
    version: Its version.
    average: 'micro' or 'macro'.
    rows: One for each that was given, in that order.
    totals: Sums over the rows that count.
    rate: The convention's average, a fraction; None where there is none.
    reason: Why there is no rate.
    excluded: Reason → how many rows are not in the totals.
  """

  convention: str
  version: int
  average: str
  rows: tuple[Row, ...]
  totals: edits.Errors
  rate: float | None
  reason: str | None
  excluded: dict[str, int]

  def as_dict(self) -> dict[str, Any]:
    """All but the rows, for JSON."""
    return {
      'convention': self.convention,
      'version': self.version,
      'average': self.average,
      'rate': self.rate,
      'reason': self.reason,
      **dataclasses.asdict(self.totals),
      'rows': len(self.rows),
      'counted': sum(row.counted for row in self.rows),
      'excluded': dict(self.excluded),
    }
