"""The `convert` door: Hugging Face folders ↔ run directories; speech parts.

A GGUF file is one more way to have such a folder.

Both ways go array by array and block by block, so a model of any size needs
the memory of its largest tensor at most. What is written lies in a temporary
neighbour until it is whole.
"""

import pathlib
from typing import Any, Mapping

from absl import flags

from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.interop.decoder import exporting as decoder_export
from step_audio_jax.interop.decoder import importing as decoder
from step_audio_jax.interop.formats import gguf_files
from step_audio_jax.interop.formats import outputs
from step_audio_jax.interop.language import exporting
from step_audio_jax.interop.language import folders
from step_audio_jax.interop.language import importing
from step_audio_jax.interop.tokenizer import released
from step_audio_jax.storage import files


def _main(fv) -> Mapping[str, Any]:
  source = files.path(fv['from'].value, '--from')
  target = files.check_writable(fv.to, '--to', folder=True)
  if files.exists(target):
    raise errors.UserError(f'--to={target}: exists; expected a new folder.')
  gguf = gguf_files.is_gguf(source)
  if not gguf and files.is_file(source):
    raise errors.UserError(
      f'--from={source}: found a file that is no GGUF, expected a folder or a '
      '.gguf file.'
    )
  if not gguf and not files.is_dir(source):
    raise errors.UserError(
      f'--from={source}: found {files.kind(source)}, expected a folder or a '
      '.gguf file.'
      if files.is_named(source)
      else f'--from={source}: no such folder.'
    )
  speech = None if gguf else _speech_part(source)
  if not gguf and not speech:
    _refuse_folder_of_gguf(source)
  inward = gguf or folders.is_folder(source)
  outward = ('step', 'like', 'adapter', 'ema')
  kind, misplaced = 'run directory', ('speech',)
  if speech:
    kind, convert = speech
    misplaced = 'speech', 'dtype', *outward
  elif inward:
    kind = 'GGUF file' if gguf else 'Hugging Face folder'
    misplaced = outward
  for name in misplaced:
    if fv[name].value not in (None, False, ''):
      raise errors.UserError(
        f'--{name}: means nothing when --from is a {kind}.'
      )
  either = {
    'dry_run': fv.dry_run,
    'allow_nonfinite': fv.allow_nonfinite,
  }
  common = {'dtype': fv.dtype, **either}
  if speech:
    facts = convert(source, target, **either)
  elif inward:
    take = importing.import_gguf if gguf else importing.import_folder
    facts = take(source, target, speech=fv.speech, **common)
  else:
    facts = exporting.export_run(
      source,
      target,
      step=fv.step,
      shard_gb=fv.shard_gb,
      like=files.path(fv.like) if fv.like else None,
      adapter=fv.adapter,
      ema=fv.ema,
      **common,
    )
  verb = 'would write' if fv.dry_run else 'wrote'
  print(f'{verb} {facts["parameters"]:,} parameters to {target}')
  if 'eos_token_id' in facts.get('ids', {}):
    print(f'texts end with id {facts["ids"]["eos_token_id"]}')
  if facts.get('left_out'):
    print(f'left out: {", ".join(facts["left_out"])}')
  return {'from': str(source), 'to': str(target), **facts}


def _refuse_folder_of_gguf(source: pathlib.Path) -> None:
  """Names the file where a folder holds nothing but GGUF."""
  if files.exists(source / 'config.json'):
    return
  found = sorted(path.name for path in files.glob(source, '*.gguf'))
  if found:
    raise errors.UserError(
      f'--from={source}: found no config.json but {", ".join(found)}, expected '
      f'the file itself, --from={source / found[0]}.'
    )


def _speech_part(source: pathlib.Path):
  """(kind, what converts it) of a tokenizer or a decoder, else None."""
  # A released decoder brings the semantic tokenizer too: it is asked first.
  if decoder.is_folder(source):
    return 'released speech decoder', decoder.import_folder
  if decoder_export.is_sealed(source):
    return 'speech decoder', decoder_export.export_folder
  if released.is_folder(source):
    return 'speech tokenizer', released.import_folder
  return None


def _define(fv) -> None:
  flags.DEFINE_string(
    'from',
    None,
    'A Hugging Face folder (config.json, *.safetensors), a GGUF file of one, a '
    'run directory, '
    'Step-Audio-Tokenizer or CosyVoice-300M-25Hz as released, or a speech '
    'decoder.',
    flag_values=fv,
    required=True,
  )
  flags.DEFINE_string(
    'to', None, 'The folder that is made.', flag_values=fv, required=True
  )
  flags.DEFINE_bool(
    'speech',
    False,
    'Importing: append the 5120 rows of the speech codes now.',
    flag_values=fv,
  )
  flags.DEFINE_enum(
    'dtype',
    '',
    ['', *outputs.DTYPES],
    'Of what is written; if not given that of the base, or as it is.',
    flag_values=fv,
  )
  flags.DEFINE_float(
    'shard_gb',
    5.0,
    'Exporting: largest file, in 10^9 bytes.',
    flag_values=fv,
    lower_bound=0.0,
  )
  flags.DEFINE_bool(
    'allow_nonfinite',
    False,
    'Take numbers that are NaN or infinite, or become infinite in --dtype, as '
    'they are, and tell where they lie, instead of refusing them.',
    flag_values=fv,
  )
  flags.DEFINE_integer(
    'step', None, 'Exporting: which checkpoint, not the newest.', flag_values=fv
  )
  flags.DEFINE_string(
    'like',
    None,
    'Exporting: a Hugging Face folder whose config.json and tokenizer files '
    'are taken along; by default the one that the run began from.',
    flag_values=fv,
  )
  flags.DEFINE_bool(
    'adapter',
    False,
    'Exporting: only the adapters of a LoRA run, as PEFT has them.',
    flag_values=fv,
  )
  flags.DEFINE_bool(
    'ema',
    False,
    'Exporting: the mean of the parameters in their place.',
    flag_values=fv,
  )


DOOR = cli.Door(
  summary=(
    'Turns a Hugging Face language model into a run directory to start from, '
    'and a run\ninto a Hugging Face folder: Llama, Qwen2, Qwen3 and '
    'Step1ForCausalLM. A GGUF file of\nthe first three is read too, whatever '
    'its quantisation. Turns the released\nStep-Audio-Tokenizer into a '
    'tokenizer folder, the CosyVoice-300M-25Hz folder of\nStep-Audio-TTS-3B '
    'into a speech decoder, and a speech decoder into flow.pt and\nhift.pt '
    'again.\n\nexample: python -m step_audio_jax convert '
    '--from=Llama-3.2-1B --to=runs/llama\n'
    '         python -m step_audio_jax convert --from=runs/llama --to=exported'
    '\n         python -m step_audio_jax convert --from=Step-Audio-Tokenizer '
    '--to=tokenizer\n         python -m step_audio_jax convert '
    '--from=Step-Audio-TTS-3B/CosyVoice-300M-25Hz --to=decoder'
  ),
  main=_main,
  define=_define,
  uses_gin=False,
)
