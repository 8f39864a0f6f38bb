"""Where a voice comes from: files that a user has, or a package of data.

VOICE                 a model `.onnx` beside its `.json`, or their folder
package:NAME          the same in an installed package, whose code is never
run
…@sha256:DIGITS       only if the model has this digest
"""

import dataclasses
import importlib.metadata
import pathlib
import re
from typing import Mapping

from step_audio_jax import errors
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

_PACKAGE = 'package:'
_PIN = re.compile(r'(.+)@sha256:([0-9a-fA-F]{64})')
_CARD = 'MODEL_CARD'
_LETTERS = 'vocab.json'
NOT_STATED = 'not stated'


class Missing(errors.UserError):
  """A package that is not installed: what another machine may have."""


@dataclasses.dataclass(frozen=True)
class Source:
  """Files of a voice.

  Attributes:
    name: What messages call it: as the user named it.
    model: The `.onnx`.
    config: Its `.json`: `MODEL.onnx.json`, or `vocab.json` of Kokoro.
    styles: Kokoro's voices, `.npz` or `.bin`; None of others.
    licence: As stated beside the files, else by the package.
    origin: Package and version, or the file's name, and where it is said to
      come from.
    files: Digests of all, by name.
  """

  name: str
  model: pathlib.Path
  config: pathlib.Path
  licence: str
  origin: str
  files: Mapping[str, str]
  styles: pathlib.Path | None = None

  @property
  def sha256(self) -> str:
    """Digest of all together."""
    return digests.of_value(self.files)


class OfSource:
  """What a `voice.Voice` tells of itself as its `source` does."""

  source: Source

  @property
  def licence(self) -> str:
    return self.source.licence

  @property
  def origin(self) -> str:
    return self.source.origin

  @property
  def files(self) -> Mapping[str, str]:
    return self.source.files

  @property
  def sha256(self) -> str:
    return self.source.sha256


def find(named: str, flag: str = '--voice') -> Source:
  """The files of a voice as a user names it.

  Args:
    named: As above.
    flag: What named it, for messages.

  Raises:
    Missing: No such package is installed.
    UserError: There is no voice, or another one than was pinned.
  """
  pinned = _PIN.fullmatch(named)
  if '@sha256' in named and not pinned:
    raise errors.UserError(
      f'{named}: found a digest that is none, expected @sha256: and 64 '
      'hexadecimal digits.'
    )
  where, digest = pinned.groups() if pinned else (named, None)
  if where in ('', _PACKAGE):
    raise errors.UserError(
      f'{flag}: found {where!r}, expected an .onnx file, a folder with one, '
      'or package:NAME.'
    )
  if where.startswith(_PACKAGE):
    found, licence, origin = _in_package(where)
  else:
    found, licence, origin = _in_folder(where, flag)
  model, config, styles = _parts(where, found)
  actual = digests.of_file(model)
  if digest and digest.lower() != actual:
    raise errors.UserError(
      f'{where}: {model.name} has the digest {digests.short(actual)}…, '
      f'expected {digests.short(digest.lower())}… as {flag} says.'
    )
  card = _card(model.parent)
  return Source(
    where,
    model,
    config,
    card.get('License') or licence or NOT_STATED,
    '; '.join(filter(None, (origin, card.get('URL')))),
    {model.name: actual}
    | {path.name: digests.of_file(path) for path in (config, styles) if path},
    styles,
  )


def _in_package(where: str):
  name = where.removeprefix(_PACKAGE)
  try:
    package = importlib.metadata.distribution(name)
  except (importlib.metadata.PackageNotFoundError, ValueError) as error:
    raise Missing(
      f'{where}: no such package is installed: pip install {name}.'
    ) from error
  found = [pathlib.Path(file.locate()) for file in package.files or ()]
  about = package.metadata
  licence = about.get('License-Expression') or about.get('License')
  return found, licence, f'{about["Name"]}=={package.version}'


def _in_folder(where: str, flag: str):
  path = files.path(where, flag)
  if files.is_dir(path):
    return sorted(files.list_folder(path)), None, path.name
  if not files.is_file(path):
    raise errors.UserError(
      f'{where}: no such voice; expected an .onnx file, a folder with one, or '
      'package:NAME.'
    )
  beside = [p for p in files.list_folder(path.parent) if p.suffix != '.onnx']
  return [path, *sorted(beside)], None, path.name


def _parts(where: str, found: list[pathlib.Path]):
  """Model, description and, of Kokoro, styles."""
  models = [path for path in found if path.suffix == '.onnx']
  if len(models) != 1:
    raise errors.UserError(
      f'{where}: found {len(models)} .onnx files, expected one.'
    )
  (model,) = models
  config = model.with_name(f'{model.name}.json')
  if config in found:
    return model, config, None
  letters = model.with_name(_LETTERS)
  if letters in found:
    styles = [
      path
      for path in found
      if path.suffix in ('.npz', '.bin') and path.parent == model.parent
    ]
    if len(styles) != 1:
      raise errors.UserError(
        f'{where}: found {len(styles)} .npz or .bin files beside {_LETTERS}, '
        'expected one with the voices of Kokoro.'
      )
    return model, letters, styles[0]
  raise errors.UserError(
    f'{where}: {config.name} is missing; it comes with the voice and says '
    f'how it is spoken to (of Kokoro, {_LETTERS}).'
  )


def _card(folder: pathlib.Path) -> Mapping[str, str]:
  """Fields (`* License: CC0`) of the model card beside a voice, if any."""
  path = folder / _CARD
  if not files.is_file(path):
    return {}
  text = files.read_text(path, errors='replace')
  return dict(re.findall(r'^\* (License|URL): *(\S.*?) *$', text, re.M))
