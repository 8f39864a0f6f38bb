"""Front ends against recorded outputs of the original implementations."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax.audio import preparation
from step_audio_jax.audio.features import fbank
from step_audio_jax.audio.features import log_mel

GOLDEN = pathlib.Path(__file__).parents[2] / 'golden'


@pytest.fixture(scope='module')
def linguistic():
  return np.load(GOLDEN / 'linguistic_A.npz')


@pytest.fixture(scope='module')
def semantic():
  return np.load(GOLDEN / 'semantic_A.npz')


@pytest.fixture(scope='module')
def preprocess():
  return np.load(GOLDEN / 'preprocess_A.npz')


def padded(waves, fill=0.7, extra=777):
  """Ragged waves as one array whose padding is loud garbage."""
  lengths = np.array([len(w) for w in waves], np.int32)
  out = np.full((len(waves), lengths.max() + extra), fill, np.float32)
  for row, wave in zip(out, waves):
    row[: len(wave)] = wave
  return out, lengths


def test_fbank_matches_golden(linguistic):
  wave = linguistic['in/wav']
  waves, lengths = padded([wave, wave[:5000], wave[:399], wave[:400]])
  got, counts = jax.jit(fbank.fbank)(waves, lengths)
  expected = linguistic['out/fbank']
  assert counts.tolist() == [len(expected), 29, 0, 1]
  error = np.abs(np.asarray(got[0, : len(expected)]) - expected)
  assert error.max() < 2e-3
  assert np.quantile(error, 0.999) < 5e-4
  np.testing.assert_allclose(got[1, :29], expected[:29], atol=2e-3)
  assert not np.asarray(got[1, 29:]).any()


def test_digital_silence_sits_on_the_floor():
  got, _ = fbank.fbank(jnp.zeros((1, 1600)), jnp.array([1600]))
  np.testing.assert_allclose(got, np.log(np.finfo(np.float32).eps), rtol=1e-6)


def test_stacked_features_match_golden(linguistic):
  wave, (shift, scale) = linguistic['in/wav'], linguistic['in/cmvn']
  waves, lengths = padded([wave[:9000], wave])
  got, counts = jax.jit(fbank.stacked_features)(waves, lengths)
  got = fbank.normalise(got, shift, scale)
  expected = linguistic['out/stream_feat']
  assert counts.tolist()[1] == len(expected)
  np.testing.assert_allclose(got[1, : len(expected)], expected, atol=1e-3)
  # A prefix shares every frame that does not reach its cut end.
  np.testing.assert_allclose(got[0, :8], expected[:8], atol=1e-3)


def test_one_shot_features_match_golden(linguistic):
  wave = linguistic['in/wav']
  feats, frames = fbank.fbank(wave[None], np.array([len(wave)]))
  got = fbank.normalise(fbank.stack(feats, frames), *linguistic['in/cmvn'])
  want = linguistic['out/feat_offline']
  np.testing.assert_allclose(got[0], want, atol=1e-3)


def test_stacked_count_matches_golden_tails(linguistic):
  samples = linguistic['in/tail_samples']
  expected = linguistic['out/tail_frames']
  np.testing.assert_array_equal(fbank.stacked_count(samples), expected)
  assert [fbank.stacked_count(int(n)) for n in samples] == expected.tolist()


def test_stacked_count_matches_published_lengths():
  seconds = {1: 16, 0.5: 8, 3: 50, 5: 83, 10: 167}
  for value, count in seconds.items():
    assert fbank.stacked_count(int(value * 16000)) == count


def test_stack_repeats_each_rows_own_last_frame():
  frames = jnp.arange(2 * 9, dtype=jnp.float32).reshape(2, 9, 1) + 1
  got = fbank.stack(frames, jnp.array([9, 4]))
  np.testing.assert_array_equal(got[0, 0], [1, 1, 1, 1, 2, 3, 4])
  np.testing.assert_array_equal(got[0, 1], [4, 5, 6, 7, 8, 9, 9])
  np.testing.assert_array_equal(got[1, 0], [10, 10, 10, 10, 11, 12, 13])
  np.testing.assert_array_equal(got[1, 1], [13] * 7)


def test_mel_matrix_matches_golden(semantic):
  np.testing.assert_allclose(
    log_mel.mel_matrix().T, semantic['out/mel_filters'], atol=1e-7
  )


def test_log_mel_matches_golden_in_one_ragged_batch(semantic):
  waves, lengths = padded([semantic[f'in/wav{i}'] for i in ('', 2, 3)])
  got, counts = jax.jit(log_mel.log_mel)(waves, lengths)
  for row, (name, count) in enumerate(zip(('', 2, 3), counts)):
    expected = semantic[f'out/log_mel{name}'].T
    assert count == len(expected)
    np.testing.assert_allclose(got[row, :count], expected, atol=1e-4)
    assert not np.asarray(got[row, count:]).any()


@pytest.mark.parametrize('samples', [480, 799, 16000])
def test_log_mel_agrees_with_numpy(samples):
  wave = np.random.default_rng(samples).normal(size=samples) * 0.1
  padded_wave = np.pad(wave, 200, mode='reflect')
  starts = np.arange(samples // 160) * 160
  frames = np.stack([padded_wave[s : s + 400] for s in starts])
  window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
  power = np.abs(np.fft.rfft(frames * window)) ** 2
  expected = np.log10(np.maximum(power @ log_mel.mel_matrix(), 1e-10))
  expected = (np.maximum(expected, expected.max() - 8) + 4) / 4
  got, _ = log_mel.log_mel(
    jnp.asarray(wave[None], jnp.float32), jnp.array([samples])
  )
  np.testing.assert_allclose(got[0], expected, atol=1e-4)


def test_preparation_matches_golden_in_one_ragged_batch(preprocess):
  names = ('plain', 'padded', 'tiny')
  waves, lengths = padded([preprocess[f'in/{n}'] for n in names])
  normal = jax.jit(preparation.normalise_energy)(waves, lengths)
  trimmed, counts = jax.jit(preparation.trim_silence)(normal, lengths)
  only, only_counts = jax.jit(preparation.trim_silence)(waves, lengths)
  for row, name in enumerate(names):
    out = {
      k: preprocess[f'out/{name}/{k}']
      for k in ('energy_norm', 'trimmed', 'trim_only')
    }
    n = lengths[row]
    np.testing.assert_allclose(normal[row, :n], out['energy_norm'], atol=1e-6)
    assert not np.asarray(normal[row, n:]).any()
    assert counts[row] == len(out['trimmed'])
    assert only_counts[row] == len(out['trim_only'])
    np.testing.assert_allclose(
      trimmed[row, : counts[row]], out['trimmed'], atol=1e-6
    )
    np.testing.assert_allclose(
      only[row, : only_counts[row]], out['trim_only'], atol=1e-6
    )
    assert not np.asarray(trimmed[row, counts[row] :]).any()


def test_silence_is_neither_amplified_nor_cut():
  wave = jnp.zeros((1, 4800))
  lengths = jnp.array([4800])
  assert not np.asarray(preparation.normalise_energy(wave, lengths)).any()
  start, end = preparation.active_bounds(wave, lengths)
  assert (int(start[0]), int(end[0])) == (0, 4800)
