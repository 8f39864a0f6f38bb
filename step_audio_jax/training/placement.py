"""Batches on their way to the devices: each host brings the rows it reads."""

from typing import Any, Callable, Iterator, Mapping

import grain
import jax
import numpy as np

Sharding = jax.sharding.NamedSharding


def read_ahead(
  read: Callable[[int], Any], steps: range, readers: int
) -> Iterator[Any]:
  """Batches of `steps` in order, the next ones read before they are asked for.

  Args:
    read: Step → batch.
    steps: One after the other.
    readers: How many are read side by side.
  """
  options = grain.ReadOptions(
    num_threads=readers, prefetch_buffer_size=max(2, readers)
  )
  numbers = grain.MapDataset.range(steps.start, steps.stop)
  return iter(numbers.map(read).to_iter_dataset(options))


def local_rows(sharding: Sharding, rows: int) -> tuple[int, int]:
  """First and last + 1 of the `rows` that this host's devices hold."""
  spans = [
    index[0].indices(rows)[:2]
    for index in sharding.addressable_devices_indices_map((rows,)).values()
  ]
  return min(low for low, _ in spans), max(high for _, high in spans)


def global_batch(
  host: Mapping[str, Any],
  rows: int,
  start: int,
  sharding_of: Callable[[tuple[int, ...]], Sharding],
) -> dict[str, Any]:
  """A global batch of `rows` from this host's rows, which begin at `start`.

  Args:
    host: Arrays (this host's rows, …); scalars stay as they are.
    rows: Rows of the global batch.
    start: Where this host's rows begin in it.
    sharding_of: Shape → sharding.
  """

  def place(array):
    array = np.asarray(array)
    if not array.ndim:
      return array

    def shard(index):
      low, high, _ = index[0].indices(rows)
      return array[(slice(low - start, high - start), *index[1:])]

    shape = (rows, *array.shape[1:])
    return jax.make_array_from_callback(shape, sharding_of(shape), shard)

  return {name: place(array) for name, array in host.items()}


def add_leading_axis(sharding: Sharding) -> Sharding:
  """The sharding of arrays that gained a first axis, which is not split."""
  return Sharding(
    sharding.mesh, jax.sharding.PartitionSpec(None, *sharding.spec)
  )
