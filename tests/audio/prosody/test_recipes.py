"""What makes a level, and what nothing makes."""

import pytest

from step_audio_jax import errors
from step_audio_jax.audio.prosody import recipes
from step_audio_jax.styles import markup
from step_audio_jax.styles import tags


@pytest.mark.parametrize(
  'style, recipe',
  [
    ('(fast 1)', recipes.Recipe(rate=1.12)),
    ('(fast 2)', recipes.Recipe(rate=1.12**2)),
    ('(slow 3)', recipes.Recipe(rate=1.12**-3)),
    ('(high pitch 2)', recipes.Recipe(semitones=2.0)),
    ('(low pitch 5)', recipes.Recipe(semitones=-5.0)),
    ('(loud 4)', recipes.Recipe(gain_db=8.0)),
    ('(quiet 1)(fast 1)', recipes.Recipe(1.12, 0.0, -2.0)),
    ('(normal)', recipes.Recipe()),
  ],
)
def test_recipes(style, recipe):
  assert recipes.of(markup.style(style)) == recipe


def test_every_level_is_another_one_and_within_what_speech_survives():
  assert len(recipes.PAUSES) == tags.LEVELS
  assert list(recipes.PAUSES) == sorted(set(recipes.PAUSES))
  rates = [recipes.RATE**k for k in range(-tags.LEVELS, tags.LEVELS + 1)]
  assert rates == sorted(set(rates))
  assert 0.5 < rates[0] and rates[-1] < 2
  assert recipes.Recipe(semitones=12.0).pitch_factor == 2


@pytest.mark.parametrize('style', ['(sad 1)', '(四川话)', '(RAP)', '(whisper)'])
def test_what_only_somebody_can_speak(style):
  with pytest.raises(errors.UserError, match='made of no other speech'):
    recipes.of(markup.style(style))
