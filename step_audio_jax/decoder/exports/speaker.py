"""The speaker encoder of a finished run, or of a speech decoder."""

import os
import pathlib
from typing import Any

from step_audio_jax import errors
from step_audio_jax import files
from step_audio_jax.decoder import speaker
from step_audio_jax.decoder import speaker_objective
from step_audio_jax.models import campplus
from step_audio_jax.training import checkpoints


def load(
  run_dir: str | os.PathLike,
) -> tuple[campplus.CampplusConfig, dict[str, Any]]:
  """Shape and variables of the network that a run trained.

  Raises:
    UserError: The run is missing, unfinished, or of another kind.
  """
  config = checkpoints.run_config(run_dir)
  if config.get('decoder') != speaker_objective.KIND:
    raise errors.UserError(
      f'{pathlib.Path(run_dir) / "config.json"}: found a run of '
      f'{config.get("decoder", "another model")}, expected one of the speaker '
      'encoder (gin/decoder/speaker.gin).'
    )
  variables, _ = checkpoints.load_variables(run_dir)
  tree = {
    kind: variables[kind]['encoder'] for kind in ('params', 'batch_stats')
  }
  return campplus.CampplusConfig(**config['model']), tree


def opened(path: str | os.PathLike) -> speaker.SpeakerEncoder:
  """The encoder of a run of `SpeakerAAM`, or of a sealed speech decoder.

  Raises:
    UserError: It is neither, or has no speaker encoder.
  """
  path = pathlib.Path(path)
  if not (path / 'config.json').is_file():
    raise errors.UserError(
      f'{path / "config.json"}: no such file; expected a run of the speaker '
      'encoder or a speech decoder.'
    )
  config = files.read_json(path / 'config.json')
  if not isinstance(config, dict) or 'format' not in config:
    return speaker.SpeakerEncoder(*load(path))
  if config.get('speaker') is None:
    raise errors.UserError(
      f'{path / "config.json"}: speaker: found none, expected a speech decoder '
      'that has a speaker encoder.'
    )
  from step_audio_jax.decoder import parts  # all of a decoder

  return parts.speaker(config['speaker'], path)
