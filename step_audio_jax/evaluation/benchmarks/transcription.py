"""Recordings that are written down: error rates under each convention.

One set of answers is scored under all conventions that are named. `cer/NAME`
is of languages without spaces between words, which conventions count by
character, `wer/NAME` of those with, `mer/NAME` of items of both kinds. What
exactly a token is, a convention says itself; those that count alike in every
language are called by what they count.
"""

import dataclasses
from typing import Any, ClassVar, Iterable, Mapping, NamedTuple, Sequence

from step_audio_jax import errors
from step_audio_jax import languages
from step_audio_jax.evaluation import conventions as conventions_lib
from step_audio_jax.evaluation import statistics
from step_audio_jax.evaluation.benchmarks import benchmark

NO_ANSWER = 'without an answer'  # as the family of benchmarks counts faults
NO_TEXT = 'without a text'
_ALIKE = {'plain': 'cer', 'jiwer-cer': 'cer', 'jiwer-wer': 'wer'}


class Rates(NamedTuple):
  """What hypotheses are worth under several conventions.

  Attributes:
    figures: Name → figure, in the order of the conventions.
    rows: Of each item: convention → its row.
    not_computed: Figure → why there is none.
    cut: What a convention does not count.
  """

  figures: dict[str, benchmark.Figure]
  rows: list[dict[str, dict[str, Any]]]
  not_computed: dict[str, str]
  cut: dict[str, int]


def rate_name(items: Iterable[benchmark.Item], convention: str) -> str:
  """What the rate of items under a convention is called: `cer/wenet`."""
  return f'{_ALIKE.get(convention) or _kind(items)}/{convention}'


def _kind(items) -> str:
  kinds = {
    languages.is_spaceless(item.language, reference_of(item)) for item in items
  }
  return 'mer' if len(kinds) > 1 else 'cer' if True in kinds else 'wer'


def reference_of(item: benchmark.Item) -> str:
  """The words of an item.

  Raises:
    UserError: It has none, or several.
  """
  if len(item.references) != 1:
    raise errors.UserError(
      f'{item.id}: references: found {len(item.references)}, expected the one '
      'text that is said.'
    )
  return item.references[0]


def rates(
  items: Sequence[benchmark.Item],
  texts: Sequence[str | None],
  names: Sequence[str],
) -> Rates:
  """Hypotheses under conventions.

  Args:
    items: With one reference each.
    texts: What was written; None is nothing at all, all of it deleted.
    names: Of conventions, each once.

  Raises:
    UserError: A convention is unknown, or an item has not one reference.
  """
  told = [
    (item.id, reference_of(item), text or '', item.language)
    for item, text in zip(items, texts, strict=True)
  ]
  found = Rates({}, [{} for _ in items], {}, {})
  for name, scored in conventions_lib.score_all(names, told).items():
    figure = rate_name(items, name)
    for row, one in zip(found.rows, scored.rows, strict=True):
      row[name] = _row(one)
    for reason, count in scored.excluded.items():
      found.cut[f'not in {figure}: {reason}'] = count
    empty = sum(one.counted and not one.length for one in scored.rows)
    if empty:
      found.cut[f'with an empty reference in {figure}'] = empty
    if scored.rate is None:
      found.not_computed[figure] = scored.reason or 'there is nothing to rate'
      continue
    drawn = statistics.interval(scored)
    found.figures[figure] = benchmark.Figure(
      scored.rate,
      drawn.low if drawn else None,
      drawn.high if drawn else None,
      better='lower',
      of=sum(one.counted for one in scored.rows),
      by=f'{name} {scored.version}, {scored.average}',
    )
  return found


def _row(one: conventions_lib.Row) -> dict[str, Any]:
  """A row without its id; what it does not say is left out."""
  told = one.as_dict()
  told.pop('id')
  return {name: value for name, value in told.items() if value is not None}


def without_text(
  answers: Iterable[benchmark.Answer],
) -> dict[str, int]:
  """Answers that have no text, by whether it is known why."""
  cut: dict[str, int] = {}
  for answer in answers:
    if answer.fault or answer.text is None:
      reason = NO_ANSWER if answer.fault else NO_TEXT
      cut[reason] = cut.get(reason, 0) + 1
  return cut


@dataclasses.dataclass(frozen=True)
class Transcription(benchmark.Benchmark):
  """Base of benchmarks of recordings and the words that are said."""

  asks: ClassVar[str] = benchmark.TRANSCRIBE

  def score(
    self,
    items: Sequence[benchmark.Item],
    answers: Sequence[benchmark.Answer],
    means: benchmark.Means,
  ) -> benchmark.Scored:
    """See the base; of what has no text, every word counts as deleted."""
    texts = [None if one.fault else one.text for one in answers]
    found = rates(items, texts, means.conventions)
    rows: list[Mapping[str, Any]] = [
      {'id': item.id, 'scores': row}
      for item, row in zip(items, found.rows, strict=True)
    ]
    cut = {**without_text(answers), **found.cut}
    return benchmark.Scored(found.figures, rows, found.not_computed, cut)
