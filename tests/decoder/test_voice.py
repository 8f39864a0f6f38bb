"""Recordings as voices."""

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.decoder import voice as voice_lib
from tests.decoder import tiny_decoder as tiny


def noise(seconds, rate, seed=0):
  size = int(seconds * rate)
  return np.random.default_rng(seed).normal(size=size).astype('f') * 0.1


def made(wave, rate, **settings):
  return voice_lib.Voice.from_audio(
    wave,
    rate,
    tokenizer=tiny.Ruler(),
    speaker=tiny.speaker(),
    mel=tiny.MEL,
    name='ref.wav',
    **settings,
  )


@pytest.mark.parametrize('rate', [8000, 16000, 22050, 44100])
@pytest.mark.parametrize('seconds', [0.5, 1.37, 2.4])
def test_ids_and_mel_are_of_the_same_time(rate, seconds):
  voice = made(noise(seconds, rate), rate, text='hello')
  groups = int(seconds / 0.12 + 1e-6)
  assert len(voice.tokens) // 5 in (groups, groups - 1)  # resampled lengths
  frames = int(len(voice.tokens) // 5 * 0.12 * 8000 / 64)
  assert abs(len(voice.mel_TM) - frames) <= 1
  assert voice.speaker_D.shape == (8,) and voice.text == 'hello'
  assert voice.mel_TM.dtype == np.float32


def test_the_mel_is_that_of_the_recording():
  wave = noise(1.2, 8000)
  whole = voice_lib.log_mel(wave, tiny.MEL)
  assert len(whole) == 150
  voice = made(wave, 8000)
  np.testing.assert_array_equal(voice.mel_TM, whole[: len(voice.mel_TM)])
  # What a plain transform of the frames gives.
  padded = np.pad(wave, 96, mode='reflect')
  frame = padded[64 * 70 :][:256] * np.hanning(257)[:-1]
  power = np.abs(np.fft.rfft(frame)) ** 2
  expected = np.log(np.maximum(np.sqrt(power + 1e-9) @ tiny.MEL.filters, 1e-5))
  np.testing.assert_allclose(whole[70], expected, atol=1e-4)


def test_a_long_voice_is_cut_and_told(capsys):
  voice = made(noise(31.0, 8000), 8000)
  assert 'ref.wav: 31.0 s of voice; the first 30 s' in capsys.readouterr().err
  assert len(voice.tokens) == 1250


@pytest.mark.parametrize(
  'wave, message',
  [
    (noise(0.2, 8000), 'ref.wav: 0.200 s of audio, expected a voice of at l'),
    (np.zeros(8000, 'f'), 'ref.wav: silence, no sample is above 0.001'),
    (noise(1, 8000) * 1e-3, 'ref.wav: silence'),
    (np.full(8000, np.nan, 'f'), 'ref.wav: samples are not finite'),
    (np.zeros((2, 8000), 'f'), r'ref.wav: found an array \(2, 8000\)'),
    (np.zeros(0, 'f'), 'ref.wav: 0 samples'),
  ],
)
def test_what_is_no_voice_is_named(wave, message):
  with pytest.raises(errors.UserError, match=message):
    made(wave, 8000)


def test_a_voice_without_a_prompt():
  voice = voice_lib.Voice.of_speaker(np.ones(8), 16)
  assert voice.tokens.shape == (0,) and voice.mel_TM.shape == (0, 16)
  assert voice.speaker_D.dtype == np.float32
