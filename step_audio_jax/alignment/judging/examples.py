"""Preferences of a corpus, and of rows, as the ids that are scored."""

import dataclasses
from typing import Any, Mapping, NamedTuple, Sequence

import numpy as np

from step_audio_jax import documents as documents_lib
from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import habits as habits_lib
from step_audio_jax.chats import preferences
from step_audio_jax.chats import rendering
from step_audio_jax.chats import views
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files
from step_audio_jax.training.feeds import feed as feed_lib

Codes = Mapping[str, tuple[np.ndarray, np.ndarray]]
# How the last turn of the user is shown; '' as it was asked.
VIEWS = ('', 'tqta', 'aqta', 'taqta')


class Scored(NamedTuple):
  """Ids of two answers behind their prompt, and how many are the answers'.

  Attributes:
    chosen: int32 (n,).
    rejected: int32 (m,).
    ids: Of the two answers.
  """

  chosen: np.ndarray
  rejected: np.ndarray
  ids: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Example:
  """A preference of a corpus.

  Attributes:
    id: Of its line.
    category: Of what kind it is; '' where nobody says.
    prompt: What is answered.
    chosen: The better answer.
    rejected: The other.
    split: That it is of.
  """

  id: str
  category: str
  prompt: chats.Conversation
  chosen: chats.Turn
  rejected: chats.Turn
  split: str

  @property
  def question(self) -> chats.Turn:
    """What the user says last."""
    return [t for t in self.prompt.turns if t.role == chats.USER][-1]

  @property
  def speech(self) -> str | None:
    """The recording that is heard, by its id."""
    speech = self.question.speech
    return speech.id if speech else None

  @property
  def is_written(self) -> bool:
    """Whether the answers are texts."""
    return self.chosen.speech is None and self.rejected.speech is None

  def asked(self, question: chats.Turn) -> 'Example':
    """The same behind another question."""
    turns = list(self.prompt.turns)
    place = max(n for n, t in enumerate(turns) if t.role == chats.USER)
    turns[place] = question
    return dataclasses.replace(self, prompt=chats.Conversation(tuple(turns)))


@dataclasses.dataclass(frozen=True)
class Corpus:
  """The preferences of a corpus.

  Attributes:
    folder: Where it lies.
    examples: In order.
    speech: Id of a recording → its line.
    alone: Split → answers of it that stand alone.
  """

  folder: str
  examples: tuple[Example, ...]
  speech: Mapping[str, manifest.Utterance]
  alone: Mapping[str, int]


def check_named(
  where: str,
  mark: str,
  *,
  corpus: str | None,
  rows: str | None,
  codes: str | None,
  splits: Sequence[str],
  view: str,
  tokenizer: str | None,
) -> None:
  """Refuses sources of pairs that do not go together.

  Args:
    where: Who is told of them.
    mark: In front of the names of what is told, `--` of flags.
    corpus: With preferences; or
    rows: Folder of rows of them.
    codes: Of the corpus.
    splits: Of it.
    view: Of `VIEWS`.
    tokenizer: Folder of the tokenizer of the codes.

  Raises:
    UserError: What is wrong, and what would be right.
  """
  if (corpus is None) == (rows is None):
    raise errors.UserError(
      f'{where}: found {"both" if corpus else "neither"} of {mark}corpus and '
      f'{mark}rows, expected one of them.'
    )
  told = {'codes': codes, 'tokenizer': tokenizer, 'view': view}
  needless = [name for name, value in told.items() if value]
  if rows and needless:
    raise errors.UserError(
      f'{where}: {mark}{needless[0]} means nothing with {mark}rows, whose ids '
      'are scored as they are.'
    )
  if not any(splits):
    raise errors.UserError(f'{where}: {mark}splits: found none, expected some.')
  if view not in VIEWS:
    raise errors.UserError(
      f'{where}: {mark}view is {view!r}, expected one of '
      f'{", ".join(map(repr, VIEWS))}.'
    )
  if tokenizer and not codes:
    raise errors.UserError(
      f'{where}: {mark}codes: missing, expected what {mark}tokenizer made of '
      'the corpus.'
    )
  if tokenizer and view == 'tqta':
    raise errors.UserError(
      f'{where}: {mark}tokenizer means nothing with {mark}view=tqta, where '
      'questions are read.'
    )


def read(corpus: str, splits: Sequence[str]) -> Corpus:
  """The pairs of a corpus; answers that stand alone are counted, no more.

  Raises:
    UserError: A split has none, or a line is none.
  """
  found: dict[str, list[Example]] = {split: [] for split in splits}
  alone = dict.fromkeys(splits, 0)
  speech = {}
  for line in manifest.stream(corpus):
    if line.kind == 'speech':
      speech[line.id] = line
    elif line.kind == 'preference' and line.split in found:
      prompt, chosen, rejected = preferences.parse(
        line.turns, line.chosen, line.rejected
      )
      if chosen is None or rejected is None:
        alone[line.split] += 1
        continue
      found[line.split].append(
        Example(
          line.id, line.category or '', prompt, chosen, rejected, line.split
        )
      )
  for split, some in found.items():
    if not some:
      raise errors.UserError(
        f'{manifest.path_of(corpus)}: no preference of the split {split!r} '
        'has two answers, expected some (`ingest` reads them).'
      )
  return Corpus(
    corpus,
    tuple(one for some in found.values() for one in some),
    speech,
    alone,
  )


@dataclasses.dataclass(frozen=True)
class Layout:
  """How examples become ids: as the rows of the run were built.

  Attributes:
    vocabulary: Turns text and codes into ids.
    habits: How turns are laid out.
    speech: Id of a recording → its line, for its words.
    view: Of `VIEWS`.
  """

  vocabulary: vocabulary_lib.Vocabulary
  habits: habits_lib.Habits
  speech: Mapping[str, manifest.Utterance]
  view: str = ''

  def scored(self, example: Example, codes: Codes) -> Scored:
    """Ids of both answers.

    Args:
      example: What is scored.
      codes: Id of a recording → (linguistic, semantic).

    Raises:
      UserError: It cannot be shown so, or a recording has no codes.
    """

    def ids_of(speech):
      if speech.id not in codes:
        raise errors.UserError(
          f'{example.id}: the recording {speech.id!r} has no codes; tokenize '
          'the corpus, and name --codes.'
        )
      return documents_lib.speech_ids(
        self.vocabulary, *codes[speech.id], self.habits.streams
      )

    try:
      prompt, answers = [], []
      for answer in (example.chosen, example.rejected):
        shown = self._shown(example, answer)
        *prompt, last = rendering.turns_of(shown, ids_of)
        answers.append(last)
      pair = rendering.pair(
        self.vocabulary,
        example.id,
        prompt,
        (answers[0], answers[1]),
        style=self.habits.layout(),
      )
    except errors.UserError as error:
      if str(error).startswith(example.id):
        raise
      raise errors.UserError(f'{example.id}: {error}') from error
    learnt = pair.loss_weights > 0
    counts = learnt[: pair.border].sum(), learnt[pair.border :].sum()
    return Scored(
      pair.tokens[: pair.border],
      pair.tokens[pair.border :],
      (int(counts[0]), int(counts[1])),
    )

  def _shown(self, example: Example, answer) -> chats.Conversation:
    whole = chats.Conversation((*example.prompt.turns, answer))
    as_asked = 'aqta' if example.speech else 'tqta'
    # As the tasks of preferences: spoken answers are read.
    return views.VIEWS[self.view or as_asked](whole, self._words)

  def _words(self, speech: chats.Speech) -> str | None:
    line = self.speech.get(speech.id)
    return line.text if line else None


def of_rows(folder: str) -> tuple[list[Scored], list[str]]:
  """Pairs of a folder of rows, `ROWS/TASK/SPLIT`, and their categories.

  Raises:
    UserError: There are no rows, or they hold no pairs.
  """
  path = files.path(folder)
  source = feed_lib.Source(path.parent.name, path)
  names = [*source.stats.get('categories', ()), '']  # -1 is none
  found: list[Scored] = []
  categories: list[str] = []
  for number in range(len(source)):
    row = source.row(number)
    kinds = row.get('categories', np.full(len(row.get('pairs', ())), -1))
    for pair, kind in zip(row.get('pairs', ()), kinds):
      if not all(pair.tolist()):
        continue  # one answer alone is compared with none
      found.append(_of_row(row, pair))
      categories.append(names[kind])
  if not found:
    raise errors.UserError(
      f'{folder}: found no pairs, expected rows of preferences, such as those '
      'of preference_aqta.'
    )
  return found, categories


def _of_row(row: Mapping[str, Any], pair: np.ndarray) -> Scored:
  sides = [row['segment_ids'] == segment for segment in pair]
  counts = [int((row['loss_weights'][here] > 0).sum()) for here in sides]
  return Scored(
    *(row['tokens'][here].astype(np.int32) for here in sides),
    (counts[0], counts[1]),
  )
