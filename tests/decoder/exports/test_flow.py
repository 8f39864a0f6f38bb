"""A causal flow from its run, and in a speech decoder's folder."""

import dataclasses
import json

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.decoder import speech
from step_audio_jax.decoder.causal import flow as causal_flow
from step_audio_jax.decoder.causal import objective
from step_audio_jax.decoder.exports import flow as causal_export
from step_audio_jax.decoder.exports import folder as export
from step_audio_jax.decoder.vocoder import vocoder
from step_audio_jax.storage import files
from step_audio_jax.training.checkpoints import stored
from tests.decoder.causal import tiny_causal

CONFIG, MEL = tiny_causal.CONFIG, tiny_causal.MEL


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A run directory as the `train` door leaves it."""
  folder = tmp_path_factory.mktemp('run')
  stored.write_variables(folder, 7, {'params': tiny_causal.params()})
  task = objective.CausalFlowMatching(CONFIG, MEL)
  files.write_json(folder / 'config.json', task.describe())
  return folder


def same(decoder):
  assert isinstance(decoder, causal_flow.CausalFlowDecoder)
  assert decoder.config == CONFIG and decoder.mel_config == MEL
  tokens, who = tiny_causal.ids(2), tiny_causal.voice(2)
  got = decoder.mel(
    tokens,
    prompt_tokens=who.tokens,
    prompt_mel_TM=who.mel_TM,
    speaker_D=who.speaker_D,
    steps=tiny_causal.STEPS,
  )
  np.testing.assert_array_equal(got, tiny_causal.one_shot(tokens, who))


def test_a_run_becomes_its_flow(run):
  assert (
    causal_export.KIND
    == json.loads((run / 'config.json').read_text())['decoder']
  )
  same(causal_export.load(run))
  flow, mel = export.load_flow(run)
  assert mel == MEL
  same(flow)


def test_a_run_of_another_kind_is_refused(run, tmp_path):
  stored.write_variables(tmp_path, 7, {'params': tiny_causal.params()})
  files.write_json(tmp_path / 'config.json', {'decoder': 'vocoder'})
  with pytest.raises(
    errors.UserError, match='a run of vocoder, expected one of the causal flow'
  ):
    causal_export.load(tmp_path)


def test_a_sealed_folder_holds_it(tmp_path):
  who = tiny_causal.voice(2)
  decoder = speech.SpeechDecoder(
    tiny_causal.decoder(), vocoder.GriffinLim(MEL), None, MEL, who
  )
  decoder.save(tmp_path)
  again = speech.SpeechDecoder.load(tmp_path)
  same(again.flow)
  tokens = tiny_causal.ids(2)
  np.testing.assert_array_equal(
    again.mel_of(tokens, steps=tiny_causal.STEPS),
    tiny_causal.one_shot(tokens, who),
  )


def test_a_folder_of_another_shape_is_refused(tmp_path):
  decoder = speech.SpeechDecoder(
    tiny_causal.decoder(), vocoder.GriffinLim(MEL), None, MEL
  )
  decoder.save(tmp_path)
  config = json.loads((tmp_path / 'config.json').read_text())
  wider = dataclasses.asdict(CONFIG) | {'mlp_width': 28}
  files.write_json(tmp_path / 'config.json', config | {'flow': wider})
  with pytest.raises(errors.UserError, match='flow.safetensors: .*expected'):
    speech.SpeechDecoder.load(tmp_path)
  odd = dataclasses.asdict(CONFIG) | {'lookahead': 3}
  files.write_json(tmp_path / 'config.json', config | {'flow': odd})
  with pytest.raises(errors.UserError, match='flow.lookahead: no such field'):
    speech.SpeechDecoder.load(tmp_path)
