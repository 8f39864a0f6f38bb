"""Which channel of a recording is heard, and when the mean of all is none."""

import io

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import pytest
import soundfile

from step_audio_jax import errors
from step_audio_jax.audio import channels
from step_audio_jax.audio import io as audio_io

RATE = 16000
CANCEL = 'x.wav: its [24] channels cancel each other in their mean'


def voice(seconds, seed, rate=RATE):
  """Syllables of noise below about 2 kHz, with pauses."""
  rng = np.random.default_rng(seed)
  size = int(seconds * rate)
  spectrum = np.fft.rfft(rng.normal(size=size))
  hz = np.fft.rfftfreq(size, 1 / rate)
  x = np.fft.irfft(spectrum / (1 + (hz / 500) ** 2) * (hz > 80), size)
  loud = np.repeat(rng.choice([0.001, 0.3, 1], int(seconds * 5) + 1), rate // 5)
  return 0.1 * x / x.std() * loud[:size]


def late(x, samples):
  return np.concatenate([np.zeros(samples), x[: len(x) - samples]])


def wav(*columns, rate=RATE, subtype='FLOAT'):
  out = io.BytesIO()
  soundfile.write(out, np.stack(columns, 1), rate, subtype, format='WAV')
  return out.getvalue()


def heard(raw, **part):
  return audio_io.read_audio(raw, name='x.wav', **part)[0]


X, Y = voice(8, 1), voice(8, 2)
N = np.random.default_rng(3).normal(size=(4, len(X)))
HUM = 0.5 * np.sin(np.arange(len(X)) / 400)  # 40 Hz, or 18 at 44.1 kHz
SNR_5 = 10 ** (-5 / 20) * X.std()
LATER = np.arange(len(X)) > 6.4 * RATE

CANCELLING = {
  'negative': (X, -X),
  'nearly negative': (X, -0.999 * X),
  'weaker': (X, -0.7 * X),
  'with an offset': (X + 0.4, -X),
  'with hum': (X + HUM, -X),
  'with noise': (X + SNR_5 * N[0], -X + SNR_5 * N[1]),
  'a sample later': (X, -late(X, 1)),
  'two pairs': (X, -X, Y, -Y),
  'two of four': (X, -X, 0.01 * N[0], 0 * X),
  'at the end': (X, np.where(LATER, -X, X)),
  'the second speaker': (
    np.where(LATER, 2 * Y, X + Y), np.where(LATER, -2 * Y, X - Y),
  ),
}  # fmt: skip
AUDIBLE = {
  'the same': (X, X),
  'two speakers': (X, Y),
  'a dead channel': (X, 0 * X),
  'a channel of hum': (X, HUM),
  'an offset': (X, X + 0.4),
  'weaker by half': (X, -0.4 * X),
  'an array': tuple(late(X, k) for k in (0, 5, 9, 14)),
  'an array with a pole changed': (X, late(X, 5), -late(X, 9), late(X, 14)),
  'wide': (X + 0.05 * N[0], late(X, 3) + 0.05 * N[1]),
  'noise': (0.1 * N[0], 0.1 * N[1]),
}


@pytest.mark.parametrize('rate', [RATE, 44100])
@pytest.mark.parametrize('name', CANCELLING)
def test_a_mean_that_cancels_is_refused(name, rate):
  raw = wav(*CANCELLING[name], rate=rate)
  with pytest.raises(errors.UserError, match=f'^{CANCEL}.*`channel`'):
    heard(raw, sample_rate=rate)
  # The way on: a channel by its number.
  np.testing.assert_allclose(
    heard(raw, sample_rate=rate, channel=1), CANCELLING[name][1], atol=1e-6
  )


@pytest.mark.parametrize('rate', [RATE, 44100])
@pytest.mark.parametrize('name', AUDIBLE)
def test_a_mean_that_does_not_is_heard(name, rate):
  raw = wav(*AUDIBLE[name], rate=rate)
  np.testing.assert_allclose(
    heard(raw, sample_rate=rate), np.mean(AUDIBLE[name], axis=0), atol=1e-6
  )


@pytest.mark.parametrize('k', [1, 0.9, 0.6, 0.46, 0.44, 0.3, 0, -0.5, -1])
def test_the_limit_is_a_quarter(k):
  """R of x beside −k x is (1 − k)² / (1 + k²)."""
  raw = wav(X, -k * X)
  if (1 - k) ** 2 / (1 + k * k) < 0.25:
    with pytest.raises(errors.UserError, match=CANCEL):
      heard(raw)
  else:
    np.testing.assert_allclose(heard(raw), (1 - k) / 2 * X, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([*CANCELLING, *AUDIBLE]), st.integers(1, 40000))
def test_blocks_do_not_decide(name, size):
  """Also blocks of one sample, or of more than there is."""
  table = np.stack((CANCELLING | AUDIBLE)[name], 1).astype(np.float32)
  table = table[:20000] if size < 100 else table
  outcomes = []
  for step in (size, len(table)):
    mix = channels.Mixdown(table.shape[1], RATE)
    parts = [mix(table[i : i + step]) for i in range(0, len(table), step)]
    try:
      mix.finish()
      outcomes.append(None)
    except errors.UserError as error:
      outcomes.append(str(error))
    np.testing.assert_array_equal(np.concatenate(parts), table.mean(axis=1))
  assert outcomes[0] == outcomes[1]


def test_a_part_is_judged_by_itself():
  """Its place in the recording is what the sentence names."""
  raw = wav(*CANCELLING['at the end'])
  np.testing.assert_allclose(heard(raw, duration=6.0), X[:96000], atol=1e-6)
  with pytest.raises(errors.UserError, match=r'100 %.*first at 6\.5 s'):
    heard(raw, offset=6.5)


def test_a_long_recording_may_lose_a_twentieth_but_not_two_seconds():
  x = np.concatenate([voice(8, seed) for seed in range(10)])
  place = np.arange(len(x)) / RATE
  for seconds, refused in ((1.0, False), (3.0, True), (5.0, True)):
    lost = (place > 40) & (place < 40 + seconds)
    raw = wav(x, np.where(lost, -x, x))
    if refused:
      with pytest.raises(errors.UserError, match='first at 40.'):
        heard(raw)
    else:
      assert len(heard(raw)) == len(x)


def test_short_parts_are_judged_too():
  for samples in (160, 1600, 7000, 9000):
    raw = wav(X[3000 : 3000 + samples], -X[3000 : 3000 + samples])
    with pytest.raises(errors.UserError, match=CANCEL):
      heard(raw)


def test_channels_by_number():
  raw = wav(X, Y, N[0] * 0.1, -X)
  for channel, want in (
    (0, X), (3, -X), ([1], Y), ((0, 1), (X + Y) / 2),
    ([2, 0], (0.1 * N[0] + X) / 2),
  ):  # fmt: skip
    np.testing.assert_allclose(heard(raw, channel=channel), want, atol=1e-6)
  with pytest.raises(errors.UserError, match='its 2 channels cancel'):
    heard(raw, channel=[0, 3])
  with pytest.raises(errors.UserError, match='channel 4: the recording has 4'):
    heard(raw, channel=4)
  with pytest.raises(errors.UserError, match='channel 1: the recording has 1'):
    heard(wav(X), channel=[0, 1])


@pytest.mark.parametrize('bad', [-1, 0.0, True, '0', [], [0, 0], [0, None]])
def test_what_is_no_channel_is_refused(bad):
  with pytest.raises(errors.UserError, match='^channel: found .*expected a nu'):
    channels.check(bad)


def test_only_what_is_heard_must_be_finite():
  raw = wav(X, np.full(len(X), np.nan))
  np.testing.assert_allclose(heard(raw, channel=0), X, atol=1e-6)
  with pytest.raises(errors.UserError, match='sample 0 is nan'):
    heard(raw)


def test_the_peak_is_that_of_the_channel(tmp_path):
  (tmp_path / 'x.wav').write_bytes(wav(X, 0.25 * Y))
  for channel, want in ((0, X), (1, 0.25 * Y), (None, (X + 0.25 * Y) / 2)):
    found = audio_io.find_peak(tmp_path / 'x.wav', channel=channel)
    np.testing.assert_allclose(found, np.abs(want).max(), atol=1e-6)
