"""The vocoder's log-mel against the recorded original and against numpy."""

import json
import pathlib

import jax
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.audio.features import vocoder_mel

GOLDEN = pathlib.Path(__file__).parents[2] / 'golden' / 'vocoder_A.npz'


@pytest.fixture(scope='module')
def golden():
  return np.load(GOLDEN)


@pytest.fixture(scope='module')
def config(golden):
  c = json.loads(str(golden['config']))['mel']
  assert not c['center']
  return vocoder_mel.VocoderMel(
    sample_rate=c['sampling_rate'],
    bands=c['num_mels'],
    fft=c['n_fft'],
    window=c['win_size'],
    hop=c['hop_size'],
    low_hz=c['fmin'],
    high_hz=c['fmax'],
  )


def test_filters_match_golden(golden, config):
  np.testing.assert_allclose(
    config.filters.T, golden['out/mel_basis'], atol=1e-7
  )


def test_mel_matches_golden_in_a_ragged_batch(golden, config):
  """Loud garbage behind the rows' ends; the second row is a part."""
  wave, expected = golden['in/wav22'], golden['out/mel22'].T
  batch = np.full((2, len(wave) + 555), 0.7, np.float32)
  batch[0, : len(wave)] = wave
  batch[1, :20000] = wave[:20000]
  got, counts = jax.jit(vocoder_mel.vocoder_mel, static_argnums=2)(
    batch, np.array([len(wave), 20000], np.int32), config
  )
  assert counts.tolist() == [len(expected), 20000 // config.hop]
  error = np.abs(np.asarray(got[0, : len(expected)]) - expected)
  quiet = expected < np.quantile(expected, 0.1)
  assert error.max() < 1e-3
  assert error[~quiet].max() < 1e-4
  # Frames that do not reach the cut are those of the whole.
  np.testing.assert_allclose(got[1, :75], expected[:75], atol=1e-3)
  assert not np.asarray(got[1, counts[1] :]).any()


def triangles(config):
  """Slaney's filters bin by bin: a mel is 200 / 3 Hz, above 1 kHz 27 √6.4."""

  def hz(mel):
    return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

  def mel(f):
    return f * 3 / 200 if f < 1000 else 15 + 27 * np.log(f / 1000) / np.log(6.4)

  high = config.high_hz or config.sample_rate / 2
  ends = mel(config.low_hz), mel(high)
  edges = [hz(m) for m in np.linspace(*ends, config.bands + 2)]
  out = np.zeros((config.fft // 2 + 1, config.bands))
  for band, (a, b, c) in enumerate(zip(edges, edges[1:], edges[2:])):
    for place in range(len(out)):
      f = place * config.sample_rate / config.fft
      height = (f - a) / (b - a) if f <= b else (c - f) / (c - b)
      out[place, band] = max(0.0, height) * 2 / (c - a)
  return out


@pytest.mark.parametrize(
  'config',
  [
    vocoder_mel.VocoderMel(
      sample_rate=16000, bands=20, fft=400, window=320, hop=100, high_hz=None
    ),
    vocoder_mel.VocoderMel(24000, 12, 256, 256, 120, low_hz=50.0),
  ],
)
def test_other_sizes_agree_with_numpy(config):
  samples = 3210
  wave = np.random.default_rng(0).normal(size=samples) * 0.1
  padded = np.pad(wave, config.edge, mode='reflect')
  count = (len(padded) - config.fft) // config.hop + 1
  frames = np.stack(
    [padded[i * config.hop :][: config.fft] for i in range(count)]
  )
  angle = 2 * np.pi * np.arange(config.window) / config.window
  left = (config.fft - config.window) // 2
  frames = frames[:, left : left + config.window] * (0.5 - 0.5 * np.cos(angle))
  frames = np.pad(frames, ((0, 0), (left, config.fft - config.window - left)))
  filters = triangles(config)
  power = np.abs(np.fft.rfft(frames)) ** 2
  expected = np.log(np.maximum(np.sqrt(power + 1e-9) @ filters, 1e-5))
  got, counts = vocoder_mel.vocoder_mel(
    wave[None].astype(np.float32), np.array([samples], np.int32), config
  )
  assert counts.tolist() == [count]
  np.testing.assert_allclose(got[0], expected, atol=2e-3)


def test_silence_sits_on_the_floor_of_the_magnitude():
  got, counts = vocoder_mel.vocoder_mel(
    np.zeros((1, 4096), np.float32), np.array([4096], np.int32)
  )
  assert counts.tolist() == [16] and np.isfinite(got).all()
  filters = vocoder_mel.VocoderMel().filters
  floor = np.log(np.maximum(np.sqrt(1e-9) * filters.sum(axis=0), 1e-5))
  np.testing.assert_allclose(got[0, 3], floor, rtol=1e-4)


@pytest.mark.parametrize(
  'sizes, pattern',
  [
    ({'hop': 2048}, 'window and hop of at most fft'),
    ({'window': 2048}, 'window and hop of at most fft'),
    ({'high_hz': 12000.0}, 'inside 0 … 11025 Hz'),
    ({'low_hz': 9000.0}, 'bands from 9000.0 to 8000.0'),
    ({'bands': 0}, 'bands is 0'),
  ],
)
def test_sizes_that_do_not_fit_are_told(sizes, pattern):
  with pytest.raises(errors.UserError, match=pattern):
    vocoder_mel.VocoderMel(**sizes)
