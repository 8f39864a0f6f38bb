"""Answers that `sample` drew, and what a judge or people say of them.

    {"prompt": "q-17", "run": "runs/sft", "step": 2000, "number": 0,
     "text": "blue", "scores": {"right": 1.0, "brief": 0.8}, …}
    {"prompt": "q-17", "number": 0, "verdict": 1}      of a judge: 0 or 1
    {"prompt": "q-17", "number": 0, "rating": 4}       of people: 1 to 5

`run` and `step` say whose answer a judgement is of, where several have that
number. Several judgements of one answer count by their mean.
"""

import collections
import math
from typing import Any, Callable, Iterator, Mapping, NamedTuple, Sequence

from data_pipelines.readers.common import base
from data_pipelines.readers.common import columns
from data_pipelines.readers.preferences import rankings
from step_audio_jax import errors
from step_audio_jax.storage import files

VERDICT, RATING = JUDGEMENTS = ('verdict', 'rating')
_SCALES = {VERDICT: (0.0, 1.0), RATING: rankings.PEOPLE}
# (what it is counted as, of what, why)
LeftOut = Callable[[str, str | None, str], None]
Row = tuple[str, dict[str, Any]]


class Sample(NamedTuple):
  """An answer to a prompt.

  Attributes:
    where: `file:line`, for messages.
    prompt: Id of the chat.
    run: Who answers.
    step: Of the run.
    number: Of the answer.
    text: What is said.
    about: What else the line says.
    parts: Name → what is thought of it; more is better. {} before it is judged.
  """

  where: str
  prompt: str
  run: str
  step: int
  number: int
  text: str
  about: Mapping[str, Any]
  parts: Mapping[str, float] = {}

  @property
  def order(self) -> tuple[str, int, int, str]:
    """The same whichever file it came from."""
    return self.run, self.step, self.number, self.text


def read(paths: Sequence[files.AnyPath], left: LeftOut) -> list[Sample]:
  """The answers of all files; what is none is left out.

  Raises:
    UserError: A file cannot be opened.
  """
  found = []
  for where, row in _rows(paths, left):
    try:
      one = Sample(
        where,
        _text(_prompt(row), 'prompt'),
        _text(row.get('run'), 'run'),
        _whole(row.get('step'), 'step'),
        _whole(row.get('number'), 'number'),
        _text(row.get('text'), 'text', empty=True),
        row,
      )
    except errors.UserError as error:
      left('no_sample', _name(row), f'{where}: {error}')
    else:
      found.append(one)
  return found


def by_scores(
  samples: Sequence[Sample], weights: Mapping[str, float], left: LeftOut
) -> list[Sample]:
  """Samples whose parts are their scores, weighted.

  Args:
    samples: With `scores`.
    weights: Of the scores; {} takes all that there are as they are.
    left: Told of those that lack one.

  Raises:
    UserError: No sample has a score that is weighted.
  """
  if not samples:
    return []
  told = [_object(one.about.get('scores')) for one in samples]
  known = sorted({name for some in told for name in some})
  unknown = [name for name in weights or known[:0] if name not in known]
  if unknown or not known:
    name = unknown[0] if unknown else 'nothing'
    raise errors.UserError(
      f'--weights: found {name!r}, but the samples have the scores '
      f'{", ".join(known) or "none"}.'
    )
  weights = weights or dict.fromkeys(known, 1.0)
  found = []
  for one, some in zip(samples, told):
    try:
      parts = {
        name: weight * columns.number(some.get(name), f'scores.{name}')
        for name, weight in weights.items()
      }
    except errors.UserError as error:
      left('unscored', one.prompt, f'{one.where}: {error}')
    else:
      found.append(one._replace(parts=parts))
  return found


def by_judgements(
  samples: Sequence[Sample],
  path: files.AnyPath,
  kind: str,
  left: LeftOut,
) -> list[Sample]:
  """Samples whose part is what a file says of them.

  Args:
    samples: What is judged.
    path: JSON lines.
    kind: Of `JUDGEMENTS`.
    left: Told of judgements of nothing, and of samples without one.

  Raises:
    UserError: The file cannot be opened.
  """
  named: dict[tuple[str, int], list[int]] = collections.defaultdict(list)
  for place, one in enumerate(samples):
    named[one.prompt, one.number].append(place)
  said: dict[int, list[float]] = collections.defaultdict(list)
  for where, row in _rows([path], left):
    try:
      value = _judged(row.get(kind), kind)
      prompt = _text(_prompt(row), 'prompt')
      number = _whole(row.get('number'), 'number')
      fits = [
        place
        for place in named[prompt, number]
        if all(
          row.get(name) in (None, getattr(samples[place], name))
          for name in ('run', 'step')
        )
      ]
      if len({samples[place].text.strip() for place in fits}) != 1:
        raise errors.UserError(
          f'number: found {number} of {prompt!r}, of which there are '
          f'{len(fits)} answers, expected one (`run`, `step` tell them apart).'
        )
    except errors.UserError as error:
      left('no_judgement', _name(row), f'{where}: {error}')
      continue
    for place in fits:
      said[place].append(value)
  found = []
  for place, one in enumerate(samples):
    if place in said:
      mean = math.fsum(said[place]) / len(said[place])
      found.append(one._replace(parts={kind: mean}))
    else:
      left('unjudged', one.prompt, f'{one.where}: {path} has no {kind} of it.')
  return found


def _rows(paths: Sequence[files.AnyPath], left: LeftOut) -> Iterator[Row]:
  """(where, object) of each line; a line that a kill cut is left out."""
  for path in paths:
    for line in base.json_lines(path):
      if isinstance(line, base.Rejected):
        left('broken', None, f'{line.where}: {line.reason}')
      else:
        number, row = line
        yield f'{path}:{number}', row


def _prompt(row: Mapping[str, Any]) -> Any:
  """As `sample` calls it, or as a manifest does."""
  return row.get('prompt', row.get('id'))


def _name(row: Mapping[str, Any]) -> str | None:
  found = _prompt(row)
  return found if isinstance(found, str) else None


def _judged(value: Any, kind: str) -> float:
  if kind == VERDICT and isinstance(value, bool):
    value = int(value)
  found = rankings.rating(value, kind, _SCALES[kind])
  if kind == VERDICT and found not in _SCALES[kind]:
    raise errors.UserError(f'{kind}: found {found:g}, expected 0 or 1.')
  return found


def _text(value: Any, field: str, empty: bool = False) -> str:
  if not isinstance(value, str) or not (empty or value.strip()):
    raise errors.UserError(f'{field}: found {value!r:.60}, expected a string.')
  return value


def _whole(value: Any, field: str) -> int:
  if type(value) is not int or value < 0:
    raise errors.UserError(
      f'{field}: found {value!r:.60}, expected a whole number >= 0.'
    )
  return value


def _object(value: Any) -> Mapping[str, Any]:
  return value if isinstance(value, Mapping) else {}
