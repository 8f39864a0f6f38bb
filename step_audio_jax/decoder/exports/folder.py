"""Training runs → a speech decoder's folder."""

import os
from typing import Any

from step_audio_jax import errors
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.decoder import parts
from step_audio_jax.decoder import speech
from step_audio_jax.decoder.exports import flow as causal_export
from step_audio_jax.decoder.exports import speaker as speaker_export
from step_audio_jax.decoder.exports import vocoder as vocoder_export
from step_audio_jax.decoder.flow import offline as flow_lib
from step_audio_jax.decoder.vocoder import vocoder as vocoder_lib
from step_audio_jax.models.flow import flow as flow_model
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files
from step_audio_jax.training.checkpoints import checkpoints


def decoder(
  flow_run: str | os.PathLike,
  speaker: str | os.PathLike,
  vocoder_run: str | os.PathLike | None = None,
) -> speech.SpeechDecoder:
  """The decoder of finished runs.

  Args:
    flow_run: Run of `FlowMatching` or `CausalFlowMatching`.
    speaker: Run of `SpeakerAAM`, or a decoder that has a speaker encoder.
    vocoder_run: Run of `VocoderGAN`; without it Griffin-Lim speaks.

  Raises:
    UserError: A run is missing, unfinished, of another kind, or does not fit
      the others.
  """
  flow, mel = load_flow(flow_run)
  vocoder: Any = vocoder_lib.GriffinLim(mel)
  if vocoder_run is not None:
    vocoder = vocoder_lib.HiftVocoder(*vocoder_export.load(vocoder_run))
  encoder = speaker_export.open_encoder(speaker)
  if encoder.config.embedding != flow.config.speaker_size:
    raise errors.UserError(
      f'{speaker}: embeddings of {encoder.config.embedding} numbers, expected '
      f'{flow.config.speaker_size} as {flow_run} was trained with.'
    )
  tokenizer = bindings.tokenizer_of(
    checkpoints.run_config(flow_run), files.path(flow_run) / 'config.json'
  )
  made = speech.SpeechDecoder(flow, vocoder, encoder, mel, None, tokenizer)
  made.name = str(flow_run)
  return made


def load_flow(run) -> tuple[Any, vocoder_mel.VocoderMel]:
  """The flow of a run, and what its frames are.

  Its parameters are their mean over the steps where the run keeps one.

  Raises:
    UserError: The run is missing, unfinished or of another model.
  """
  config = checkpoints.run_config(run)
  if config.get('decoder') == causal_export.KIND:
    causal = causal_export.load(run)
    return causal, causal.mel_config
  path = files.path(run) / 'config.json'
  if config.get('decoder') != 'flow':
    raise errors.UserError(
      f'{path}: found a run of {config.get("decoder", "another model")}, '
      'expected one of the flow (gin/decoder/flow.gin).'
    )
  shape = parts.config_of(
    flow_model.FlowConfig, config.get('model'), path, 'model'
  )
  mel = parts.config_of(vocoder_mel.VocoderMel, config.get('mel'), path, 'mel')
  folder, step = checkpoints.step_folder(run, None)
  variables, _ = checkpoints.load_variables(
    run, step, ema=files.is_dir(folder / 'ema')
  )
  return flow_lib.FlowDecoder(shape, variables['params'], mel), mel
