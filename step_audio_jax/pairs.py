"""Two documents of one prompt, of which one has the better answer."""

import dataclasses

import numpy as np

from step_audio_jax import documents as documents_lib


@dataclasses.dataclass(frozen=True)
class Pair(documents_lib.Document):
  """Two documents as one: no row parts them.

  Attributes:
    border: Where the second begins: it has the other answer.
    margin: How much better the first is.
    category: Of what kind the pair is; '' where nobody says.
  """

  border: int = 0
  margin: float = 0.0
  category: str = ''


def join(
  chosen: documents_lib.Document,
  rejected: documents_lib.Document,
  *,
  margin: float = 0.0,
  category: str = '',
) -> Pair:
  """Two documents without images, the better one first."""
  return Pair(
    chosen.id,
    np.concatenate([chosen.tokens, rejected.tokens]),
    np.concatenate([chosen.loss_weights, rejected.loss_weights]),
    border=len(chosen),
    margin=margin,
    category=category,
  )
