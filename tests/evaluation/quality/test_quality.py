"""One recording's figures, against closed forms and the libraries' own."""

import sys

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.evaluation.quality import dnsmos
from step_audio_jax.evaluation.quality import intelligibility
from step_audio_jax.evaluation.quality import quality
from step_audio_jax.evaluation.quality import reasons
from tests.evaluation.quality import sounds

REFERENCED = ('intelligibility', 'spectrum', 'pitch', 'speaker')


class Ear:
  """Says of a recording how loud each half of it is."""

  def embed_batch(self, waves):
    halves = [np.array_split(np.abs(wave_S), 2) for wave_S in waves]
    return np.asarray([[a.mean(), b.mean()] for a, b in halves])


def measured(*args, groups, **keywords):
  return quality.measure(*args, groups=groups, **keywords)


def test_levels_are_closed_forms():
  t = np.arange(48000) / 48000
  tone = (0.5 * np.sin(2 * np.pi * 1000 * t)).astype(np.float32)
  wave_S = np.concatenate([tone, np.zeros(48000, np.float32)])
  found = measured(wave_S, 48000, groups=['levels'])
  figures = found['figures']
  assert figures['peak_db'] == pytest.approx(-6.02, abs=0.01)
  assert figures['level_db'] == pytest.approx(-9.03, abs=0.1)
  assert figures['silence'] == pytest.approx(0.5, abs=0.02)
  assert figures['clipped'] == 0
  assert found['seconds'] == 2 and found['sample_rate'] == 48000
  cut = measured(np.clip(3 * tone, -1, 1), 48000, groups=['levels'])
  # |sin| is above 1 / 1.5 for 1 − 2/π asin(1 / 1.5) of the time.
  assert cut['figures']['clipped'] == pytest.approx(
    1 - 2 / np.pi * np.arcsin(1 / 1.5), abs=0.02
  )
  nothing = measured(np.zeros(9000, np.float32), 48000, groups=['levels'])
  assert nothing['figures']['silence'] == 1


def test_the_same_recording_is_no_way_off():
  pytest.importorskip('pystoi', reason="the extra 'quality' is absent")
  wave_S = sounds.voice()
  found = measured(
    wave_S, 16000, wave_S, groups=['voice', *REFERENCED], encoder=Ear()
  )
  figures = found['figures']
  assert not found['not_computed']
  assert figures['stoi'] == pytest.approx(1, abs=1e-6)
  assert figures['estoi'] == pytest.approx(1, abs=1e-6)
  assert figures['mel'] == figures['mcd'] == figures['f0_cents'] == 0
  assert figures['speaker_similarity'] == pytest.approx(1)
  assert figures['f0_hz'] == pytest.approx(150, rel=0.01)


def test_distances_are_closed_forms():
  # A gain moves each log-mel by its logarithm and nothing else.
  wave_S = sounds.voice() + sounds.noise(size=0.02)
  found = measured(0.5 * wave_S, 16000, wave_S, groups=['spectrum', 'pitch'])
  assert found['figures']['mel'] == pytest.approx(np.log(2), abs=2e-3)
  assert found['figures']['mcd'] == pytest.approx(0, abs=2e-2)
  # A semitone is 100 cents.
  higher = sounds.voice(hz=150 * 2 ** (1 / 12))
  found = measured(higher, 16000, sounds.voice(), groups=['pitch'])
  assert found['figures']['f0_cents'] == pytest.approx(100, abs=3)


def test_rates_meet_at_16_khz():
  pytest.importorskip('pystoi', reason="the extra 'quality' is absent")
  one = measured(
    sounds.voice(rate=24000),
    24000,
    sounds.voice(rate=48000),
    reference_rate=48000,
    groups=['intelligibility', 'spectrum'],
  )
  assert one['figures']['stoi'] > 0.999
  assert one['figures']['mel'] < 0.05


def test_stoi_is_that_of_its_library():
  theirs = pytest.importorskip('pystoi', reason="the extra 'quality' is absent")
  clean_S = sounds.voice(2)
  for size in (0.01, 0.2):
    noisy_S = clean_S + sounds.noise(2, size)
    found = measured(
      noisy_S, 16000, clean_S, groups=['intelligibility']
    )['figures']  # fmt: skip
    for name, extended in (('stoi', False), ('estoi', True)):
      expected = theirs.stoi(
        clean_S.astype('d'), noisy_S.astype('d'), 16000, extended=extended
      )
      assert found[name] == pytest.approx(expected, abs=1e-9)
  assert found['stoi'] < 0.9


def test_what_cannot_be_computed_has_a_reason(monkeypatch):
  wave_S = sounds.voice()

  def reason(*args, name, groups, **keywords):
    found = measured(*args, groups=groups, **keywords)
    assert name not in found['figures']
    return found['not_computed'][name]

  for group in REFERENCED:
    for name in quality.GROUPS[group]:
      assert reason(wave_S, 16000, name=name, groups=[group]) == 'no reference'
  longer_S = np.pad(wave_S, (0, 5000))
  assert 'longer or shorter' in reason(
    wave_S, 16000, longer_S, name='stoi', groups=['intelligibility']
  )
  # Voices are compared whatever is said.
  voices = measured(wave_S, 16000, longer_S, groups=['speaker'], encoder=Ear())
  assert 'speaker_similarity' in voices['figures']
  assert 'no speaker encoder' in reason(
    wave_S, 16000, wave_S, name='speaker_similarity', groups=['speaker']
  )
  assert 'shorter than 0.4 s' in reason(
    wave_S[1600:4800],
    16000,
    wave_S,
    name='speaker_similarity',
    groups=['speaker'],
    encoder=Ear(),
  )
  assert 'less than 16000 Hz' in reason(
    sounds.voice(rate=8000), 8000, name='dnsmos_ovrl', groups=['dnsmos']
  )
  assert 'less than 10000 Hz' in reason(
    wave_S,
    16000,
    sounds.voice(rate=8000),
    reference_rate=8000,
    name='stoi',
    groups=['intelligibility'],
  )
  quiet_S = np.zeros(20000, np.float32)
  for name, group in (('mel', 'spectrum'), ('dnsmos_sig', 'dnsmos')):
    assert 'silence' == reason(
      quiet_S, 16000, quiet_S + wave_S[:1].sum(), name=name, groups=[group]
    ).replace('the reference is ', '')
  assert 'too little voice' == reason(
    sounds.noise(0.3), 16000, name='f0_hz', groups=['voice']
  )

  def missing():
    raise reasons.NotComputed('speechmos is not installed')

  monkeypatch.setattr(dnsmos, 'opened', missing)
  assert 'speechmos' in reason(
    wave_S, 16000, name='dnsmos_bak', groups=['dnsmos']
  )
  monkeypatch.setitem(sys.modules, 'pystoi', None)
  assert 'pystoi is not installed' in reason(
    wave_S, 16000, wave_S, name='estoi', groups=['intelligibility']
  )


def test_too_little_speech_is_no_score():
  pytest.importorskip('pystoi', reason="the extra 'quality' is absent")
  wave_S = np.zeros(16000, np.float32)
  wave_S[4000:6000] = sounds.voice()[2000:4000]
  for clean_S in (wave_S, wave_S[3900:6100]):
    with pytest.raises(reasons.NotComputed, match='less than 0.4 s'):
      intelligibility.score(clean_S, clean_S, 16000)


@pytest.mark.parametrize(
  'wave_S, rate, reason',
  [
    (np.zeros(0, 'f'), 16000, 'empty'),
    (np.full(9000, np.nan, 'f'), 16000, 'samples that are not finite'),
    (np.zeros(1599, 'f'), 16000, 'shorter than 0.1 s'),
    (np.zeros(9000, 'h'), 16000, 'not one channel of floating-point samples'),
    (np.zeros((2, 9000), 'f'), 16000, 'not one channel'),
    (np.zeros(9000, 'f'), 0, 'no sample rate'),
  ],
)
def test_nothing_is_measured_of_what_is_none(wave_S, rate, reason):
  with pytest.raises(reasons.Unfit) as told:
    measured(wave_S, rate, groups=['levels'], name='x.wav')
  assert told.value.reason.startswith(reason)
  assert str(told.value).startswith('x.wav: ')
  with pytest.raises(reasons.Unfit, match='^voice: its reference: '):
    measured(
      sounds.voice(),
      16000,
      wave_S,
      reference_rate=rate or -1,
      groups=['levels'],
      name='voice',
    )


def test_repetition_stands_beside():
  found = measured(
    sounds.voice(),
    16000,
    groups=['levels'],
    text='so it is and so it is',
    codes=[5] * 10,
  )
  # Five of seven words' n-grams; "so it is" comes twice.
  assert found['figures']['text_repetition'] == pytest.approx(1 / 5)
  assert found['figures']['codes_repetition'] == pytest.approx(7 / 8)
  found = measured(sounds.voice(), 16000, groups=['levels'], text='oh no')
  assert 'fewer than 3' in found['not_computed']['text_repetition']


def test_groups_are_known():
  with pytest.raises(errors.UserError, match="groups: found 'mos', expected"):
    measured(sounds.voice(), 16000, groups=['mos'])
  with pytest.raises(errors.UserError, match='groups: found none'):
    measured(sounds.voice(), 16000, groups=[])
