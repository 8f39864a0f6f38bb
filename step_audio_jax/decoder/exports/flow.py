"""A training run → its causal flow."""

import os

from step_audio_jax import errors
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.decoder.causal import flow
from step_audio_jax.models.causal_flow import causal_config
from step_audio_jax.storage import files
from step_audio_jax.training.checkpoints import checkpoints

KIND = 'causal-flow'


def load(
  run_dir: str | os.PathLike, step: int | None = None
) -> flow.CausalFlowDecoder:
  """The flow of a run of `CausalFlowMatching`.

  Where the run keeps a mean of the parameters, that is what is loaded.

  Args:
    run_dir: A run directory.
    step: Which step; None means the newest.

  Raises:
    UserError: The run is missing, unfinished, or of another kind.
  """
  config = checkpoints.run_config(run_dir)
  if config.get('decoder') != KIND:
    raise errors.UserError(
      f'{files.path(run_dir) / "config.json"}: found a run of '
      f'{config.get("decoder", "another model")}, expected one of the causal '
      'flow.'
    )
  folder, step = checkpoints.step_folder(run_dir, step)
  mean = files.is_dir(folder / 'ema')
  variables, _ = checkpoints.load_variables(run_dir, step, ema=mean)
  return flow.CausalFlowDecoder(
    causal_config.CausalFlowConfig(**config['model']),
    variables['params'],
    vocoder_mel.VocoderMel(**config['mel']),
  )
