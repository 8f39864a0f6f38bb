"""Figures of the sound, against closed forms."""

import numpy as np
import pytest

from data_pipelines.factory.gates import activity
from data_pipelines.factory.gates import base
from data_pipelines.factory.gates import sound
from step_audio_jax import errors
from step_audio_jax.audio import levels
from tests.data_pipelines.factory import takes

RATE = takes.RATE


def test_duration():
  assert sound.Duration().score(takes.take(takes.tone(1.5))) == 1.5
  (verdict,) = sound.Duration(2.0, 9.0).judge([takes.take(takes.tone(1.5))])
  assert verdict.outcome == base.FAILED and verdict.score == 1.5
  assert verdict.reason == 'duration: 1.5 s, expected at least 2 s.'
  (verdict,) = sound.Duration(0.1, 1.0).judge([takes.take(takes.tone(1.5))])
  assert verdict.reason == 'duration: 1.5 s, expected at most 1 s.'


@pytest.mark.parametrize('rate', [8000, 16000, 44100])
def test_level_is_of_what_is_active(rate):
  made = takes.take(
    takes.silence(1.0, rate), takes.tone(1.0, 0.1, rate=rate), rate=rate
  )
  # A sine of 0.1: −20 − 3.01 dB; frames at the edge are half empty.
  assert sound.Level().score(made) == pytest.approx(-23.01, abs=0.15)
  assert sound.Level().score(takes.take(takes.silence(1))) == -np.inf
  (verdict,) = sound.Level().judge([takes.take(takes.silence(1))])
  assert verdict.outcome == base.FAILED and '-inf dB' in verdict.reason


def test_clipping_at_any_limit():
  wave = takes.tone(1.0, 0.8)
  assert levels.clipped_share(wave) == 0
  for limit in (0.1, 0.5, 0.7):
    cut = np.clip(wave, -limit, limit)
    expected = np.mean(np.abs(wave) > limit)
    assert levels.clipped_share(cut) == pytest.approx(expected, abs=0.02)
    # On one side only.
    expected = np.mean(wave > limit)
    assert levels.clipped_share(np.minimum(wave, limit)) == pytest.approx(
      expected, abs=0.02
    )
  beyond = np.array([0.1, 1.0, -1.2, 0.0], np.float32)
  assert levels.clipped_share(beyond) == 0.5
  assert levels.clipped_share(takes.silence(1)) == 0
  assert levels.clipped_share(takes.silence(0)) == 0
  # The top of a slow tone of 16 bits is no clipping.
  slow = np.round(takes.tone(1.0, 0.8, 100.0) * 32767) / 32768
  assert levels.clipped_share(slow) < 0.001


def test_silence_in_three_places():
  made = takes.take(
    takes.silence(0.4), takes.tone(1.0), takes.silence(0.3),
    takes.tone(0.5), takes.silence(0.8),
  )  # fmt: skip
  where = {name: sound.Silence(where=name) for name in sound.WHERE}
  assert where['all'].score(made) == pytest.approx(0.5, abs=0.03)
  assert where['leading'].score(made) == pytest.approx(0.4, abs=0.03)
  assert where['trailing'].score(made) == pytest.approx(0.8, abs=0.03)
  assert [one.name for one in where.values()] == [
    'silence_all', 'silence_leading', 'silence_trailing',
  ]  # fmt: skip
  mute = takes.take(takes.silence(2.0))
  assert [one.score(mute) for one in where.values()] == [1.0, 2.0, 2.0]
  (verdict,) = where['leading'].judge([mute])
  assert verdict.reason == 'silence_leading: 2 s, expected at most 0.6 s.'


def test_activity_is_what_step_audio_trims_by():
  import jax.numpy as jnp

  from step_audio_jax.audio import preparation

  rng = np.random.default_rng(0)
  wave = rng.normal(size=9000).astype(np.float32) * 0.1
  wave *= np.interp(np.arange(9000), [0, 3000, 4500, 9000], [0, 0.01, 1, 0.02])
  found = activity.bounds(wave, RATE, 20.0)
  start, stop = preparation.active_bounds(
    jnp.asarray(wave)[None], jnp.array([9000])
  )
  assert found == (int(start[0]), int(stop[0]))


@pytest.mark.parametrize('snr', [5.0, 15.0, 30.0])
def test_noise_is_estimated(snr):
  rng = np.random.default_rng(1)
  wave = np.concatenate(
    [takes.tone(1.0), takes.silence(0.5), takes.tone(1.0), takes.silence(0.5)]
  )
  noise = rng.normal(size=len(wave))
  noise *= np.sqrt(np.mean(wave**2) / np.mean(noise**2)) * 10 ** (-snr / 20)
  found = sound.estimated_snr((wave + noise).astype('f'), RATE)
  assert found == pytest.approx(snr, abs=1.0)


def test_noise_where_there_is_nothing_to_measure():
  clean = takes.take(takes.tone(0.5), takes.silence(0.5))
  (verdict,) = sound.Noise().judge([clean])
  assert verdict == ('noise', base.PASSED, np.inf, '')
  for wave in (takes.silence(1.0), takes.tone(0.01)):
    (verdict,) = sound.Noise().judge([takes.take(wave)])
    assert verdict.outcome == base.UNMEASURED
    assert 'expected sound of several frames' in verdict.reason
  # Without pauses it seems worse, never better.
  assert sound.Noise().score(takes.take(takes.tone(1.0))) < 5


@pytest.mark.parametrize('count', [1, 2, 100, 511])
def test_short_takes_are_measured(count):
  made = takes.take(np.full(count, 0.3, np.float32))
  for gate in (sound.Duration(), sound.Level(), sound.Clipping(),
               sound.Silence(), sound.Noise()):  # fmt: skip
    (verdict,) = gate.judge([made])
    assert verdict.outcome in base.OUTCOMES


@pytest.mark.parametrize(
  'make, message',
  [
    (lambda: sound.Duration(3.0, 1.0), 'duration: least, most: found 3.0, 1.0'),
    (lambda: sound.Duration(None, None), 'duration: .* found neither'),
    (lambda: sound.Level(float('nan')), 'level: .* found nan'),
    (lambda: sound.Level('loud'), "level: .* found 'loud'"),
    (lambda: sound.Level(True), 'level: .* found True'),
    (lambda: sound.Clipping(name=''), 'Clipping: name: found'),
    (lambda: sound.Silence(where='middle'), "where: found 'middle'"),
  ],
)
def test_bad_settings(make, message):
  with pytest.raises(errors.UserError, match=message):
    make()
