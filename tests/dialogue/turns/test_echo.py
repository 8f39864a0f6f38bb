"""What we play is told from who speaks over it."""

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.dialogue.turns import echo
from step_audio_jax.dialogue.turns import vad
from tests.dialogue.turns import voices

RATE, FRAME = vad.RATE, vad.FRAME


def _marks(heard_S, played_S, at=0.0, settings=echo.Settings()) -> np.ndarray:
  judge = echo.Echo(settings)
  judge.played(at, played_S)
  return np.array(
    [
      judge.hears((n + FRAME) / RATE, heard_S[n : n + FRAME])
      for n in range(0, len(heard_S) - FRAME + 1, FRAME)
    ]
  )


def _delayed(sound_S, seconds):
  silence_S = np.zeros(round(seconds * RATE))
  return np.concatenate([silence_S, sound_S])[: len(sound_S)]


@pytest.mark.parametrize('gain', [0.05, 1.5])
@pytest.mark.parametrize('delay', [0.0, 0.11, 0.48])
def test_echo_of_any_gain_and_delay_is_marked(gain, delay):
  rng = np.random.default_rng(0)
  played_S = voices.voice(1, 1.5, 120)
  heard_S = gain * _delayed(played_S, delay)
  heard_S += 0.02 * gain * rng.standard_normal(len(heard_S)) * 0.1
  marks = _marks(heard_S, played_S)
  assert marks[int((delay + 0.2) * RATE / FRAME) + 1 :].mean() > 0.95


def test_echo_of_a_room_is_marked():
  rng = np.random.default_rng(0)
  room_S = rng.standard_normal(1600) * np.exp(-np.arange(1600) / 150)
  room_S[0] = 5.0
  played_S = voices.voice(1, 1.5, 120)
  heard_S = 0.2 * np.convolve(_delayed(played_S, 0.2), room_S)[: len(played_S)]
  assert _marks(heard_S, played_S)[14:].mean() > 0.9


def test_who_speaks_over_the_echo_is_heard():
  played_S, user_S = voices.voice(1, 2.0, 120), voices.voice(2, 2.0, 205)
  user_S[:RATE] = 0
  marks = _marks(0.5 * _delayed(played_S, 0.15) + user_S, played_S)
  assert marks[12:30].mean() > 0.95
  assert marks[32:].mean() < 0.1


def test_who_speaks_while_another_thing_is_played_is_heard():
  user_S = _delayed(voices.voice(2, 1.5, 205), 0.1)
  marks = _marks(user_S, voices.voice(1, 1.5, 120))
  assert marks.mean() < 0.1


def test_nothing_is_echo_where_nothing_is_played_or_it_was_stopped():
  heard_S = voices.voice(1, 1.0, 120)
  assert not _marks(heard_S, np.zeros(0)).any()
  assert not _marks(heard_S, heard_S, at=5.0).any()
  judge = echo.Echo()
  judge.played(0.0, heard_S)
  judge.stopped(0.0)
  assert not judge.hears(0.032, heard_S[:FRAME])


def test_parts_that_are_played_one_behind_another_are_one_sound():
  played_S = voices.voice(1, 1.5, 120)
  judge = echo.Echo()
  marks = []
  for n in range(0, len(played_S) - FRAME, FRAME):
    judge.played(n / RATE, played_S[n : n + FRAME])
    marks.append(judge.hears((n + FRAME) / RATE, played_S[n : n + FRAME]))
  assert np.mean(marks[6:]) > 0.95


def test_settings_that_cannot_be():
  with pytest.raises(errors.UserError, match='taps is 0, expected 1 to 512'):
    echo.Settings(taps=0)


def test_products_of_shifts_are_those_of_all_pairs():
  part_S = np.random.default_rng(0).standard_normal(60)
  views_SK = np.lib.stride_tricks.sliding_window_view(part_S, 11)
  np.testing.assert_allclose(echo._gram(part_S, 11), views_SK.T @ views_SK)
