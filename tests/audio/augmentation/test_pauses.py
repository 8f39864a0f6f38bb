"""Silences between words: as long as asked, where it is quiet."""

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.audio.augmentation import chain
from step_audio_jax.audio.augmentation import pauses

RATE = 16000


def two_words(gap=0.03):
  """Half a second each, with a short silence between."""
  time = np.arange(RATE // 2) / RATE
  word = (0.3 * np.sin(2 * np.pi * 150 * time)).astype(np.float32)
  return np.concatenate([word, np.zeros(round(gap * RATE), 'f'), word])


@pytest.mark.parametrize('place', [0.48, 0.5, 0.515, 0.54])
def test_the_cut_is_where_it_is_quiet(place):
  wave = two_words()
  operation = pauses.Pauses((place,), (0.4,))
  made, measured = operation.apply(wave, RATE)
  assert len(made) == len(wave) + 6400 and made.dtype == np.float32
  (cut,) = measured['cuts']
  assert 0.5 <= cut <= 0.53
  at = round(cut * RATE)
  assert not made[at : at + 6400].any()
  # All but the edges is as it was.
  np.testing.assert_array_equal(made[: at - 80], wave[: at - 80])
  np.testing.assert_array_equal(made[at + 6480 :], wave[at + 80 :])


def test_edges_fade_in_loud_sound():
  wave = np.full(RATE, 0.5, np.float32)
  made, _ = pauses.Pauses((0.5,), (0.2,)).apply(wave, RATE)
  assert np.abs(np.diff(made)).max() < 0.5 / 40


@pytest.mark.parametrize('place, begins', [(0.0, True), (1.03, False)])
def test_pauses_at_the_ends(place, begins):
  wave = two_words()
  made, _ = pauses.Pauses((place,), (0.1,)).apply(wave, RATE)
  assert len(made) == len(wave) + 1600
  silent = made[:1600] if begins else made[-1600:]
  assert not silent.any()


def test_times_move_by_what_is_before_them():
  moved = pauses.Pauses((0.5, 1.0), (0.4, 0.2)).moved
  assert moved(0.1, 0.5) == (0.1, 0.5)  # ends where the pause begins
  assert moved(0.5, 0.9) == pytest.approx((0.9, 1.3))
  assert moved(1.0, 1.4) == pytest.approx((1.6, 2.0))
  assert moved(0.2, 1.2) == pytest.approx((0.2, 1.8))  # around both


def test_it_can_be_done_again():
  wave = two_words()
  operation = pauses.Pauses((0.1, 0.5), (0.3, 0.4))
  changed = chain.apply(wave, RATE, (operation,))
  again = chain.replay(wave, RATE, changed.provenance)
  np.testing.assert_array_equal(changed.samples, again)
  assert chain.read(changed.provenance) == (operation,)


@pytest.mark.parametrize('samples', [0, 1, 50])
def test_short_sounds(samples):
  made, _ = pauses.Pauses((0.0,), (0.1,)).apply(np.ones(samples, 'f'), RATE)
  assert len(made) == samples + 1600


@pytest.mark.parametrize(
  'places, seconds, message',
  [
    ((0.5, 0.5), (0.1, 0.1), 'places: found .* expected seconds that rise'),
    ((-0.1,), (0.1,), 'expected seconds that rise'),
    ((float('nan'),), (0.1,), 'expected seconds that rise'),
    ((0.5,), (), 'seconds: found .* expected 1 of more than 0'),
    ((0.5,), (0.0,), 'more than 0 and at most 10'),
    ((0.5,), (11.0,), 'more than 0 and at most 10'),
    ((0.5,), (float('nan'),), 'more than 0 and at most 10'),
    (('x',), (0.1,), r"places: found \('x',\), expected numbers"),
    ((0.5,), 0.1, 'seconds: found 0.1, expected numbers'),
  ],
)
def test_what_is_wrong_is_named(places, seconds, message):
  with pytest.raises(errors.UserError, match=message):
    pauses.Pauses(places, seconds)


def test_a_place_behind_the_end_is_named():
  with pytest.raises(errors.UserError, match='found 3.0 s, expected at most'):
    pauses.Pauses((3.0,), (0.1,)).apply(two_words(), RATE)
