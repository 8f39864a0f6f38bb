"""A trained language model, rebuilt from its run directory."""

import dataclasses
import pathlib
from typing import Any, Mapping

import jax
import numpy as np

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.models.language import speech_text
from step_audio_jax.training.checkpoints import checkpoints
from step_audio_jax.training.objectives import lora
from step_audio_jax.training.transfer import own_vocabulary

# Layers up to this many are unrolled: a decoding step is then not spent on
# copying the cache from scan to scan.
_UNROLL = 8


def model_from(description: Mapping[str, Any]) -> speech_text.SpeechTextModel:
  """The module that a run's `config.json` describes."""
  vision = description.get('vision')
  return speech_text.SpeechTextModel(
    speech_text.SpeechTextConfig(
      transformer=speech_text.TransformerConfig(**description['transformer']),
      vision=speech_text.VisionConfig(**vision) if vision else None,
    )
  )


def load_model(
  run_dir: str | pathlib.Path, step: int | None = None, ema: bool = False
) -> tuple[
  speech_text.SpeechTextModel, dict[str, Any], vocabulary_lib.Vocabulary
]:
  """The model, variables (numpy) and vocabulary of a run.

  Args:
    run_dir: A run directory of the `train` door.
    step: Which checkpoint; None means the newest.
    ema: Whether the mean of the parameters takes their place.

  Raises:
    UserError: The run is no language model, a file of it is missing, or its
      text model is another one by now.
  """
  config = checkpoints.run_config(run_dir)
  if 'model' not in config or 'vocabulary' not in config:
    raise errors.UserError(
      f'{run_dir}/config.json: found no "model" and "vocabulary"; expected '
      'the run of a language model.'
    )
  variables, _ = checkpoints.load_variables(run_dir, step, ema)
  if 'lora' in config:
    variables = jax.tree.map(np.asarray, lora.merge(variables, config['lora']))
  vocabulary = own_vocabulary.vocabulary_of_run(run_dir, config['vocabulary'])
  try:
    model = model_from(config['model'])
  except (KeyError, TypeError) as error:
    raise errors.UserError(
      f'{run_dir}/config.json: "model" is not the description of a language '
      f'model: {error}.'
    ) from error
  return model, variables, vocabulary


def unroll_layers(model: Any) -> Any:
  """The same model with a shallow stack of layers unrolled for decoding."""
  config = getattr(model, 'config', None)
  transformer = getattr(config, 'transformer', None)
  if transformer is None or transformer.layers > _UNROLL:
    return model
  return model.clone(
    config=dataclasses.replace(
      config,
      transformer=dataclasses.replace(
        transformer, scan_unroll=transformer.layers
      ),
    )
  )
