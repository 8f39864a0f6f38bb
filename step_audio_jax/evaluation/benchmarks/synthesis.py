"""Texts that are spoken: what an outside ear understands, whose voice it is.

    wer/seed-tts    of the ear's transcript against the text (`transcription`)
    similarity      cosine of the speaker's embedding with the prompt's
    quality         figures of each sound, as the measure names them (`quality`)

Each needs a means that is named; without it the figure is not computed, and
says why. `Resynthesis` has recordings in the place of texts: they become codes,
codes become sound, and no model stands in between.
"""

import dataclasses
import math
from typing import Any, Callable, ClassVar, Mapping, Sequence

from step_audio_jax import errors
from step_audio_jax.evaluation import statistics
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks import transcription

CONVENTION = 'seed-tts'  # of the headline
SIMILARITY = 'similarity'
SILENT = 'without a sound'
# Of a quality measure: what describes a sound and rates it neither way, what is
# better where it is lower, and units.
DESCRIBED = (
  'peak_db', 'level_db', 'clipped', 'silence', 'f0_hz', 'f0_range', 'rate',
  'pause_share',
)  # fmt: skip
LOWER = (
  'mel', 'mcd', 'f0_cents', 'f0_voicing', 'text_repetition', 'codes_repetition',
)  # fmt: skip
UNITS = {
  'mcd': 'dB', 'f0_cents': 'cents', 'f0_voicing': '%', 'text_repetition': '%',
  'codes_repetition': '%',
}  # fmt: skip
_NO_PROMPT = 'no item has a recording to compare with'


def _name_of(means: Callable[..., Any]) -> str:
  """What a means is called: it may have a `name`."""
  return str(getattr(means, 'name', ''))


@dataclasses.dataclass(frozen=True)
class Synthesis(benchmark.Benchmark):
  """Base of benchmarks of texts that are spoken.

  An item's text, in its last turn, is its one reference. Where a recording
  stands in front of it, the text is to be said in that voice.
  """

  asks: ClassVar[str] = benchmark.SPEAK
  # What a sound's voice is compared with.
  LIKE: ClassVar[str] = 'the prompt'

  def score(
    self,
    items: Sequence[benchmark.Item],
    answers: Sequence[benchmark.Answer],
    means: benchmark.Means,
  ) -> benchmark.Scored:
    """See the base; of what has no sound, every word counts as deleted."""
    rows: list[dict[str, Any]] = [{'id': item.id} for item in items]
    cut: dict[str, int] = {}
    for answer in answers:
      if answer.fault or not answer.wav:
        why = transcription.NO_ANSWER if answer.fault else SILENT
        cut[why] = cut.get(why, 0) + 1
    found = _Found(rows, {}, {}, cut)
    self._understood(items, answers, means, found)
    self._alike(items, answers, means, found)
    _measured(answers, means, found)
    return benchmark.Scored(found.figures, rows, found.absent, cut)

  def _understood(self, items, answers, means, found) -> None:
    """What the ear hears, under `CONVENTION` and those that are named."""
    names = list(dict.fromkeys((CONVENTION, *means.conventions)))
    if means.ear is None:
      why = means.why_not('ear')
      rates = [transcription.rate_name(items, name) for name in names]
      found.absent.update(dict.fromkeys(rates, why))
      return
    heard: list[str | None] = []
    for item, answer, row in zip(items, answers, found.rows, strict=True):
      text = None
      if _sounds(answer):
        try:
          text = means.ear(answer.wav, item.language)
        except errors.UserError as error:
          row['unheard'] = str(error)
          found.count('with a sound that cannot be heard')
      row['heard'] = text
      heard.append(text)
    rated = transcription.rates(items, heard, names)
    ear = _name_of(means.ear)
    for name, figure in rated.figures.items():
      by = f'{figure.by}, heard by {ear}' if ear else figure.by
      found.figures[name] = dataclasses.replace(figure, by=by)
    found.absent.update(rated.not_computed)
    found.cut.update(rated.cut)
    for row, scores in zip(found.rows, rated.rows, strict=True):
      row['scores'] = scores

  def _alike(self, items, answers, means, found) -> None:
    """Whose voice it is."""
    models = [next(iter(item.recordings), None) for item in items]
    if means.similarity is None:
      found.absent[SIMILARITY] = means.why_not('similarity')
      return
    if not any(models):
      found.absent[SIMILARITY] = _NO_PROMPT
      return
    values = []
    for answer, model, row in zip(answers, models, found.rows, strict=True):
      if model is None or not _sounds(answer):
        continue
      value = _value(means.similarity, found, row, answer.wav, model)
      if value is not None:
        row[SIMILARITY] = value
        values.append(value)
    told = _name_of(means.similarity) or 'speaker embedding'
    by = f'{told}, against {self.LIKE}'
    found.add(SIMILARITY, values, 'score', 'higher', by)


@dataclasses.dataclass(frozen=True)
class Resynthesis(Synthesis):
  """Base of benchmarks of recordings that are made again from their codes.

  Each item is one recording, with its words as the reference.
  """

  asks: ClassVar[str] = benchmark.RESYNTHESIZE
  LIKE: ClassVar[str] = 'the recording'


@dataclasses.dataclass
class _Found:
  """Rows and figures while they are made."""

  rows: list[dict[str, Any]]
  figures: dict[str, benchmark.Figure]
  absent: dict[str, str]
  cut: dict[str, int]

  def count(self, why: str) -> None:
    self.cut[why] = self.cut.get(why, 0) + 1

  def add(self, name, values, unit, better, by) -> None:
    """The mean of values; of none there is no figure."""
    mean = statistics.mean(values) if values else None
    if mean is None:
      self.absent[name] = 'no sound could be measured'
      return
    self.figures[name] = benchmark.Figure(
      mean.value, mean.low, mean.high, unit, better, len(values), by
    )


def _sounds(answer: benchmark.Answer) -> bool:
  return bool(answer.wav) and not answer.fault


def _value(measure, found, row, *args) -> Any:
  """What a measure says of one sound; None where it cannot, and is counted."""
  try:
    value = measure(*args)
  except errors.UserError as error:
    row['unmeasured'] = str(error)
    found.count('with a sound that cannot be measured')
    return None
  if isinstance(value, Mapping) or math.isfinite(value):
    return value
  found.count('with a measure that is not finite')
  return None


def _measured(answers, means, found) -> None:
  """Quality figures of each sound, and the means of those that rate it."""
  if means.quality is None:
    found.absent['quality'] = means.why_not('quality')
    return
  values: dict[str, list[float]] = {}
  reasons: dict[str, str] = {}
  for answer, row in zip(answers, found.rows, strict=True):
    if not _sounds(answer):
      continue
    told = _value(means.quality, found, row, answer.wav) or {}
    reasons.update(told.get('not_computed', {}))
    for name, value in told.get('figures', told).items():
      if value is None or not math.isfinite(value):
        reasons[name] = 'not finite'
        continue
      row.setdefault('quality', {})[name] = value
      values.setdefault(name, []).append(value)
  if not values:
    found.absent['quality'] = 'no sound could be measured'
  by = _name_of(means.quality) or 'quality measure'
  for name in {**values, **reasons}:
    if name in DESCRIBED:
      continue
    if name in values:
      better = 'lower' if name in LOWER else 'higher'
      found.add(name, values[name], UNITS.get(name, 'score'), better, by)
    else:
      found.absent[name] = reasons[name]
