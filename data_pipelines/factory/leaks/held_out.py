"""What training must not be made of: the texts and voices of test splits.

    rules = Rules(overlap=0.8)
    held_out = HeldOut(['data/quiz', 'data/librispeech'], rules)
    held_out.find([Line('new-1', text='what is the capital of france')])

A line leaks where it is of a split that is held out itself, where its text is
that of a held-out line or overlaps with it (`overlaps`), or where its speaker
is one whom only held-out splits have. Texts of chats are those of their turns.
What is shorter than one n-gram is a word, and no leak.
"""

import dataclasses
import os
from typing import Iterable, Iterator, NamedTuple, Sequence

import numpy as np

from data_pipelines.factory.leaks import overlaps
from step_audio_jax import errors
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

SPLIT, TEXT, OVERLAP, SPEAKER = 'split', 'text', 'overlap', 'speaker'
# Whose voices are held out: of speakers that no training split has, of all
# that a held-out split has, of none.
SPEAKERS = ('unseen', 'all', 'none')


@dataclasses.dataclass(frozen=True)
class Rules:
  """What counts as a leak.

  Attributes:
    training: Splits that may be trained on; all others are held out.
    overlap: Share of common n-grams from which texts count as the same; None
      compares whole texts only.
    ngram: Letters of an n-gram.
    fewest: N-grams from which texts are compared by them.
    speakers: Whose voices are held out, one of `SPEAKERS`.
  """

  training: tuple[str, ...] = ('train',)
  overlap: float | None = 0.8
  ngram: int = 6
  fewest: int = 10
  speakers: str = 'unseen'

  def __post_init__(self):
    if not self.training or isinstance(self.training, str):
      raise errors.UserError(
        f'leaks: training: found {self.training!r}, expected names of splits.'
      )
    if self.overlap is not None and not 0 < self.overlap <= 1:
      raise errors.UserError(
        f'leaks: overlap: found {self.overlap}, expected a share above 0, at '
        'most 1, or null.'
      )
    errors.at_least_one('leaks', self, ('ngram', 'fewest'))
    if self.speakers not in SPEAKERS:
      raise errors.UserError(
        f'leaks: speakers: found {self.speakers!r}, expected '
        f'{", ".join(SPEAKERS)}.'
      )


class Line(NamedTuple):
  """What would become training data.

  Attributes:
    id: Of the item, for messages.
    text: What is said; None where nothing is known.
    speaker: Who says it.
    split: Of the corpus that it is taken from, if it is.
  """

  id: str
  text: str | None = None
  speaker: str | None = None
  split: str | None = None


class Leak(NamedTuple):
  """Why a line must not be trained on.

  Attributes:
    id: Of the line.
    kind: `split`, `text`, `overlap` or `speaker`.
    where: The manifest that holds it out; empty of a split.
    item: The item in it, from 1; 0 of a split.
    share: Of common n-grams; 1 of the same text.
    told: What they have in common.
  """

  id: str
  kind: str
  where: str
  item: int
  share: float
  told: str

  def sentence(self) -> str:
    """One sentence, for a quarantine."""
    if self.kind == SPLIT:
      return f'{self.told!r} is a split that is held out.'
    place = f'{self.where}: item {self.item}'
    if self.kind == SPEAKER:
      return f'speaker {self.told!r} is held out by {place}.'
    if self.kind == TEXT:
      return f'the text {self.told!r} is held out by {place}.'
    return (
      f'the text {self.told!r} has {self.share:.0%} of its n-grams in common '
      f'with what is held out by {place}.'
    )


class HeldOut:
  """The held-out splits of some corpora.

  Attributes:
    rules: What counts as a leak.
    lines: How many items are held out.
    texts: How many texts of theirs are compared.
    speakers: Who is held out, by name.
  """

  def __init__(
    self, corpora: Sequence[str | os.PathLike], rules: Rules = Rules()
  ):
    """Reads the manifests.

    Raises:
      UserError: A manifest is missing or broken, or one holds nothing out:
        who names it wants it to be heeded.
    """
    self.rules = rules
    self._paths = [str(manifest.path_of(corpus)) for corpus in corpora]
    self.lines, texts, places = 0, [], []
    self.speakers: dict[str, tuple[int, int]] = {}
    for number, path in enumerate(self._paths):
      found = _Read(path, rules)
      for item, text in found.texts():
        texts.append(text)
        places.append((number, item))
      if not found.lines:
        known = ', '.join(sorted(found.splits)) or 'none'
        raise errors.UserError(
          f'{path}: no split that is held out; it has {known}.'
        )
      self.lines += found.lines
      for name, item in found.held_speakers().items():
        self.speakers.setdefault(name, (number, item))
    self.texts = len(texts)
    self._places = np.array(places, np.uint32).reshape(-1, 2)
    marks = np.array([digests.number(text) for text in texts], np.uint64)
    self._order = np.argsort(marks, kind='stable')
    self._marks = marks[self._order]
    self._overlaps = None
    if rules.overlap is not None:
      self._overlaps = overlaps.Overlaps(
        texts, ngram=rules.ngram, share=rules.overlap, fewest=rules.fewest
      )

  def find(self, lines: Sequence[Line]) -> list[Leak | None]:
    """For each line why it leaks, or None; many at once are faster."""
    texts = [overlaps.normalise(line.text or '') for line in lines]
    matches = [None] * len(lines)
    if self._overlaps is not None:
      matches = self._overlaps.find(texts)
    found = zip(lines, texts, matches)
    return [self._leak(*one) for one in found]

  def refuse(self, lines: Sequence[Line]) -> None:
    """Lets lines pass that do not leak.

    Raises:
      UserError: Some do: the first of them, and how many.
    """
    found = [leak for leak in self.find(lines) if leak is not None]
    if found:
      more = f' ({len(found) - 1} more)' if len(found) > 1 else ''
      raise errors.UserError(f'{found[0].id}: {found[0].sentence()}{more}')

  def _leak(self, line, text, match) -> Leak | None:
    if line.split is not None and line.split not in self.rules.training:
      return Leak(line.id, SPLIT, '', 0, 1.0, line.split)
    shown = (line.text or '')[:80]
    if _letters(text, self.rules.ngram):
      mark = np.uint64(digests.number(text))
      place = int(np.searchsorted(self._marks, mark))
      if place < len(self._marks) and self._marks[place] == mark:
        return self._of(line, TEXT, self._order[place], 1.0, shown)
    if match is not None:
      return self._of(line, OVERLAP, match.index, match.share, shown)
    if line.speaker in self.speakers:
      number, item = self.speakers[line.speaker]
      path = self._paths[number]
      return Leak(line.id, SPEAKER, path, item, 1.0, line.speaker)
    return None

  def _of(self, line, kind, index, share, told) -> Leak:
    number, item = (int(x) for x in self._places[index])
    return Leak(line.id, kind, self._paths[number], item, share, told)


class _Read:
  """One manifest, read once."""

  def __init__(self, path: str, rules: Rules):
    self._path, self._rules = path, rules
    self.lines, self.splits = 0, set()
    self._held: dict[str, int] = {}
    self._trained: set[str] = set()

  def texts(self) -> Iterator[tuple[int, str]]:
    """Item and normalised text of what is held out."""
    for item, utterance in enumerate(manifest.stream(self._path), start=1):
      self.splits.add(utterance.split)
      if utterance.split in self._rules.training:
        if utterance.speaker:
          self._trained.add(utterance.speaker)
        continue
      self.lines += 1
      if utterance.speaker:
        self._held.setdefault(utterance.speaker, item)
      for text in texts_of(utterance):
        text = overlaps.normalise(text)
        if _letters(text, self._rules.ngram):
          yield item, text

  def held_speakers(self) -> dict[str, int]:
    """Name → the first item."""
    if self._rules.speakers == 'none':
      return {}
    seen = self._trained if self._rules.speakers == 'unseen' else set()
    return {k: item for k, item in self._held.items() if k not in seen}


def texts_of(utterance: manifest.Utterance) -> list[str]:
  """What an utterance says: its text, or what is written in its turns.

  Both answers of a preference are among them.
  """
  parts = (
    part
    for turn in utterance.all_turns
    for part in turn.get('content', (turn,))
  )
  found = [utterance.text, *(part.get('text') for part in parts)]
  return [text for text in found if text]


def lines_of(utterances: Iterable[manifest.Utterance]) -> Iterator[Line]:
  """The lines of utterances that would be trained on."""
  for one in utterances:
    for text in texts_of(one) or [None]:
      yield Line(one.id, text, one.speaker, one.split)


def leaks_of(
  corpus: files.Path, held_out: HeldOut, together: int = 4096
) -> Iterator[Leak]:
  """What leaks in the training splits of a corpus, in constant memory.

  Raises:
    UserError: The manifest is missing or broken.
  """
  waiting: list[Line] = []
  training = held_out.rules.training
  trained = (u for u in manifest.stream(corpus) if u.split in training)
  for line in lines_of(trained):
    waiting.append(line)
    if len(waiting) == together:
      yield from filter(None, held_out.find(waiting))
      waiting = []
  yield from filter(None, held_out.find(waiting))


def _letters(text: str, fewest: int) -> bool:
  """Whether a normalised text has letters enough for an n-gram."""
  if len(text) >= fewest:
    return True
  return bool(len(overlaps.grams([text], fewest)[0]))
