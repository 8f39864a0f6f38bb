"""Batches of items of like length, a pure function of (seed, step).

Items are sorted into buckets by length. A batch comes from one bucket and is
as wide as the bucket's longest item, so the number of compiled shapes is the
number of buckets. Every epoch has its own order, of batches and inside them.
"""

from typing import Generic, Protocol, Sequence, TypeVar

from step_audio_jax.corpus import manifest
from step_audio_jax.training.feeds import permutation


class SizedUtterance(Protocol):
  """An utterance of so many samples."""

  utterance: manifest.Utterance
  samples: int


Item = TypeVar('Item', bound=SizedUtterance)


class Buckets(Generic[Item]):
  """The order of items.

  Attributes:
    buckets: The items of each bucket, ascending.
  """

  def __init__(
    self, items: Sequence[Item], count: int, batch_size: int, seed: int
  ):
    """Sorts items by length and cuts them into at most `count` buckets."""
    items = sorted(items, key=lambda item: (item.samples, item.utterance.id))
    count = min(count, len(items))
    edges = [i * len(items) // count for i in range(count + 1)]
    self.buckets = [items[a:b] for a, b in zip(edges, edges[1:])]
    self._batches = [max(1, len(b) // batch_size) for b in self.buckets]
    self._batch_size, self._seed = batch_size, seed

  def __len__(self) -> int:
    """Batches of an epoch."""
    return sum(self._batches)

  def longest(self, bucket: int) -> int:
    """Samples of a bucket's longest item."""
    return self.buckets[bucket][-1].samples

  def widths(self, sample_rate: int) -> list[float]:
    """Seconds of each bucket's longest item."""
    return [
      round(self.longest(bucket) / sample_rate, 2)
      for bucket in range(len(self.buckets))
    ]

  def rows(self, step: int, start: int, stop: int) -> tuple[list[Item], int]:
    """Items of a part of a batch, and the number of their bucket."""
    epoch, place = divmod(step, len(self))
    key = self._seed * 1_000_003 + epoch
    place = permutation.permute(place, len(self), key)
    bucket = 0
    while place >= self._batches[bucket]:
      place -= self._batches[bucket]
      bucket += 1
    items = self.buckets[bucket]
    rows = [
      items[
        permutation.permute(
          (place * self._batch_size + row) % len(items),
          len(items),
          key * 1_000_003 + bucket + 1,
        )
      ]
      for row in range(start, stop)
    ]
    return rows, bucket
