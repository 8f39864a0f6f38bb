"""Words that are both written and spoken: what interleaving chooses from.

A source is a text cut into units (words, or whole segments) and, where there
is a recording, groups of 120 ms shared out among them. Every character that is
not white space belongs to one unit and every group to one unit, so whatever
alternation of text and speech covers the units says all of it once.
"""

import dataclasses
from typing import Sequence
import unicodedata

import numpy as np

from data_pipelines import words as words_lib
from step_audio_jax import errors
from step_audio_jax import vocabulary

Place = words_lib.Place
Word = tuple[str, float, float]


@dataclasses.dataclass(frozen=True)
class Source:
  """A text in units, and who says it.

  Attributes:
    ids: Utterances that it was made of, in order.
    speaker: Who speaks.
    file: Of the first utterance, for messages.
    text: All of it.
    places: (start, end) of each unit in the text.
    counts: Words of each unit.
    groups: int32 (G, 5), ids of the recording; None if there is none.
    borders: int64 (units + 1,), first group of each unit and the end.
  """

  ids: tuple[str, ...]
  speaker: str
  file: str | None
  text: str
  places: tuple[Place, ...]
  counts: tuple[int, ...]
  groups: np.ndarray | None = None
  borders: np.ndarray | None = None

  @property
  def name(self) -> str:
    """Id of the document: its utterances, or the first and last of many."""
    if len(self.ids) <= 4:
      return '+'.join(self.ids)
    return f'{self.ids[0]}+…+{self.ids[-1]}'

  @property
  def words(self) -> int:
    return sum(self.counts)

  def text_of(self, first: int, last: int) -> str:
    """The text of the units first..last - 1, as it stands."""
    return self.text[self.places[first][0] : self.places[last - 1][1]]

  def speech_of(self, first: int, last: int) -> np.ndarray:
    """The ids of their groups, int32 (n,)."""
    return self.groups[self.borders[first] : self.borders[last]].reshape(-1)


def from_words(
  name: str,
  text: str,
  words: Sequence[Word],
  ids: np.ndarray,
  **about,
) -> Source:
  """One recording whose units are the words of its manifest line.

  Args:
    name: Of the utterance.
    text: Transcript; each word is found in it, in order.
    words: (word, start, end), seconds; empty words are pauses.
    ids: Interleaved speech ids (5 * G,).
    **about: `speaker` and `file`.

  Raises:
    UserError: There are no words, or one does not occur in the transcript.
  """
  words = [word for word in words if word[0].strip()]
  if not words:
    raise errors.UserError(
      'words: there are none, expected word times; `python -m data_pipelines '
      'align` finds them.'
    )
  groups = ids.reshape(-1, vocabulary.GROUP)
  found = words_lib.locate(text, [word for word, _, _ in words])
  return Source(
    ids=(name,),
    text=text,
    places=words_lib.cover_gaps(text, found),
    counts=(1,) * len(words),
    groups=groups,
    borders=group_borders([start for _, start, _ in words], len(groups)),
    **about,
  )


def from_segment(name: str, text: str, ids: np.ndarray, **about) -> Source:
  """One recording as one unit.

  Raises:
    UserError: It has no text.
  """
  if not text.strip():
    raise errors.UserError('text: missing, interleaving needs it.')
  groups = ids.reshape(-1, vocabulary.GROUP)
  return Source(
    ids=(name,),
    text=text,
    places=((0, len(text)),),
    counts=(words_lib.count(text),),
    groups=groups,
    borders=np.array([0, len(groups)]),
    **about,
  )


def from_text(name: str, text: str, **about) -> Source:
  """A text without a recording, cut into words.

  Raises:
    UserError: It is empty.
  """
  places = words_lib.spans(text)
  if not places:
    raise errors.UserError('text: missing, interleaving needs it.')
  return Source(
    ids=(name,),
    text=text,
    places=places,
    counts=(1,) * len(places),
    **about,
  )


def join(sources: Sequence[Source]) -> Source:
  """Neighbours as one source."""
  if len(sources) == 1:
    return sources[0]
  text, places, borders, offset = '', [], [], 0
  for source in sources:
    if text and source.text:
      text += _joint(text, source.text)
    places += [(a + len(text), b + len(text)) for a, b in source.places]
    text += source.text
    if source.groups is not None:
      borders.append(source.borders[:-1] + offset)
      offset += len(source.groups)
  spoken = bool(borders)
  return Source(
    ids=tuple(name for source in sources for name in source.ids),
    speaker=sources[0].speaker,
    file=sources[0].file,
    text=text,
    places=tuple(places),
    counts=tuple(count for source in sources for count in source.counts),
    groups=np.concatenate([s.groups for s in sources]) if spoken else None,
    borders=np.concatenate([*borders, [offset]]) if spoken else None,
  )


def group_borders(starts: Sequence[float], groups: int) -> np.ndarray:
  """Word starts → first group of each word; one more for the end.

  The first word begins at group 0 and the last one ends with the audio, so
  that the words share out all groups, whatever their times are.

  Args:
    starts: Seconds (W,); one before its predecessor's counts as that.
    groups: Number of 120 ms groups.

  Returns:
    int64 (W + 1,), not falling, from 0 to `groups`.
  """
  borders = np.round(np.asarray(starts) / vocabulary.GROUP_SECONDS)
  borders = np.append(borders, groups).astype(np.int64)
  borders[0] = 0
  return np.minimum(np.maximum.accumulate(borders), groups)


def _joint(text: str, following: str) -> str:
  """What stands between two texts: nothing in scripts without spaces."""
  edges = text[-1], following[0]
  if any(edge.isspace() for edge in edges):
    return ''
  wide = (unicodedata.east_asian_width(edge) in 'WF' for edge in edges)
  return '' if all(wide) else ' '
