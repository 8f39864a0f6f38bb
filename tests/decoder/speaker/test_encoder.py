"""The speaker encoder: ragged recordings, long ones, bad ones, its file."""

import jax
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.audio.features import fbank
from step_audio_jax.decoder.speaker import encoder as speaker
from step_audio_jax.models.speaker import campplus
from tests.decoder.speaker import tiny_speaker

SECONDS = (0.4, 1.37, 1.9, 2.5)


@pytest.fixture(scope='module')
def encoder():
  return speaker.SpeakerEncoder(tiny_speaker.CONFIG, tiny_speaker.tree())


@pytest.fixture(scope='module')
def waves():
  names = ('ann', 'bob') * 2
  return [
    tiny_speaker.sound(name, seconds, seed)
    for seed, (name, seconds) in enumerate(zip(names, SECONDS))
  ]


def test_features_are_filter_banks_less_their_mean(waves):
  lengths = np.array([len(w) for w in waves], np.int32)
  padded = np.full((len(waves), lengths.max() + 999), 0.3, np.float32)
  for row, wave in zip(padded, waves):
    row[: len(wave)] = wave
  got, counts = jax.jit(speaker.features, static_argnums=2)(padded, lengths, 16)
  run = jax.jit(fbank.fbank, static_argnames='config')
  whole, _ = run(padded, lengths, config=speaker.front_end(16))
  for row, seconds in enumerate(SECONDS):
    count = int(counts[row])
    assert count == (round(seconds * 16000) - 400) // 160 + 1
    part = np.asarray(whole[row, :count], np.float64)
    want = part - part.mean(axis=0)
    np.testing.assert_allclose(got[row, :count], want, atol=2e-4)
    assert not np.asarray(got[row, count:]).any()


def test_a_recording_gets_what_the_network_says_of_it_alone(encoder, waves):
  got = encoder.embed_batch(waves)
  assert got.shape == (4, 6) and got.dtype == np.float32
  run = jax.jit(campplus.Campplus(tiny_speaker.CONFIG).apply)
  features = jax.jit(speaker.features, static_argnums=2)
  length = np.array([len(waves[1])], np.int32)
  x, _ = features(waves[1][None], length, 16)
  alone = run(encoder.params, x)[0]
  np.testing.assert_allclose(alone, got[1], rtol=1e-3, atol=1e-3)
  np.testing.assert_allclose(encoder.embed(waves[1]), got[1], atol=1e-4)
  assert np.abs(got[0] - got[1]).max() > 1e-2


def test_a_long_recording_is_the_mean_of_its_parts(encoder, monkeypatch):
  monkeypatch.setattr(speaker, 'LONGEST', 1.9)
  wave = tiny_speaker.sound('bob', 4.7)
  parts = encoder.embed_batch(np.array_split(wave, 3))
  np.testing.assert_allclose(encoder.embed(wave), parts.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize(
  'wave, said',
  [
    (np.zeros(0, np.float32), 'me.wav: 0 samples of audio'),
    (np.full(6000, 0.1, np.float32), 'me.wav: 0.375 s of audio, expected at'),
    (np.full(16000, 5e-4, np.float32), 'me.wav: silence, no sample is above'),
    (np.full(16000, np.nan, np.float32), 'me.wav: samples are not finite'),
    (np.ones((2, 16000), np.float32), r'me.wav: found an array \(2, 16000\)'),
    (np.ones(16000, np.int16), 'of int16, expected mono floating-point'),
  ],
)
def test_bad_recordings_get_one_sentence(encoder, wave, said):
  with pytest.raises(errors.UserError, match=said):
    encoder.embed(wave, 'me.wav')


def test_the_file_comes_back(encoder, tmp_path):
  encoder.save(tmp_path)
  again = speaker.SpeakerEncoder.load(tiny_speaker.CONFIG, tmp_path)
  jax.tree.map(np.testing.assert_array_equal, again.params, encoder.params)
  other = tiny_speaker.CONFIG.__dict__ | {'embedding': 7}
  with pytest.raises(
    errors.UserError, match=r'speaker\.safetensors: .*expected \(.*7'
  ):
    speaker.SpeakerEncoder.load(campplus.CampplusConfig(**other), tmp_path)
