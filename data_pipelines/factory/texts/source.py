"""What a source of texts is, and the one that is there already: corpora."""

import dataclasses
import os
from typing import Any, Iterator, Mapping, Protocol, Sequence

from step_audio_jax.corpus import manifest

TRAIN = 'train'  # nothing else is said


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
  """

  id: str
  text: str
  language: str
  source: str
  writer: str = ''
  answer: str = ''


@dataclasses.dataclass(frozen=True)
class Refused:
  """A text that was written and is not to be said.

  Attributes:
    id: That it would have had.
    outcome: As of `gates.base`: failed, or unmeasured where nothing came.
    reason: One sentence.
  """

  id: str
  outcome: str
  reason: str


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
  """The training texts of corpora of any kind.

  Attributes:
    corpora: Their folders.
    most: So many texts at most; None for all.
  """

  corpora: Sequence[str | os.PathLike]
  most: int | None = None

  def read(self) -> Iterator[Text]:
    count = 0
    for corpus in self.corpora:
      for one in manifest.stream(corpus):
        if self.most is not None and count >= self.most:
          return
        if one.split == TRAIN and one.text and any(map(str.isalnum, one.text)):
          count += 1
          text = ' '.join(one.text.split())
          yield Text(one.id, text, one.language, one.id)

  def writers(self) -> Mapping[str, Any]:
    return {}

  def name(self) -> str:
    return ', '.join(map(str, self.corpora)) or 'none'
