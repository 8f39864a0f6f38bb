"""Checksums of checkpoints: what is loaded is what was saved.

A step's folder holds `sha256.json`, name → digest of every other file in it.
It is written before Orbax puts the step into place, so a step has either its
sums or was made before there were any; such a step is accepted, and told once.
Storage that gives back other bytes than it took (a hole of zeros after a loss
of power, a copy that ended early, a bad disk) would otherwise load as other
numbers: the format's own checks cover its index, not what the arrays hold.

Of a step in a bucket the store has sums already: those are written, and
compared, by one listing and without reading a byte. A step that was copied is
compared as far as the sums of the one place can be had in the other: some are
not of the content alone (of objects in parts, or encrypted with a key of a
service), and bind only where they were written, which stands with them.
"""

import asyncio
from concurrent import futures
import os
import sys
import time
from typing import Any, Collection, Iterator

from orbax.checkpoint import path as orbax_path
from orbax.checkpoint._src.metadata import checkpoint as orbax_metadata
from orbax.checkpoint._src.path import atomicity

from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

NAME = 'sha256.json'
_PLACE = '.'  # the name under which the sums say where they were written
_VERSION = 'version'  # the kind of sums that are not of the content
_MD5_DIGITS = 32
# Hashing leaves Python's lock alone: files are read side by side.
_THREADS = min(8, os.cpu_count() or 1)
_WATCHED_BYTES = 2 * 2**30  # more than this takes long enough for a bar
_told: set[files.AnyPath] = set()


class SummedTemporaryPath(orbax_path.atomicity.AtomicRenameTemporaryPath):
  """Orbax's rename into place, with the sums of a step written before it."""

  async def finalize(self):
    whole = self._final_path
    if not whole.name.isdigit():  # an item; it lies in a step's folder
      await super().finalize()
      return
    # Orbax writes its last files together with the rename, so that goes to
    # another temporary name first.
    self._final_path = self.get().with_name(f'{self.get().name}-summed')
    try:
      await super().finalize()
      write(files.path(self._final_path))
      files.move(self._final_path, whole)
    finally:
      self._final_path = whole


class SummedCommit(atomicity.CommitFileTemporaryPath):
  """Orbax's commit in a bucket, with the sums of a step written before it."""

  async def finalize(self):
    if self._final_path.name.isdigit():
      await asyncio.to_thread(self._finish_metadata)
      await asyncio.to_thread(write, str(self._final_path))
    await super().finalize()

  def _finish_metadata(self) -> None:
    """Orbax's last change of a file of the step, before it is summed."""
    store, self._checkpoint_metadata_store = (
      self._checkpoint_metadata_store,
      None,
    )
    if store:
      store.wait_until_finished()
      store.update(
        file_path=orbax_metadata.step_metadata_file_path(self._final_path),
        commit_timestamp_nsecs=time.time_ns(),
      )
      store.wait_until_finished()


def write(step_folder: files.Path) -> None:
  """Writes the sums of all files of a step."""
  folder = files.path(step_folder)
  if isinstance(folder, files.Address):
    told = {_PLACE: str(folder), **_told_by_store(folder)}
    files.write_json(folder / NAME, told)
    return
  names = sorted(_names(folder))
  with futures.ThreadPoolExecutor(_THREADS) as pool:
    found = pool.map(lambda name: digests.of_file(folder / name), names)
    files.write_json(folder / NAME, dict(zip(names, found)))


def read(step_folder: files.Path) -> dict[str, str]:
  """The sums of a step by file, as they were written.

  Raises:
    UserError: They cannot be read.
  """
  return _read(files.path(step_folder))[0]


def _read(folder: files.AnyPath) -> tuple[dict[str, str], bool]:
  """The sums, and whether they were written where they are."""
  sums = files.read_json(folder / NAME)
  if not isinstance(sums, dict) or not sums:
    raise errors.UserError(
      f'{folder / NAME}: found {type(sums).__name__}, expected the sums of a '
      'checkpoint.'
    )
  place = sums.pop(_PLACE, None)
  return sums, place in (None, str(folder))


def check(
  step_folder: files.Path,
  items: Collection[str] = (),
  part: tuple[int, int] = (0, 1),
) -> None:
  """Compares a step with its sums.

  Args:
    step_folder: Of the step.
    items: Only what these items hold, besides the step's own files; all
      items by default.
    part: (i, n): the i-th of n processes reads every n-th file.

  Raises:
    UserError: A file is missing or is not the one that was saved, or the sums
      themselves cannot be read.
  """
  folder = files.path(step_folder)
  if not files.exists(folder / NAME):
    _tell_once(folder)
    return
  sums, at_home = _read(folder)
  index, count = part
  names = [
    name
    for name in sorted(sums)
    if not items or '/' not in name or name.split('/')[0] in items
  ][index::count]
  entries = {}
  if isinstance(folder, files.Address):
    entries = files.entries(folder)
  with futures.ThreadPoolExecutor(_THREADS) as pool:
    found = pool.map(
      lambda name: _sum(
        folder / name, str(sums[name]), entries.get(name), at_home
      ),
      names,
    )
    checked = zip(names, found)
    sizes = (_size(folder / name) for name in names if name not in entries)
    if sum(sizes) > _WATCHED_BYTES:
      checked = progress.bar(
        checked, label='checksums', total=len(names), unit='file'
      )
    try:
      for name, digest in checked:
        if digest != sums[name]:
          raise errors.UserError(
            f'{folder / name}: not the bytes that were saved: its sum is '
            f'{digests.short(digest)}, expected '
            f'{digests.short(str(sums[name]))} as {NAME} says.'
          )
    finally:
      pool.shutdown(wait=True, cancel_futures=True)


def _sum(path: files.AnyPath, expected: str, entry: Any, at_home: bool) -> str:
  """The sum of a file of the kind that is expected.

  Args:
    path: Of the file.
    expected: Its sum as it was written.
    entry: What its store knows of it, if it is in one.
    at_home: Whether the file is where the sum was written.
  """
  kind, _, digest = expected.rpartition(':')
  if not kind:
    return digests.of_file(path)
  now = '' if entry is None else entry.sum.rpartition(':')[2]
  if now == digest:
    return expected
  if kind == _VERSION or len(digest) != _MD5_DIGITS:
    if entry is not None and at_home:
      return entry.sum
    files.size(path)  # it is there; nothing here tells more
    return expected
  if entry is not None and entry.sum.startswith('md5:'):
    return f'{kind}:{now}'
  return f'{kind}:{digests.of_file(path, "md5")}'


def _told_by_store(folder: files.AnyPath) -> dict[str, str]:
  """Name → sum of all files of a step, as its store has them.

  S3's ETags are sums of the content but where it is encrypted with a key of a
  service; whether they are shows in the smallest object.
  """
  found = files.entries(folder)
  told = {name: one.sum for name, one in found.items() if name != NAME}
  plain = [
    name
    for name, digest in told.items()
    if digest.startswith('etag:') and len(digest) == 5 + _MD5_DIGITS
  ]
  if plain:
    least = min(plain, key=lambda name: found[name].size)
    if told[least] != f'etag:{digests.of_file(folder / least, "md5")}':
      told = {n: t.replace('etag:', f'{_VERSION}:') for n, t in told.items()}
  return told


def _names(folder: files.AnyPath) -> Iterator[str]:
  for path in files.list_files(folder):
    if path != folder / NAME:
      yield path.relative_to(folder).as_posix()


def _size(path: files.AnyPath) -> int:
  return files.size(path) if files.exists(path) else 0


def _tell_once(folder: files.AnyPath) -> None:
  if folder.parent not in _told:
    _told.add(folder.parent)
    print(
      f'note: {folder} has no {NAME}, it was saved before checkpoints had '
      'checksums; its bytes cannot be checked.',
      file=sys.stderr,
      flush=True,
    )
