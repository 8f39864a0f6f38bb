"""A Hugging Face folder, or a GGUF file, as a run directory, streamed."""

import dataclasses
import pathlib
from typing import Any, Mapping

from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.chats import habits
from step_audio_jax.interop.formats import checked
from step_audio_jax.interop.formats import outputs
from step_audio_jax.interop.language import configs
from step_audio_jax.interop.language import folders
from step_audio_jax.interop.language import gguf_model
from step_audio_jax.interop.language import rows as rows_lib
from step_audio_jax.interop.language import weights
from step_audio_jax.models.language import speech_text
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files
from step_audio_jax.storage import lazy
from step_audio_jax.storage import shards
from step_audio_jax.tokenizers.text import text_models as text_lib
from step_audio_jax.training.checkpoints import stored
from step_audio_jax.training.transfer import transfer


def import_gguf(
  source: pathlib.Path, target: pathlib.Path, **keywords: Any
) -> dict[str, Any]:
  """A GGUF file as a run directory; as `import_folder`.

  Raises:
    UserError: The file is broken or holds another kind of model.
  """
  with gguf_model.opened_as_folder(source) as (folder, tensors):
    return import_folder(
      folder, target, file=source, arrays=tensors, **keywords
    )


def import_folder(
  source: pathlib.Path,
  target: pathlib.Path,
  *,
  file: pathlib.Path | None = None,
  arrays: Mapping[str, Any] | None = None,
  speech: bool = False,
  dtype: str = '',
  dry_run: bool = False,
  allow_nonfinite: bool = False,
) -> dict[str, Any]:
  """A Hugging Face folder as a run directory with one checkpoint.

  Args:
    source: Folder of one of `configs.FAMILIES`.
    target: The run directory; must not exist.
    file: What the folder was made from, if it is no folder of a user.
    arrays: The tensors of that by their names, unread; else those that lie in
      the folder.
    speech: Append the rows of the speech codes to the vocabulary.
    dtype: Of the stored parameters; as they are if empty.
    dry_run: Check everything, write nothing.
    allow_nonfinite: Take numbers that are not finite as they are.

  Returns:
    What was written.

  Raises:
    UserError: The folder is broken or holds another kind of model.
  """
  named = file or source
  where = str(file or source / 'config.json')
  origin = folders.config_of(source)
  theirs = configs.read(origin, where)
  arrays = shards.read_folder(source) if arrays is None else arrays
  tensors = checked.tensors(arrays, named, dtype=dtype, allow=allow_nonfinite)
  tree = weights.variables(theirs, tensors, str(named))
  tokenizer = folders.tokenizer_of(source)
  vocabulary = _vocabulary(theirs, origin, tokenizer, speech)
  if tokenizer is not None:
    vocabulary['text_model'] = str(tokenizer)
  rows = rows_lib.Rows.of_vocabulary(vocabulary)
  tables = rows_lib.to_ours(
    rows_lib.vocabulary_tables(tree), rows, origin, where
  )
  tables = {
    name: _grown(table, vocabulary['table_size'], name)
    for name, table in tables.items()
  }
  tree = rows_lib.replace_tables(tree, tables)
  config = dataclasses.replace(theirs, vocab_size=vocabulary['table_size'])
  if tokenizer is not None:
    vocabulary['text_model'] = str(target / tokenizer.name)
    text = text_lib.load(tokenizer)
    vocabulary |= {
      bindings.PIECES: text.pieces_digest,
      bindings.ENCODER: text.encoder_digest,
    }
  belongs = bindings.of_export(origin, where)
  habits.read(belongs, where)
  total = outputs.tree_bytes(tree)
  facts = {
    'parameters': config.parameters,
    'architecture': configs.family(origin, where),
    'bytes': total,
    'vocabulary': vocabulary,
  }
  if dry_run:
    return facts
  with (
    files.atomic_folder(target) as folder,
    outputs.progress_callback('import', total) as told,
  ):
    stored.write_variables(folder, 0, tree, told)
    if tokenizer is not None:
      outputs.copy(tokenizer, folder / tokenizer.name)
    outputs.copy_companions(source, folder / outputs.KEPT)
    model = speech_text.SpeechTextConfig(config)
    description = {
      'model': dataclasses.asdict(model),
      'vocabulary': vocabulary,
      'converted_from': str(named),
    }
    for key in (bindings.TOKENIZER, bindings.TURNS):
      if key in belongs:
        description[key] = belongs[key]
    files.write_json(folder / 'config.json', description)
  return facts


def _vocabulary(config, origin, tokenizer, speech) -> dict[str, Any]:
  """The `vocabulary` entry of a run that starts from an open model."""
  plain = {'linguistic_size': 0, 'semantic_size': 0}
  rows = config.vocab_size
  if tokenizer is not None:
    text = text_lib.load(tokenizer)
    note = origin.get(rows_lib.NOTE)
    if note:
      start = int(note['speech_starts']) + text.moved
      if note.get('speech_rows') != 0:
        block = vocabulary_lib.Vocabulary(text_size=start, table_size=rows)
        return _sizes(block)
      if not speech:
        return {'text_size': start, 'table_size': rows} | plain
      return _sizes(vocabulary_lib.Vocabulary(text_size=start))
    block = vocabulary_lib.Vocabulary(text_size=text.size)
    if not text.moved and rows >= block.end:
      return _sizes(dataclasses.replace(block, table_size=rows))
    if speech:
      return _sizes(block)
    size = {'text_size': text.size, 'table_size': text.moved + rows}
    return size | plain
  step1 = config.position == 'sqrt_alibi'
  if step1 and rows == vocabulary_lib.STEP_AUDIO.table_size:
    return _sizes(vocabulary_lib.STEP_AUDIO)
  if speech:
    return _sizes(vocabulary_lib.Vocabulary(text_size=rows))
  return {'text_size': rows, 'table_size': rows} | plain


def _sizes(vocabulary) -> dict[str, int]:
  names = ('text_size', 'table_size', 'linguistic_size', 'semantic_size')
  return {name: getattr(vocabulary, name) for name in names}


def _grown(table, count, name):
  if table.shape[0] >= count:
    return table
  seed = transfer.table_seed(weights.ROOT + name, 0)
  return lazy.Cast(transfer.GrownTable(table, count, 0, seed), table.dtype)
