"""Heads whose entries have names: copied by name where a run starts anew.

A spelling head has an entry for each character, a speaker encoder one for each
speaker. What another run learnt for entry 5 is of use for the same character
alone, wherever it lies now, and a head of the same size for another alphabet
is another head. So an objective tells the labels of its heads (`Head`) and
what fits as a whole or not at all (`all_or_nothing`). A run that starts from
another one takes what has the same name; the rest is drawn fresh.
"""

import dataclasses
from typing import Any, Mapping, Sequence

import numpy as np

from step_audio_jax.storage import lazy


@dataclasses.dataclass(frozen=True)
class Head:
  """Parameters with one entry for each label.

  Attributes:
    path: Of a layer with a kernel and perhaps a bias, or of one array.
    labels: In the order of the entries.
    recorded: Entry of a run's `config.json` that lists its labels.
    before: Entries before those, which every such head has: CTC's blank.
    axis: Along which the entries lie.
  """

  path: str
  labels: tuple[str, ...]
  recorded: str
  before: int = 0
  axis: int = -1


class Partial(lazy.LazyArray):
  """Entries of an old array where they belong now; the others are missing."""

  def __init__(self, old: Any, index: np.ndarray, axis: int):
    """Takes entry `index` of `old` along `axis`; -1 is missing."""
    self._old, self._index, self._axis = old, index, axis % len(old.shape)
    shape = list(old.shape)
    shape[self._axis] = len(index)
    self.shape, self.dtype = tuple(shape), np.dtype(old.dtype)

  def over(self, fresh: Any) -> np.ndarray:
    """The array, with what is missing taken from `fresh` of its shape."""
    out = np.moveaxis(np.array(fresh), self._axis, 0)
    old = np.moveaxis(np.asarray(self._old), self._axis, 0)
    found = self._index >= 0
    out[found] = old[self._index[found]]
    return np.moveaxis(out, 0, self._axis)

  def read(self, spans):
    zeros = np.zeros(self.shape, self.dtype)
    return self.over(zeros)[lazy.slices(spans)]


def match_heads(
  source: str,
  variables: Mapping[str, Any],
  recorded: Mapping[str, Any],
  shapes: Mapping[str, Any],
  objective: Any,
) -> tuple[dict[str, Any], list[str]]:
  """What of a run fits an objective, by the names of labels.

  Args:
    source: Name of the run, for messages.
    variables: Path → saved array, lazy or not.
    recorded: The run's `config.json`.
    shapes: Path → shape of the new run's arrays.
    objective: Of the new run; may have `heads()`, and `all_or_nothing()`:
      prefixes of collections that are of no use in part.

  Returns:
    (path → array; what starts fresh is left out, sentences for the user).
  """
  out, told = dict(variables), []
  for head in getattr(objective, 'heads', tuple)():
    own = {head.path, f'{head.path}/kernel', f'{head.path}/bias'}
    paths = [path for path in out if _as_params(path) in own]
    if not paths:
      continue
    name = head.path
    names = recorded.get(head.recorded)
    if not isinstance(names, (list, tuple)):
      for path in paths:
        del out[path]
      told.append(
        f'{source}: {name} starts fresh, because its config.json does not say '
        f'what its {head.recorded} are.'
      )
      continue
    if tuple(names) == head.labels:
      continue
    index = _index(names, head)
    kept = [label for label in head.labels if label in set(names)]
    new = [label for label in head.labels if label not in set(names)]
    if not kept:
      for path in paths:
        del out[path]
      told.append(
        f'{source}: {name} starts fresh: none of its {len(names)} '
        f'{head.recorded} is one of the {len(head.labels)} here.'
      )
      continue
    for path in paths:
      out[path] = Partial(out[path], index, head.axis)
    sentence = (
      f'{source}: {name} keeps what it has for {len(kept)} of '
      f'{len(head.labels)} {head.recorded}'
    )
    if new:
      sentence += f'; fresh: {_listed(new)}'
    told.append(f'{sentence}.')
  for prefix in getattr(objective, 'all_or_nothing', tuple)():
    paths = [path for path in out if path.startswith(prefix)]
    odd = [path for path in paths if _shape(out[path]) != shapes.get(path)]
    if odd:
      for path in paths:
        del out[path]
      told.append(
        f'{source}: {prefix.rstrip("/")} starts fresh: {odd[0]} has shape '
        f'{_shape(variables[odd[0]])}, here it is '
        f'{shapes.get(odd[0], "not there")}.'
      )
  return out, told


def _index(names: Sequence[str], head: Head) -> np.ndarray:
  """Old entry of each new one, -1 for none; int64."""
  places = {name: head.before + i for i, name in enumerate(names)}
  return np.array(
    [*range(head.before), *(places.get(label, -1) for label in head.labels)]
  )


def _as_params(path: str) -> str:
  """Where a parameter lies that an adapted run keeps in its `base`."""
  if path.startswith('base/'):
    return 'params/' + path.removeprefix('base/')
  return path


def _shape(value: Any) -> tuple[int, ...]:
  return tuple(value.shape)


def _listed(names: Sequence[str], most: int = 12) -> str:
  shown = ', '.join(map(repr, names[:most]))
  more = len(names) - most
  return f'{shown} and {more} more' if more > 0 else shown
