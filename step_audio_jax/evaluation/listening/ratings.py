"""Ratings that come back: CSV files against the key, checked and counted.

Nothing is silently left out. A row is a rating, or one of `rows`' reasons why
it is none; a rater is kept, or `excluded` with a reason. By the rule that the
key declares, a rater is excluded who failed more catch trials than are
tolerated:

    mos  degraded   rated above `degraded_most`
         repeated   more than `repeated_apart` from the first rating
    ab   degraded   not the sound as it was
         repeated   told apart, which excludes nobody: it is counted

A catch trial without an answer is failed.
"""

import collections
import csv
import dataclasses
import io
import math
from typing import Any, Mapping, NamedTuple, Sequence

from step_audio_jax import errors
from step_audio_jax.evaluation.listening import design
from step_audio_jax.storage import files

COLUMNS = (
  'page', 'rater', 'place', 'trial', 'item', 'sounds', 'question', 'score',
  'seconds', 'plays', 'catch',
)  # fmt: skip
SCORES = {design.MOS: ('1', '2', '3', '4', '5'), design.AB: ('a', 'b', 'same')}
_LONGEST = 2**16  # characters of a line of a table
OTHER_PAGE = 'of another page'
OTHER_TRIAL = 'of a trial, sounds or question that the page has not'
OUT_OF_RANGE = 'a score out of range'
TWICE = 'a trial that is rated twice'
NO_NUMBER = 'seconds or plays that are no numbers'
TWO_SETS = 'two different sets of ratings'
FAILED = 'failed catch trials'
INCOMPLETE = 'missing trials'


class Rating(NamedTuple):
  """One answer that counts.

  Attributes:
    rater: Who gave it.
    trial: What was asked.
    sounds: In the order in which they were offered.
    question: Of `design.QUESTIONS`.
    score: 1 to 5 as text, or `a`, `b`, `same`.
    seconds: That it took.
    plays: Of each sound.
  """

  rater: str
  trial: str
  sounds: tuple[str, ...]
  question: str
  score: str
  seconds: float
  plays: tuple[int, ...]

  @property
  def winner(self) -> str | None:
    """The sound that was preferred; None for no difference."""
    return {'a': self.sounds[0], 'b': self.sounds[-1]}.get(self.score)


@dataclasses.dataclass(frozen=True)
class Ratings:
  """What came back.

  Attributes:
    kept: Rater → answers by trial, of raters who count.
    excluded: Rater → why they do not.
    rows: Reason → rows that are no ratings.
    files: File → why nothing of it was read.
    missing: Rater → trials without an answer, of those who count.
    caught: Rater → failed catch trials, by question and kind.
    told_apart: Pairs of a sound with itself that were told apart.
    given: Raters who gave anything.
  """

  kept: dict[str, dict[str, Rating]]
  excluded: dict[str, str]
  rows: dict[str, int]
  files: dict[str, str]
  missing: dict[str, int]
  caught: dict[str, list[str]]
  told_apart: int
  given: int


def read_key(path: files.Path) -> dict[str, Any]:
  """The key of a page.

  Raises:
    UserError: It is none.
  """
  value = files.read_json(path)
  needed = ('page', 'systems', 'sounds', 'trials', 'rule', 'items')
  if not isinstance(value, dict) or not all(name in value for name in needed):
    raise errors.UserError(
      f'{path}: not the key of a listening page, expected `key.json` as '
      '`listen` wrote it beside the page.'
    )
  if value.get('format') != design.FORMAT:
    raise errors.UserError(
      f'{path}: format: found {value.get("format")!r}, expected '
      f'{design.FORMAT}.'
    )
  return value


def read(
  paths: Sequence[files.Path],
  key: Mapping[str, Any],
  *,
  complete: bool = False,
) -> Ratings:
  """Reads what raters saved.

  Args:
    paths: Of their files.
    key: Of the page.
    complete: Whether raters with trials that they have not answered are
      excluded.

  Raises:
    UserError: A file is no table of ratings, or nothing of any file belongs to
      this page.
  """
  rows: collections.Counter = collections.Counter()
  refused: dict[str, str] = {}
  sets: dict[str, list[dict[str, Rating]]] = collections.defaultdict(list)
  for path in paths:
    found, faults = _read_file(path, key)
    rows += faults
    if not found:
      refused[str(path)] = (
        OTHER_PAGE if faults[OTHER_PAGE] else 'it holds no rating'
      )
    for rater, answers in found.items():
      if answers not in sets[rater]:
        sets[rater].append(answers)
  if not sets:
    reasons = sorted(set(refused.values())) or ['no file']
    raise errors.UserError(
      f'--ratings: found no rating of the page {key["page"][:12]}… in '
      f'{len(paths)} files ({"; ".join(reasons)}), expected what its raters '
      'saved.'
    )
  kept, excluded, missing, caught, apart = {}, {}, {}, {}, 0
  for rater in sorted(sets):
    if len(sets[rater]) > 1:
      excluded[rater] = TWO_SETS
      continue
    (answers,) = sets[rater]
    failed, own_apart = _catches(answers, key)
    if failed:
      caught[rater] = failed
    if len(failed) > key['rule']['tolerated']:
      excluded[rater] = FAILED
      continue
    absent = len(key['trials']) - len(answers)
    if absent and complete:
      excluded[rater] = INCOMPLETE
      continue
    if absent:
      missing[rater] = absent
    apart += own_apart
    kept[rater] = answers
  return Ratings(
    kept=kept,
    excluded=excluded,
    rows=dict(sorted(rows.items())),
    files=refused,
    missing=missing,
    caught=caught,
    told_apart=apart,
    given=len(sets),
  )


def _read_file(path, key):
  """Rater → answers by trial, and why rows are none."""
  try:
    text = files.read_text(path, 'utf-8-sig')
    # The library has a limit, too, which others may have raised.
    longest = max(map(len, text.splitlines()), default=0)
    if longest > _LONGEST:
      raise csv.Error(f'a line of {longest} characters')
    reader = csv.DictReader(io.StringIO(text, newline=''))
    names, rows = reader.fieldnames or (), list(reader)
  except (UnicodeDecodeError, csv.Error) as error:
    raise errors.UserError(
      f'{path}: found {error}, expected a table in UTF-8.'
    ) from error
  lacking = [name for name in COLUMNS if name not in names]
  if lacking:
    raise errors.UserError(
      f'{path}: found no column {lacking[0]}, expected the columns '
      f'{", ".join(COLUMNS)}.'
    )
  faults: collections.Counter = collections.Counter()
  found: dict[str, dict[str, Rating]] = {}
  twice = set()
  for row in rows:
    rating = _rating(row, key)
    if isinstance(rating, str):
      faults[rating] += 1
      continue
    answers = found.setdefault(rating.rater, {})
    if rating.trial in answers:
      twice.add((rating.rater, rating.trial))
      faults[TWICE] += 1
    answers[rating.trial] = rating
  for rater, trial in twice:  # nobody knows which one was meant
    del found[rater][trial]
    faults[TWICE] += 1
  return {rater: some for rater, some in found.items() if some}, faults


def _rating(row, key) -> Rating | str:
  """A row as a rating, or why it is none."""
  cell = {name: (row[name] or '').strip() for name in COLUMNS}
  if cell['page'] != key['page']:
    return OTHER_PAGE
  trial, sounds = key['trials'].get(cell['trial']), cell['sounds'].split()
  if (
    trial is None
    or sorted(sounds) != sorted(trial['sounds'])
    or cell['question'] != trial['question']
    or cell['item'] != trial['item']
    or cell['catch'] != trial['catch']
    or not cell['rater']
  ):
    return OTHER_TRIAL
  score = cell['score']
  if score not in SCORES[trial['question']]:
    return OUT_OF_RANGE
  try:
    seconds = float(cell['seconds'])
    plays = tuple(int(one) for one in cell['plays'].split())
  except ValueError:
    return NO_NUMBER
  if not (math.isfinite(seconds) and len(plays) == len(sounds)):
    return NO_NUMBER
  if seconds < 0 or min(plays) < 0:
    return NO_NUMBER
  return Rating(
    cell['rater'],
    cell['trial'],
    tuple(sounds),
    trial['question'],
    score,
    seconds,
    plays,
  )


def _catches(answers, key) -> tuple[list[str], int]:
  """Failed catch trials, and pairs of a sound with itself told apart."""
  first = {
    trial['sounds'][0]: answers.get(name)
    for name, trial in key['trials'].items()
    if trial['question'] == design.MOS and not trial['catch']
  }
  failed, apart = [], 0
  for name, trial in key['trials'].items():
    if not trial['catch']:
      continue
    given = answers.get(name)
    if trial['question'] == design.AB and trial['catch'] == design.REPEATED:
      apart += given is not None and given.score != 'same'
      if given is not None:
        continue
    if given is None or not _passed(given, trial, first, key['rule']):
      failed.append(f'{trial["question"]} {trial["catch"]}')
  return failed, apart


def _passed(given, trial, first, rule) -> bool:
  if trial['question'] == design.AB:
    return given.winner == trial['sounds'][0]  # as it was
  if trial['catch'] == design.DEGRADED:
    return int(given.score) <= rule['degraded_most']
  before = first.get(trial['sounds'][0])
  if before is None:
    return False
  return abs(int(given.score) - int(before.score)) <= rule['repeated_apart']
