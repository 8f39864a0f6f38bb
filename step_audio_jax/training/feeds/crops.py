"""Which crop of which utterance a row shows, a pure function of (seed, row).

Every epoch shows one crop of each utterance, at a place that changes with the
epoch.
"""

import dataclasses
from typing import Sequence

import numpy as np

from step_audio_jax.corpus import manifest
from step_audio_jax.training.feeds import permutation


@dataclasses.dataclass(frozen=True)
class Crop:
  """A part of an utterance.

  Attributes:
    utterance: Of what.
    share: Where to cut, in [0, 1) of the places that there are.
  """

  utterance: manifest.Utterance
  share: float


class Crops:
  """The order of a feed of crops, with the interface of `buckets.Buckets`."""

  def __init__(
    self,
    utterances: Sequence[manifest.Utterance],
    batch_size: int,
    seed: int,
  ):
    """Orders `utterances` for batches of `batch_size` rows."""
    self._utterances = utterances
    self._batch_size, self._seed = batch_size, seed

  def __len__(self) -> int:
    """Batches of an epoch."""
    return max(1, len(self._utterances) // self._batch_size)

  def rows(self, step: int, start: int, stop: int) -> tuple[list[Crop], int]:
    """Crops of a part of a batch; all are of bucket 0."""
    first = step * self._batch_size
    return [self._crop(first + row) for row in range(start, stop)], 0

  def _crop(self, index: int) -> Crop:
    size = len(self._utterances)
    epoch, place = divmod(index, size)
    key = self._seed * 1_000_003 + epoch
    return Crop(
      self._utterances[permutation.permute(place, size, key)],
      np.random.default_rng([self._seed, index]).random(),
    )
