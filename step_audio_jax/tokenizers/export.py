"""Training runs → a tokenizer folder."""

import os
from typing import Any

import numpy as np

from step_audio_jax import errors
from step_audio_jax.models.tokenizer import paraformer
from step_audio_jax.models.tokenizer import s3
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.speech import dual
from step_audio_jax.tokenizers.speech import features
from step_audio_jax.tokenizers.speech import linguistic as linguistic_lib
from step_audio_jax.tokenizers.speech import semantic as semantic_lib
from step_audio_jax.training.checkpoints import checkpoints


def export(
  linguistic_run: str | os.PathLike,
  semantic_run: str | os.PathLike,
  folder: str | os.PathLike,
) -> dual.DualTokenizer:
  """Writes the tokenizer of two finished runs.

  Args:
    linguistic_run: Run directory of `LinguisticKMeans`; it carries the
      encoder.
    semantic_run: Run directory of `SemanticCTC`.
    folder: Where the tokenizer goes.

  Raises:
    UserError: A run is missing, unfinished, or of another kind.
  """
  tokenizer = dual.DualTokenizer(
    _linguistic(linguistic_run), _semantic(semantic_run)
  )
  tokenizer.save(folder)
  return tokenizer


def _linguistic(run) -> linguistic_lib.LinguisticTokenizer:
  config, variables = _load(run, 'linguistic')
  shift, scale = features.shift_and_scale(variables['cmvn'])
  return linguistic_lib.LinguisticTokenizer(
    paraformer.ParaformerConfig(**config['model']),
    variables['params']['encoder'],
    {'shift': shift, 'scale': scale},
    variables['codebook']['table'],
  )


def _semantic(run) -> semantic_lib.SemanticTokenizer:
  config, variables = _load(run, 'semantic')
  return semantic_lib.SemanticTokenizer(
    s3.S3Config(**config['model']),
    variables['params']['encoder'],
    variables['codebook']['table'],
  )


def _load(run, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
  config = checkpoints.run_config(run)
  path = files.path(run) / 'config.json'
  if config.get('tokenizer') != kind:
    raise errors.UserError(
      f'{path}: found a run of {config.get("tokenizer", "another model")}, '
      f'expected one of the {kind} tokenizer.'
    )
  if 'codebook' not in config:
    raise errors.UserError(
      f'{path}: this run has an encoder but no centroids; train them with '
      'gin/tokenizer/centroids.gin and export that run.'
    )
  variables, step = checkpoints.load_variables(run)
  if not np.any(variables['codebook']['counts']):
    raise errors.UserError(
      f'{run}: at step {step} the codebook had not started (codebook.start '
      f'is {config["codebook"]["start"]}); train longer.'
    )
  return config, variables
