"""Pieces of Griffin-Lim, faded and put together."""

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.decoder import voice as voice_lib
from step_audio_jax.decoder.vocoder import piecewise
from step_audio_jax.decoder.vocoder import vocoder
from tests.decoder import tiny_decoder as tiny


def tone(seconds, hertz=220.0):
  t = np.arange(int(seconds * tiny.MEL.sample_rate)) / tiny.MEL.sample_rate
  return (0.3 * np.sin(2 * np.pi * hertz * t)).astype('f')


def pushed(stream, mel_TM, size):
  parts = [
    stream.push(mel_TM[begin : begin + size], begin + size >= len(mel_TM))
    for begin in range(0, len(mel_TM), size)
  ]
  return np.concatenate(parts)


@pytest.mark.parametrize('frames', [1, 12, 48, 63, 64, 65, 150])
@pytest.mark.parametrize('size', [1, 40, 999])
def test_lengths_are_those_of_the_frames(frames, size):
  stream = piecewise.PiecewiseVocoder(tiny.Steps())
  mel = np.random.default_rng(0).normal(size=(frames, 16)).astype('f')
  assert len(pushed(stream, mel, size)) == 64 * frames


def test_a_local_vocoder_is_put_together_as_it_was():
  # Slowly rising steps: the best move is within a frame, so is the error.
  mel = np.repeat(np.linspace(-1, 1, 200)[:, None], 16, axis=1).astype('f')
  stream = piecewise.PiecewiseVocoder(tiny.Steps())
  found = pushed(stream, mel, 7)
  np.testing.assert_allclose(found, tiny.Steps().wave(mel), atol=0.03)


def test_the_seams_of_a_tone_are_not_heard():
  wave = tone(1.2)
  mel = voice_lib.log_mel(wave, tiny.MEL)
  stream = piecewise.PiecewiseVocoder(vocoder.GriffinLim(tiny.MEL))
  found = pushed(stream, mel, 10)
  again = voice_lib.log_mel(found, tiny.MEL)
  whole = voice_lib.log_mel(vocoder.GriffinLim(tiny.MEL).wave(mel), tiny.MEL)
  inside = slice(10, len(mel) - 10)
  loud = mel[inside] > mel.max() - 4
  streamed, oneshot = (
    np.abs(m[inside] - mel[inside])[loud].mean() for m in (again, whole)
  )
  assert streamed < oneshot + 0.15


def test_a_stream_starts_again_and_refuses_what_is_no_mel():
  stream = piecewise.PiecewiseVocoder(tiny.Steps())
  mel = np.random.default_rng(0).normal(size=(130, 16)).astype('f')
  one, two = pushed(stream, mel, 33), pushed(stream, mel, 130)
  np.testing.assert_allclose(one, two, atol=1e-6)
  with pytest.raises(errors.UserError, match='frame 1 is not finite'):
    stream.push(np.array([[0.0] * 16, [np.nan] * 16]))
