"""What is scored of answers to chats: in writing, and as others hear them.

Two ways are kept apart. What the model wrote (S→T) makes the figures; where
answers were spoken (`Benchmark.aloud`) an outside recogniser hears them, and
what it heard (S→S) makes the same figures once more, with `_speech` behind
their names. An answer that is none counts as wrong in both.
"""

import abc
import dataclasses
from typing import Any, ClassVar, Mapping, Sequence

from step_audio_jax.evaluation import statistics
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.judges import prompts
from step_audio_jax.evaluation.judges import verdicts

Item = benchmark.Item
Verdict = verdicts.Verdict

SPEECH = '_speech'
UNSPOKEN = 'without a sound, of those that are heard'


@dataclasses.dataclass
class Worth:
  """What answers are worth in one way.

  Attributes:
    figures: By name, the first one first.
    rows: Fields of each item's row.
    not_computed: Figure → why there is none.
    cut: Reason → items.
  """

  figures: dict[str, benchmark.Figure]
  rows: list[dict[str, Any]]
  not_computed: dict[str, str] = dataclasses.field(default_factory=dict)
  cut: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Answered(benchmark.Benchmark):
  """Base of benchmarks whose answers are texts."""

  asks: ClassVar[str] = benchmark.ANSWER

  @abc.abstractmethod
  def worth(
    self,
    items: Sequence[Item],
    said: Sequence[str],
    means: benchmark.Means,
  ) -> Worth:
    """What texts are worth; '' of an item without an answer."""

  def score(
    self,
    items: Sequence[Item],
    answers: Sequence[benchmark.Answer],
    means: benchmark.Means,
  ) -> benchmark.Scored:
    """See the base."""
    written = self.worth(items, [text_of(one) for one in answers], means)
    rows = [
      {'id': item.id, **row}
      for item, row in zip(items, written.rows, strict=True)
    ]
    figures, lacks = dict(written.figures), dict(written.not_computed)
    cut = dict(written.cut)
    if self.aloud and means.ear is None:
      why = means.why_not('ear')
      lacks |= {f'{name}{SPEECH}': why for name in (*figures, *lacks)}
    elif self.aloud:
      heard = [hear(item, one, means) for item, one in zip(items, answers)]
      spoken = self.worth(items, [text or '' for text in heard], means)
      if unspoken := sum(text is None for text in heard):
        cut[UNSPOKEN] = unspoken
      figures |= {
        f'{name}{SPEECH}': dataclasses.replace(
          one, by=f'{one.by}, of what the ear heard'
        )
        for name, one in spoken.figures.items()
      }
      lacks |= {f'{n}{SPEECH}': why for n, why in spoken.not_computed.items()}
      cut |= {f'{why}, as heard': n for why, n in spoken.cut.items()}
      for row, text, told in zip(rows, heard, spoken.rows, strict=True):
        row |= {'heard': text, 'speech': told}
    return benchmark.Scored(figures, rows, lacks, cut)


def text_of(answer: benchmark.Answer) -> str:
  """What was answered; '' of a fault and of nothing."""
  return '' if answer.fault else answer.text or ''


def hear(
  item: Item, answer: benchmark.Answer, means: benchmark.Means
) -> str | None:
  """What the outside recogniser hears; None of what has no sound."""
  if answer.fault or not answer.wav:
    return None
  return means.ear(answer.wav, item.language)


def question(item: Item) -> str:
  """What was asked, in words; all turns where there are several."""
  if told := item.about.get('question'):
    return str(told)
  turns = [
    f'{turn.role}: {text}' for turn in item.chat.turns if (text := _words(turn))
  ]
  return '\n'.join(turns) if len(turns) > 1 else item.text


def _words(turn) -> str:
  parts = [one if isinstance(one, str) else one.text for one in turn.parts]
  return '\n'.join([*filter(None, parts), *(one.written for one in turn.calls)])


def mean(
  values: Sequence[float | None],
  by: str,
  *,
  low: float = 0.0,
  times: float = 1.0,
  unit: str = '%',
  better: str = 'higher',
) -> benchmark.Figure:
  """The mean of all items as a figure.

  Args:
    values: One an item; None, of what has no value, counts as `low`.
    by: What it was scored by.
    low: The worst value.
    times: What values are multiplied by.
    unit: As in the figure, as `better` is.
    better: 'higher' or 'lower'.
  """
  found = [low if value is None else value for value in values]
  found = [times * value for value in found]
  return interval(found, by, unit, better)


def interval(
  values: Sequence[float], by: str, unit: str = '%', better: str = 'higher'
) -> benchmark.Figure:
  """The mean of values, and its 95 % interval; None of no values."""
  drawn = statistics.mean(values) if values else None
  if drawn is None:
    return benchmark.Figure(None, unit=unit, better=better, by=by)
  ends = drawn.low, drawn.high
  return benchmark.Figure(drawn.value, *ends, unit, better, drawn.count, by)


def by_rule(
  name: str,
  found: Sequence[Verdict],
  by: str,
  groups: Sequence[str] = (),
) -> Worth:
  """What verdicts of a rule come to, over all and over those that were read.

  Args:
    name: Of the figure over all; `NAME_parsed` is over those that could be
      read, `unparsed` the share of those that could not, and `NAME/GROUP` that
      of each group.
    found: Verdicts of 0 or 1, one an item.
    by: The rule.
    groups: Of each item, '' of one that has none.
  """
  values = [one.value for one in found]
  read = [value for value in values if value is not None]
  figures = {
    name: mean(values, by),
    f'{name}_parsed': interval(read, f'{by}, where it could be read'),
    'unparsed': interval(
      [float(value is None) for value in values],
      'answers that the rule could not read',
      better='lower',
    ),
    **grouped(name, values, groups, by),
  }
  rows = [{name: one.value or 0.0, 'unparsed': one.kind} for one in found]
  cut = {
    f'not to be parsed: {kind}': count
    for kind, count in verdicts.kinds(
      [one for one in found if one.value is None]
    ).items()
  }
  return Worth(figures, rows, cut=cut)


def grouped(
  name: str,
  values: Sequence[float | None],
  groups: Sequence[str],
  by: str,
  **more: Any,
) -> dict[str, benchmark.Figure]:
  """`NAME/GROUP` of each group, where there are at least two."""
  if len(set(groups)) < 2:
    return {}
  return {
    f'{name}/{group}': mean(
      [one for one, other in zip(values, groups) if other == group], by, **more
    )
    for group in dict.fromkeys(groups)
    if group
  }


def categories(items: Sequence[Item]) -> list[str]:
  """Of each item, '' of one that has none."""
  return [str(item.about.get('category') or '') for item in items]


def judged(
  means: benchmark.Means,
  prompt: str | prompts.Prompt,
  rows: Sequence[Mapping[str, Any]],
  votes: int = 0,
) -> Any:
  """`Verdicts` of the judge, or why there are none."""
  if means.judge is None:
    return means.why_not('judge')
  found = means.judge.using(prompt, votes).judge(rows)
  return found.not_computed or found


def who(found: Any) -> str:
  """Who judged: the model, the prompt with its version, the votes."""
  told = found.identity
  asked = f'{told["prompt"]["name"]}@{told["prompt"]["version"]}'
  model = told['model'].get('model') or told['model'].get('name', '')
  many = f', {told["votes"]} votes' if told['votes'] > 1 else ''
  return f'{model}, {asked}{many}'


def by_judge(
  name: str,
  found: Any,
  groups: Sequence[str] = (),
  part: str = '',
  times: float = 1.0,
  unit: str = '%',
) -> Worth:
  """What the verdicts of a judge come to; names as in `by_rule`.

  Args:
    name: Of the figure.
    found: `Verdicts`.
    groups: Of each item.
    part: Of verdicts that have several values; '' is the first, or only one.
    times: What values are multiplied by.
    unit: Of the figure.
  """
  part = part or next(iter(found.scales))
  by, low = who(found), found.scales[part].low
  values = [one.part(part) for one in found.verdicts]
  read = [times * value for value in values if value is not None]
  lost = [one for one in found.verdicts if one.part(part) is None]
  figures = {
    name: mean(values, by, low=low, times=times, unit=unit),
    f'{name}_parsed': interval(read, f'{by}, where it gave a verdict', unit),
    f'{name}_unparsed': interval(
      [float(value is None) for value in values],
      f'{by}, without a verdict',
      better='lower',
    ),
    **grouped(name, values, groups, by, low=low, times=times, unit=unit),
  }
  rows = [{'judge': one.line} for one in found.rows]
  cut = {
    f'{name} without a verdict: {kind}': count
    for kind, count in verdicts.kinds(lost).items()
  }
  return Worth(figures, rows, cut=cut)


def joined(first: Worth, *others: Worth) -> Worth:
  """One of several, the first ahead."""
  found = Worth(
    dict(first.figures),
    [dict(row) for row in first.rows],
    dict(first.not_computed),
    dict(first.cut),
  )
  for other in others:
    found.figures |= other.figures
    found.not_computed |= other.not_computed
    found.cut |= other.cut
    for row, more in zip(found.rows, other.rows, strict=True):
      row |= more
  return found


def lacking(count: int, why: str, *names: str) -> Worth:
  """Figures that are not computed."""
  return Worth({}, [{} for _ in range(count)], dict.fromkeys(names, why))
