"""A trained language or reward model, rebuilt from its run directory."""

import dataclasses
import functools
import pathlib
from typing import Any, Mapping

import jax
import numpy as np

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.kernels import projections
from step_audio_jax.models.language import scoring
from step_audio_jax.models.language import speech_text
from step_audio_jax.training.checkpoints import checkpoints
from step_audio_jax.training.objectives import lora
from step_audio_jax.training.objectives import objectives
from step_audio_jax.training.transfer import own_vocabulary

# By which the `config.json` of a run says that it scores.
SCORES = 'scores'
LANGUAGE, REWARD = 'language model', 'reward model'
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


def kind(run_dir: str | pathlib.Path) -> str:
  """`LANGUAGE` or `REWARD`, as the run's `config.json` says; '' of others."""
  try:
    config = checkpoints.run_config(run_dir)
  except errors.UserError:
    return ''
  if {'model', 'vocabulary'} - set(config):
    return ''
  return REWARD if SCORES in config else LANGUAGE


def language_config(run_dir: str | pathlib.Path) -> dict[str, Any]:
  """The `config.json` of the run of a language model.

  Raises:
    UserError: It is the run of something else, or its file is missing.
  """
  config, path = checkpoints.run_config(run_dir), f'{run_dir}/config.json'
  check_answers(config, path)
  if 'model' not in config or 'vocabulary' not in config:
    raise errors.UserError(
      f'{path}: found no "model" and "vocabulary"; expected the run of a '
      'language model (a Hugging Face folder becomes one by `convert`).'
    )
  return config


def check_answers(config: Mapping[str, Any], path: str) -> None:
  """Refuses what a run says of itself where that is a reward model.

  Raises:
    UserError: It is one.
  """
  if SCORES in config:
    raise errors.UserError(
      f'{path}: found {SCORES!r}, a reward model, which scores answers and '
      'gives none; expected the run of a language model.'
    )


def scorer_config(run_dir: str | pathlib.Path) -> dict[str, Any]:
  """The `config.json` of the run of a reward model.

  Raises:
    UserError: It is the run of something else, or its file is missing.
  """
  config = checkpoints.run_config(run_dir)
  if {SCORES, 'model', 'vocabulary'} - set(config):
    raise errors.UserError(
      f'{run_dir}/config.json: found no "{SCORES}"; expected the run of a '
      'reward model (gin/alignment/reward.gin).'
    )
  return config


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
  return _load(run_dir, language_config(run_dir), model_from, step, ema)


def load_scorer(
  run_dir: str | pathlib.Path, step: int | None = None, ema: bool = False
) -> tuple[scoring.ScoringModel, dict[str, Any], vocabulary_lib.Vocabulary]:
  """As `load_model`, of the run of a reward model.

  Raises:
    UserError: As `load_model`, or the run is no reward model.
  """

  def scorer_from(description):
    return scoring.ScoringModel(model_from(description).config)

  return _load(run_dir, scorer_config(run_dir), scorer_from, step, ema)


def _load(run_dir, config, build, step, ema):
  variables, _ = checkpoints.load_variables(run_dir, step, ema)
  for name in (objectives.REFERENCE, objectives.PENDING):
    variables.pop(name, None)
  if 'lora' in config:
    variables = jax.tree.map(np.asarray, lora.merge(variables, config['lora']))
  vocabulary = own_vocabulary.vocabulary_of_run(run_dir, config['vocabulary'])
  try:
    model = build(config['model'])
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


@functools.partial(jax.jit, static_argnums=(0, 2))
def _for_decoding(model, variables, tiles):
  return model.for_decoding(variables, tiles)


def laid_out(model: Any, variables: Mapping[str, Any], rows: int):
  """Variables as `prefill` and as `decode` of so many rows read them.

  Returns:
    (for prompts, for decoding); the same where one layout suits both.
  """
  if not hasattr(model, 'for_decoding'):
    return variables, variables
  tiles = projections.tiles_pay(rows)
  laid = _for_decoding(model, variables, tiles)
  # Prompts are many rows: no tiles for them.
  return (variables if tiles else laid), laid
