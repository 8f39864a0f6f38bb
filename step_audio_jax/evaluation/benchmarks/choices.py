"""Choices by log-likelihood: which of several continuations is likeliest.

With ℓ_c the log-likelihood of continuation c behind its context, in nats, and
|c| its characters without the space in front,

    acc       share of items whose right continuation has the largest ℓ_c
    acc_norm  the same with ℓ_c / |c|, which does not favour short ones

as lm-evaluation-harness has them. Of equal ones the first counts as chosen.
"""

import dataclasses
import math
from typing import Any, ClassVar, Mapping, Sequence

from step_audio_jax import errors
from step_audio_jax.evaluation import statistics
from step_audio_jax.evaluation.benchmarks import benchmark

# Of `Item.about`: what may come behind the item's text, and which is right.
CONTINUATIONS, RIGHT = benchmark.CONTINUATIONS, 'right'

FIGURES = ('acc', 'acc_norm')
_RULES = {
  'acc': 'largest log-likelihood',
  'acc_norm': 'largest log-likelihood by character',
}


@dataclasses.dataclass(frozen=True)
class Choices(benchmark.Benchmark):
  """Base of benchmarks with continuations of which one is right.

  Items have a text, and `CONTINUATIONS` and `RIGHT` in `about`.

  Attributes:
    known_by: Of `FIGURES`, which the benchmark is known by.
  """

  known_by: str = 'acc_norm'

  asks: ClassVar[str] = benchmark.CHOOSE

  def __post_init__(self):
    super().__post_init__()
    if self.known_by not in FIGURES:
      raise errors.UserError(
        f'benchmark {self.name}: known_by: found {self.known_by!r}, expected '
        f'{" or ".join(FIGURES)}.'
      )

  def score(
    self,
    items: Sequence[benchmark.Item],
    answers: Sequence[benchmark.Answer],
    means: benchmark.Means,
  ) -> benchmark.Scored:
    """See the base; what has no likelihoods is wrong, and in `cut`."""
    rows, cut = [], {}
    for item, answer in zip(items, answers, strict=True):
      row, fault = _row(item, answer)
      if fault:
        cut[fault] = cut.get(fault, 0) + 1
      rows.append(row)
    names = sorted(FIGURES, key=lambda name: name != self.known_by)
    figures = {name: _accuracy(rows, name) for name in names}
    chance = [1 / len(item.about[CONTINUATIONS]) for item in items]
    figures['chance'] = benchmark.Figure(
      math.fsum(chance) / len(chance) if chance else None,
      of=len(chance),
      by='any continuation',
    )
    return benchmark.Scored(figures, rows, cut=cut)


def _accuracy(rows: Sequence[Mapping[str, Any]], name: str) -> benchmark.Figure:
  """The share of rows that are right by a rule."""
  right = [float(row[name]) for row in rows]
  mean = statistics.mean(right) if right else None
  if mean is None:
    return benchmark.Figure(None, by=_RULES[name])
  return benchmark.Figure(
    mean.value, mean.low, mean.high, of=len(right), by=_RULES[name]
  )


def _row(
  item: benchmark.Item, answer: benchmark.Answer
) -> tuple[dict[str, Any], str]:
  """What an item came to, and why nothing was chosen; '' where it was."""
  texts, right = item.about[CONTINUATIONS], item.about[RIGHT]
  row: dict[str, Any] = {'id': item.id, RIGHT: right}
  fault = ''
  if answer.fault:
    fault = 'without an answer'
  elif len(answer.likelihoods) != len(texts):
    fault = 'without a likelihood for each continuation'
  elif not all(math.isfinite(one[0]) for one in answer.likelihoods):
    fault = 'with a likelihood that is not finite'
  if fault:
    return {**row, **dict.fromkeys(FIGURES, 0)}, fault
  nats = [one[0] for one in answer.likelihoods]
  # A text of nothing but spaces has no characters to divide by.
  lengths = [max(len(text.strip()), 1) for text in texts]
  by_character = [n / length for n, length in zip(nats, lengths, strict=True)]
  for name, values in (('acc', nats), ('acc_norm', by_character)):
    chosen = values.index(max(values))
    row[f'chosen_{name}'] = chosen
    row[name] = int(chosen == right)
  row['nats'] = nats
  return row, ''
