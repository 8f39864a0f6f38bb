"""What a source of texts is, and the one that is there already: corpora."""

import dataclasses
import os
from typing import Any, Iterator, Mapping, Protocol, Sequence

from data_pipelines.factory.gates import base
from step_audio_jax import errors
from step_audio_jax.corpus import manifest
from step_audio_jax.styles import markup
from step_audio_jax.styles import ssml

TRAIN = 'train'  # nothing else is said
GATES = TEXT, WRITER = 'text', 'writer'


@dataclasses.dataclass(frozen=True)
class Text:
  """A text that is to be said.

  Attributes:
    id: Unique in a job.
    text: On one line.
    language: Subtag.
    source: Id of the line that it is of, or was made of; '' of a new one.
    writer: Who wrote it, a name of `Source.writers`; '' of corpora.
    answer: Digest of what was asked and answered, its name in `Answers`.
    marked: The text with tags of how it is said; '' of one without.
  """

  id: str
  text: str
  language: str
  source: str
  writer: str = ''
  answer: str = ''
  marked: str = ''


@dataclasses.dataclass(frozen=True)
class Refused:
  """A text that is not to be said.

  Attributes:
    id: That it would have had.
    outcome: As of `gates.base`: failed, or unmeasured where nothing came.
    reason: One sentence.
    gate: What refuses it, of `GATES`.
  """

  id: str
  outcome: str
  reason: str
  gate: str = WRITER


class Source(Protocol):
  """Gives texts, the same ones every time."""

  def read(self) -> Iterator[Text | Refused]:
    """The texts in their order.

    Raises:
      UserError: There are none to be had.
    """

  def writers(self) -> Mapping[str, Any]:
    """Who wrote them, JSON-able, by name; complete when all are read."""

  def name(self) -> str:
    """For messages."""


@dataclasses.dataclass(frozen=True)
class Corpora:
  """The training texts of corpora of any kind; SSML is read as tags.

  Attributes:
    corpora: Their folders.
    most: So many texts at most; None for all.
  """

  corpora: Sequence[str | os.PathLike]
  most: int | None = None

  def read(self) -> Iterator[Text | Refused]:
    count = 0
    for corpus in self.corpora:
      for one in manifest.stream(corpus):
        if self.most is not None and count >= self.most:
          return
        if one.split == TRAIN and one.text and any(map(str.isalnum, one.text)):
          count += 1
          yield _marked(one) if ssml.is_ssml(one.text) else _plain(one)

  def writers(self) -> Mapping[str, Any]:
    return {}

  def name(self) -> str:
    return ', '.join(map(str, self.corpora)) or 'none'


def _plain(one: manifest.Utterance) -> Text:
  return Text(one.id, ' '.join(one.text.split()), one.language, one.id)


def _marked(one: manifest.Utterance) -> Text | Refused:
  """A text of SSML; what it does not support is refused."""
  try:
    spans, language = ssml.parse(one.text)
  except errors.UserError as error:
    return Refused(one.id, base.FAILED, str(error), TEXT)
  text, language = markup.plain(spans), language or one.language
  marked = markup.write(spans)
  return Text(
    one.id, text, language, one.id, marked='' if marked == text else marked
  )
