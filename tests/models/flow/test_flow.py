"""Pieces of the flow against closed forms and dense loops."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.models.flow import encoder
from step_audio_jax.models.flow import estimator
from step_audio_jax.models.flow import flow


def linear(h, frames):
  """Interpolation with half-pixel centres, in float64."""
  place = (np.arange(frames) + 0.5) * len(h) / frames - 0.5
  place = np.clip(place, 0, len(h) - 1)
  low = np.floor(place).astype(int)
  high = np.minimum(low + 1, len(h) - 1)
  share = (place - low)[:, None]
  return h[low] * (1 - share) + h[high] * share


STRETCH = jax.jit(flow.interpolate_parts, static_argnums=3)


@hypothesis.given(
  tokens=st.lists(
    st.tuples(st.integers(1, 8), st.integers(0, 8)), min_size=2, max_size=2
  ),
  frames=st.lists(
    st.tuples(st.integers(1, 20), st.integers(0, 20)), min_size=2, max_size=2
  ),
)
@hypothesis.settings(max_examples=60, deadline=None)
def test_parts_are_stretched_apart(tokens, frames):
  rng = np.random.default_rng(0)
  h = rng.normal(size=(2, 16, 3)).astype(np.float32)
  tokens = np.array(tokens, np.int32)
  frames = np.where(tokens > 0, np.array(frames), 0).astype(np.int32)
  got = np.asarray(STRETCH(h, tokens, frames, 40))
  for row in range(2):
    token = frame = 0
    for n, t in zip(tokens[row], frames[row]):
      if t:
        want = linear(h[row, token : token + n].astype(np.float64), t)
        np.testing.assert_allclose(got[row, frame : frame + t], want, atol=1e-5)
      token, frame = token + n, frame + t
    assert not got[row, frame:].any()


def test_frames_are_truncated_from_doubles():
  config = flow.FlowConfig()
  rate = 22050 / 256
  assert config.frames(5, rate) == 10
  assert config.frames(125, rate) == 258
  assert config.frames(0, rate) == 0


def test_shift_puts_each_distance_at_its_key():
  n = 5
  distance = np.arange(n - 1, -n, -1)
  by_distance = np.broadcast_to(distance, (1, 2, n, 2 * n - 1))
  got = encoder.relative_shift(jnp.asarray(by_distance))
  i = np.arange(n)
  np.testing.assert_array_equal(got[0, 1], i[:, None] - i[None])


def test_relative_positions_are_sines_and_cosines_of_distances():
  table = encoder.relative_positions(4, 6)
  assert table.shape == (7, 6)
  rates = 10000.0 ** (-np.array([0, 2, 4]) / 6)
  np.testing.assert_allclose(table[0, 0::2], np.sin(3 * rates), atol=1e-6)
  np.testing.assert_allclose(table[-1, 1::2], np.cos(-3 * rates), atol=1e-6)
  np.testing.assert_allclose(table[3], [0, 1] * 3, atol=0)


def test_mish_is_its_definition_everywhere():
  x = np.array([-100, -20, -1, -1e-3, 0, 1, 19.9, 20, 21, 80], np.float64)
  want = x * np.tanh(np.log1p(np.exp(x)))
  got = estimator.mish(jnp.asarray(x, jnp.float32))
  np.testing.assert_allclose(got, want, rtol=2e-6, atol=1e-9)


def convolved(x, kernel, bias, stride):
  """By XLA's own convolution."""
  half = kernel.shape[0] // 2
  return (
    jax.lax.conv_general_dilated(
      x,
      kernel,
      (stride,),
      [(half, half)],
      dimension_numbers=('NWC', 'WIO', 'NWC'),
    )
    + bias[None, None]
  )


@pytest.mark.parametrize('length', [1, 6, 7])
@pytest.mark.parametrize('kernel,stride', [(3, 1), (3, 2), (1, 1)])
def test_convolution_equals_the_library(length, kernel, stride):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, length, 4)).astype(np.float32)
  weights = {
    'kernel': rng.normal(size=(kernel, 4, 5)).astype(np.float32),
    'bias': rng.normal(size=5).astype(np.float32),
  }
  got = estimator.Conv(5, kernel, stride).apply({'params': weights}, x)
  want = convolved(x, *weights.values(), stride)
  np.testing.assert_allclose(got, want, atol=1e-5)


def test_doubling_is_the_adjoint_of_a_strided_convolution():
  # A transposed convolution is the gradient of the convolution it transposes.
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 5, 3)).astype(np.float32)
  kernel = rng.normal(size=(4, 3, 6)).astype(np.float32)
  got = estimator.Upsample(6).apply(
    {'params': {'kernel': kernel, 'bias': np.zeros(6, np.float32)}}, x
  )

  def forward(y):
    return jax.lax.conv_general_dilated(
      y,
      kernel.transpose(0, 2, 1),
      (2,),
      [(1, 1)],
      dimension_numbers=('NWC', 'WIO', 'NWC'),
    )

  _, back = jax.vjp(forward, jnp.zeros((2, 10, 6)))
  np.testing.assert_allclose(got, back(jnp.asarray(x))[0], atol=1e-5)


def test_group_norm_counts_only_the_frames_it_is_told():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 9, 6)).astype(np.float32) + 3
  lengths = np.array([9, 4])
  mask = (np.arange(9)[None] < lengths[:, None])[:, :, None]
  params = {
    'scale': rng.normal(size=6).astype(np.float32),
    'bias': rng.normal(size=6).astype(np.float32),
  }
  got = estimator.GroupNorm(3).apply(
    {'params': params}, x, mask.astype(np.float32)
  )
  for row, length in enumerate(lengths):
    part = x[row, :length].astype(np.float64).reshape(length, 3, 2)
    centred = part - part.mean(axis=(0, 2), keepdims=True)
    normal = centred / np.sqrt(part.var(axis=(0, 2), keepdims=True) + 1e-5)
    want = normal.reshape(length, 6) * params['scale'] + params['bias']
    np.testing.assert_allclose(got[row, :length], want, atol=1e-5)


@pytest.mark.parametrize(
  'kind,fields,sentence',
  [
    (flow.FlowConfig, {'vocabulary': 0}, 'vocabulary is 0'),
    (flow.FlowConfig, {'token_rate': 0.0}, 'token_rate is 0.0'),
    (flow.FlowConfig, {'temperature': -1.0}, 'temperature is -1.0'),
    (flow.EncoderConfig, {'heads': 5}, 'heads 5'),
    (flow.EncoderConfig, {'dropout': 1.0}, 'dropout is 1.0'),
    (flow.EstimatorConfig, {'channels': 12}, 'multiple of 8'),
    (flow.EstimatorConfig, {'padded': 'maybe'}, "padded is 'maybe'"),
  ],
)
def test_wrong_shapes_are_told(kind, fields, sentence):
  with pytest.raises(errors.UserError, match=sentence):
    kind(**fields)
