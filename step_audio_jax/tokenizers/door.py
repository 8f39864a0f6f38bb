"""The `tokenize` door: recordings in, dual codes out; and the export."""

import itertools
from typing import Any

from absl import flags
import numpy as np

from step_audio_jax import errors
from step_audio_jax import memory
from step_audio_jax import progress
from step_audio_jax import vocabulary
from step_audio_jax.commands import cli
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files

VARIABLE = 'STEP_AUDIO_TOKENIZER'
DEFAULT = 'runs/quickstart/tokenizer'
_SHORT = 60.0  # seconds; recordings up to it are encoded in batches


def _define(fv: flags.FlagValues) -> None:
  flags.DEFINE_multi_string(
    'arguments', [], 'Recordings; also as plain words.', flag_values=fv
  )
  flags.DEFINE_string(
    'tokenizer',
    None,
    f'Tokenizer folder; by default ${VARIABLE}, or {DEFAULT} if it is there.',
    flag_values=fv,
  )
  flags.DEFINE_enum(
    'mode',
    'pieces',
    ['pieces', 'overlap'],
    'Semantic codes beyond 30 s: pieces of 30 s as Step-Audio makes them, or '
    'windows that overlap by 4 s. Linguistic codes are the same.',
    flag_values=fv,
  )
  flags.DEFINE_bool(
    'stream',
    False,
    'Feed the recording as a live one, 240 ms at a time, and print groups of '
    '120 ms as they complete. Linguistic codes are the same; semantic ones '
    'come from blocks with 0.48 s of look-ahead (docs/tokenizer.md).',
    flag_values=fv,
  )
  flags.DEFINE_integer(
    'channel',
    None,
    'Which channel is heard, from 0; by default the mean of all.',
    lower_bound=0,
    flag_values=fv,
  )
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
  if fv.export is not None:
    return _export(fv)
  if not fv.arguments:
    raise errors.UserError(
      'tokenize: expected recordings, or --export=FOLDER with '
      '--linguistic=RUN and --semantic=RUN.'
    )
  if fv.stream and fv.mode != 'pieces':
    raise errors.UserError(
      f'tokenize: --mode={fv.mode} does not go with --stream, which has '
      'blocks of its own.'
    )
  folder = cli.default_folder(
    'tokenizer', fv.tokenizer, VARIABLE, DEFAULT, 'tokenize'
  )
  from step_audio_jax.audio import io
  from step_audio_jax.tokenizers.speech import dual

  fv.arguments = ['/dev/stdin' if w == '-' else w for w in fv.arguments]
  heard = [_heard(path, fv.channel) for path in fv.arguments]
  for path, (wave, _) in zip(fv.arguments, heard):
    if (
      wave is not None and len(wave) < vocabulary.GROUP_SECONDS * io.SAMPLE_RATE
    ):
      raise errors.UserError(
        f'{path}: {len(wave) / io.SAMPLE_RATE:.3f} s of audio, expected at '
        f'least {vocabulary.GROUP_SECONDS} s, one group of codes.'
      )
  memory.keep_freed()  # batches of one shape ask for the same memory again
  tokenizer = dual.DualTokenizer.load(folder)
  if fv.dry_run:
    print(f'would tokenize {len(heard)} recordings')
    return {'files': list(fv.arguments)}
  short = [wave for wave, _ in heard if wave is not None]
  codes = iter([] if fv.stream else tokenizer.encode_batch(short, fv.mode))
  results = []
  for path, (wave, peak) in zip(fv.arguments, heard):
    if fv.stream:
      pair, samples = _live(tokenizer, path, fv.channel, peak, quiet=fv.json)
    elif wave is None:
      pair, samples = _long(tokenizer, path, fv.channel, peak, fv.mode)
    else:
      pair, samples = next(codes), len(wave)
    results.append(
      _summary(path, pair, samples, 'stream' if fv.stream else fv.mode)
      | {bindings.TOKENIZER: tokenizer.identity}
    )
    if not fv.json:
      print(f'{path}\n  linguistic {results[-1]["linguistic"]}')
      print(f'  semantic {results[-1]["semantic"]}')
      print(f'  {results[-1]["audio_string"]}')
  return {
    'tokenizer': str(folder),
    bindings.TOKENIZER: tokenizer.identity,
    'files': results,
  }


def _summary(path, pair, samples, mode) -> dict[str, Any]:
  table = vocabulary.STEP_AUDIO
  linguistic, semantic = (codes.tolist() for codes in pair)
  return {
    'file': path,
    'seconds': round(samples / 16000, 3),
    'mode': mode,
    'linguistic': linguistic,
    'semantic': semantic,
    'audio_string': table.to_audio_string(table.interleave(*pair)),
  }


def _heard(path, channel) -> tuple[np.ndarray | None, float]:
  """Samples of a recording, None beyond `_SHORT`; and its peak."""
  from step_audio_jax.audio import io

  parts, total, peak = [], 0, 0.0
  for block in io.read_blocks(path, channel=channel, audible=True):
    total += len(block)
    peak = max(peak, float(np.abs(block).max()))
    parts.append(block)
    if total > _SHORT * io.SAMPLE_RATE:
      parts = []
  return np.concatenate(parts) if parts else None, peak


def _counted(blocks, total: list[int]):
  for block in blocks:
    total.append(len(block))
    yield block


def _long(tokenizer, path, channel, peak, mode):
  """Codes and samples of a recording that is not held in memory."""
  from step_audio_jax.audio import io

  total = []
  blocks = progress.bar(
    _counted(io.read_blocks(path, channel=channel), total),
    label=path,
    unit='block',
  )
  pair = tokenizer.encode_stream(blocks, peak=peak, mode=mode)
  return pair, sum(total)


def _live(tokenizer, path, channel, peak, quiet):
  """As `_long`, 240 ms at a time; groups are printed when they complete."""
  from step_audio_jax.audio import io
  from step_audio_jax.tokenizers.speech import alignment
  from step_audio_jax.tokenizers.speech import dual_stream

  total, found = [], []
  stream = dual_stream.DualStream(tokenizer, peaks=[peak])
  stream.warm_up()
  table = vocabulary.STEP_AUDIO
  blocks = io.read_blocks(path, channel=channel, block_seconds=0.24)
  parts = _counted(blocks, total)
  for samples, final in itertools.chain(
    ((part, False) for part in parts), [(np.zeros(0, np.float32), True)]
  ):
    pair = stream.push(samples, final)
    found.append(pair)
    if len(pair[0]) and not quiet:
      ids = sum(len(p[0]) + len(p[1]) for p in found)
      print(
        f'heard {sum(total) / 16000:.2f} s, codes up to '
        f'{alignment.seconds(ids):.2f} s: '
        f'{table.to_audio_string(table.interleave(*pair))}'
      )
  joined = tuple(np.concatenate(parts) for parts in zip(*found))
  return joined, sum(total)


def _export(fv: flags.FlagValues) -> dict[str, Any]:
  for name in ('linguistic', 'semantic'):
    if not fv[name].value:
      raise errors.UserError(
        f'tokenize --export: --{name}=RUN is missing, the directory of a '
        'finished training run.'
      )
  files.check_writable(fv.export, '--export', folder=True)
  if fv.dry_run:
    print(f'would export {fv.linguistic} and {fv.semantic} to {fv.export}')
    return {'export': fv.export}
  from step_audio_jax.tokenizers import export

  tokenizer = export.export(fv.linguistic, fv.semantic, fv.export)
  result = {
    'tokenizer': fv.export,
    'linguistic_codes': tokenizer.linguistic.size,
    'semantic_codes': tokenizer.semantic.size,
    bindings.TOKENIZER: tokenizer.identity,
  }
  print(
    f'{fv.export}: {tokenizer.linguistic.size} linguistic and '
    f'{tokenizer.semantic.size} semantic codes'
  )
  return result


DOOR = cli.Door(
  summary="""Turns recordings into dual speech codes, or exports a tokenizer.

    python -m step_audio_jax tokenize a.wav b.flac --json
    … | python -m step_audio_jax tokenize -
    python -m step_audio_jax tokenize --stream --tokenizer=models/tokenizer \\
      a.wav
    python -m step_audio_jax tokenize --export=runs/quickstart/tokenizer \\
      --linguistic=runs/quickstart/centroids --semantic=runs/quickstart/semantic

Any format, sample rate, channel count and length: more than a minute is read
block by block. `audio_string` is the form in which codes stand in prompts;
docs/tokenizer.md tells the modes. Corpora are tokenised by
`python -m data_pipelines tokenize`.
""",
  main=_main,
  define=_define,
  uses_gin=False,
)
