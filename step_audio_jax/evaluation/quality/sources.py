"""Recordings as a user names them: a folder, or rows of a JSONL file.

In a folder a recording is called by its path below it, without the ending:
`zh/0001.wav` and `zh/0001.flac` of two folders are the same one. A row is an
object with `wav`, relative to its file, and optionally `id` (else the path as
above), `text`, `codes` and `reference_wav`.
"""

import dataclasses
from typing import Any

import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.audio.augmentation import pools
from step_audio_jax.evaluation.quality import reasons
from step_audio_jax.storage import files

ENDINGS = pools.ENDINGS
_FIELDS = {
  'wav': str,
  'id': str,
  'text': str,
  'codes': list,
  'reference_wav': str,
}


@dataclasses.dataclass(frozen=True)
class Recording:
  """One recording.

  Attributes:
    id: Unique in its source.
    path: Of its file.
    reference: Of the recording that it is compared with, or None.
    text: That belongs to it, or None.
    codes: Speech codes that it was made of, or None.
  """

  id: str
  path: files.AnyPath
  reference: files.AnyPath | None = None
  text: str | None = None
  codes: tuple[int, ...] | None = None


def read(place: files.Path, what: str = 'recordings') -> dict[str, Recording]:
  """The recordings of a folder or of a JSONL file, by id, in order.

  Args:
    place: Named by the user.
    what: What they are, for messages.

  Raises:
    UserError: There are none, one occurs twice, or a row is not as above.
  """
  path = files.path(place)
  if files.is_dir(path):
    found = _of_folder(path)
  elif files.is_file(path):
    found = _of_rows(path)
  else:
    raise errors.UserError(
      f'{what}: {place}: no such folder or file, expected a folder of '
      'recordings or a JSONL file of rows with `wav`.'
    )
  if not found:
    raise errors.UserError(
      f'{what}: {place}: found no recording, expected some '
      f'({", ".join(ENDINGS)}).'
    )
  return found


def load(path) -> tuple[np.ndarray, int]:
  """A recording at its own rate.

  Raises:
    Unfit: It cannot be read.
  """
  try:
    rate = io.examine(path).sample_rate
    return io.read_audio(path, sample_rate=rate)
  except io.EmptyError as error:
    raise reasons.Unfit('empty', str(error)) from error
  except io.NotFiniteError as error:
    raise reasons.Unfit('samples that are not finite', str(error)) from error
  except errors.UserError as error:
    raise reasons.Unfit('unreadable', str(error)) from error


def _of_folder(folder) -> dict[str, Recording]:
  found: dict[str, Recording] = {}
  named = [
    (str(path.relative_to(folder)), path)
    for path in files.list_files(folder)
    if path.suffix.lower() in ENDINGS and not path.name.startswith('.')
  ]
  for name, path in sorted(named):
    _add(found, Recording(_stem(name), path), str(path))
  return found


def _of_rows(path) -> dict[str, Recording]:
  found: dict[str, Recording] = {}
  for number, row in files.read_numbered_jsonl(path):
    where = f'{path}:{number}'
    if not isinstance(row, dict) or 'wav' not in row:
      raise errors.UserError(
        f'{where}: found no field wav, expected an object with one.'
      )
    for field, kind in _FIELDS.items():
      value = row.get(field)
      if value is not None and not isinstance(value, kind):
        raise errors.UserError(
          f'{where}: {field}: found {value!r}, expected {errors.kinds([kind])}.'
        )
    _add(found, _recording(path.parent, row, where), where)
  return found


def _recording(folder, row: dict[str, Any], where: str) -> Recording:
  codes, reference = row.get('codes'), row.get('reference_wav')
  if codes is not None and not all(type(code) is int for code in codes):
    raise errors.UserError(
      f'{where}: codes: found what is no whole number, expected ids.'
    )
  name = row.get('id')
  return Recording(
    id=_stem(row['wav']) if name is None else name,
    path=folder / row['wav'],
    reference=None if reference is None else folder / reference,
    text=row.get('text'),
    codes=None if codes is None else tuple(codes),
  )


def _add(found, recording, where) -> None:
  if recording.id in found:
    raise errors.UserError(
      f'{where}: the recording {recording.id!r} occurs twice, expected one of '
      'each name (endings do not count).'
    )
  found[recording.id] = recording


def _stem(name: str) -> str:
  """A path without the ending of a recording."""
  for ending in ENDINGS:
    if name.lower().endswith(ending):
      return name[: -len(ending)]
  return name
