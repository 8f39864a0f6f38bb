"""What both ways of converting share: whole outputs, progress, companions."""

import contextlib
import pathlib
from typing import Any, Mapping

from flax import traverse_util
import numpy as np

from step_audio_jax import progress
from step_audio_jax.storage import files
from step_audio_jax.storage import shards

# What travels with a model and is not ours to understand.
_COMPANIONS = (
  'added_tokens.json',
  'chat_template.jinja',
  'config.json',
  'generation_config.json',
  'merges.txt',
  'special_tokens_map.json',
  'tokenizer_config.json',
  'vocab.json',
)
# Where an imported run keeps them.
KEPT = 'huggingface'
DTYPES = {array.name: array for array in shards.DTYPES.values()}


def widest_dtype(tree: Mapping[str, Any]) -> str:
  """The dtype that holds every array of nested dicts."""
  leaves = traverse_util.flatten_dict(dict(tree)).values()
  names = {np.dtype(leaf.dtype).name for leaf in leaves}
  return names.pop() if len(names) == 1 else 'float32'


def tree_bytes(tree: Mapping[str, Any]) -> int:
  """Bytes of the arrays of nested dicts."""
  return sum(
    int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize
    for leaf in traverse_util.flatten_dict(dict(tree)).values()
  )


def copy_companions(source: pathlib.Path, target: pathlib.Path) -> None:
  """Copies the files that belong to a model beside its weights."""
  files.make_folder(target)
  for name in (*_COMPANIONS, *_own_code(source)):
    if files.is_file(source / name):
      copy(source / name, target / name)


def _own_code(source: pathlib.Path) -> list[str]:
  """Files of code that config.json names; they are copied, never run."""
  path = source / 'config.json'
  config = files.read_json(path) if files.is_file(path) else {}
  named = config.get('auto_map') if isinstance(config, dict) else None
  modules = {
    str(value).rpartition('--')[2].partition('.')[0]
    for value in (named.values() if isinstance(named, dict) else ())
  }
  return sorted(f'{name}.py' for name in modules if name.isidentifier())


def copy(source: pathlib.Path, target: pathlib.Path) -> None:
  """Copies one such file; JSON in plain UTF-8, which alone others read."""
  raw = files.read_bytes(source)
  if source.suffix == '.json':
    with contextlib.suppress(UnicodeDecodeError):
      raw = files.decoded(raw).encode()
  files.write_bytes(target, raw)


@contextlib.contextmanager
def progress_callback(label: str, total: int):
  """A callback that counts written bytes on a progress bar."""
  with progress.bar(label=label, total=-(-total // 10**6), unit='MB') as bar:
    written = 0

    def told(count):
      nonlocal written
      written += count
      bar.update(written // 10**6 - bar.n)

    yield told
