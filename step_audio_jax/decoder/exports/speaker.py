"""The speaker encoder of a finished run, or of a speech decoder."""

import os
from typing import Any

from step_audio_jax import errors
from step_audio_jax.decoder.speaker import encoder
from step_audio_jax.decoder.speaker import objective
from step_audio_jax.models.speaker import campplus
from step_audio_jax.storage import files
from step_audio_jax.training.checkpoints import checkpoints


def load(
  run_dir: str | os.PathLike,
) -> tuple[campplus.CampplusConfig, dict[str, Any]]:
  """Shape and variables of the network that a run trained.

  Raises:
    UserError: The run is missing, unfinished, or of another kind.
  """
  config = checkpoints.run_config(run_dir)
  if config.get('decoder') != objective.KIND:
    raise errors.UserError(
      f'{files.path(run_dir) / "config.json"}: found a run of '
      f'{config.get("decoder", "another model")}, expected one of the speaker '
      'encoder (gin/decoder/speaker.gin).'
    )
  variables, _ = checkpoints.load_variables(run_dir)
  tree = {
    kind: variables[kind]['encoder'] for kind in ('params', 'batch_stats')
  }
  return campplus.CampplusConfig(**config['model']), tree


def open_encoder(path: str | os.PathLike) -> encoder.SpeakerEncoder:
  """The encoder of a run of `SpeakerAAM`, or of a sealed speech decoder.

  Raises:
    UserError: It is neither, or has no speaker encoder.
  """
  path = files.path(path)
  if not files.is_file(path / 'config.json'):
    raise errors.UserError(
      f'{path / "config.json"}: no such file; expected a run of the speaker '
      'encoder or a speech decoder.'
    )
  config = files.read_json(path / 'config.json')
  if not isinstance(config, dict) or 'format' not in config:
    return encoder.SpeakerEncoder(*load(path))
  if config.get('speaker') is None:
    raise errors.UserError(
      f'{path / "config.json"}: speaker: found none, expected a speech decoder '
      'that has a speaker encoder.'
    )
  from step_audio_jax.decoder import parts  # all of a decoder

  return parts.speaker(config['speaker'], path)
