"""espeak-ng in process: real sound, word times, the same every time."""

import numpy as np
import pytest

from data_pipelines.synthesis.voices import espeak
from step_audio_jax import errors


def test_words_are_reported_where_they_stand():
  text = 'the red cat sees a stone'
  speech = espeak.speak(text, voice='en-us+m1')
  assert speech.samples.dtype == np.float32
  assert 1.0 < len(speech.samples) / speech.sample_rate < 3.0
  assert 0.15 < np.abs(speech.samples).max() <= 1
  places = [place for place, _ in speech.words]
  assert places == [0, 4, 8, 12, 17, 19]
  times = [time for _, time in speech.words]
  assert times == sorted(times)
  assert times[-1] < len(speech.samples) / speech.sample_rate


def test_the_past_does_not_change_the_sound():
  def say():
    return espeak.speak('小猫 喜欢 书', voice='cmn+f2', seed=3).samples

  first = say()
  espeak.speak('something else', voice='en-us+m3')
  np.testing.assert_array_equal(first, say())


def test_every_argument_changes_the_sound():
  base = dict(voice='en-us+m1', rate=150, pitch=50, seed=1)
  first = espeak.speak('the cat sees', **base).samples
  for change in ({'voice': 'en-us+f2'}, {'rate': 180}, {'pitch': 60}):
    other = espeak.speak('the cat sees', **{**base, **change}).samples
    assert len(other) != len(first) or (other != first).any(), change
  fast = espeak.speak('the cat sees', **{**base, 'rate': 250}).samples
  assert len(fast) < 0.75 * len(first)


def test_mandarin_characters_are_pronounced():
  one = espeak.speak('书', voice='cmn')
  three = espeak.speak('书书书', voice='cmn')
  assert len(three.samples) > 2 * len(one.samples)
  # A letter name or "Chinese character" would be much longer than a syllable.
  assert len(one.samples) / one.sample_rate < 0.7


@pytest.mark.parametrize(
  'change, said',
  [
    ({'voice': 'nowhere'}, "no 'nowhere'"),
    ({'rate': 20}, 'rate: found 20'),
    ({'pitch': 200}, 'pitch: found 200'),
  ],
)
def test_bad_arguments_are_said(change, said):
  with pytest.raises(errors.UserError, match=said):
    espeak.speak('a', **{'voice': 'en-us', **change})
