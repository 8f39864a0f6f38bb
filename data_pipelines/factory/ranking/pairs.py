"""Pairs of the answers to one prompt, of which one is thought more of.

    worth of an answer    the sum of its parts: weighted scores, or a judgement
    margin of a pair      how much more the better one is worth
    category              the part that says most of it

Answers of the same words are one answer, whose parts are their means.
"""

import collections
import dataclasses
import math
import re
from typing import Mapping, NamedTuple, Sequence

from data_pipelines.factory import additions
from data_pipelines.factory.ranking import samples as samples_lib
from data_pipelines.readers.preferences import rankings
from step_audio_jax import errors
from step_audio_jax.corpus import manifest

_NAME = 'ranked'
_DIGITS = rankings.DIGITS  # sums of the same weights are ties
_MADE = re.compile(rf'.+-{_NAME}-\d+')


@dataclasses.dataclass(frozen=True)
class Config:
  """What becomes a pair.

  Attributes:
    splits: Whose questions are taken.
    weights: Of scores; {} takes all of them as they are.
    pairs: Of `rankings.PAIRS`.
    gap: The least difference.
    margin: What a difference of one is worth as a margin.
    unfinished: Whether answers are taken that came to their limit.
  """

  splits: tuple[str, ...] = ('train',)
  weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
  pairs: str = rankings.ALL
  gap: float = 0.0
  margin: float = 1.0
  unfinished: bool = False

  def __post_init__(self):
    additions.check_splits(self.splits)
    for name in ('gap', 'margin'):
      if not 0 <= getattr(self, name) < manifest.MOST_MARGIN:  # nor is it NaN
        raise errors.UserError(
          f'--{name}: found {getattr(self, name)}, expected a number >= 0 and '
          f'below {manifest.MOST_MARGIN:g}.'
        )
    for name, weight in self.weights.items():
      if not weight or not math.isfinite(weight):
        raise errors.UserError(
          f'--weights: found {name}={weight}, expected a number but 0.'
        )

  @property
  def rules(self) -> rankings.Rules:
    return rankings.Rules(self.gap, self.margin, pairs=self.pairs)


class Made(NamedTuple):
  """What a prompt gives.

  Attributes:
    lines: Of the manifest.
    ties: Pairs that no part tells apart.
    near: Pairs that differ by less than the gap.
    same: Answers that another one has the words of.
  """

  lines: list[manifest.Utterance]
  ties: int
  near: int
  same: int


def chat_of(line: manifest.Utterance) -> str:
  """Id of the chat that a line was made of, which was added here."""
  return line.id.rpartition(f'-{_NAME}-')[0]


def is_made(line: manifest.Utterance) -> bool:
  """Whether a line of a manifest was added here."""
  return line.kind == 'preference' and bool(_MADE.fullmatch(line.id))


def make(
  chat: manifest.Utterance,
  samples: Sequence[samples_lib.Sample],
  config: Config,
) -> Made:
  """The pairs of one prompt, those with the largest margins first.

  Args:
    chat: What was answered; its own answer takes no part.
    samples: Judged, none of them empty.
    config: What becomes a pair.
  """
  by_text = collections.defaultdict(list)
  for one in sorted(samples, key=lambda one: one.order):
    by_text[one.text.strip()].append(one)
  parts = [
    {
      name: math.fsum(one.parts[name] for one in some) / len(some)
      for name in some[0].parts
    }
    for some in by_text.values()
  ]
  worths = [round(math.fsum(some.values()), _DIGITS) for some in parts]
  found = rankings.compare(worths, config.rules)
  for pair in found.pairs:
    if not pair.margin < manifest.MOST_MARGIN:
      raise errors.UserError(
        f'{samples[0].where}: scores: found a margin of {pair.margin:g} to '
        f'another answer, expected less than {manifest.MOST_MARGIN:g}; lower '
        '--weights or --margin.'
      )
  texts = list(by_text)
  order = sorted(
    found.pairs, key=lambda one: worths[one.worse] - worths[one.better]
  )
  lines = [
    additions.preference(
      chat,
      f'{_NAME}-{number}',
      texts[better],
      texts[worse],
      margin=round(margin, _DIGITS),
      category=_decisive(parts[better], parts[worse]),
    )
    for number, (better, worse, margin) in enumerate(order)
  ]
  return Made(lines, found.ties, found.near, len(samples) - len(texts))


def _decisive(better: Mapping[str, float], worse: Mapping[str, float]) -> str:
  """The part by which one is most better, as a word."""
  name = max(better, key=lambda name: better[name] - worse[name])
  return re.sub(r'[^\w.-]+', '_', name)
