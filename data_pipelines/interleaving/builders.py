"""Three ways to share out a text between writing and speech.

    segments   whole utterances alternate; needs no word times (as in
               Kimi-Audio, arXiv 2504.18425)
    words      spans of 1..3 words alternate (as in Spirit-LM, arXiv
               2402.05755)
    poisson    spans of Poisson(λ = 10) words are spoken until a share η = 0.3
               of the words is (as in GLM-4-Voice, arXiv 2411.17607)

What is drawn depends on the seed and the first utterance's id alone.
"""

import dataclasses
import math
from typing import Sequence

import numpy as np

from data_pipelines.interleaving import spans as interleaving
from step_audio_jax import documents as documents_lib
from step_audio_jax import errors

Source = interleaving.Source
Span = interleaving.Span
_NEAR = 0.05  # how far a document's mean span may be from λ, a share of it


@dataclasses.dataclass(frozen=True)
class Segments:
  """Whole utterances, alternately spoken and written.

  Attributes:
    most: Utterances of a document.
  """

  most: int = 4
  whole = True
  cut = documents_lib.SPANS_IF_LONG

  def is_full(self, gathered: Sequence[Source]) -> bool:
    return len(gathered) >= self.most

  def draw(self, source: Source, rng: np.random.Generator) -> list[Span]:
    spoken = bool(rng.integers(2))
    return [
      Span(spoken ^ bool(k % 2), k, k + 1) for k in range(len(source.counts))
    ]


@dataclasses.dataclass(frozen=True)
class Words:
  """Spans of a few words, alternately spoken and written.

  Attributes:
    longest: Words of a span.
  """

  longest: int = 3
  whole = False
  cut = documents_lib.SPANS_IF_LONG

  def is_full(self, gathered: Sequence[Source]) -> bool:
    return True

  def draw(self, source: Source, rng: np.random.Generator) -> list[Span]:
    """No spoken span is empty: a word without a group takes its neighbour."""
    borders = source.borders
    count = len(borders) - 1
    spans, first, spoken = [], 0, bool(rng.integers(2))
    while first < count:
      last = min(first + int(rng.integers(1, self.longest + 1)), count)
      if spoken:
        while last < count and borders[last] == borders[first]:
          last += 1
        if borders[last] == borders[first]:  # nothing left to be heard
          begin = spans.pop().first if spans else first
          spans.append(Span(False, begin, count))
          break
      spans.append(Span(spoken, first, last))
      first, spoken = last, not spoken
    return spans


@dataclasses.dataclass(frozen=True)
class Poisson:
  """Poisson spans are spoken, the rest is written.

  Of n words ηn are spoken, in k spans with E[k] = ηn / λ. Poisson lengths
  whose sum is known are multinomial with equal chances, so drawing that gives
  Poisson spans that end exactly at the share; drawing until the share is
  reached would overshoot it by half a span. The mean span of a document is
  within 5 % of λ wherever a whole number of spans can be. Spans are put
  uniformly into the gaps of the written words, no two into one gap.

  Attributes:
    span: λ, mean words of a spoken span.
    share: η, share of the words that are spoken.
    most: No document has a larger share, however short it is; its one span
      is cut to that, or everything is written.
    join: Neighbouring utterances are joined up to so many words; 0 joins
      none.
  """

  span: float = 10.0
  share: float = 0.3
  most: float = 0.35
  join: int = 300
  whole = False
  cut = documents_lib.SPANS

  def __post_init__(self):
    if not self.span >= 1:
      raise errors.UserError(
        f'poisson: span is {self.span}, expected at least 1 word.'
      )
    if not 0 < self.share <= self.most < 1:
      raise errors.UserError(
        f'poisson: share is {self.share} and most is {self.most}, expected '
        '0 < share <= most < 1.'
      )
    if self.join < 0:
      raise errors.UserError(f'poisson: join is {self.join}, expected >= 0.')

  def is_full(self, gathered: Sequence[Source]) -> bool:
    return sum(source.words for source in gathered) >= self.join

  def draw(self, source: Source, rng: np.random.Generator) -> list[Span]:
    words = len(source.counts)
    spoken = min(round(self.share * words), math.floor(self.most * words))
    lengths = self._lengths(spoken, words - spoken, rng)
    # Gap g stands before written word g; the last one is behind them all.
    gaps = rng.choice(words - spoken + 1, len(lengths), replace=False)
    spans, at, written = [], 0, 0
    for gap, length in zip(np.sort(gaps).tolist(), lengths):
      if gap > written:
        spans.append(Span(False, at, at + gap - written))
        at += gap - written
        written = gap
      spans.append(Span(True, at, at + length))
      at += length
    if at < words:
      spans.append(Span(False, at, words))
    return spans

  def _lengths(self, spoken: int, written: int, rng) -> list[int]:
    """Words of each spoken span, all of them together `spoken`."""
    if not spoken:
      return []
    wanted = spoken / self.span
    count = math.floor(wanted + rng.random())  # in the mean exact
    least, most = (wanted / (1 + side * _NEAR) for side in (1, -1))
    least, most = math.ceil(least - 1e-9), math.floor(most + 1e-9)
    if least <= most:  # always, where nine or more are wanted
      count = min(max(count, least), most)
    count = min(max(count, 1), spoken, written + 1)
    lengths = rng.multinomial(spoken, np.full(count, 1 / count))
    while not lengths.all():  # rare: a span of no word takes one of another
      lengths[lengths.argmin()] += 1
      lengths[lengths.argmax()] -= 1
    return lengths.tolist()


BUILDERS = {'segments': Segments, 'words': Words, 'poisson': Poisson}
