"""The `tokenize` door: recordings in, dual codes out; and the export."""

from typing import Any

from absl import flags

from step_audio_jax import cli
from step_audio_jax import errors
from step_audio_jax import vocabulary


def _define(fv: flags.FlagValues) -> None:
  flags.DEFINE_multi_string(
    'arguments', [], 'Recordings; also as plain words.', flag_values=fv
  )
  flags.DEFINE_string('tokenizer', None, 'Tokenizer folder.', flag_values=fv)
  flags.DEFINE_string(
    'export',
    None,
    'Folder to write a tokenizer to, from two training runs.',
    flag_values=fv,
  )
  flags.DEFINE_string(
    'linguistic', None, 'For --export: run of the centroids.', flag_values=fv
  )
  flags.DEFINE_string(
    'semantic',
    None,
    'For --export: run of the semantic tokenizer.',
    flag_values=fv,
  )


def _main(fv: flags.FlagValues) -> dict[str, Any]:
  if fv.export:
    return _export(fv)
  if not fv.tokenizer or not fv.arguments:
    raise errors.UserError(
      'tokenize: expected --tokenizer=FOLDER and recordings, or '
      '--export=FOLDER with --linguistic=RUN and --semantic=RUN.'
    )
  from step_audio_jax.audio import io
  from step_audio_jax.tokenizers import dual

  waves = [io.read_audio(path)[0] for path in fv.arguments]
  tokenizer = dual.DualTokenizer.load(fv.tokenizer)
  if fv.dry_run:
    print(f'would tokenize {len(waves)} recordings')
    return {'files': list(fv.arguments)}
  results = []
  for path, wave, pair in zip(
    fv.arguments, waves, tokenizer.encode_batch(waves)
  ):
    table = vocabulary.STEP_AUDIO
    text = table.to_audio_string(table.interleave(*pair))
    linguistic, semantic = (codes.tolist() for codes in pair)
    results.append(
      {
        'file': path,
        'seconds': round(len(wave) / io.SAMPLE_RATE, 3),
        'linguistic': linguistic,
        'semantic': semantic,
        'audio_string': text,
      }
    )
    if not fv.json:
      print(f'{path}\n  linguistic {linguistic}\n  semantic {semantic}')
      print(f'  {text}')
  return {'files': results}


def _export(fv: flags.FlagValues) -> dict[str, Any]:
  for name in ('linguistic', 'semantic'):
    if not fv[name].value:
      raise errors.UserError(
        f'tokenize --export: --{name}=RUN is missing, the directory of a '
        'finished training run.'
      )
  if fv.dry_run:
    print(f'would export {fv.linguistic} and {fv.semantic} to {fv.export}')
    return {'export': fv.export}
  from step_audio_jax.tokenizers import export

  tokenizer = export.export(fv.linguistic, fv.semantic, fv.export)
  result = {
    'tokenizer': fv.export,
    'linguistic_codes': tokenizer.linguistic.size,
    'semantic_codes': tokenizer.semantic.size,
  }
  print(
    f'{fv.export}: {tokenizer.linguistic.size} linguistic and '
    f'{tokenizer.semantic.size} semantic codes'
  )
  return result


DOOR = cli.Door(
  summary="""Turns recordings into dual speech codes, or exports a tokenizer.

    python -m step_audio_jax tokenize --tokenizer=runs/quickstart/tokenizer \\
      a.wav b.flac
    python -m step_audio_jax tokenize --export=runs/quickstart/tokenizer \\
      --linguistic=runs/quickstart/centroids --semantic=runs/quickstart/semantic

Any sample rate and channel count. `audio_string` is the form in which codes
stand in prompts. Corpora are tokenised by `python -m data_pipelines tokenize`.
""",
  main=_main,
  define=_define,
  uses_gin=False,
)
