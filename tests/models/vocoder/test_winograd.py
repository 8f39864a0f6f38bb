"""Fast convolutions against the sum, in double precision."""

import jax
import numpy as np
import pytest

from step_audio_jax.models.vocoder import winograd

conv = jax.jit(winograd.conv, static_argnums=(2, 3, 4))


def direct(x, kernel, pads, dilation):
  """The definition, float64."""
  x = np.pad(x.astype(np.float64), ((0, 0), pads, (0, 0)))
  taps = len(kernel)
  count = x.shape[1] - dilation * (taps - 1)
  return sum(
    x[:, k * dilation : k * dilation + count] @ kernel[k].astype(np.float64)
    for k in range(taps)
  )


@pytest.mark.parametrize('taps', [3, 7, 11])
@pytest.mark.parametrize('dilation', [1, 3, 5])
@pytest.mark.parametrize('frames', [1, 37])
def test_it_is_the_convolution(taps, dilation, frames):
  rng = np.random.default_rng(taps + frames)
  x = rng.standard_normal((2, frames, 5)).astype(np.float32)
  kernel = rng.standard_normal((taps, 5, 6)).astype(np.float32)
  whole = dilation * (taps - 1)
  for pads in ((whole // 2, whole // 2), (whole, 0)):
    want = direct(x, kernel, pads, dilation)
    got = conv(x, winograd.transform_kernel(kernel), taps, pads, dilation)
    assert got.shape == want.shape
    size = np.sqrt((want**2).mean())
    assert np.abs(got - want).max() < 1e-5 * max(size, 1.0)


@pytest.mark.parametrize('taps', [2, 4, 5, 9])
def test_any_other_number_of_taps(taps):
  rng = np.random.default_rng(taps)
  x = rng.standard_normal((1, 23, 4)).astype(np.float32)
  kernel = rng.standard_normal((taps, 4, 4)).astype(np.float32)
  got = conv(x, winograd.transform_kernel(kernel), taps, (0, 0), 2)
  np.testing.assert_allclose(got, direct(x, kernel, (0, 0), 2), atol=3e-5)


def test_errors_stay_near_those_of_a_direct_sum():
  rng = np.random.default_rng(0)
  x = rng.standard_normal((1, 400, 64)).astype(np.float32)
  kernel = (rng.standard_normal((7, 64, 64)) / np.sqrt(7 * 64)).astype('f')
  want = direct(x, kernel, (3, 3), 1)
  plain = jax.lax.conv_general_dilated(
    x, kernel, (1,), ((3, 3),), dimension_numbers=('NWC', 'WIO', 'NWC')
  )
  fast = conv(x, winograd.transform_kernel(kernel), 7, (3, 3), 1)

  def error(y):
    return np.sqrt(((np.asarray(y) - want) ** 2).mean())

  assert error(fast) < 2e-6 and error(fast) < 8 * error(plain)


def test_multiplications_are_halved():
  for taps in (3, 7, 11):
    points = winograd.transform_kernel(np.zeros((taps, 32, 32), np.float32))
    assert points.shape[0] * points.shape[1] / 4 <= 0.53 * taps


def test_it_is_used_where_it_is_worth_it():
  assert winograd.is_worthwhile(np.zeros((3, 128, 128)))
  assert not winograd.is_worthwhile(np.zeros((1, 128, 128)))
  assert not winograd.is_worthwhile(np.zeros((7, 128, 18)))
