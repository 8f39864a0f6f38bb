"""Pairs that a reward model should tell apart, as figures of a sweep.

`evaluate` scores them of every checkpoint where `RewardPairs` is among its
families (gin/eval/reward_sweep.gin). Their figures are those of the `judge`
door (`figures`), of each split and of all that are asked for, `all`:

    pair_accuracy/SPLIT            preferred answers that score higher
    pair_accuracy/SPLIT/CATEGORY   the same of a category
    ece/SPLIT                      expected calibration error
    heard_gap/SPLIT                mean score of preferred answers less that
                                   of the same behind silence

Axes: N pairs.
"""

import dataclasses
import functools
import pathlib
import time
from typing import Any, Mapping, NamedTuple, Protocol, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax.alignment.judging import changes
from step_audio_jax.alignment.judging import examples as examples_lib
from step_audio_jax.alignment.judging import figures
from step_audio_jax.alignment.judging import scorer as scorer_lib
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import own
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.evaluation import origins
from step_audio_jax.evaluation.families import family
from step_audio_jax.evaluation.memory import identity
from step_audio_jax.evaluation.metrics import counts
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

TASK = 'pairs'
_ALL = 'all'
_GAP = 'heard_gap'


@dataclasses.dataclass(frozen=True)
class RewardPairs:
  """What is scored; of `corpus` and `rows` one is named.

  Attributes:
    corpus: With preferences.
    rows: Folder of rows of them instead, `ROWS/TASK`.
    codes: What `tokenize` made of the corpus.
    splits: Of either; each is scored by itself.
    view: How the last question is shown, of `examples.VIEWS`.
    tokenizer: Folder of the tokenizer of the codes; with it answers are scored
      behind silence, too.
    most: Pairs of each split at most, in their order; 0 all.
  """

  corpus: str | None = None
  rows: str | None = None
  codes: str | None = None
  splits: tuple[str, ...] = ('test',)
  view: str = ''
  tokenizer: str | None = None
  most: int = 0

  def __post_init__(self):
    told = dataclasses.asdict(self)
    most = told.pop('most')
    examples_lib.check_named('RewardPairs', '', **told)
    if _ALL in self.splits and len(set(self.splits)) > 1:
      raise errors.UserError(
        f'RewardPairs: splits: found {_ALL!r} among others, expected another '
        'name, for it is what all of them are called together.'
      )
    if most < 0:
      raise errors.UserError(
        f'RewardPairs: most is {most}, expected 0 (all) or more.'
      )

  def build(
    self, run: pathlib.Path, memory: identity.DigestCache
  ) -> family.Family:
    """The family, for the run that is scored."""
    source = _Rows if self.corpus is None else _Corpus
    return Pairs(self, source(self, run, memory))


class _Set(NamedTuple):
  """A split as it is scored.

  Attributes:
    scored: Ids of each pair.
    about: Id, category and texts of each.
    silent: Place of a pair → its ids behind silence.
    counted: How many of how many.
  """

  scored: Sequence[examples_lib.Scored]
  about: Sequence[Mapping[str, Any]]
  silent: Mapping[int, examples_lib.Scored]
  counted: Mapping[str, Any]


class _Source(Protocol):
  """Where pairs come from."""

  def check(self) -> None:
    """Raises UserError where data are missing, or not of the run."""

  def digest(self, split: str) -> str:
    """Of the pairs of a split, by content."""

  def read(self, split: str, scorer: scorer_lib.Scorer) -> _Set:
    """The pairs of a split."""


class Pairs(family.Family):
  """How well a reward model tells which answer is preferred."""

  tasks = (TASK,)
  together = True

  def __init__(self, asked: RewardPairs, source: _Source):
    """Of data nothing is read yet.

    Args:
      asked: What is scored.
      source: Where it comes from.
    """
    self._asked, self._source = asked, source
    self._sets: dict[str, _Set] = {}

  def parts(self) -> list[family.Part]:
    self._source.check()
    return [
      family.Part(TASK, split, self._source.digest(split), self._settings())
      for split in self._asked.splits
    ]

  def _settings(self) -> dict[str, Any]:
    return {
      'view': self._asked.view,
      'most': self._asked.most,
      'bins': figures.BINS,
    }

  def not_computed(self) -> dict[str, str]:
    asked = self._asked
    if asked.tokenizer:
      return {}
    if asked.rows:
      why = 'rows hold no recordings (RewardPairs.rows)'
    elif asked.view == 'tqta':
      why = 'questions are read (RewardPairs.view)'
    else:
      why = 'no tokenizer is named (RewardPairs.tokenizer)'
    return {_GAP: why}

  def score(self, checkpoint, parts, held, keep) -> None:
    del held
    run, step = str(checkpoint.run), checkpoint.step
    scorer = scorer_lib.Scorer(run, step, loaded=checkpoint.loaded_scorer)
    for part in parts:
      began = time.monotonic()
      # A run has one vocabulary: ids are those of all its checkpoints.
      if part.name not in self._sets:
        self._sets[part.name] = self._source.read(part.name, scorer)
      try:
        result = _scored(scorer, self._sets[part.name])
      except scorer_lib.ScoreError as error:
        raise family.CheckpointError(
          f'{str(error).rstrip(".")} (step {step}).'
        ) from error
      keep(part, began, result)

  def show(self, kept) -> family.Shown:
    results = {
      one['name']: one['result'] for one in kept if not one['left_out']
    }
    if not results:
      return family.Shown({}, {}, {})
    told = {
      name: {key: value for key, value in result.items() if key != 'rows'}
      for name, result in results.items()
    }
    rows = [row for result in results.values() for row in result['rows']]
    counted = [result['counted'] for result in results.values()]
    told[_ALL] = {**_figures(rows), 'counted': counts.sum_counts(counted)}
    found, of, absent = {}, {}, {}
    for name, one in told.items():
      found |= _named(name, one, self._asked.view)
      of[f'pair_accuracy/{name}'] = one['counted']
      pairs, heard = one['pairs']['pairs'], one['heard']
      if heard:
        of[f'{_GAP}/{name}'] = counts.count(
          heard['pairs'],
          pairs,
          'pairs',
          {'asked in writing': pairs - heard['pairs']},
        )
      elif self._asked.tokenizer:
        absent[f'{_GAP}/{name}'] = 'nothing is asked aloud'
    return family.Shown({TASK: told}, found, of, (), absent)

  def main_figure(self, kept) -> str:
    return f'pair_accuracy/{kept["name"]}'

  def rows(self, kept) -> list[dict[str, Any]]:
    """Pairs with their scores; the mean of `points` is the accuracy."""
    found = []
    for row in (kept['result'] or {}).get('rows', ()):
      chosen, rejected = row['scores']
      margin = chosen - rejected
      told = {
        **row,
        'margin': margin,
        'points': float(figures.right(np.asarray([row['scores']]))[0]),
      }
      if 'reference' in row:
        told['text'] = f'{margin:+.3f} over: {row["rejected"]}'
      found.append(told)
    return found


class _Corpus:
  """Preferences of a corpus."""

  def __init__(
    self,
    asked: RewardPairs,
    run: pathlib.Path,
    memory: identity.DigestCache,
  ):
    self._asked, self._run, self._memory = asked, run, memory

  @functools.cached_property
  def _found(self) -> examples_lib.Corpus:
    return examples_lib.read(self._asked.corpus, self._asked.splits)

  @functools.cached_property
  def _codes(self) -> examples_lib.Codes:
    codes = self._asked.codes
    return speech_codes.read_codes(codes) if codes else {}

  def _some(self, split: str) -> tuple[list[examples_lib.Example], int]:
    """The pairs that are scored, and how many there are."""
    some = [one for one in self._found.examples if one.split == split]
    return some[: self._asked.most or None], len(some)

  def check(self) -> None:
    asked = self._asked
    origins.check(self._run, codes=asked.codes, tokenizer=asked.tokenizer)

  def digest(self, split: str) -> str:
    asked, memory = self._asked, self._memory
    path = manifest.path_of(asked.corpus)
    made_from = [memory.file(path)]
    if asked.codes:
      shards = speech_codes.list_shards(asked.codes)
      made_from += [memory.file(shard) for shard in shards]

    def make() -> str:
      some, of = self._some(split)
      told = [self._content(one) for one in some]
      return digests.of_value([of, self._found.alone[split], told])

    told = [asked.most, str(path), asked.codes, bool(asked.tokenizer)]
    found = memory.derived(f'pairs {split} {told}', made_from, make)
    silence = memory.tree(asked.tokenizer) if asked.tokenizer else None
    return digests.of_value([found, silence])

  def _content(self, one: examples_lib.Example) -> list[Any]:
    """All of a pair that its ids may depend on."""
    answers = chats.Conversation((one.chosen, one.rejected))
    turns = [*own.written(one.prompt), *own.written(answers)]
    heard = []
    for name in own.spoken(turns):
      line, codes = self._found.speech.get(name), self._codes.get(name)
      heard.append(
        [
          line and line.text,
          line and self._asked.tokenizer and line.duration,
          codes and [digests.of_bytes(c.tobytes()) for c in codes],
        ]
      )
    return [one.id, one.category, turns, heard]

  def read(self, split: str, scorer: scorer_lib.Scorer) -> _Set:
    some, of = self._some(split)
    layout = examples_lib.Layout(
      scorer.vocabulary, scorer.habits, self._found.speech, self._asked.view
    )
    silent = {}
    scored = [layout.scored(one, self._codes) for one in some]
    if self._asked.tokenizer:
      silence = changes.of_silence(self._found, some, self._asked.tokenizer)
      codes = {**self._codes, **silence.codes}
      silent = {
        place: layout.scored(one, codes)
        for place, one in silence.examples.items()
      }
    about = [
      {
        'id': one.id,
        'category': one.category,
        'asked': self._words(one.question),
        'reference': self._words(one.chosen),
        'rejected': self._words(one.rejected),
      }
      for one in some
    ]
    alone = self._found.alone[split]
    left_out = {
      f'beyond most={self._asked.most}': of - len(some),
      'with one answer alone': alone,
    }
    counted = counts.count(len(some), of + alone, 'pairs', left_out)
    return _Set(scored, about, silent, counted)

  def _words(self, turn: chats.Turn) -> str:
    """What is written in a turn, or else said."""
    line = self._found.speech.get((turn.speech and turn.speech.id) or '')
    return turn.text or (line and line.text) or ''


class _Rows:
  """Preferences of built rows."""

  def __init__(
    self,
    asked: RewardPairs,
    run: pathlib.Path,
    memory: identity.DigestCache,
  ):
    self._asked, self._run, self._memory = asked, run, memory
    self._folder = files.path(asked.rows)

  def check(self) -> None:
    for split in self._asked.splits:
      origins.check(
        self._run,
        rows=str(self._folder.parent),
        sources=[self._folder.name],
        split=split,
      )

  def digest(self, split: str) -> str:
    return self._memory.rows(self._folder / split)

  def read(self, split: str, scorer: scorer_lib.Scorer) -> _Set:
    del scorer
    scored, categories = examples_lib.of_rows(str(self._folder / split))
    of, most = len(scored), self._asked.most
    about = [
      {'id': str(place), 'category': name}
      for place, name in enumerate(categories[: most or None])
    ]
    left_out = {f'beyond most={most}': of - len(about)}
    counted = counts.count(len(about), of, 'pairs', left_out)
    return _Set(scored[: most or None], about, {}, counted)


def _scored(scorer: scorer_lib.Scorer, some: _Set) -> dict[str, Any]:
  """What a checkpoint makes of a split, JSON-able."""
  scores_N2 = scorer.pairs(some.scored)
  rows = [
    {**about, 'ids': list(one.ids), 'scores': scores.tolist()}
    for about, one, scores in zip(
      some.about, some.scored, scores_N2, strict=True
    )
  ]
  if some.silent:
    silent_N2 = scorer.pairs(list(some.silent.values()))
    for place, scores in zip(some.silent, silent_N2, strict=True):
      rows[place]['silenced'] = scores.tolist()
  return {**_figures(rows), 'counted': some.counted, 'rows': rows}


def _figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """What `judge` tells of pairs that are scored."""
  scores_N2 = np.asarray([row['scores'] for row in rows], np.float64)
  heard = [row for row in rows if 'silenced' in row]
  return {
    'pairs': figures.accuracy(scores_N2),
    'categories': figures.by_category(
      scores_N2, [row['category'] for row in rows]
    ),
    'calibration': figures.calibration(scores_N2),
    'lengths': figures.lengths(
      scores_N2, np.asarray([row['ids'] for row in rows])
    ),
    'heard': figures.heard(
      np.asarray([row['scores'] for row in heard]),
      np.asarray([row['silenced'] for row in heard]),
    )
    if heard
    else None,
  }


def _named(
  name: str, told: Mapping[str, Any], view: str
) -> dict[str, family.Figure]:
  """Figures of a split by their names."""

  def accuracy(one):
    return family.Figure(
      one['accuracy'], one['low'], one['high'], of=one['pairs'], by=view
    )

  pairs = told['pairs']
  found = {f'pair_accuracy/{name}': accuracy(pairs)}
  for category, one in told['categories'].items():
    if category:
      found[f'pair_accuracy/{name}/{category}'] = accuracy(one)
  found[f'ece/{name}'] = family.Figure(
    told['calibration']['ece'],
    better='lower',
    of=pairs['pairs'],
    by=f'{figures.BINS} bins',
  )
  if told['heard']:
    gap = told['heard']['chosen']
    found[f'{_GAP}/{name}'] = family.Figure(
      gap['gap'],
      gap['low'],
      gap['high'],
      unit='score',
      of=told['heard']['pairs'],
    )
  return found
