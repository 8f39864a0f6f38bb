"""Parts of a decoder from their files: a description and a tree of arrays."""

import dataclasses
import os
import pathlib
from typing import Any, Mapping

from step_audio_jax import errors
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.decoder.causal import flow as causal_flow
from step_audio_jax.decoder.flow import offline as flow_lib
from step_audio_jax.decoder.speaker import encoder as speaker_lib
from step_audio_jax.decoder.vocoder import vocoder as vocoder_lib
from step_audio_jax.models.causal_flow import causal_config
from step_audio_jax.models.flow import flow as flow_model
from step_audio_jax.models.speaker import campplus
from step_audio_jax.models.vocoder import hift
from step_audio_jax.tokenizers.speech import storage


def config_of(kind: Any, value: Any, path: str | os.PathLike, field: str):
  """A configuration dataclass from what a JSON file holds of it.

  Raises:
    UserError: It is no object, or its fields are not those of `kind`.
  """
  if not isinstance(value, Mapping):
    raise errors.UserError(
      f'{path}: {field}: found {value!r}, expected the fields of a '
      f'{kind.__name__}.'
    )
  known = {f.name for f in dataclasses.fields(kind)}
  wrong = sorted(set(value) - known)
  if wrong:
    raise errors.UserError(
      f'{path}: {field}.{wrong[0]}: no such field of a {kind.__name__}.'
    )
  try:
    return kind(**{k: _tuples(v) for k, v in value.items()})
  except errors.UserError as error:
    raise errors.UserError(f'{path}: {error}') from error
  except (TypeError, ValueError) as error:
    raise errors.UserError(
      f'{path}: {field}: not a {kind.__name__}: {error}.'
    ) from error


def flow(
  value: Any, folder: pathlib.Path, mel: vocoder_mel.VocoderMel
) -> flow_lib.FlowDecoder | causal_flow.CausalFlowDecoder:
  """The flow of a folder, as its `config.json` describes it.

  A description with a `look_ahead` is that of a causal flow.

  Raises:
    UserError: The description or the file is of another network.
  """
  path, weights = folder / 'config.json', folder / 'flow.safetensors'
  if isinstance(value, Mapping) and 'look_ahead' in value:
    config = config_of(causal_config.CausalFlowConfig, value, path, 'flow')
    tree = storage.read_tree(weights, causal_flow.shapes(config))
    return causal_flow.CausalFlowDecoder(config, tree, mel)
  config = config_of(flow_model.FlowConfig, value, path, 'flow')
  tree = storage.read_tree(weights, flow_model.shapes(config))
  return flow_lib.FlowDecoder(config, tree, mel)


def vocoder(value: Any, folder: pathlib.Path) -> vocoder_lib.HiftVocoder:
  """The vocoder of a folder; see `flow`."""
  config = config_of(hift.HiftConfig, value, folder / 'config.json', 'vocoder')
  tree = storage.read_tree(
    folder / 'vocoder.safetensors', vocoder_lib.shapes(config)
  )
  return vocoder_lib.HiftVocoder(config, tree)


def speaker(value: Any, folder: pathlib.Path) -> speaker_lib.SpeakerEncoder:
  """The speaker encoder of a folder; see `flow`."""
  config = config_of(
    campplus.CampplusConfig, value, folder / 'config.json', 'speaker'
  )
  return speaker_lib.SpeakerEncoder.load(config, folder)


def _tuples(value: Any) -> Any:
  """JSON's lists as tuples, which can be hashed."""
  if isinstance(value, list):
    return tuple(map(_tuples, value))
  return value
