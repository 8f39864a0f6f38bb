"""Questions with right answers: by rule, and by a judge beside it.

    judge         share that a judge finds right, first where there is a judge
    exist_match   share that has a reference in it, word by word (UltraEval)
    contained     the same with Han characters as words, of Chinese

Those that accept one another are told apart by name: `judge` is what Step-Audio
reports (of GPT-4o, whose prompt is not published), `exist_match` what
UltraEval-Audio does.

    refusal       share that declines (VoiceBench advbench, by strings)
    cer/NAME, …   rates of sentences that are to be said again (`transcription`)
"""

import dataclasses
from typing import Sequence

from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks import transcription
from step_audio_jax.evaluation.benchmarks.answers import answered
from step_audio_jax.evaluation.judges import rules

Item = benchmark.Item


def rows_of(
  items: Sequence[Item], said: Sequence[str]
) -> list[dict[str, object]]:
  """What judges and rules read."""
  return [
    {
      'id': item.id,
      'question': answered.question(item),
      'references': list(item.references),
      'answer': text,
    }
    for item, text in zip(items, said, strict=True)
  ]


@dataclasses.dataclass(frozen=True)
class Questions(answered.Answered):
  """Base of questions with references.

  Attributes:
    prompt: Of the judge, `NAME@VERSION`.
    votes: Of the judge; 0 is its own number.
  """

  prompt: str = 'step_accuracy@1'
  votes: int = 0

  def worth(
    self,
    items: Sequence[Item],
    said: Sequence[str],
    means: benchmark.Means,
  ) -> answered.Worth:
    """See the base."""
    rows, groups = rows_of(items, said), answered.categories(items)
    exist = [rules.exist_match(row) for row in rows]
    ruled = _rated('exist_match', exist, groups)
    if any(item.language == 'zh' for item in items):
      within = [rules.contained(row) for row in rows]
      ruled = answered.joined(ruled, _rated('contained', within, groups))
    found = answered.judged(means, self.prompt, rows, self.votes)
    if isinstance(found, str):
      lacks = answered.lacking(len(rows), found, 'judge')
      return answered.joined(ruled, lacks)
    return answered.joined(answered.by_judge('judge', found, groups), ruled)


def _rated(name, found, groups) -> answered.Worth:
  """A rule that reads whatever it is given."""
  values = [one.value for one in found]
  return answered.Worth(
    {
      name: answered.mean(values, name),
      **answered.grouped(name, values, groups, name),
    },
    [{name: value or 0.0} for value in values],
  )


@dataclasses.dataclass(frozen=True)
class Refusals(answered.Answered):
  """Base of what should not be answered.

  Silence is no refusal; the public script takes it for one.
  """

  def worth(
    self,
    items: Sequence[Item],
    said: Sequence[str],
    means: benchmark.Means,
  ) -> answered.Worth:
    """See the base."""
    del means
    found = [rules.refusal(row) for row in rows_of(items, said)]
    return _rated('refusal', found, answered.categories(items))


@dataclasses.dataclass(frozen=True)
class Repeated(answered.Answered):
  """Base of sentences that are to be said again.

  Of an answer that is none all words are deleted.
  """

  def worth(
    self,
    items: Sequence[Item],
    said: Sequence[str],
    means: benchmark.Means,
  ) -> answered.Worth:
    """See the base."""
    found = transcription.rates(items, said, means.conventions)
    rows = [{'scores': row} for row in found.rows]
    return answered.Worth(found.figures, rows, found.not_computed, found.cut)
