"""A run of a language model as a Hugging Face folder, streamed."""

import dataclasses
import math
import pathlib
from typing import Any

import numpy as np

from step_audio_jax import errors
from step_audio_jax.chats import habits
from step_audio_jax.generation import restore
from step_audio_jax.interop.formats import checked
from step_audio_jax.interop.formats import outputs
from step_audio_jax.interop.language import bases
from step_audio_jax.interop.language import configs
from step_audio_jax.interop.language import folders
from step_audio_jax.interop.language import peft
from step_audio_jax.interop.language import rows as rows_lib
from step_audio_jax.interop.language import tokenizer_files
from step_audio_jax.interop.language import weights
from step_audio_jax.models.language import speech_text
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files
from step_audio_jax.storage import shards
from step_audio_jax.training.checkpoints import stored
from step_audio_jax.training.objectives import lora
from step_audio_jax.training.transfer import own_vocabulary


def export_run(
  source: pathlib.Path,
  target: pathlib.Path,
  *,
  step: int | None = None,
  shard_gb: float = 5.0,
  dtype: str = '',
  like: pathlib.Path | None = None,
  adapter: bool = False,
  ema: bool = False,
  dry_run: bool = False,
  allow_nonfinite: bool = False,
) -> dict[str, Any]:
  """A run of a language model as a Hugging Face folder.

  Args:
    source: The run directory.
    target: The folder; must not exist.
    step: Which checkpoint; None means the newest.
    shard_gb: Largest file, in 10^9 bytes, if no tensor is larger.
    dtype: Of the tensors; if empty that of the base, or as they are where the
      run was only converted; the widest where there is no base.
    like: Hugging Face folder whose config.json and tokenizer files are taken
      along; by default the one that the run began from.
    adapter: Write the adapters of a LoRA run alone, as PEFT has them, instead
      of merging them.
    ema: Write the mean of the parameters in their place.
    dry_run: Check everything, write nothing.
    allow_nonfinite: Write numbers that are not finite as they are.

  Returns:
    What was written; `rows` says where speech and control ids lie.

  Raises:
    UserError: The run is no language model that the families can express, or
      `shard_gb` is no size.
  """
  if not 1e-9 <= shard_gb < math.inf:
    raise errors.UserError(
      f'--shard_gb: found {shard_gb}, expected a finite number above 0, in '
      '10^9 bytes (at least one byte).'
    )
  description = restore.language_config(source)
  description = {
    **description,
    'vocabulary': own_vocabulary.with_own_copy(
      source, description['vocabulary']
    ),
  }
  ours = speech_text.TransformerConfig(**description['model']['transformer'])
  base = bases.find(source, like)
  origin = bases.config_of(base, explicit=like is not None)
  # What was only converted begins and ends as it did there.
  trained = 'converted_from' not in description or rows_lib.NOTE in (
    origin or {}
  )
  rows = rows_lib.Rows.of_vocabulary(description['vocabulary'], trained)
  tree, step = stored.open_variables(source, step, ema)
  if adapter:
    return _export_adapter(
      source, target, description, tree, step, rows, base, dry_run
    )
  if 'lora' in description:
    tree = lora.merge(tree, description['lora'])
  tables = rows_lib.to_theirs(rows_lib.vocabulary_tables(tree), rows)
  tree = rows_lib.replace_tables(tree, tables)
  if not dtype and trained:
    dtype = bases.dtype_of(base, origin) or outputs.widest_dtype(tree)
  embedding = tables['embedding']
  config = dataclasses.replace(ours, vocab_size=embedding.shape[0])
  out = checked.tensors(
    weights.tensors(config, tree), source, dtype=dtype, allow=allow_nonfinite
  )
  name = np.dtype(out[weights.EMBEDDING].dtype).name
  ids = tokenizer_files.special_ids(rows)
  known = origin if origin is not None else {} if rows.moved else ids
  written = configs.write(config, name, known)
  if trained:
    written |= ids
  written.pop(rows_lib.NOTE, None)
  if rows.note():
    written[rows_lib.NOTE] = rows.note()
  written.pop(bindings.EXPORTED, None)
  belongs = bindings.read_export(description)
  if belongs:
    written[bindings.EXPORTED] = belongs
  total = outputs.tree_bytes(out)
  facts = {
    'step': step,
    'parameters': config.parameters,
    'architecture': written['architectures'][0],
    'bytes': total,
    'dtype': name,
    'rows': rows.note(),
    **belongs,
    'ids': {k: written[k] for k in ids if k in written},
    'left_out': sorted(set(tree['params']) - {'transformer'}),
  }
  if dry_run:
    return facts
  with (
    files.atomic_folder(target) as folder,
    outputs.progress_callback('export', total) as told,
  ):
    facts['files'] = shards.write_folder(folder, out, int(shard_gb * 1e9), told)
    facts |= _companions(folder, description, base, rows, trained, written)
    files.write_json(folder / 'config.json', written)
  return facts


def _companions(folder, description, base, rows, trained, config):
  """What lies beside weights: tokenizer, settings of `generate`."""
  if base is not None:
    outputs.copy_companions(base, folder)
  if trained:
    path = folder / tokenizer_files.GENERATION
    origin = files.read_json(path) if files.is_file(path) else None
    files.write_json(path, tokenizer_files.generation_config(rows, origin))
  text = description['vocabulary'].get('text_model')
  if not (text and files.is_file(text)):
    return {}
  text = files.path(text)
  outputs.copy(text, folder / f'tokenizer{text.suffix}')
  length = config.get('max_position_embeddings') or config.get('max_seq_len')
  return tokenizer_files.write(
    folder,
    rows,
    text,
    trained=trained,
    longest=length,
    starts=habits.of_run(description, 'config.json').starts,
  )


def _export_adapter(
  source, target, description, tree, step, rows, base, dry_run
):
  if 'lora' not in description:
    raise errors.UserError(
      f'{source}: was not trained with adapters; leave --adapter out.'
    )
  first = (description.get('init_from') or [''])[0]
  if rows.speech_size and folders.is_folder(first):
    have = folders.config_of(first).get('vocab_size')
    if isinstance(have, int) and have < rows.named:
      raise errors.UserError(
        f'{source}: its base {first} has {have} rows, but speech and control '
        f'pieces of this run need {rows.named}, which adapters do not bring; '
        'merge them instead (leave --adapter out).'
      )
  tensors, config = peft.adapter(tree['params'], description['lora'])
  config['base_model_name_or_path'] = str(first)
  facts = {
    'step': step,
    'parameters': sum(tensor.size for tensor in tensors.values()),
    'files': 1,
  }
  if not dry_run:
    with files.atomic_folder(target, last=peft.CONFIG) as folder:
      shards.write_file(folder / peft.WEIGHTS, tensors)
      files.write_json(folder / peft.CONFIG, config)
      belongs = bindings.read_export(description)
      files.write_json(folder / f'{bindings.EXPORTED}.json', belongs)
      facts |= _companions(folder, description, base, rows, True, {})
      files.remove(folder / 'config.json')  # of the whole model
  return facts
