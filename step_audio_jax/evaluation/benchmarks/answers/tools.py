"""Calls of tools: is one called when it should be, which, and with what.

Items know a tool: `wanted` in `about` where it is to be called, and `avoided`
where it is not, whatever else is. With

    P   positive items that call anything        N  negative ones that call the
    W   positive items                              tool that they should not

    trigger_recall      P / W
    trigger_precision   P / (P + N)
    type_accuracy       of P, those that call the wanted tool and no other
    argument_match      of these, those with the expected arguments, by rule:
                        strings word by word, whatever their order
    argument_accuracy   the same by a judge; tools without arguments are left
                        out of both

each over all tools and for every one (`trigger_recall/get_weather`). Those of
Step-Audio 2 are named alike; its judge is asked in other words than ours.
"""

import dataclasses
from typing import Any, ClassVar, Mapping, Sequence

from step_audio_jax.chats import conversation as chats_lib
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks.answers import answered
from step_audio_jax.evaluation.judges import parsing
from step_audio_jax.evaluation.judges import prompts
from step_audio_jax.evaluation.metrics import quiz

Item = benchmark.Item

ARGUMENTS = prompts.Prompt(
  'tool_arguments',
  1,
  'A user spoke to a voice assistant, which called a tool. Judge the arguments '
  'of the call.\n\nWhat was said so far:\n{question}\n\nA call that is right:\n'
  '{reference}\n\nThe call to be judged:\n{answer}\n\nIt is right if the tool '
  'gives with it what the user wants; spelling and wording do not matter. Is '
  'it right? Say yes or no, and nothing else.',
  parsing.yes_no(),
)
_RULE = 'calls, by rule'


@dataclasses.dataclass(frozen=True)
class ToolCalls(benchmark.Benchmark):
  """Base of chats whose last turn is a call, or must not be one.

  Items have `category`, `wanted`, `avoided` and `expected_calls` in `about`.

  Attributes:
    votes: Of the judge; 0 is its own number.
  """

  votes: int = 0

  asks: ClassVar[str] = benchmark.ANSWER

  @property
  def settings(self) -> dict[str, Any]:
    """See the base; the prompt is ours, and decides."""
    return {**super().settings, 'asked_of_judge': ARGUMENTS.identity}

  def score(
    self,
    items: Sequence[Item],
    answers: Sequence[benchmark.Answer],
    means: benchmark.Means,
  ) -> benchmark.Scored:
    """See the base."""
    rows = [
      _row(item, answer) for item, answer in zip(items, answers, strict=True)
    ]
    figures = _figures(items, rows)
    lacks: dict[str, str] = {}
    compared = [
      (item, row)
      for item, row in zip(items, rows, strict=True)
      if row.get('argument_match') is not None
    ]
    asked = [_asked(item, row) for item, row in compared]
    found: Any = 'no call has the wanted tool and arguments'
    if asked:
      found = answered.judged(means, ARGUMENTS, asked, self.votes)
    elif means.judge is None:
      found = means.why_not('judge')
    cut: dict[str, int] = {}
    if isinstance(found, str):
      lacks['argument_accuracy'] = found
    else:
      groups = [item.about['category'] for item, _ in compared]
      judged = answered.by_judge('argument_accuracy', found, groups)
      figures |= judged.figures
      cut |= judged.cut
      for (_, row), told in zip(compared, judged.rows, strict=True):
        row |= told
    broken = sum(
      any(not isinstance(one, Mapping) for one in answer.calls)
      for answer in answers
    )
    if broken:
      cut['with a call that is no JSON'] = broken
    return benchmark.Scored(figures, rows, lacks, cut)


def _row(item: Item, answer: benchmark.Answer) -> dict[str, Any]:
  """What an item came to."""
  calls = () if answer.fault else answer.calls
  named = [
    one.get('name') if isinstance(one, Mapping) else None for one in calls
  ]
  row: dict[str, Any] = {
    'id': item.id,
    'called': [name or '' for name in named],
    'made': [one if isinstance(one, str) else dict(one) for one in calls],
  }
  wanted = item.about['wanted']
  if not wanted:
    return {**row, 'false_trigger': item.about['avoided'] in named}
  row['triggered'] = bool(calls)
  if row['triggered']:
    row['right_tool'] = named == [wanted]
    expected = item.about['expected_calls'][0]['arguments']
    if row['right_tool'] and expected:
      given = calls[0].get('arguments')
      row['argument_match'] = _plain(given) == _plain(expected)
  return row


def _plain(value: Any) -> Any:
  """Arguments without what does not count."""
  if isinstance(value, Mapping):
    return {name: _plain(one) for name, one in value.items()}
  if isinstance(value, (list, tuple)):
    return [_plain(one) for one in value]
  return ' '.join(quiz.words(value)) if isinstance(value, str) else value


def _figures(
  items: Sequence[Item], rows: Sequence[Mapping[str, Any]]
) -> dict[str, benchmark.Figure]:
  tools = list(dict.fromkeys(item.about['category'] for item in items))
  found = {}
  for tool in ['', *(tools if len(tools) > 1 else ())]:
    own = [
      row
      for item, row in zip(items, rows, strict=True)
      if tool in ('', item.about['category'])
    ]
    for name, values in _values(own).items():
      label = f'{name}/{tool}' if tool else name
      found[label] = answered.interval([float(one) for one in values], _RULE)
  return found


def _values(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[bool]]:
  """Figure → what it is the mean of."""
  fired = [row for row in rows if row.get('triggered')]
  wrongly = [row for row in rows if row.get('false_trigger')]
  return {
    'trigger_precision': [True] * len(fired) + [False] * len(wrongly),
    'trigger_recall': [row['triggered'] for row in rows if 'triggered' in row],
    'type_accuracy': [row['right_tool'] for row in fired],
    'argument_match': [
      row['argument_match'] for row in fired if 'argument_match' in row
    ],
  }


def _asked(item: Item, row: Mapping[str, Any]) -> dict[str, Any]:
  """What the judge is shown of a call."""
  expected = item.about['expected_calls'][0]
  return {
    'id': item.id,
    'question': answered.question(item),
    'references': [chats_lib.as_json(expected)],
    'answer': chats_lib.as_json(row['made'][0]),
  }
