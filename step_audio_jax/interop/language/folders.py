"""A Hugging Face folder as a source of parameters.

`read` is what the training loop is given to start from such a folder
(`run.train.readers` in gin): it recognises the folder, checks that the model
in it is the one to be trained, and gives lazy arrays, so that every host of a
pod reads only what its devices hold.
"""

import dataclasses
import os
import pathlib
from typing import Any, Mapping

from step_audio_jax import errors
from step_audio_jax.interop.formats import checked
from step_audio_jax.interop.language import configs
from step_audio_jax.interop.language import rows as rows_lib
from step_audio_jax.interop.language import vision
from step_audio_jax.interop.language import weights
from step_audio_jax.models.language import transformer
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files
from step_audio_jax.storage import shards
from step_audio_jax.tokenizers.text import text_models as text_lib

# What a run may choose freely: it does not change what the weights mean.
_FREE = {
  'vocab_size',
  'dtype',
  'remat',
  'attention',
  'scan_unroll',
}
TOKENIZERS = ('tokenizer.json', 'tokenizer.model')


def is_folder(path: str | os.PathLike) -> bool:
  """Whether this is a Hugging Face folder, by its files."""
  path = files.path(path)
  ours = ('config.gin', 'checkpoints')  # a run directory, perhaps a broken one
  return files.is_file(path / 'config.json') and not any(
    files.exists(path / name) for name in ours
  )


def config_of(folder: str | os.PathLike) -> dict[str, Any]:
  """The object in the folder's config.json.

  Raises:
    UserError: It is missing or no JSON object.
  """
  path = files.path(folder) / 'config.json'
  config = files.read_json(path)
  if not isinstance(config, dict):
    raise errors.UserError(f'{path}: found no JSON object.')
  return config


def tokenizer_of(folder: str | os.PathLike) -> pathlib.Path | None:
  """The text tokenizer that lies in the folder, if one does."""
  for name in TOKENIZERS:
    if files.is_file(files.path(folder) / name):
      return files.path(folder) / name
  return None


def read(
  path: str | os.PathLike,
  description: Mapping[str, Any],
  differ: tuple[str, ...] = (),
) -> dict[str, Any] | None:
  """Variables of a Hugging Face folder, unread, for a model of ours.

  Args:
    path: The folder.
    description: `describe()` of the objective that starts from it.
    differ: Fields of TransformerConfig or VisionConfig in which the model to
      be trained may differ on purpose ('rope_theta', 'rope_scaling').

  Returns:
    Nested dicts of lazy arrays; None if this is no Hugging Face folder.

  Raises:
    UserError: The folder is broken, or its model is another one.
  """
  if not is_folder(path):
    return None
  where = str(files.path(path) / 'config.json')
  config = config_of(path)
  if vision.is_vision(config):
    theirs = vision.read_config(config, where)
    model = description.get('model', description)
    ours = model.get('vision')
    _same(theirs, ours, 'vision', where, differ)
    return vision.variables(theirs, _tensors(path), str(path))
  theirs = configs.read(config, where)
  ours = description.get('model', {}).get('transformer')
  _same(theirs, ours, 'transformer', where, differ)
  _same_ids(path, config, description)
  tree = weights.variables(theirs, _tensors(path), str(path))
  rows = rows_lib.Rows.of_vocabulary(description['vocabulary'])
  tables = rows_lib.to_ours(
    rows_lib.vocabulary_tables(tree), rows, config, where
  )
  return rows_lib.replace_tables(tree, tables)


def _tensors(path) -> dict[str, Any]:
  """Tensors of a folder, unread; numbers that are not finite are refused."""
  return checked.tensors(shards.read_folder(path), path)


def _same_ids(path, config, description) -> None:
  """Refuses rows of another text model, or of another tokenizer's codes."""
  mine = description[bindings.VOCABULARY]
  told = bindings.of_export(config, files.path(path) / 'config.json')
  found, tokenizer = told.get(bindings.VOCABULARY), tokenizer_of(path)
  if found is None and tokenizer is not None and mine.get(bindings.PIECES):
    text = text_lib.load(tokenizer)
    found = {'text_size': text.size, bindings.PIECES: text.pieces_digest}
  if bindings.same_pieces(found, mine) is False:
    raise errors.UserError(
      f'{path}: its text rows belong to '
      f'{bindings.vocabulary_name({"text_model": str(tokenizer), **found})}, '
      f'those of this run to {bindings.vocabulary_name(mine)}; set TEXT_MODEL '
      'to the tokenizer of the folder, or convert it (`python -m '
      f'step_audio_jax convert --from={path} --to=RUN`) and start from that '
      'run, whose rows are matched by piece.'
    )


def _same(theirs, ours, part, where, differ):
  """Refuses weights of one architecture for a model of another."""
  if ours is None:
    raise errors.UserError(
      f'{where}: the model to be trained has no {part}, which this folder '
      'holds.'
    )
  if part == 'transformer':
    ours = transformer.TransformerConfig(**ours)
  else:
    ours = type(theirs)(**ours)
  for field in dataclasses.fields(theirs):
    found, wanted = getattr(theirs, field.name), getattr(ours, field.name)
    if found != wanted and field.name not in {*_FREE, *differ}:
      raise errors.UserError(
        f'{where}: {part}.{field.name} of this model is {found}, but '
        f'{wanted} of the model to be trained; expected the same.'
      )
