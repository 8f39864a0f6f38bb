"""A run's own copy of its text model.

The file that a gin file names may be written again; what a checkpoint's text
rows mean may not. So a run keeps a copy, `RUN/tokenizer.model` or
`RUN/tokenizer.json`, and whoever reads the run reads the copy.
"""

import os
import pathlib
import shutil
from typing import Any, Mapping

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.storage import bindings
from step_audio_jax.storage import digests
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.text import vocabularies

_STEM = 'tokenizer'


def path_in(run: str | os.PathLike, text_model: str) -> pathlib.Path:
  """Where a run keeps its copy of a text model."""
  return files.path(run) / (_STEM + files.path(text_model).suffix)


def copy_text_model(
  run: str | os.PathLike, described: bindings.Described
) -> None:
  """Copies the text model of a run into it.

  Args:
    run: The run directory.
    described: The `vocabulary` of its `config.json`.

  Raises:
    UserError: The file is not the one that was read for this run.
  """
  text_model = (described or {}).get('text_model')
  if not text_model or not described.get(bindings.ENCODER):
    return
  own = path_in(run, text_model)
  if files.is_file(own) and digests.of_file(own) == described[bindings.ENCODER]:
    return
  with files.opened(text_model) as taken, files.atomic(own) as out:
    shutil.copyfileobj(taken, out)
  if digests.of_file(own) != described[bindings.ENCODER]:
    files.remove(own)
    raise errors.UserError(
      f'{text_model}: was written again while this run began; start the same '
      'command again.'
    )


def text_model_of(
  run: str | os.PathLike, described: Mapping[str, Any]
) -> pathlib.Path | None:
  """The file of a run's text model: its own copy, or the one it recorded.

  Args:
    run: The run directory.
    described: The `vocabulary` of its `config.json`.

  Returns:
    None where the run has no text model.

  Raises:
    UserError: The recorded file is another one by now, and there is no copy.
  """
  text_model = described.get('text_model')
  if not text_model:
    return None
  own, recorded = path_in(run, text_model), files.path(text_model)
  expected = described.get(bindings.ENCODER)
  if expected and files.is_file(own) and digests.of_file(own) == expected:
    if files.is_file(recorded) and digests.of_file(recorded) != expected:
      bindings.warn_once(
        f'{recorded}: not the text model that {run} was trained with; its own '
        f'copy {own} is used.'
      )
    return own
  if not expected:
    # A converted run recorded its own copy, and may have been moved since.
    found = (
      recorded if files.is_file(recorded) or not files.is_file(own) else own
    )
    bindings.warn_once(
      f'{run}/config.json: has no digest of its vocabulary, so whether {found} '
      'is the text model that it was trained with cannot be checked.'
    )
    return found
  if files.is_file(recorded) and digests.of_file(recorded) != expected:
    found = vocabularies.load(text_model=str(recorded)).describe()
    if not bindings.same_pieces(found, described):
      raise errors.UserError(
        f'{recorded}: the run {run} was trained with '
        f'{bindings.vocabulary_name(described)}, but this is '
        f'{bindings.vocabulary_name(found)}, and its own copy {own} is gone; '
        'put the right file there.'
      )
    bindings.warn_once(
      f'{recorded}: has the pieces of the text model that {run} was trained '
      'with, but another encoder: texts are cut in another way.'
    )
  return recorded


def with_own_copy(
  run: str | os.PathLike, described: Mapping[str, Any]
) -> dict[str, Any]:
  """The `vocabulary` of a run with the path that `text_model_of` finds.

  Raises:
    UserError: As there.
  """
  path = text_model_of(run, described)
  return {**described, 'text_model': None if path is None else str(path)}


def vocabulary_of_run(
  run: str | os.PathLike, described: Mapping[str, Any]
) -> vocabulary_lib.Vocabulary:
  """The vocabulary of a run, with its text model.

  Raises:
    UserError: As `text_model_of`; or the sizes are wrong, or the file is gone.
  """
  path, text = text_model_of(run, described), None
  if path is not None:
    from step_audio_jax.tokenizers.text import text_models as text_lib

    text = text_lib.load(path)
  return vocabulary_lib.Vocabulary.of_sizes(described, text)
