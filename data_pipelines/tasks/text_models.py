"""Text models that tasks and doors name: opened once for each content."""

import functools
import os
import pathlib

from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.storage import digests
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.text import vocabularies


def load(text_model: str) -> vocabulary.Vocabulary:
  """The vocabulary over a text model.

  Raises:
    UserError: The file is not there or holds no text model.
  """
  state = files.state(_file(text_model))
  return _loaded(text_model, state.changed, state.size)


def digest(text_model: str) -> str:
  """SHA-256 of the file.

  Raises:
    UserError: It is not there.
  """
  return digests.of_file(_file(text_model))


@functools.lru_cache(maxsize=8)
def _loaded(text_model: str, *state: int) -> vocabulary.Vocabulary:
  """One reading of each content of a file."""
  del state
  return vocabularies.load(text_model=text_model)


def _file(path: str | os.PathLike) -> pathlib.Path:
  path = files.path(path)
  if not files.is_file(path):
    raise errors.UserError(f'{path}: no such file, expected a text model.')
  return path
