"""HyperPyYAML files as data: their tags name code, and none of it is run.

    flow: !new:some.package.Flow      → {'size': 512, 'scale': 0.5}
        size: !ref <width>
        scale: 5e-1

A tag (`!new:`, `!name:`, `!apply:` …) is dropped and what stands behind it is
kept; `!ref <key>` and `!copy <key>` become what `key` holds, `<a[b][0]>` what
lies inside. A reference with more around it (`!ref <a> * 2`) stays text.
"""

import os
import pathlib
import re
from typing import Any

import yaml

from step_audio_jax import errors
from step_audio_jax.storage import files

_WHOLE = re.compile(r'<([^<>\[\]]+)((?:\[[^\[\]]+\])*)>')
_INDEX = re.compile(r'\[([^\[\]]+)\]')
_MOST = 2**20  # bytes; such files have a few thousand


class _Reference:
  """`!ref` or `!copy`, not looked up yet."""

  def __init__(self, text: str):
    self.text = text.strip()


class _Loader(yaml.SafeLoader):
  """The safe loader, to which every tag with one `!` is data."""


def _tagged(loader, suffix, node):
  if isinstance(node, yaml.MappingNode):
    return loader.construct_mapping(node, deep=True)
  if isinstance(node, yaml.SequenceNode):
    return loader.construct_sequence(node, deep=True)
  if suffix in ('ref', 'copy'):
    return _Reference(node.value)
  # `!name:f` with nothing behind it: no arguments.
  return {} if not node.value else node.value


_Loader.add_multi_constructor('!', _tagged)
# As YAML 1.2 has it: 1e-06 is a number, with or without a point.
_Loader.add_implicit_resolver(
  'tag:yaml.org,2002:float',
  re.compile(r'^[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$'),
  list('-+.0123456789'),
)


def read(path: str | os.PathLike) -> dict[str, Any]:
  """The file's mapping, tags gone and references looked up.

  Raises:
    UserError: The file is missing, no such YAML, or a reference leads
      nowhere or to itself.
  """
  path = files.path(path)
  with files.opened(path) as handle:
    raw = handle.read(_MOST + 1)
  try:
    if len(raw) > _MOST:
      raise ValueError(f'more than {_MOST} bytes')
    tree = yaml.load(raw.decode('utf-8'), _Loader)
  except (
    *(AttributeError, RecursionError, TypeError, ValueError),
    yaml.YAMLError,
  ) as error:
    line = ' '.join(str(error).split())
    raise errors.UserError(f'{path}: cannot be read: {line}.') from error
  if not isinstance(tree, dict):
    raise errors.UserError(
      f'{path}: found a {type(tree).__name__}, expected a mapping.'
    )
  return _Resolver(path, tree).resolved(tree)


class _Resolver:
  """Looks references up; each container once, so that aliases stay shared."""

  def __init__(self, path: pathlib.Path, root: dict[str, Any]):
    self._path, self._root = path, root
    self._done: dict[int, Any] = {}
    self._open: set[int] = set()

  def resolved(self, value: Any) -> Any:
    """`value` without references."""
    if not isinstance(value, _Reference | dict | list):
      return value
    key = id(value)
    if key in self._open:
      raise errors.UserError(
        f'{self._path}: found a value that contains itself, expected a tree.'
      )
    if key not in self._done:
      self._open.add(key)
      if isinstance(value, _Reference):
        self._done[key] = self._looked_up(value.text)
      elif isinstance(value, dict):
        self._done[key] = {k: self.resolved(v) for k, v in value.items()}
      else:
        self._done[key] = [self.resolved(v) for v in value]
      self._open.remove(key)
    return self._done[key]

  def _looked_up(self, text: str) -> Any:
    match = _WHOLE.fullmatch(text)
    if match is None:
      return text
    value: Any = self._root
    for step in (match[1], *_INDEX.findall(match[2])):
      while isinstance(value, _Reference):
        value = self.resolved(value)
      try:
        value = value[int(step) if isinstance(value, list) else step]
      except (IndexError, KeyError, TypeError, ValueError):
        raise errors.UserError(
          f'{self._path}: found !ref {text}, which names nothing in the file.'
        ) from None
    return self.resolved(value)
