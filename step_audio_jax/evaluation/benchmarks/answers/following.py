"""Whether answers do what they were told to: by rule, or a judge's yes and no.

`Following` (IFEval): instructions that a program checks, those of
`judges.instructions`.

    ifeval                      mean of the four below, as VoiceBench tells it
    prompt_strict, prompt_loose               share of items that follow all
    instruction_strict, instruction_loose     share of instructions
    unparsed                    share of which it cannot be told

`Criteria` (ComplexBench): conditions that a judge is asked about one by one.

    judge        share of conditions that are met; one whose own conditions are
                 not met is not met either
    judge_all    share of items that meet all of theirs
"""

import dataclasses
from typing import Any, Sequence

from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks.answers import answered
from step_audio_jax.evaluation.judges import parsing
from step_audio_jax.evaluation.judges import prompts
from step_audio_jax.evaluation.judges import verdicts
from step_audio_jax.evaluation.judges.instructions import following as ifeval

Item = benchmark.Item

INSTRUCTIONS = 'instructions'  # of `Item.about`
_BY = 'IFEval, checked by program'

# The words are ours; the questions are those of the benchmark.
CONDITION = prompts.Prompt(
  'condition',
  1,
  'A user spoke to a voice assistant. Judge the transcript of what it said by '
  'one condition alone.\n\nWhat the user said:\n{question}\n\nWhat the '
  'assistant said:\n{answer}\n\nThe condition, as a question:\n{condition}\n\n'
  'Is it met? Say yes or no, and nothing else.',
  parsing.yes_no(),
)


@dataclasses.dataclass(frozen=True)
class Following(answered.Answered):
  """Base of items with `instructions` in `about`: [name, arguments] each."""

  def worth(
    self,
    items: Sequence[Item],
    said: Sequence[str],
    means: benchmark.Means,
  ) -> answered.Worth:
    """See the base; what cannot be told counts as not followed."""
    del means
    asked = [
      {'id': item.id, 'answer': text, 'instructions': item.about[INSTRUCTIONS]}
      for item, text in zip(items, said, strict=True)
    ]
    rows: list[dict[str, Any]] = [{} for _ in items]
    found: dict[str, list[verdicts.Verdict]] = {}
    for way, loose in (('strict', False), ('loose', True)):
      each = [ifeval.verdicts_of(row, loose) for row in asked]
      found[f'prompt_{way}'] = [ifeval.verdict(row, loose) for row in asked]
      found[f'instruction_{way}'] = [one for some in each for one in some]
      for row, some in zip(rows, each, strict=True):
        row[way] = [one.value for one in some]
    four = {
      name: answered.mean([one.value for one in some], _BY)
      for name, some in found.items()
    }
    values = [one.value for one in four.values() if one.value is not None]
    first = benchmark.Figure(
      verdicts.mean(values), of=len(items), by=f'{_BY}, mean of four'
    )
    strict = found['instruction_strict']
    unread = [one for one in strict if one.value is None]
    untold = answered.interval(
      [float(one.value is None) for one in strict],
      'instructions of which it cannot be told',
      better='lower',
    )
    cut = {
      f'an instruction that cannot be checked: {kind}': count
      for kind, count in verdicts.kinds(unread).items()
    }
    figures = {'ifeval': first, **four, 'unparsed': untold}
    return answered.Worth(figures, rows, cut=cut)


def criterion(id: Any, question: str, needs: Any = ()) -> dict[str, Any]:
  """A condition, JSON-able.

  Args:
    id: Of it, among those of its item.
    question: Whether it is met, in words.
    needs: Ids of others that have to be met.
  """
  return {'id': id, 'question': question, 'needs': list(needs or ())}


@dataclasses.dataclass(frozen=True)
class Criteria(answered.Answered):
  """Base of items with `criteria` in `about`.

  Attributes:
    votes: Of the judge; 0 is its own number.
  """

  votes: int = 0

  @property
  def settings(self) -> dict[str, Any]:
    """See the base; the prompt is ours, and decides."""
    return {**super().settings, 'asked_of_judge': CONDITION.identity}

  def worth(
    self,
    items: Sequence[Item],
    said: Sequence[str],
    means: benchmark.Means,
  ) -> answered.Worth:
    """See the base."""
    rows = [
      {
        'id': f'{item.id}/{place}',
        'question': answered.question(item),
        'condition': one['question'],
        'answer': text,
      }
      for item, text in zip(items, said, strict=True)
      for place, one in enumerate(item.about['criteria'])
    ]
    found = answered.judged(means, CONDITION, rows, self.votes)
    if isinstance(found, str):
      return answered.lacking(len(items), found, 'judge', 'judge_all')
    lines = {row['id']: one for row, one in zip(rows, found.rows, strict=True)}
    groups = answered.categories(items)
    met = [
      _met(
        item.about['criteria'],
        [
          lines[f'{item.id}/{place}'].verdict.value
          for place in range(len(item.about['criteria']))
        ],
      )
      for item in items
    ]
    by = answered.who(found)
    raw = answered.by_judge('judge', found)
    whole = [float(all(one)) for one in met]
    figures = {
      'judge': answered.interval([float(v) for one in met for v in one], by),
      'judge_all': answered.interval(whole, by),
      'judge_unparsed': raw.figures['judge_unparsed'],
      **answered.grouped('judge_all', whole, groups, by),
    }
    told = [
      {
        'met': one,
        'judge': [
          lines[f'{item.id}/{place}'].line for place in range(len(one))
        ],
      }
      for item, one in zip(items, met, strict=True)
    ]
    return answered.Worth(figures, told, cut=raw.cut)


def _met(
  criteria: Sequence[dict[str, Any]], values: Sequence[float | None]
) -> list[bool]:
  """Which conditions are met; one that waits for itself is not."""
  places = {one['id']: place for place, one in enumerate(criteria)}
  own = [value == 1.0 for value in values]

  def holds(place: int, above: frozenset[int]) -> bool:
    if place in above or not own[place]:
      return False
    needs = (places.get(one) for one in criteria[place]['needs'])
    return all(
      other is not None and holds(other, above | {place}) for other in needs
    )

  return [holds(place, frozenset()) for place in range(len(criteria))]
