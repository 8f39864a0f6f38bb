"""The seal of a tokenizer folder: `dual.json`, which tells what makes codes.

It holds the digests of all files, so its own digest is the tokenizer's; what
is made of codes carries that (`bindings`).
"""

import json
import os
from typing import Any

from step_audio_jax import errors
from step_audio_jax.storage import bindings
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

NAME = 'dual.json'


def identity(folder: str | os.PathLike) -> dict[str, str]:
  """The tokenizer of a folder as what is made of its codes tells it.

  Only the seal is read; `dual.DualTokenizer.load` compares it with the files.

  Raises:
    UserError: It is no tokenizer.
  """
  # As `files.write_json` writes it, so that another layout of the same JSON
  # is the same tokenizer.
  text = json.dumps(read(folder), indent=2, ensure_ascii=False, sort_keys=True)
  digest = digests.of_bytes(f'{text}\n'.encode())
  return bindings.tokenizer(folder, digest)


def read(folder: str | os.PathLike) -> dict[str, Any]:
  """The object in `dual.json`."""
  path = files.path(folder) / NAME
  if not files.is_file(path):
    raise errors.UserError(
      f'{path}: no such file; expected a folder made by '
      '`python -m step_audio_jax tokenize --export`.'
    )
  value = files.read_json(path)
  if not isinstance(value, dict):
    raise errors.UserError(f'{path}: found no JSON object.')
  return value


def code_counts(folder: str | os.PathLike) -> tuple[int, int]:
  """How many linguistic and semantic codes a folder's tokenizer has.

  Raises:
    UserError: It is no tokenizer.
  """
  value = read(folder)
  try:
    return int(value['linguistic_codes']), int(value['semantic_codes'])
  except (KeyError, TypeError, ValueError) as error:
    raise errors.UserError(
      f'{files.path(folder) / NAME}: found no linguistic_codes and '
      'semantic_codes; export the tokenizer again.'
    ) from error
