"""Judges against loops in numpy, and what each of them can see."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.models.vocoder import discriminators as judges_lib

CONFIG = judges_lib.DiscriminatorConfig(
  periods=(2, 3),
  period_channels=(4, 6),
  resolutions=((64, 16, 64), (64, 10, 40)),
  spectrum_channels=3,
)
SAMPLES = 205  # no multiple of a period


@pytest.fixture(scope='module')
def judged():
  model = judges_lib.Discriminators(CONFIG)
  wave = jax.random.normal(jax.random.key(0), (2, SAMPLES)) * 0.3
  boxed = jax.jit(model.init)(jax.random.key(1), wave)
  # Gains that are not the norms of their kernels.
  params = jax.tree.map(lambda p: p * 1.3 + 0.01, nn.unbox(boxed)['params'])
  apply = jax.jit(lambda p, w: model.apply({'params': p}, w))
  return apply, params, wave, apply(params, wave), boxed


def conv(x, params, strides):
  """Correlation over all axes but rows and channels, tap by tap, float64."""
  v = np.asarray(params['direction'], np.float64)
  norm = np.sqrt(np.square(v).sum(tuple(range(v.ndim - 1))))
  kernel = v / norm * np.asarray(params['gain'])
  sizes = kernel.shape[:-2]
  pads = [(0, 0), *((k // 2, k // 2) for k in sizes), (0, 0)]
  padded = np.pad(x, pads)
  counts = [
    (padded.shape[i + 1] - k) // s + 1
    for i, (k, s) in enumerate(zip(sizes, strides))
  ]
  out = 0.0
  for taps in np.ndindex(*sizes):
    part = padded[
      (slice(None),)
      + tuple(
        slice(tap, tap + (n - 1) * s + 1, s)
        for tap, n, s in zip(taps, counts, strides)
      )
    ]
    out = out + part @ kernel[taps]
  return out + np.asarray(params['bias'])


def leaky(x):
  return np.where(x > 0, x, CONFIG.slope * x)


@pytest.mark.parametrize('place, period', [(0, 2), (1, 3)])
def test_a_period_is_a_two_dimensional_convolution(judged, place, period):
  """(5, 1) kernels over (S / p, p), as the paper draws it."""
  _, params, wave, said, _ = judged
  p = params[f'period_{period}']
  padded = np.pad(wave, ((0, 0), (0, -SAMPLES % period)), mode='reflect')
  x = padded.reshape(2, -1, period, 1).astype(np.float64)

  def wide(layer):
    return {**layer, 'direction': np.asarray(layer['direction'])[:, None]}

  x = leaky(conv(x, wide(p['conv_0']), (3, 1)))
  first = x
  x = leaky(conv(x, wide(p['conv_1']), (1, 1)))
  score = conv(x, wide(p['score']), (1, 1))[..., 0]
  # Ours has the phase first.
  np.testing.assert_allclose(
    said[place].features[0], first.swapaxes(1, 2), atol=1e-5
  )
  np.testing.assert_allclose(
    said[place].score, score.swapaxes(1, 2).reshape(2, -1), atol=1e-5
  )
  np.testing.assert_array_equal(said[place].features[-1], said[place].score)


@pytest.mark.parametrize(
  'place, fft, hop, window', [(2, 64, 16, 64), (3, 64, 10, 40)]
)
def test_a_spectrum_goes_through_strided_convolutions(
  judged, place, fft, hop, window
):
  _, params, wave, said, _ = judged
  p = params[f'spectrum_{fft}_{hop}']
  padded = np.pad(wave, ((0, 0), (fft // 2, fft // 2)), mode='reflect')
  frames = np.lib.stride_tricks.sliding_window_view(padded, fft, axis=1)
  shape = np.zeros(fft)
  left = (fft - window) // 2
  shape[left : left + window] = np.hanning(window + 1)[:-1]
  spectrum = np.fft.rfft(frames[:, ::hop] * shape)
  x = np.sqrt(np.abs(spectrum) ** 2 + 1e-9)[..., None]
  strides = (1, 2, 2, 2, 1)
  for i, stride in enumerate(strides):
    x = leaky(conv(x, p[f'conv_{i}'], (1, stride)))
    np.testing.assert_allclose(said[place].features[i], x, atol=1e-4)
  score = conv(x, p['score'], (1, 1))
  np.testing.assert_allclose(said[place].score, score.reshape(2, -1), atol=1e-4)


def test_a_period_sees_one_phase_at_a_time(judged):
  apply, params, wave, _, _ = judged

  def first_phase(wave):
    score = apply(params, wave)[1].score
    return score[0].reshape(3, -1)[0].sum()

  grad = np.asarray(jax.grad(first_phase)(wave))
  inside = grad[:, : SAMPLES - SAMPLES % 3]
  assert np.abs(inside[0, 0::3]).min() > 0
  assert not inside[0, 1::3].any() and not inside[0, 2::3].any()
  assert not grad[1].any()  # rows are judged by themselves


def test_scores_do_not_depend_on_the_length_of_directions(judged):
  apply, params, wave, said, _ = judged
  longer = jax.tree_util.tree_map_with_path(
    lambda path, p: p * 7.0 if path[-1].key == 'direction' else p, params
  )
  for a, b in zip(apply(longer, wave), said):
    np.testing.assert_allclose(a.score, b.score, atol=1e-5)


def test_kernels_start_as_their_directions(judged):
  for _, layers in nn.unbox(judged[4])['params'].items():
    for layer in layers.values():
      v = np.asarray(layer['direction'])
      norm = np.sqrt(np.square(v).sum(tuple(range(v.ndim - 1))))
      np.testing.assert_allclose(layer['gain'], norm, rtol=1e-6)


def test_every_parameter_names_its_axes(judged):
  boxes = jax.tree.leaves(
    judged[4], is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned)
  )
  assert all(isinstance(box, nn.LogicallyPartitioned) for box in boxes)


def test_the_published_widths():
  model = judges_lib.Discriminators(judges_lib.DiscriminatorConfig())
  wave = jax.ShapeDtypeStruct((1, 8192), jnp.float32)
  shapes = jax.eval_shape(model.init, jax.random.key(0), wave)['params']
  sizes = {
    name: sum(leaf.size for leaf in jax.tree.leaves(nn.unbox(tree)))
    for name, tree in shapes.items()
  }
  # Five kernels of (5, 1), one of (3, 1), their biases and gains.
  channels = (1, 32, 128, 512, 1024, 1024)
  period = sum(5 * a * b + 2 * b for a, b in zip(channels, channels[1:]))
  assert sizes['period_7'] == period + 3 * 1024 + 2
  spectrum = 27 * 32 + 3 * 27 * 32 * 32 + 9 * 32 * 32 + 5 * 64 + 9 * 32 + 2
  assert sizes['spectrum_2048_240'] == spectrum
  assert len(sizes) == 8


@pytest.mark.parametrize(
  'change, pattern',
  [
    ({'periods': (), 'resolutions': ()}, 'at least one judge'),
    ({'periods': (2, 0)}, r'periods is \(2, 0\)'),
    ({'period_channels': ()}, 'expected one layer or more'),
    ({'resolutions': ((64, 16, 128),)}, r'resolution \(64, 16, 128\)'),
    ({'spectrum_channels': 0}, 'spectrum_channels is 0'),
  ],
)
def test_bad_settings_say_what_is_wrong(change, pattern):
  with pytest.raises(errors.UserError, match=pattern):
    judges_lib.DiscriminatorConfig(**change)
