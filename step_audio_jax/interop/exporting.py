"""A run of a language model as a Hugging Face folder, streamed."""

import dataclasses
import pathlib
import shutil
from typing import Any

import numpy as np

from step_audio_jax import errors
from step_audio_jax import files
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.interop import configs
from step_audio_jax.interop import folders
from step_audio_jax.interop import language
from step_audio_jax.interop import outputs
from step_audio_jax.interop import peft
from step_audio_jax.interop import rows as rows_lib
from step_audio_jax.interop import shards
from step_audio_jax.models import speech_text
from step_audio_jax.training import checkpoints
from step_audio_jax.training import lora
from step_audio_jax.training import stored


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
) -> dict[str, Any]:
  """A run of a language model as a Hugging Face folder.

  Args:
    source: The run directory.
    target: The folder; must not exist.
    step: Which checkpoint; None means the newest.
    shard_gb: Largest file, in 10^9 bytes, if no tensor is larger.
    dtype: Of the tensors; as they are if empty.
    like: Hugging Face folder whose config.json and tokenizer files are taken
      along; that of the import if the run was made by one.
    adapter: Write the adapters of a LoRA run alone, as PEFT has them, instead
      of merging them.
    ema: Write the mean of the parameters in their place.
    dry_run: Check everything, write nothing.

  Returns:
    What was written; `rows` says where speech and control ids lie.

  Raises:
    UserError: The run is no language model that the families can express.
  """
  description = checkpoints.run_config(source)
  if 'model' not in description or 'vocabulary' not in description:
    raise errors.UserError(
      f'{source}/config.json: found no "model" and "vocabulary"; expected the '
      'run of a language model.'
    )
  ours = speech_text.TransformerConfig(**description['model']['transformer'])
  tree, step = stored.open_variables(source, step, ema)
  if adapter:
    return _export_adapter(source, target, description, tree, step, dry_run)
  if 'lora' in description:
    tree = lora.merged(tree, description['lora'])
  rows = rows_lib.Rows.of(description['vocabulary'])
  tables = rows_lib.outward(rows_lib.tables_of(tree), rows)
  tree = outputs.cast(rows_lib.with_tables(tree, tables), dtype)
  embedding = tables['embedding']
  config = dataclasses.replace(ours, vocab_size=embedding.shape[0])
  out = language.tensors(config, tree)
  kept = like or source / outputs.KEPT
  known = (kept / 'config.json').is_file()
  origin = folders.config_of(kept) if known else _special_ids(rows)
  if known and origin.get('model_type') not in configs.FAMILIES.values():
    configs.family(origin, str(kept / 'config.json'))
  name = np.dtype(out[language.EMBEDDING].dtype).name
  written = configs.write(config, name, origin)
  written.pop(rows_lib.NOTE, None)
  if rows.note():
    written[rows_lib.NOTE] = rows.note()
  total = outputs.size(out)
  facts = {
    'step': step,
    'parameters': config.parameters,
    'architecture': written['architectures'][0],
    'bytes': total,
    'rows': rows.note(),
    'left_out': sorted(set(tree['params']) - {'transformer'}),
  }
  if dry_run:
    return facts
  with (
    files.atomic_folder(target) as folder,
    outputs.bar('export', total) as told,
  ):
    facts['files'] = shards.write_folder(folder, out, int(shard_gb * 1e9), told)
    outputs.take_along(kept, folder)
    text = description['vocabulary'].get('text_model')
    if text and pathlib.Path(text).is_file():
      name = 'tokenizer' + pathlib.Path(text).suffix
      shutil.copyfile(text, folder / name)
    files.write_json(folder / 'config.json', written)
  return facts


def _export_adapter(source, target, description, tree, step, dry_run):
  if 'lora' not in description:
    raise errors.UserError(
      f'{source}: was not trained with adapters; leave --adapter out.'
    )
  tensors, config = peft.adapter(tree['params'], description['lora'])
  base = description.get('init_from') or ['']
  config['base_model_name_or_path'] = str(base[0])
  facts = {
    'step': step,
    'parameters': sum(tensor.size for tensor in tensors.values()),
    'files': 1,
  }
  if not dry_run:
    with files.atomic_folder(target) as folder:
      shards.write_file(folder / peft.WEIGHTS, tensors)
      files.write_json(folder / peft.CONFIG, config)
  return facts


def _special_ids(rows) -> dict[str, int]:
  """Ids of special tokens, for a model whose text is ours."""
  if rows.moved:
    return {}
  return {
    'bos_token_id': vocabulary_lib.BOS,
    'eos_token_id': vocabulary_lib.EOT,
    'pad_token_id': vocabulary_lib.PAD,
  }
