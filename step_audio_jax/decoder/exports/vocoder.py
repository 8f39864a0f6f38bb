"""Parameters of a vocoder: out of a training run, and into one."""

import dataclasses
import os
from typing import Any, Mapping

from step_audio_jax import errors
from step_audio_jax.decoder import parts
from step_audio_jax.models.vocoder import hift
from step_audio_jax.storage import files
from step_audio_jax.training.checkpoints import checkpoints


def load(
  run_dir: str | os.PathLike, step: int | None = None
) -> tuple[hift.HiftConfig, dict[str, Any]]:
  """Configuration and parameters of the generator of a `VocoderGAN` run.

  Where the run keeps a mean of the parameters, that is what is loaded.

  Args:
    run_dir: A run directory.
    step: Which step; None means the newest.

  Raises:
    UserError: The run is missing, unfinished, or of another kind.
  """
  config = checkpoints.run_config(run_dir)
  if config.get('decoder') != 'vocoder':
    raise errors.UserError(
      f'{files.path(run_dir) / "config.json"}: found a run of '
      f'{config.get("decoder", "another model")}, expected one of the vocoder.'
    )
  folder, step = checkpoints.step_folder(run_dir, step)
  mean = files.is_dir(folder / 'ema')
  variables, _ = checkpoints.load_variables(run_dir, step, ema=mean)
  return hift.HiftConfig(**config['model']), variables['params']['generator']


def read(
  path: str | os.PathLike, description: Mapping[str, Any]
) -> dict[str, Any] | None:
  """What a `VocoderGAN` run starts from; a reader for `run.train.readers`.

  Args:
    path: A speech decoder's folder, such as an imported one.
    description: What the run's objective says of itself.

  Returns:
    Variables without discriminators, which start fresh; None where the folder
    is no decoder with a vocoder.

  Raises:
    UserError: Its vocoder has another shape than the run's, or is broken.
  """
  path = files.path(path)
  if not files.is_file(path / 'vocoder.safetensors'):
    return None
  config = path / 'config.json'
  vocoder = parts.vocoder(files.read_json(config).get('vocoder'), path)
  found = dataclasses.asdict(vocoder.config)
  for name, wanted in description['model'].items():
    if found[name] != wanted:
      raise errors.UserError(
        f'{config}: vocoder.{name}: found {found[name]}, expected {wanted} as '
        'the run has it.'
      )
  return {'params': {'generator': vocoder.params}}
