"""A corpus in the making: it appears whole, or the one before stays.

    OUTPUT/.ingest/…    what has been read so far; gone when it is done

Everything is written below OUTPUT, so that the last step is renaming, and the
manifest is renamed last: whoever reads OUTPUT finds the old corpus, the new
one, or (killed between two renamings) none, but never parts of both.
"""

import contextlib
import io
import os
import pathlib
import shutil
from typing import Iterator

from step_audio_jax import errors
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files

QUARANTINE = 'quarantine.jsonl'
NOTES = 'notes.jsonl'
STATS = 'stats.json'
_FOLDERS = ('audio', 'images')
_PART = '.ingest'
_BLOCK = 2**20


@contextlib.contextmanager
def staged_folder(
  output: pathlib.Path, source: pathlib.Path
) -> Iterator[pathlib.Path]:
  """A folder to write a corpus into; it becomes `output` on success.

  Args:
    output: The corpus folder; it may hold an earlier corpus.
    source: What is read, and must not be written to.

  Yields:
    The folder, empty. The block writes the manifest, the quarantine, the
    statistics and the files that the manifest names into it.

  Raises:
    UserError: `source` would be overwritten, or another process writes here.
  """
  _keep_apart(output, source)
  is_new = not output.exists()
  part = output / _PART
  try:
    with files.only_one(part):
      try:
        _clear(part)  # a run before this one was killed
        yield part
        _commit(part, output)
      finally:
        shutil.rmtree(part, ignore_errors=True)
  finally:
    if is_new:
      with contextlib.suppress(OSError):
        output.rmdir()  # unless it holds a corpus


def place_file(
  content: pathlib.Path | bytes, target: pathlib.Path, copy: bool
) -> None:
  """Writes a new file of a corpus: a hard link where that is possible.

  Raises:
    OSError: It cannot be written, or is there already; nothing is written.
  """
  if not copy and not isinstance(content, bytes):
    try:
      _link(content, target)
      return
    except FileExistsError:
      raise
    except OSError:
      pass  # another file system
  target.parent.mkdir(parents=True, exist_ok=True)
  raw = io.BytesIO(content) if isinstance(content, bytes) else None
  with raw or open(content, 'rb') as taken:
    # `x`: a link that is there already would lead to somebody's recording.
    with open(target, 'xb') as out:
      try:
        shutil.copyfileobj(taken, out, _BLOCK)
      except BaseException:
        target.unlink()
        raise


def _link(content: pathlib.Path, target: pathlib.Path) -> None:
  try:
    os.link(content, target)
  except FileNotFoundError:  # the first of its folder; or there is no content
    target.parent.mkdir(parents=True, exist_ok=True)
    os.link(content, target)


def _keep_apart(output: pathlib.Path, source: pathlib.Path) -> None:
  whole, read = map(os.path.realpath, (output, source))
  whole, read = pathlib.Path(whole), pathlib.Path(read)
  if read == whole or any(
    read.is_relative_to(whole / name) for name in (*_FOLDERS, _PART)
  ):
    raise errors.UserError(
      f'{output}: --source {source} lies there and would be overwritten; '
      'name another --output.'
    )


def _clear(part: pathlib.Path) -> None:
  for path in part.iterdir():
    if path.is_dir() and not path.is_symlink():
      shutil.rmtree(path)
    elif path.name != '.lock':
      path.unlink()


def _commit(part: pathlib.Path, output: pathlib.Path) -> None:
  (output / manifest.NAME).unlink(missing_ok=True)
  for name in _FOLDERS:
    if (part / name).is_dir():
      _move(part / name, output / name)
  notes = part / NOTES
  if notes.exists() and notes.stat().st_size:
    os.replace(notes, output / NOTES)
  else:
    (output / NOTES).unlink(missing_ok=True)
  for name in (QUARANTINE, STATS, manifest.NAME):
    os.replace(part / name, output / name)


def _move(folder: pathlib.Path, target: pathlib.Path) -> None:
  """Renames a folder; into one that is there, file by file."""
  if not target.exists():
    os.rename(folder, target)
    return
  with os.scandir(folder) as entries:
    for entry in entries:
      if entry.is_dir(follow_symlinks=False):
        _move(pathlib.Path(entry), target / entry.name)
      else:
        os.replace(entry, target / entry.name)
