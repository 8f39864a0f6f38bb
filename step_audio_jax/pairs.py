"""Two documents of one prompt, of which one has the better answer.

One of them may be missing: then the other is wanted, or is not.
"""

import dataclasses

import numpy as np

from step_audio_jax import documents as documents_lib


@dataclasses.dataclass(frozen=True)
class Pair(documents_lib.Document):
  """Two documents as one: no row parts them.

  Attributes:
    border: Where the second begins: it has the other answer. All ids are in
      front of it where that is missing, none where the first is.
    margin: How much better the first is.
    category: Of what kind the pair is; '' where nobody says.
  """

  border: int = 0
  margin: float = 0.0
  category: str = ''

  @property
  def sizes(self) -> tuple[int, int]:
    """Ids of the first and of the second; 0 of one that is missing."""
    return self.border, len(self) - self.border


def join(
  chosen: documents_lib.Document | None,
  rejected: documents_lib.Document | None,
  *,
  margin: float = 0.0,
  category: str = '',
) -> Pair:
  """Two documents without images, the better one first; one may be missing."""
  there = [one for one in (chosen, rejected) if one is not None]
  return Pair(
    there[0].id,
    np.concatenate([one.tokens for one in there]),
    np.concatenate([one.loss_weights for one in there]),
    border=0 if chosen is None else len(chosen),
    margin=margin,
    category=category,
  )
