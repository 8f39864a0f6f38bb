"""Starting a run from the parameters of others.

Leaves are matched by their path. A table that grew along its `vocab` axis
keeps its old rows; each new row is drawn from a normal distribution with the
mean and covariance of the old rows (Hewitt, "Initializing new word embeddings
for pretrained language models", 2021), so old logits do not change and new
ones start where the old ones lie.

Sources may be lazy: then nothing is read before `placed` asks for the slices
of this host's devices.
"""

from typing import Any, Callable, Mapping, Sequence

from flax import linen as nn
from flax import traverse_util
import jax
import numpy as np

from step_audio_jax import errors
from step_audio_jax import lazy
from step_audio_jax.training import heads

# Old rows that are looked at together when new ones are drawn.
_ROWS = 8192


class Drawn(lazy.LazyArray):
  """Rows drawn like those of a table, of which only slices are made."""

  def __init__(self, table: Any, rows: int, axis: int, seed: int):
    """`rows` rows with the mean and covariance of `table` along `axis`."""
    self._table, self._axis, self._seed = table, axis, seed
    self._kept: tuple[Any, np.ndarray] | None = None
    shape = list(table.shape)
    shape[axis] = rows
    self.shape, self.dtype = tuple(shape), np.dtype(np.float32)

  def read(self, spans):
    axis = self._axis
    rest = [span for i, span in enumerate(spans) if i != axis]
    # Shards of one host often differ in rows alone.
    if self._kept is None or self._kept[0] != rest:
      self._kept = rest, self._draw(spans)
    rows = [(0, stop - start) for start, stop in spans]
    rows[axis] = spans[axis]
    return self._kept[1][lazy.slices(rows)].copy()

  def _draw(self, spans):
    """All rows, of the given columns."""
    axis, count = self._axis, self._table.shape[self._axis]

    def old():
      for start in range(0, count, _ROWS):
        part = list(spans)
        part[axis] = (start, min(count, start + _ROWS))
        block = np.asarray(self._table[lazy.slices(part)], np.float32)
        yield np.moveaxis(block, axis, 0).reshape(block.shape[axis], -1)

    mean = sum(block.sum(0, dtype=np.float64) for block in old()) / count
    mean = mean.astype(np.float32)
    rng = np.random.default_rng(self._seed)
    new = np.zeros((self.shape[axis], len(mean)), np.float32)
    # z' (X - mean) / sqrt(n) has exactly the empirical covariance of X, without
    # ever forming that matrix.
    for block in old():
      z = rng.standard_normal((len(new), len(block)), np.float32)
      new += z @ (block - mean)
    new = mean + new / np.float32(np.sqrt(count))
    shape = [stop - start for i, (start, stop) in enumerate(spans) if i != axis]
    return np.moveaxis(new.reshape(-1, *shape), 0, axis)


class Grown(lazy.LazyArray):
  """A table with rows behind it that are drawn like its own."""

  def __init__(self, table: Any, rows: int, axis: int, seed: int):
    """Grows `table` to `rows` rows along `axis`; float32."""
    self._table, self._axis = table, axis
    self._count = table.shape[axis]
    self._drawn = Drawn(table, rows - self._count, axis, seed)
    shape = list(table.shape)
    shape[axis] = rows
    self.shape, self.dtype = tuple(shape), np.dtype(np.float32)

  def read(self, spans):
    axis, count = self._axis, self._count
    start, stop = spans[axis]
    parts = []
    for array, low, high in (
      (self._table, start, min(stop, count)),
      (self._drawn, max(start, count) - count, stop - count),
    ):
      if low < high:
        part = list(spans)
        part[axis] = (low, high)
        parts.append(np.asarray(array[lazy.slices(part)], np.float32))
    if not parts:
      return np.zeros([high - low for low, high in spans], np.float32)
    return np.concatenate(parts, axis)


def grown(old: np.ndarray, rows: int, axis: int, seed: int) -> np.ndarray:
  """Appends rows drawn like the old ones along `axis`.

  Args:
    old: A table with at least two rows along `axis`.
    rows: Rows wanted in all.
    axis: The axis that grows.
    seed: Of the draw.

  Returns:
    The table, float32; its first rows are `old`, bit for bit.
  """
  return np.asarray(Grown(old, rows, axis, seed))


def transfer(
  boxed: Any,
  sources: Sequence[tuple[str, Any]],
  initial: Callable[[list[str]], Mapping[str, Any]],
  seed: int = 0,
) -> tuple[Any, list[str]]:
  """Fills a tree of variables from saved ones.

  Args:
    boxed: Shapes of the variables, boxed with logical axis names.
    sources: (name for messages, saved variables) pairs, lazy or not; the
      first that holds a path gives it. What the model keeps in `base`
      (parameters that stay as they are) comes from a source's `params`.
    initial: Paths that no source holds → their initial values.
    seed: Of the rows that are appended.

  Returns:
    (variables with plain leaves, paths that stayed fresh). A leaf of a lazy
    source is lazy; `placed` reads it.

  Raises:
    UserError: A source gives nothing, or a shape differs in another way than
      by growth along `vocab`.
  """
  target = flatten(boxed)
  flat_sources = [(name, flatten(tree)) for name, tree in sources]
  used = {name: 0 for name, _ in flat_sources}
  out, fresh = {}, []
  for path, leaf in target.items():
    for source, tree in flat_sources:
      found = path if path in tree else _as_base(path)
      if found in tree:
        out[path] = _fit(source, found, tree[found], leaf, seed)
        used[source] += 1
        break
    else:
      fresh.append(path)
  for name, count in used.items():
    if not count:
      raise errors.UserError(
        f'{name}: nothing in this checkpoint is part of the model; expected '
        f'paths such as {next(iter(target))}.'
      )
  parts = [p for p, leaf in out.items() if isinstance(leaf, heads.Partial)]
  if fresh or parts:
    drawn = initial([*fresh, *parts])
    out |= {path: drawn[path] for path in fresh}
    out |= {path: out[path].over(drawn[path]) for path in parts}
  return traverse_util.unflatten_dict(out, sep='/'), fresh


def flatten(tree: Any) -> dict[str, Any]:
  """Nested dicts → {'params/a/b': leaf}; boxed leaves stay boxed."""
  return traverse_util.flatten_dict(tree, sep='/')


def placed(value: Any, sharding: jax.sharding.Sharding, dtype: Any):
  """An array on the mesh; this host reads only its own devices' slices.

  Args:
    value: An array, lazy or not.
    sharding: Where it goes.
    dtype: As what.
  """
  read: dict[Any, np.ndarray] = {}

  def shard(index):
    # Devices that hold the same slice share one reading.
    key = tuple((part.start, part.stop) for part in index)
    if key not in read:
      read[key] = np.asarray(value[index], dtype)
    return read[key]

  value = value if isinstance(value, lazy.LazyArray) else np.asarray(value)
  return jax.make_array_from_callback(tuple(value.shape), sharding, shard)


def _as_base(path: str) -> str:
  """Where a source holds what this model keeps in its `base`."""
  if path.startswith('base/'):
    return 'params/' + path.removeprefix('base/')
  return path


def _fit(source, path, old, leaf, seed):
  boxed = isinstance(leaf, nn.LogicallyPartitioned)
  new, names = (leaf.value, leaf.names) if boxed else (leaf, ())
  is_lazy = isinstance(old, lazy.LazyArray)
  if old.shape == new.shape:
    return old if is_lazy else np.asarray(old, new.dtype)
  differ = [i for i, (a, b) in enumerate(zip(old.shape, new.shape)) if a != b]
  if (
    len(old.shape) == len(new.shape)
    and len(differ) == 1
    and len(names) > differ[0]
    and names[differ[0]] == 'vocab'
    and old.shape[differ[0]] < new.shape[differ[0]]
  ):
    (axis,) = differ
    table = Grown(old, new.shape[axis], axis, table_seed(path, seed))
    return table if is_lazy else np.asarray(table)
  raise errors.UserError(
    f'{source}: {path} has shape {tuple(old.shape)}, expected '
    f'{tuple(new.shape)}.'
  )


def table_seed(path: str, seed: int) -> int:
  """Seed of the rows appended to a table: tables do not share their draws."""
  return seed + sum(map(ord, path))


def sizes(variables: Any) -> int:
  """Number of elements in a tree of arrays."""
  return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(variables))
