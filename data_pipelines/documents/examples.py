"""Lines of a corpus with their codes, one by one, whole or in parts.

Part k of n is the lines from ⌊kN/n⌋ on, before ⌊(k+1)N/n⌋, of the N of a kind
and split: neighbours stay together, and who makes the parts, and how many at a
time, changes nothing.

A recording that is to be said in the voice of another one has as its reference
the last one before it by the same speaker, in the same block of lines. So who
begins anywhere finds it without reading from the start.
"""

from typing import Any, Iterator, Mapping, NamedTuple

import numpy as np

from data_pipelines.codes import stream
from data_pipelines.documents import survey
from step_audio_jax.chats import own
from step_audio_jax.chats import preferences
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.styles import markup

Example = Mapping[str, Any]
BLOCK = 1000  # lines of a kind and split
_RECENT = 64  # recordings of turns that are kept
_EMPTY = np.zeros(0, np.uint16)


class Part(NamedTuple):
  """One of `count` parts; the only one is all."""

  index: int = 0
  count: int = 1


def read(
  corpus: str,
  kind: str,
  split: str,
  codes: str | None = None,
  part: Part = Part(),
  *,
  transcripts: bool = False,
  references: bool = False,
) -> Iterator[Example]:
  """The raw examples of a split.

  Args:
    corpus: Its folder.
    kind: Of the lines.
    split: Of the lines.
    codes: What `tokenize` made of it.
    part: Which of the lines.
    transcripts: Whether turns tell what is said in them.
    references: Whether recordings come with another one of their speaker.

  Yields:
    id, text, marked, language, speaker, file, category: str; margin: float;
    words and turns: as `Utterance.words` and `all_turns` have them, none is
    empty; answers: names of those that are the last turns; linguistic and
    semantic: uint16, empty where the line has no codes. A spoken turn says
    `codes`, how many of both are its own, and `said`, its transcript.
    `reference` is (text, linguistic, semantic), or None.
  """
  first, last = 0, None
  if part.count > 1:
    total = survey.read_survey(corpus).lines.get((kind, split), 0)
    first = part.index * total // part.count
    last = (part.index + 1) * total // part.count
  voice = _Codes(codes) if codes is not None else None
  said = _transcripts(corpus, kind, split, first, last) if transcripts else {}
  heard: dict[str, tuple[str, np.ndarray, np.ndarray]] = {}
  # From here on lines are read, some only as references of others.
  begin = first - first % BLOCK if references else first
  number = 0
  for utterance in manifest.stream(corpus):
    wanted = utterance.kind == kind and utterance.split == split
    number += wanted
    if number <= begin:
      if voice:
        voice.pass_by(utterance, wanted)
      continue
    if last is not None and number > last:
      break
    # Also those of other splits, so that their codes are passed.
    pair = voice.codes_of(utterance) if voice and kind == 'speech' else None
    if not wanted:
      continue
    if (number - 1) % BLOCK == 0:
      heard.clear()
    turns = utterance.all_turns
    if voice and turns:
      turns, pair = voice.of_turns(turns)
    if number > first:
      if said:
        turns = [_with_transcript(turn, said) for turn in turns]
      example = _example(utterance, turns, *(pair or (_EMPTY, _EMPTY)))
      if references:
        example['reference'] = heard.get(utterance.speaker or '')
      yield example
    if references and pair and utterance.speaker and utterance.text:
      heard[utterance.speaker] = utterance.text, *pair


def text_of(example: Example, spoken: bool) -> str:
  """What is said; of what is to be spoken with tags, as a model is asked."""
  if not spoken or not example.get('marked'):
    return example['text']
  return markup.write(markup.parse(example['marked']), escape=False)


def _transcripts(
  corpus: str, kind: str, split: str, first: int, last: int | None
) -> dict[str, str]:
  """Id → what is said in the recordings that a part's chats refer to."""
  names, number = set(), 0
  for utterance in manifest.stream(corpus, kind=kind):
    number += utterance.split == split
    if utterance.split == split and first < number <= (last or number):
      names.update(own.spoken(utterance.all_turns))
  return {
    utterance.id: utterance.text
    for utterance in manifest.stream(corpus, kind='speech')
    if utterance.id in names and utterance.text
  }


def _with_transcript(turn, said: Mapping[str, str]):
  name = next(own.spoken([turn]), None)
  return {**turn, 'said': said[name]} if name in said else turn


def _example(utterance, turns, linguistic, semantic) -> dict[str, Any]:
  return {
    'id': utterance.id,
    'text': utterance.text or '',
    'marked': utterance.marked or '',
    'language': utterance.language,
    'speaker': utterance.speaker or '',
    'file': utterance.audio or utterance.image or '',
    'words': utterance.words or (),
    'turns': turns,
    'answers': tuple(n for n in preferences.ANSWERS if getattr(utterance, n)),
    'margin': utterance.margin,
    'category': utterance.category or '',
    'linguistic': linguistic,
    'semantic': semantic,
  }


class _Codes:
  """The codes of lines and of the turns of chats."""

  def __init__(self, folder: str):
    self._folder = folder
    self._stream = stream.CodeStream(folder)
    self._shard, self._again = 0, None
    self._recent: dict[str, stream.Pair | None] = {}

  def pass_by(self, utterance: manifest.Utterance, wanted: bool) -> None:
    """Another part reads this; turns go with the chat behind them."""
    if utterance.audio:
      self._shard = max(self._shard, self._stream.shard_of(utterance.id))
    if wanted:
      self._stream.start_at(self._shard)

  def codes_of(self, utterance: manifest.Utterance) -> stream.Pair | None:
    return self._stream.get(utterance.id) if utterance.audio else None

  def of_turns(self, turns):
    """Turns with the number of their codes, and all codes one by one."""
    told, pairs = [], [(_EMPTY, _EMPTY)]
    for turn in turns:
      # A turn has at most one.
      name = next(own.spoken([turn]), None)
      pair = None if name is None else self._said(name)
      if pair:
        turn = {**turn, 'codes': [len(pair[0]), len(pair[1])]}
        pairs.append(pair)
      told.append(turn)
    return told, tuple(map(np.concatenate, zip(*pairs)))

  def _said(self, name: str) -> stream.Pair | None:
    """The codes of an utterance that other turns may have asked for too."""
    if self._stream.lacks(name):
      return None
    if name in self._recent:  # as in the edits of one text
      return self._recent[name]
    pair = self._stream.get(name)
    if pair is None:  # rare, so that nothing is kept for its sake
      if self._again is None:
        self._again = speech_codes.read_codes(self._folder)
      pair = self._again.get(name)
    self._recent[name] = pair
    if len(self._recent) > _RECENT:
      del self._recent[next(iter(self._recent))]
    return pair
