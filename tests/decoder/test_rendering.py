"""Sentences become one waveform, each in its style."""

import types

import numpy as np
import pytest

from step_audio_jax.decoder import rendering
from step_audio_jax.decoder import text_to_codes
from step_audio_jax.styles import markup

RATE = 16000


def tone(seconds, amplitude=0.1):
  time_S = np.arange(int(seconds * RATE)) / RATE
  return (amplitude * np.sin(2 * np.pi * 200 * time_S)).astype(np.float32)


def spoken(*pieces):
  """A waveform of tones of one second, with what is done to each."""
  decoder = types.SimpleNamespace(
    sample_rate=RATE, decode=lambda *_: (tone(1.0), RATE)
  )
  sentences = [
    text_to_codes.SpokenSentence(
      'words', np.arange(5), True, markup.style(style or 'normal'), gap
    )
    for style, gap in pieces
  ]
  wave_S, first = rendering.waveform(
    decoder, sentences, None, seed=0, steps=1, quiet=True
  )
  assert first is None
  return wave_S


def test_sentences_have_their_gaps():
  plain = spoken(('', None), ('', None))
  assert len(plain) == 2.2 * RATE and not plain[RATE : int(1.2 * RATE)].any()
  assert len(spoken(('', 0.45), ('', 0.0), ('', 1.0))) == 4.45 * RATE


def test_volume_and_speed_are_done_to_the_sound():
  loud = spoken(('', None), ('loud 3', 0.0), ('quiet 5', 0.0))
  power = [
    10 * np.log10(np.mean(loud[k * RATE : (k + 1) * RATE] ** 2))
    for k in range(3)
  ]
  assert power[1] - power[0] == pytest.approx(6, abs=0.05)
  assert power[2] - power[0] == pytest.approx(-10, abs=0.05)
  fast, slow = spoken(('fast 2', None)), spoken(('slow 2', None))
  assert len(fast) / RATE == pytest.approx(1.12**-2, abs=0.03)
  assert len(slow) / RATE == pytest.approx(1.12**2, abs=0.03)
