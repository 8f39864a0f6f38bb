"""Reverberation times and direct sounds, against closed forms."""

import numpy as np
import pytest
import soundfile

from step_audio_jax import errors
from step_audio_jax.audio.augmentation import base
from step_audio_jax.audio.augmentation import pools
from step_audio_jax.audio.augmentation import rooms
from tests.audio.augmentation import speech

RATE = speech.RATE


@pytest.mark.parametrize('rt60', [0.1, 0.37, 1.5])
@pytest.mark.parametrize('delay', [0.0, 0.013])
def test_a_tail_falls_as_asked(rt60, delay):
  made = rooms.tail_response(rt60, RATE, direct_db=6.0, delay=delay, seed=3)
  found = rooms.reverberation_time(made, RATE)
  assert found == pytest.approx(rt60, rel=0.002)
  assert made[0] == 1
  assert not made[1 : 1 + round(delay * RATE)].any()
  ratio = -10 * np.log10(np.sum(made[1:] ** 2))
  assert ratio == pytest.approx(6.0, abs=1e-9)


def test_time_of_a_response_that_has_none():
  for made in ([], [1.0], [1.0, 0.5], [1.0, 0.0, 0.0]):
    assert rooms.reverberation_time(np.array(made), RATE) == 0


@pytest.mark.parametrize('count', [0, 1, 5, 4000])
def test_the_direct_sound_stays_where_it_was(count):
  wave = np.zeros(count, np.float32)
  wave[count // 2 :][:1] = 0.5
  tail = rooms.Tail(0.3, 20.0, 0.005, 1)
  found, _ = tail.apply(wave, RATE)
  assert found.dtype == np.float32 and len(found) == count
  np.testing.assert_allclose(
    found[: count // 2 + 1], wave[: count // 2 + 1], atol=1e-6
  )


def test_convolution_is_the_direct_sum():
  rng = np.random.default_rng(0)
  wave = rng.normal(size=257).astype(np.float32)
  for size in (1, 40, 257, 400):
    response = rng.normal(size=size)
    expected = np.convolve(wave.astype(float), response)[:257]
    found = rooms.reverberated(wave, response)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize('rt60', [0.15, 0.3])
def test_a_room_has_the_time_asked_for(rt60):
  size = (4.0, 5.0, 3.0)
  mouth, ear = (1.0, 2.0, 1.5), (2.0, 3.0, 1.2)
  made, reflection = rooms.room_response(size, mouth, ear, rt60, RATE)
  found = rooms.reverberation_time(made, RATE)
  assert found == pytest.approx(rt60, rel=0.01)
  assert 0 < reflection < 1
  assert made[0] == pytest.approx(1.0)


def test_the_first_images_are_where_geometry_has_them():
  size, mouth, ear = (10.0, 9.0, 8.0), (3.0, 4.0, 4.0), (5.0, 4.0, 4.0)
  found = rooms._images(size, mouth, ear, 0.1, RATE)
  assert found[0, 0] == 1 and np.count_nonzero(found[0]) == 1

  def place(distance):
    return round((distance - 2.0) / rooms.SOUND * RATE)

  first = found[1]
  # Floor and ceiling: 8 m of detour, in the plane of both.
  side = np.hypot(2.0, 8.0)
  assert first[place(side)] >= 2 * 2.0 / side - 1e-9
  assert first[place(8.0)] >= 2.0 / 8.0 - 1e-9  # the wall behind the mouth
  assert first[place(12.0)] >= 2.0 / 12.0 - 1e-9  # the wall behind the ear
  assert first.sum() == pytest.approx(
    2 / 8 + 2 / 12 + 2 * 2 / side + 2 / np.hypot(2, 8) + 2 / np.hypot(2, 10)
  )


def test_places_are_inside_and_as_far_apart_as_can_be():
  for seed in range(50):
    mouth, ear = rooms.places((3.0, 4.0, 2.5), 1.0, seed)
    assert np.linalg.norm(np.subtract(mouth, ear)) == pytest.approx(1.0)
    for at, length in zip((*mouth, *ear), (3.0, 4.0, 2.5) * 2):
      assert 0.3 <= at <= length - 0.3
  mouth, ear = rooms.places((2.0, 2.0, 2.0), 30.0, 0)
  assert 0.3 <= min(*mouth, *ear) and max(*mouth, *ear) <= 1.7 + 1e-9


def test_a_room_by_its_dataclass():
  wave = speech.speech(0.3)
  room = rooms.Room(0.15, 3.0, 3.5, 2.5, 0.6, 4)
  found, told = room.apply(wave, RATE)
  assert len(found) == len(wave) and np.isfinite(found).all()
  assert told['distance'] == pytest.approx(0.6)
  assert told['rt60'] == pytest.approx(0.15, rel=0.01)
  assert abs(speech.lag(wave, found)) <= 1


def test_recorded_responses(tmp_path):
  folder = tmp_path / 'responses'
  folder.mkdir()
  recorded = np.zeros(800)
  recorded[90:94] = (0.02, -0.5, 0.25, 0.1)  # noise before, a turned sign
  soundfile.write(folder / 'hall.wav', recorded, RATE, 'DOUBLE')
  pool = pools.Folder(str(folder))
  wave = speech.speech(0.2)
  drawn = rooms.Impulse(pool).drawn(np.random.default_rng(0))
  assert drawn.recording == 'hall.wav'
  found, told = drawn.apply(wave, RATE)
  expected = wave - 0.5 * np.pad(wave, (1, 0))[:-1]
  expected -= 0.2 * np.pad(wave, (2, 0))[:-2]
  np.testing.assert_allclose(found, expected, atol=1e-5)
  assert told['sources'][0]['sha256'] == pools.digest(
    pool.read('hall.wav', RATE)
  )
  with pytest.raises(errors.UserError, match='no recording besides'):
    rooms.Impulse(pool).drawn(np.random.default_rng(0), avoid='hall.wav')
  with pytest.raises(errors.UserError, match='recording: found none'):
    rooms.Impulse(pool).check_settled()


def test_louder_by_the_tail_only():
  wave = speech.speech()
  found, _ = rooms.Tail(0.2, 0.0, 0.0, 1).apply(wave, RATE)
  gain = 10 * np.log10(base.power(found) / base.power(wave))
  assert 0.5 < gain < 6
