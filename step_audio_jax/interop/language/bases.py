"""The open model that a run began from, found again for an export."""

import pathlib
from typing import Any, Mapping

from step_audio_jax import errors
from step_audio_jax.interop.formats import outputs
from step_audio_jax.interop.language import configs
from step_audio_jax.interop.language import folders
from step_audio_jax.interop.language import weights
from step_audio_jax.storage import files
from step_audio_jax.storage import shards
from step_audio_jax.training.checkpoints import checkpoints


def find(
  run: pathlib.Path, like: pathlib.Path | None = None
) -> pathlib.Path | None:
  """The Hugging Face folder of a run's base; None if there is none.

  Args:
    run: A run directory. It keeps the folder of its import, or began from
      such a folder, or from another run of which the same is true.
    like: A folder that is named instead.
  """
  if like is not None:
    return like
  waiting, seen = [files.path(run)], set()
  while waiting:
    path = waiting.pop(0)
    if path in seen:
      continue
    seen.add(path)
    for folder in (path / outputs.KEPT, path):
      if folders.is_folder(folder) and _is_language(folder):
        return folder
    try:
      began = checkpoints.run_config(path).get('init_from') or ()
    except errors.UserError:  # moved away since
      continue
    waiting += [files.path(name) for name in began]
  return None


def config_of(
  base: pathlib.Path | None, explicit: bool
) -> dict[str, Any] | None:
  """The base's config.json; None if there is none.

  Args:
    base: Of `find`.
    explicit: Whether the user named it.

  Raises:
    UserError: What the user named is no folder with a `config.json`, or holds
      a model of another kind.
  """
  if base is None:
    return None
  if not files.is_file(base / 'config.json'):
    if not explicit:
      return None
    found = 'no config.json' if files.is_dir(base) else 'no such folder'
    raise errors.UserError(
      f'--like={base}: found {found}, expected a Hugging Face folder.'
    )
  origin = folders.config_of(base)
  if explicit and origin.get('model_type') not in configs.FAMILIES.values():
    configs.family(origin, str(base / 'config.json'))
  return origin


def dtype_of(
  base: pathlib.Path | None, origin: Mapping[str, Any] | None
) -> str:
  """The dtype of the base's tensors, '' if it is not known.

  The tensors decide, and where they are gone what config.json says of them.
  """
  if base is not None:
    try:
      tensors = shards.read_folder(base)
    except errors.UserError:
      tensors = {}
    if weights.EMBEDDING in tensors:
      return tensors[weights.EMBEDDING].dtype.name
  for name in ('torch_dtype', 'dtype'):
    said = str((origin or {}).get(name)).removeprefix('torch.')
    if said in outputs.DTYPES:
      return said
  return ''


def _is_language(folder) -> bool:
  config = folders.config_of(folder)
  names = config.get('architectures') or ()
  known = configs.FAMILIES
  return config.get('model_type') in known.values() or any(
    name in known for name in names
  )
