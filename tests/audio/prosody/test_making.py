"""Levels that are made are found by the meters, and can be made again."""

import json

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.audio.augmentation import chain
from step_audio_jax.audio.meters import measure as measure_lib
from step_audio_jax.audio.prosody import making
from step_audio_jax.audio.prosody import recipes
from step_audio_jax.styles import markup
from step_audio_jax.styles import tags
from tests.audio.meters import sounds

WORDS = [('one', 0.0, 1.0), ('two', 1.0, 1.8), ('three', 1.8, 2.4)]
TEXT = 'one two three'
WAVE = sounds.syllables(12, 0.2, 140.0)


def made(marked, **how):
  how = {'words': WORDS, **how}
  return making.make(WAVE, sounds.RATE, markup.parse(marked), **how)


def told(marked, **how):
  return measure_lib.measure(made(marked, **how).samples, sounds.RATE, TEXT)


def levels(high, low):
  names = {k: high for k in range(1, 6)} | {-k: low for k in range(1, 6)}
  return {k: f'({name} {abs(k)}){TEXT}' for k, name in names.items()}


def test_speed_levels_are_rates():
  still = told(TEXT)
  for level, marked in levels('fast', 'slow').items():
    found = told(marked)
    assert found.rate / still.rate == pytest.approx(1.12**level, rel=0.03)
    assert found.f0_semitones == pytest.approx(still.f0_semitones, abs=0.15)


def test_pitch_levels_are_semitones():
  still = told(TEXT)
  for level, marked in levels('high pitch', 'low pitch').items():
    found = told(marked)
    assert found.f0_semitones - still.f0_semitones == pytest.approx(
      level, abs=0.15
    )
    assert found.rate == pytest.approx(still.rate, rel=0.03)


def test_volume_levels_are_decibels_from_the_reference():
  assert told(TEXT).level_db == pytest.approx(making.REFERENCE_DB, abs=0.1)
  for level, marked in levels('loud', 'quiet').items():
    assert told(marked).level_db == pytest.approx(
      making.REFERENCE_DB + 2 * level, abs=0.2
    )
  # However loud it was before.
  spans = markup.parse('(loud 2)one')
  quiet = making.make(0.05 * WAVE, sounds.RATE, spans)
  found = measure_lib.measure(quiet.samples, sounds.RATE)
  assert found.level_db == pytest.approx(making.REFERENCE_DB + 4, abs=0.2)


def test_pause_levels_are_silences():
  assert told(TEXT).pauses == 0
  for level, seconds in enumerate(recipes.PAUSES, start=1):
    found = told(f'one (pause {level})two three')
    assert found.pauses == 1
    assert found.pause_seconds == pytest.approx(seconds, abs=0.15)
  assert told('one (pause 1)two (pause 3)three').pauses == 2


def test_words_follow():
  found = made('(fast 2)one (pause 2)two (pause 1)three')
  rate = 1.12**2
  wanted = [
    ('one', 0.0, 1.0 / rate),
    ('two', 1.0 / rate + 0.45, 1.8 / rate + 0.45),
    ('three', 1.8 / rate + 0.7, 2.4 / rate + 0.7),
  ]
  for (word, *times), (name, *right) in zip(found.words, wanted, strict=True):
    assert word == name and times == pytest.approx(right, abs=1e-3)
  assert len(found.samples) / sounds.RATE == pytest.approx(
    2.4 / rate + 0.7, abs=2e-3
  )
  assert made('one (pause 1)two three', places=[0, 4, 8]).words == (
    made('one (pause 1)two three').words
  )


def test_what_was_done_is_written_and_can_be_done_again():
  marked = '(slow 1)(high pitch 2)(quiet 3)one (pause 2)two three'
  found = made(marked)
  value = json.loads(json.dumps(found.provenance, allow_nan=False))
  assert value['levels'] == recipes.VERSION
  assert value['marked'] == markup.write(markup.parse(marked))
  assert value['recipe'] == recipes.of(markup.parse(marked)[0].style).to_json()
  kinds = [one['kind'] for one in value['operations']]
  assert kinds == ['speed', 'tempo', 'gain', 'pauses']
  again = chain.replay(WAVE, sounds.RATE, value)
  np.testing.assert_array_equal(found.samples, again)


def test_what_the_voice_has_done_is_not_done_again():
  done = recipes.Recipe(rate=1.12**2, semitones=3.0)
  found = made('(fast 2)(high pitch 3)one', done=done, reference_db=None)
  np.testing.assert_array_equal(found.samples, WAVE)
  assert not found.provenance['operations']
  assert found.provenance['by_voice'] == done.to_json()
  rest = made('(fast 4)one', done=recipes.Recipe(1.12))
  assert rest.provenance['operations'][0]['factor'] == pytest.approx(1.12**3)


@pytest.mark.parametrize('speed', ['fast', 'slow'])
@pytest.mark.parametrize('pitch', ['high pitch', 'low pitch'])
def test_the_furthest_levels_together(speed, pitch):
  found = made(f'({speed} 5)({pitch} 5)one')
  rate = 1.12 ** (5 if speed == 'fast' else -5)
  assert len(found.samples) == pytest.approx(len(WAVE) / rate, abs=4)


def test_no_sample_passes_full_scale():
  wave = np.zeros(16000, np.float32)
  wave[4000:12000] = 0.1 * sounds.buzz(0.5)
  wave[8000] = 0.9  # a crack far above the rest
  found = making.make(wave, sounds.RATE, markup.parse('(loud 5)one'))
  assert np.abs(found.samples).max() <= 1
  assert found.provenance['operations'][-1]['measured']['gain_db'] < 0


@pytest.mark.parametrize(
  'marked, how, message',
  [
    ('(sad 1)one', {}, 'made of no other speech'),
    ('(fast 1)one (fast 2)two', {}, r'found \(fast 1\) and \(fast 2\)'),
    ('one (fast 2)two', {}, r'found \(fast 2\) and \(normal\)|\(normal\) and'),
    ('one (pause 1)two', {'words': None}, 'words: missing'),
    ('un (pause 1)deux', {}, "words: 'one' does not occur"),
  ],
)
def test_what_cannot_be_made(marked, how, message):
  with pytest.raises(errors.UserError, match=message):
    made(marked, **how)


def test_no_sound_has_no_level():
  for wave in (sounds.quiet(1.0), sounds.quiet(0.0)):
    with pytest.raises(errors.UserError, match='no sound in it'):
      making.make(wave, sounds.RATE, markup.parse('(loud 1)one'))
  with pytest.raises(errors.UserError, match='expected finite'):
    making.make(WAVE * np.float32(np.nan), 16000, markup.parse('one'))


def test_no_spans_are_no_style():
  with pytest.raises(errors.UserError, match='found no text'):
    making.one_style(())
  assert making.one_style(markup.parse('one')) == tags.Style()
