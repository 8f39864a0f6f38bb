"""What was scored, by content: models, sets of utterances, rows, folders.

A figure belongs to the bytes that it was measured on, not to their paths.
Digests of files are remembered by what the file system says of them (size,
times, inode), and digests of sets by those of the files that they come from;
so asking again costs a few `stat` calls.
"""

import os
import pathlib
from typing import Any, Callable, Mapping

from step_audio_jax import errors
from step_audio_jax.corpus import manifest as manifest_lib
from step_audio_jax.corpus import speech_codes
from step_audio_jax.storage import bindings
from step_audio_jax.storage import digests
from step_audio_jax.storage import files
from step_audio_jax.training.checkpoints import sums
from step_audio_jax.training.transfer import own_vocabulary

NAME = 'digests.json'
_READ_BYTES = 2**28  # a larger shard of rows is believed what is said of it
# Of a checkpoint, what no figure depends on.
_NOT_SCORED = ('data', 'ema', 'metrics', 'optimizer')


class DigestCache:
  """Digests that were computed before, in one JSON file."""

  def __init__(self, folder: str | os.PathLike):
    """Reads what `folder` keeps; what is broken is made anew."""
    self._path = files.path(folder) / NAME
    self._known: dict[str, Any] = {}
    self._changed = False
    if files.is_file(self._path):
      try:
        self._known = dict(files.read_json(self._path))
      except (errors.UserError, TypeError, ValueError):
        self._changed = True

  def save(self) -> None:
    """Writes what was learnt, if anything was."""
    if self._changed:
      files.write_json(self._path, self._known)
      self._changed = False

  def file(self, path: str | os.PathLike) -> str:
    """SHA-256 of a file.

    Raises:
      UserError: It is missing or cannot be read.
    """
    named = files.is_address(path)
    place = str(files.path(path)) if named else os.path.abspath(path)
    try:
      found = files.state(place)
    except OSError as error:
      raise errors.UserError(f'{path}: no such file.') from error
    seen = [found.size, found.changed, *found.version]
    return self._remembered(
      f'file {place}', seen, lambda: digests.of_file(place)
    )

  def tree(self, folder: str | os.PathLike) -> str:
    """Digest of all files below a folder, with their names.

    Raises:
      UserError: It is no folder, or a file of it cannot be read.
    """
    root = files.path(folder)
    if not files.is_dir(root):
      raise errors.UserError(f'{folder}: no such folder.')
    return digests.of_value(
      {
        path.relative_to(root).as_posix(): self.file(path)
        for path in sorted(files.list_files(root))
      }
    )

  def model(self, run: str | os.PathLike, step: int) -> str:
    """Digest of a checkpoint's parameters and of what describes the model.

    The optimizer, the means of parameters and the run's path are not in it.
    """
    run = files.path(run)
    found = parameters(run / 'checkpoints' / str(step), self.file)
    told: dict[str, Any] = {}
    if files.is_file(run / 'config.json'):
      config = files.read_json(run / 'config.json')
      told = {n: config.get(n) for n in ('model', 'vocabulary', 'lora')}
    vocabulary = dict(told.get('vocabulary') or {})
    text_model = vocabulary.pop('text_model', None)
    if text_model and vocabulary.get(bindings.ENCODER):
      text_model = own_vocabulary.text_model_of(run, told['vocabulary'])
    if text_model and files.is_file(text_model):
      vocabulary['text_model'] = self.file(text_model)
    return digests.of_value(
      {
        'files': found,
        'described': {**told, 'vocabulary': vocabulary},
      }
    )

  def rows(self, folder: str | os.PathLike) -> str:
    """Digest of built rows by shards, of large ones as `stats.json` has it.

    Raises:
      UserError: There are none.
    """
    folder = files.path(folder)
    if not files.is_dir(folder):
      raise errors.UserError(
        f'{folder}: no such folder of rows; build them with '
        '`python -m data_pipelines build`.'
      )
    stats = files.read_json(folder / 'stats.json')
    known = stats.get('sha256') or {}
    found = {}
    for path in sorted(files.glob(folder, '*.array_record')):
      stated = known.get(path.name)
      big = files.size(path) > _READ_BYTES
      found[path.name] = stated if big and stated else self.file(path)
    return digests.of_value(found)

  def derived(self, name: str, made_from: Any, make: Callable[[], Any]) -> Any:
    """A JSON value that was made from others, or what it was the last time.

    Args:
      name: Of the value.
      made_from: JSON-able; what it depends on.
      make: Makes it.
    """
    return self._remembered(name, digests.of_value(made_from), make)

  def _remembered(self, name, seen, make):
    known = self._known.get(name)
    if isinstance(known, list) and len(known) == 2 and known[0] == seen:
      return known[1]
    value = make()
    self._known[name] = [seen, value]
    self._changed = True
    return value


def parameters(
  folder: str | os.PathLike,
  of_file: Callable[[pathlib.Path], str] = digests.of_file,
) -> dict[str, str]:
  """Digests of the files that hold a checkpoint's parameters, by name.

  Args:
    folder: Of the step; its sums are believed where it has them.
    of_file: Digest of a file.
  """
  folder = files.path(folder)
  if files.is_file(folder / sums.NAME):
    known = sums.read(folder)
    return {name: known[name] for name in sorted(known) if _is_scored(name)}
  names = (
    path.relative_to(folder).as_posix()
    for path in sorted(files.list_files(folder))
  )
  return {name: of_file(folder / name) for name in names if _is_scored(name)}


def _is_scored(name: str) -> bool:
  top = name.partition('/')[0]
  return top not in _NOT_SCORED and not top.startswith(('_', 'commit_success'))


class Corpus:
  """The speech of a corpus with its codes; read only where it must be.

  Attributes:
    folder: Of the corpus.
    codes: Folder of its codes, or None.
  """

  def __init__(self, folder: str, codes: str | None, memory: DigestCache):
    self.folder, self.codes = folder, codes
    self._memory = memory
    self._lines: list[manifest_lib.Utterance] | None = None
    self._table: Mapping[str, Any] | None = None

  def split(self, name: str) -> list[manifest_lib.Utterance]:
    """All speech of a split, in the manifest's order.

    Raises:
      UserError: The manifest is wrong or has no such split.
    """
    if self._lines is None:
      self._lines = manifest_lib.read(self.folder)
    found = {u.split for u in self._lines}
    if name not in found:
      raise errors.UserError(
        f'{manifest_lib.path_of(self.folder)}: no split {name!r}; it has '
        f'{", ".join(sorted(found)) or "none"}.'
      )
    return [u for u in self._lines if u.split == name and u.kind == 'speech']

  def has(self, split: str) -> bool:
    """Whether there is such a split."""
    path = manifest_lib.path_of(self.folder)
    return split in self._memory.derived(
      f'splits {path}',
      self._memory.file(path),
      lambda: sorted({u.split for u in manifest_lib.stream(path)}),
    )

  def table(self) -> Mapping[str, Any]:
    """Id → codes.

    Raises:
      UserError: There are none, or a shard is broken.
    """
    if self._table is None:
      self._table = speech_codes.read_codes(self.codes)
    return self._table

  def digest(self, split: str, most: int, heard: bool) -> str:
    """Of the first `most` utterances of a split, and of how many it has.

    Args:
      split: Its name.
      most: 0 means all.
      heard: With their codes; else of texts alone.
    """
    path = manifest_lib.path_of(self.folder)
    made_from = [self._memory.file(path)]
    if heard:
      shards = speech_codes.list_shards(self.codes)
      made_from += [self._memory.file(shard) for shard in shards]

    def make():
      utterances = self.split(split)
      told = [len(utterances)]
      for u in utterances[: most or None]:
        line = [u.id, u.text, u.language, u.speaker]
        if heard:
          pair = self.table().get(u.id)
          line.append(pair and [digests.of_bytes(c.tobytes()) for c in pair])
        told.append(line)
      return digests.of_value(told)

    name = f'split {split} {most} {heard} {path} {self.codes}'
    return self._memory.derived(name, made_from, make)
