"""Runs as a decoder's folder, through the door."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.commands import cli
from step_audio_jax.decoder import speech
from step_audio_jax.decoder.doors import speak
from step_audio_jax.decoder.exports import folder as export
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.speech import dual
from step_audio_jax.training.checkpoints import stored
from tests.decoder import tiny_decoder as tiny


def run_of(folder, variables, **config):
  stored.write_variables(folder, 5, variables)
  files.write_json(folder / 'config.json', config)
  return folder


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  """A run of the flow and one of the speaker encoder."""
  root = tmp_path_factory.mktemp('runs')
  flow, speaker = tiny.flow(), tiny.speaker()
  run_of(
    root / 'flow',
    {'params': flow.params},
    decoder='flow',
    model=dataclasses.asdict(flow.config),
    mel=dataclasses.asdict(tiny.MEL),
  )
  params = jax.tree.map(np.asarray, speaker.params)
  run_of(
    root / 'speaker',
    {kind: {'encoder': tree} for kind, tree in params.items()},
    decoder='speaker',
    model=dataclasses.asdict(speaker.config),
  )
  return root


def call(capsys, *words):
  status = cli.run('speak', speak.DOOR, [*words, '--json'])
  out, err = capsys.readouterr()
  return status, json.loads(out.splitlines()[-1]) if not status else err


def test_the_door_writes_what_the_runs_hold(
  runs, tmp_path, capsys, monkeypatch
):
  monkeypatch.setattr(dual.DualTokenizer, 'load', lambda _: tiny.Ruler())
  noise = np.random.default_rng(0).normal(size=16000) * 0.1
  io.write_audio(tmp_path / 'me.wav', noise, 16000)
  words = (
    f'--export={tmp_path / "decoder"}',
    f'--flow={runs / "flow"}',
    f'--speaker={runs / "speaker"}',
    f'--voice={tmp_path / "me.wav"}',
    '--voice_text=a b',
    '--tokenizer=any',
  )
  status, plan = call(capsys, *words, '--dry_run')
  assert status == 0 and not (tmp_path / 'decoder').exists()
  status, result = call(capsys, *words)
  assert status == 0 and result == plan
  assert result['vocoder'] == 'griffin-lim'
  loaded = speech.SpeechDecoder.load(tmp_path / 'decoder')
  assert loaded.voice.text == 'a b' and len(loaded.voice.tokens) == 40
  np.testing.assert_array_equal(
    loaded.speaker.embed(noise), tiny.speaker().embed(noise)
  )
  for one, two in zip(
    jax.tree.leaves(loaded.flow.params), jax.tree.leaves(tiny.flow().params)
  ):
    np.testing.assert_array_equal(one, two)


def test_the_mean_of_the_parameters_is_preferred(runs, tmp_path):
  params = tiny.flow(1).params
  folder = run_of(
    tmp_path / 'flow',
    {'params': tiny.flow().params},
    decoder='flow',
    model=dataclasses.asdict(tiny.FLOW),
    mel=dataclasses.asdict(tiny.MEL),
  )
  stored.write_variables(tmp_path / 'mean', 5, params)
  step = folder / 'checkpoints/5'
  (tmp_path / 'mean/checkpoints/5/variables').rename(step / 'ema')
  found = export.decoder(folder, runs / 'speaker').flow.params
  np.testing.assert_array_equal(
    found['embedding']['embedding'], params['embedding']['embedding']
  )


@pytest.mark.parametrize(
  'words, message',
  [
    ((), '--flow=RUN is missing'),
    (('--flow=flow',), '--speaker=RUN is missing'),
    (('--flow=speaker', '--speaker=speaker'), 'found a run of speaker, expec'),
    (('--flow=flow', '--speaker=flow'), 'found a run of flow, expected one of'),
    (('--flow=no', '--speaker=speaker'), 'no/config.json'),
    (
      ('--flow=flow', '--speaker=speaker', '--vocoder=flow'),
      'found a run of flow, expected one of the vocoder',
    ),
    (
      ('--flow=flow', '--speaker=speaker', '--voice=no.wav'),
      'no.wav: no such file',
    ),
  ],
)
def test_wrong_runs_are_named(runs, capsys, monkeypatch, words, message):
  monkeypatch.chdir(runs)
  status, error = call(capsys, '--export=out', *words)
  assert status == 2 and message in error and error.count('\n') == 1
  assert not pathlib.Path('out').exists()


def test_embeddings_of_another_size_are_named(runs, tmp_path):
  other = dataclasses.replace(tiny.FLOW, speaker_size=9)
  tree = dict(tiny.flow().params)
  tree['speaker'] = {
    'kernel': np.zeros((9, 16), np.float32),
    'bias': np.zeros(16, np.float32),
  }
  folder = run_of(
    tmp_path / 'flow',
    {'params': tree},
    decoder='flow',
    model=dataclasses.asdict(other),
    mel=dataclasses.asdict(tiny.MEL),
  )
  with pytest.raises(errors.UserError, match='of 8 numbers, expected 9'):
    export.decoder(folder, runs / 'speaker')
