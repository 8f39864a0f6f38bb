"""What an engine asks of whatever holds a row to a form, one id at a time.

Letters: V vocabulary.
"""

from typing import Protocol

import numpy as np


class Constraint(Protocol):
  """The state of one row; the engine makes one for each request."""

  def mask(self) -> np.ndarray:
    """Ids that may come next, bool (V,).

    Read-only, and shared between rows: it is a row of a cache. Never empty
    until the row has ended.
    """

  def advance(self, token: int) -> None:
    """Takes the id that was chosen.

    Raises:
      ValueError: It was not allowed.
    """

  @property
  def done(self) -> bool:
    """Whether the row may end here: then the mask allows the stop ids."""
