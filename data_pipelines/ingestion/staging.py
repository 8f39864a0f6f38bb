"""A corpus in the making: it appears whole, or the one before stays.

    OUTPUT/.ingest/…    what has been read so far; gone when it is done

Everything is written below OUTPUT, so that the last step is renaming, and the
manifest is renamed last: whoever reads OUTPUT finds the old corpus, the new
one, or (killed between two renamings) none, but never parts of both.
"""

import contextlib
import pathlib
from typing import Iterator

from step_audio_jax import errors
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files

QUARANTINE = 'quarantine.jsonl'
NOTES = 'notes.jsonl'
STATS = 'stats.json'
_FOLDERS = ('audio', 'images')
_PART = '.ingest'


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
  is_new = not files.exists(output)
  part = output / _PART
  try:
    with files.only_one(part):
      try:
        files.empty(part)  # a run before this one was killed
        yield part
        _commit(part, output)
      finally:
        files.remove_tree(part)
  finally:
    if is_new:
      files.remove_empty(output)


def _keep_apart(output: pathlib.Path, source: pathlib.Path) -> None:
  whole, read = files.resolve(output), files.resolve(source)
  if read == whole or any(
    read.is_relative_to(whole / name) for name in (*_FOLDERS, _PART)
  ):
    raise errors.UserError(
      f'{output}: --source {source} lies there and would be overwritten; '
      'name another --output.'
    )


def _commit(part: pathlib.Path, output: pathlib.Path) -> None:
  files.remove(output / manifest.NAME)
  for name in _FOLDERS:
    if files.is_dir(part / name):
      files.merge(part / name, output / name)
  notes = part / NOTES
  if files.exists(notes) and files.size(notes):
    files.move(notes, output / NOTES)
  else:
    files.remove(output / NOTES)
  for name in (QUARANTINE, STATS, manifest.NAME):
    files.move(part / name, output / name)
