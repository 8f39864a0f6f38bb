"""Which crop of which utterance a row shows, a pure function of (seed, row).

Every epoch shows one crop of each utterance, at a place that changes with the
epoch.
"""

from typing import Sequence

import numpy as np

from step_audio_jax import manifest
from step_audio_jax.training import feed as feed_lib


class Crops:
  """The order of a feed of crops.

  Attributes:
    utterances: What is shown.
  """

  def __init__(
    self,
    utterances: Sequence[manifest.Utterance],
    batch_size: int,
    seed: int,
  ):
    """Orders `utterances` for batches of `batch_size` rows."""
    self.utterances = utterances
    self._batch_size, self._seed = batch_size, seed

  def __len__(self) -> int:
    """Batches of an epoch."""
    return max(1, len(self.utterances) // self._batch_size)

  def row(self, step: int, row: int) -> tuple[manifest.Utterance, float]:
    """Utterance of a row of a step's batch, and where to cut, in [0, 1)."""
    index, size = step * self._batch_size + row, len(self.utterances)
    epoch, place = divmod(index, size)
    key = self._seed * 1_000_003 + epoch
    utterance = self.utterances[feed_lib.permuted(place, size, key)]
    return utterance, np.random.default_rng([self._seed, index]).random()

  def row_ids(self, step: int) -> list[str]:
    """Which utterances a step's batch holds."""
    return [self.row(step, i)[0].id for i in range(self._batch_size)]
