"""An answer as it is judged, and the protocol of who judges."""

import dataclasses
from typing import Any, Mapping, Protocol, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Sample:
  """One answer to one prompt.

  Attributes:
    id: Of the prompt.
    question: Words of the last turn of the user; '' where nobody knows them.
    expected: Words of the reference answer; '' where there is none.
    language: Of the chat, a BCP 47 subtag.
    text: What was answered, in words.
    ids: The same as it was drawn, without the id that ends it.
    stopped: Whether it came to its end.
    facts: What else the corpus says of the prompt.
  """

  id: str
  question: str
  expected: str
  language: str
  text: str
  ids: np.ndarray
  stopped: bool
  facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Scorer(Protocol):
  """Judges answers on the host."""

  def __call__(self, samples: Sequence[Sample]) -> Sequence[float]:
    """A number for each; NaN where it cannot tell.

    Raises:
      Exception: It failed; `Rewards` says what comes of that.
    """
