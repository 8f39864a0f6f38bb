"""Starting a run from the parameters of others.

Leaves are matched by their path. A table that grew along its `vocab` axis
keeps its old rows; each new row is drawn from a normal distribution with the
mean and covariance of the old rows (Hewitt, "Initializing new word embeddings
for pretrained language models", 2021), so old logits do not change and new
ones start where the old ones lie.
"""

from typing import Any, Callable, Mapping, Sequence

from flax import linen as nn
from flax import traverse_util
import jax
import numpy as np

from step_audio_jax import errors


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
  table = np.moveaxis(np.asarray(old, np.float32), axis, 0)
  flat = table.reshape(len(table), -1)
  mean = flat.mean(axis=0)
  # z' (X - mean) / sqrt(n) has exactly the empirical covariance of X, without
  # ever forming that matrix.
  z = np.random.default_rng(seed).standard_normal(
    (rows - len(flat), len(flat)), np.float32
  )
  new = mean + z @ (flat - mean) / np.sqrt(len(flat))
  new = new.reshape(-1, *table.shape[1:]).astype(np.float32)
  return np.moveaxis(np.concatenate([table, new]), 0, axis)


def transfer(
  boxed: Any,
  sources: Sequence[tuple[str, Any]],
  initial: Callable[[list[str]], Mapping[str, Any]],
  seed: int = 0,
) -> tuple[Any, list[str]]:
  """Fills a tree of variables from saved ones.

  Args:
    boxed: Shapes of the variables, boxed with logical axis names.
    sources: (name for messages, saved variables) pairs; the first that holds
      a path gives it.
    initial: Paths that no source holds → their initial values.
    seed: Of the rows that are appended.

  Returns:
    (variables with plain leaves, paths that stayed fresh).

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
      if path in tree:
        out[path] = _fit(source, path, tree[path], leaf, seed)
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
  if fresh:
    out |= initial(fresh)
  return traverse_util.unflatten_dict(out, sep='/'), fresh


def flatten(tree: Any) -> dict[str, Any]:
  """Nested dicts → {'params/a/b': leaf}; boxed leaves stay boxed."""
  return traverse_util.flatten_dict(tree, sep='/')


def _fit(source, path, old, leaf, seed):
  boxed = isinstance(leaf, nn.LogicallyPartitioned)
  new, names = (leaf.value, leaf.names) if boxed else (leaf, ())
  if old.shape == new.shape:
    return np.asarray(old, new.dtype)
  differ = [i for i, (a, b) in enumerate(zip(old.shape, new.shape)) if a != b]
  if (
    len(old.shape) == len(new.shape)
    and len(differ) == 1
    and len(names) > differ[0]
    and names[differ[0]] == 'vocab'
    and old.shape[differ[0]] < new.shape[differ[0]]
  ):
    offset = sum(map(ord, path))  # tables must not share their draws
    return grown(old, new.shape[differ[0]], differ[0], seed + offset)
  raise errors.UserError(
    f'{source}: {path} has shape {tuple(old.shape)}, expected '
    f'{tuple(new.shape)}.'
  )


def sizes(variables: Any) -> int:
  """Number of elements in a tree of arrays."""
  return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(variables))
