"""The `transcribe` door: recordings in, their words out."""

import asyncio
import time
from typing import Any

from absl import flags

from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.dialogue.doors import folders
from step_audio_jax.storage import files


def _define(fv: flags.FlagValues) -> None:
  flags.DEFINE_multi_string(
    'arguments', [], 'Recordings; also as plain words.', flag_values=fv
  )
  folders.define(fv, speaks=False)
  flags.DEFINE_integer(
    'channel',
    None,
    'Which channel is heard, from 0; by default the mean of all.',
    lower_bound=0,
    flag_values=fv,
  )


def _main(fv: flags.FlagValues) -> dict[str, Any]:
  if not fv.arguments:
    raise errors.UserError(
      'transcribe: found no recording, expected some: transcribe FILE…'
    )
  for path in fv.arguments:
    if not files.is_file(path):
      raise errors.UserError(f'{path}: no such file, expected a recording.')
  given = folders.of(fv, 'transcribe', hears=True, speaks=False)
  if fv.dry_run:
    print(f'would write down {len(fv.arguments)} recordings')
    return {**given, 'recordings': list(fv.arguments), 'dry_run': True}
  models = folders.load(given)
  try:
    found = asyncio.run(_written(models, fv.arguments, fv.channel))
  finally:
    models.close()
  return {**given, 'transcripts': found}


async def _written(models, paths, channel) -> list[dict[str, Any]]:
  from step_audio_jax.audio import io
  from step_audio_jax.dialogue import services

  found = []
  for path in paths:
    began = time.monotonic()
    wave_S, rate = io.read_audio(path, channel=channel, audible=True)
    text = ''
    async for piece in models.ear.transcribe(wave_S):
      if isinstance(piece, services.Text):
        text += piece.text
    found.append(
      {
        'file': path,
        'text': text,
        'seconds': round(len(wave_S) / rate, 3),
        'wall_seconds': round(time.monotonic() - began, 3),
      }
    )
    print(text if len(paths) == 1 else f'{path}: {text}', flush=True)
  return found


DOOR = cli.Door(
  summary="""Write down what is said in recordings of any length.

    python -m step_audio_jax transcribe question.wav""",
  main=_main,
  define=_define,
  uses_gin=False,
)
