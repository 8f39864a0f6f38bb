"""A voice that is asked for a style does what it can itself."""

import numpy as np
import pytest

from data_pipelines.synthesis.voices import espeak
from data_pipelines.synthesis.voices import speakers
from data_pipelines.synthesis.voices import styled
from step_audio_jax import errors
from step_audio_jax.audio.meters import measure as measure_lib
from step_audio_jax.styles import markup

TEXT = 'the red cat sees a dog'


def spoken(marked, factor=1.0, **how):
  voice = espeak.Espeak()
  speaker = speakers.Speaker(
    'm1', voice.name, voice.sha256, 'm1', voice.languages, factor
  )
  return styled.speak(
    voice, markup.parse(marked), speaker=speaker, language='en', **how
  )


def told(marked, **how):
  speech = spoken(marked, **how).speech
  return measure_lib.measure(speech.samples, speech.sample_rate, TEXT)


def test_the_voice_speaks_faster_and_higher_itself():
  still = told(TEXT)
  found = spoken(f'(fast 2)(high pitch 3){TEXT}')
  meters = measure_lib.measure(
    found.speech.samples, found.speech.sample_rate, TEXT
  )
  assert meters.rate / still.rate == pytest.approx(1.12**2, rel=0.08)
  assert meters.f0_semitones - still.f0_semitones == pytest.approx(3, abs=0.5)
  # Nothing was stretched.
  kinds = [one['kind'] for one in found.provenance['operations']]
  assert kinds == ['gain', 'ceiling'] or kinds == ['gain']
  assert found.provenance['by_voice']['rate'] == pytest.approx(1.12**2)


def test_what_no_voice_keeps_well_is_left_to_samples():
  found = spoken(f'(slow 5)(high pitch 5){TEXT}')
  kinds = [one['kind'] for one in found.provenance['operations']]
  assert kinds[0] == 'tempo' and 'speed' not in kinds
  still = spoken(TEXT).speech
  longer = len(found.speech.samples) / found.speech.sample_rate
  shorter = len(still.samples) / still.sample_rate
  assert longer / shorter == pytest.approx(1.12**5, rel=0.1)


def test_pauses_are_before_their_words():
  plain, found = spoken(TEXT), spoken('the red cat (pause 3)sees a dog')
  assert found.speech.words[3][0] == TEXT.index('sees')
  before, behind = plain.speech.words, found.speech.words
  assert behind[2] == before[2]
  assert behind[3][1] - before[3][1] == pytest.approx(0.7, abs=1e-6)
  # Where the word begins there is silence before it.
  at = round(behind[3][1] * found.speech.sample_rate)
  quiet = found.speech.samples[at - 8000 : at - 2000]
  assert not np.abs(quiet).max() > 1e-3


def test_the_same_is_said_twice():
  one, two = (spoken(f'(slow 1){TEXT}', seed=3) for _ in range(2))
  np.testing.assert_array_equal(one.speech.samples, two.speech.samples)
  assert one.provenance == two.provenance


def test_what_cannot_be_spoken_is_told():
  with pytest.raises(errors.UserError, match='made of no other speech'):
    spoken('(sad 1)hello')
  with pytest.raises(errors.UserError, match='expected one for all'):
    spoken('(fast 1)hello (slow 1)you')
