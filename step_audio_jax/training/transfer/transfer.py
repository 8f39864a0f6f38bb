"""Starting a run from the parameters of others.

Leaves are matched by their path. A table along a `vocab` axis keeps the rows
whose ids mean the same (`remap`), wherever they lie; each new row is drawn from
a normal distribution with the mean and covariance of the old rows (Hewitt,
"Initializing new word embeddings for pretrained language models", 2021), so old
logits do not change and new ones start where the old ones lie.

Sources may be lazy: then nothing is read before `place_on_mesh` asks for the
slices of this host's devices.
"""

import dataclasses
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from flax import linen as nn
from flax import traverse_util
import jax
import numpy as np

from step_audio_jax import errors
from step_audio_jax.storage import lazy
from step_audio_jax.training.objectives import objectives
from step_audio_jax.training.transfer import heads
from step_audio_jax.training.transfer import remap

# Old rows that are looked at together when new ones are drawn.
_ROWS = 8192


class DrawnRows(lazy.LazyArray):
  """Rows drawn like those of a table, of which only slices are made."""

  def __init__(
    self, table: Any, rows: int, axis: int, seed: int, known: int | None = None
  ):
    """`rows` rows with the mean and covariance of `table` along `axis`.

    Args:
      table: Is drawn like.
      rows: How many.
      axis: Along which they lie.
      seed: Of the draw.
      known: Only the first of the old rows are looked at.
    """
    self._table, self._axis, self._seed = table, axis, seed
    self._known = table.shape[axis] if known is None else known
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
    axis, count = self._axis, self._known

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


class MappedTable(lazy.LazyArray):
  """A table whose rows are those of another in a new order; float32."""

  def __init__(
    self,
    table: Any,
    index: np.ndarray,
    axis: int,
    seed: int,
    known: int | None = None,
  ):
    """Takes rows of a table along `axis`.

    Args:
      table: The old one.
      index: Old row of each new one; -1 draws a row like the old ones.
      axis: Along which rows lie.
      seed: Of the draw.
      known: See `DrawnRows`.
    """
    self._table, self._index, self._axis = table, np.asarray(index), axis
    fresh = int((self._index < 0).sum())
    self._drawn = DrawnRows(table, fresh, axis, seed, known)
    shape = list(table.shape)
    shape[axis] = len(self._index)
    self.shape, self.dtype = tuple(shape), np.dtype(np.float32)

  def read(self, spans):
    start, stop = spans[self._axis]
    index = self._index[start:stop]
    out = np.empty([high - low for low, high in spans], np.float32)
    rows = np.moveaxis(out, self._axis, 0)
    taken = index >= 0
    last = int(index.max(initial=-1)) + 1
    for low in range(int(index[taken].min(initial=last)), last, _ROWS):
      high = min(last, low + _ROWS)
      here = (index >= low) & (index < high)
      if here.any():
        block = self._block(self._table, spans, low, high)
        rows[here] = block[index[here] - low]
    if not taken.all():
      before = int((self._index[:start] < 0).sum())
      count = int((~taken).sum())
      rows[~taken] = self._block(self._drawn, spans, before, before + count)
    return out

  def _block(self, array, spans, low, high):
    part = list(spans)
    part[self._axis] = (low, high)
    block = np.asarray(array[lazy.slices(part)], np.float32)
    return np.moveaxis(block, self._axis, 0)


class GrownTable(MappedTable):
  """A table with rows behind it that are drawn like its own."""

  def __init__(self, table: Any, rows: int, axis: int, seed: int):
    """Grows `table` to `rows` rows along `axis`; float32."""
    count = table.shape[axis]
    index = np.where(np.arange(rows) < count, np.arange(rows), -1)
    super().__init__(table, index, axis, seed)


def grow(old: np.ndarray, rows: int, axis: int, seed: int) -> np.ndarray:
  """Appends rows drawn like the old ones along `axis`.

  Args:
    old: A table with at least two rows along `axis`.
    rows: Rows wanted in all.
    axis: The axis that grows.
    seed: Of the draw.

  Returns:
    The table, float32; its first rows are `old`, bit for bit.
  """
  return np.asarray(GrownTable(old, rows, axis, seed))


class Source(NamedTuple):
  """What a run may start from.

  Attributes:
    name: For messages.
    variables: Saved ones, arrays lazy or not.
    rows: Where the rows of a vocabulary's table lie in it; None where they are
      the same rows.
  """

  name: str
  variables: Any
  rows: remap.RowMap | None = None


def transfer(
  boxed: Any,
  sources: Sequence[Source | tuple[str, Any]],
  initial: Callable[[list[str]], Mapping[str, Any]],
  seed: int = 0,
) -> tuple[Any, list[str]]:
  """Fills a tree of variables from saved ones.

  Args:
    boxed: Shapes of the variables, boxed with logical axis names.
    sources: As `Source`; the first that holds a path gives it. What the model
      keeps in `base` or `reference` (parameters that stay as they are) comes
      from a source's `params`.
    initial: Paths that no source holds → their initial values.
    seed: Of the rows that are appended.

  Returns:
    (variables with plain leaves, paths that stayed fresh). A leaf of a lazy
    source is lazy; `place_on_mesh` reads it.

  Raises:
    UserError: A source gives nothing, or a shape differs in another way than
      by growth along `vocab`.
  """
  target = flatten(boxed)
  sources = [Source(*source) for source in sources]
  flat_sources = [
    (one.name, flatten(one.variables), one.rows) for one in sources
  ]
  used = {one.name: 0 for one in sources}
  out, fresh = {}, []
  for path, leaf in target.items():
    for source, tree, rows in flat_sources:
      found = next((name for name in _held_as(path) if name in tree), None)
      if found is not None:
        out[path] = _fit(source, found, tree[found], leaf, seed, rows)
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


def place_on_mesh(value: Any, sharding: jax.sharding.Sharding, dtype: Any):
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


def _held_as(path: str) -> tuple[str, ...]:
  """Where a source may hold a variable of this model, the best first."""
  collection, _, rest = path.partition('/')
  if collection == objectives.REFERENCE:
    # What the source itself was compared with is not what it became.
    return (f'params/{rest}',)
  return (path, f'params/{rest}') if collection == 'base' else (path,)


def _fit(source, path, old, leaf, seed, rows=None):
  boxed = isinstance(leaf, nn.LogicallyPartitioned)
  new, names = (leaf.value, leaf.names) if boxed else (leaf, ())
  is_lazy = isinstance(old, lazy.LazyArray)
  if rows is not None and 'vocab' in names:
    axis = names.index('vocab')
    rows = _with_rows_behind(
      rows, old.shape[axis], new.shape[axis], f'{source}: {path}'
    )
    if not rows.is_identity():
      drawn = table_seed(path, seed)
      old = MappedTable(old, rows.index, axis, drawn, rows.known)
      old = old if is_lazy else np.asarray(old)
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
    table = GrownTable(old, new.shape[axis], axis, table_seed(path, seed))
    return table if is_lazy else np.asarray(table)
  raise errors.UserError(
    f'{source}: {path} has shape {tuple(old.shape)}, expected '
    f'{tuple(new.shape)}.'
  )


def _with_rows_behind(rows, old: int, new: int, where: str) -> remap.RowMap:
  """Rows behind all ids, such as the mask of a causal flow, stay there."""
  more = old - rows.old_rows
  if more != new - len(rows.index) or more < 0:
    raise errors.UserError(
      f'{where} has {old} rows for {new}, expected {rows.old_rows} for '
      f'{len(rows.index)} as the vocabularies say.'
    )
  behind = np.arange(rows.old_rows, old)
  return dataclasses.replace(
    rows, index=np.concatenate([rows.index, behind]), old_rows=old
  )


def table_seed(path: str, seed: int) -> int:
  """Seed of the rows appended to a table: tables do not share their draws."""
  return seed + sum(map(ord, path))


def sizes(variables: Any) -> int:
  """Number of elements in a tree of arrays."""
  return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(variables))
