"""Paths, draws and the solver, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax.decoder.flow import matching


def test_the_grid_is_the_cosine_map_and_adds_up():
  times, lengths = matching.time_grid(10)
  want = 1 - np.cos(np.pi / 2 * np.arange(11) / 10)
  np.testing.assert_allclose(matching.schedule(10), want, atol=1e-6)
  np.testing.assert_allclose(times, want[:-1], atol=1e-6)
  np.testing.assert_allclose(times + lengths, want[1:], atol=1e-6)
  assert lengths[0] == pytest.approx(0.0123, abs=1e-4)


def test_the_ends_of_a_path_are_noise_and_mel():
  rng = np.random.default_rng(0)
  x1, z = rng.normal(size=(2, 2, 5, 3)).astype(np.float32)
  start, velocity = matching.interpolant(x1, z, jnp.zeros(2), 1e-3)
  end, _ = matching.interpolant(x1, z, jnp.ones(2), 1e-3)
  np.testing.assert_allclose(start, z, atol=1e-6)
  np.testing.assert_allclose(end, x1 + 1e-3 * z, atol=1e-6)
  # The velocity is the path's derivative, whatever the time.
  np.testing.assert_allclose(velocity, end - start, atol=1e-5)


def test_the_solver_follows_the_true_velocity_to_the_mel():
  rng = np.random.default_rng(0)
  x1, z = rng.normal(size=(2, 1, 6, 4)).astype(np.float32)
  got = matching.euler(lambda x, t: x1 - z, jnp.asarray(z), 7)
  np.testing.assert_allclose(got, x1, atol=1e-5)


def test_the_solver_converges_to_a_curved_solution():
  # dx/dt = x from 1 gives e at t = 1; first order in the steps.
  errors = [
    abs(float(matching.euler(lambda x, t: x, jnp.ones(()), n)) - np.e)
    for n in (40, 80, 160)
  ]
  assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)
  assert errors[1] / errors[2] == pytest.approx(2, rel=0.1)


def test_guidance_pushes_away_from_the_unconditional_branch():
  both = jnp.array([[[1.0]], [[0.25]]])
  assert float(matching.apply_guidance(both, 0.7)[0, 0, 0]) == pytest.approx(
    1.7 * 1.0 - 0.7 * 0.25
  )
  assert float(matching.apply_guidance(both, 0.0)[0, 0, 0]) == 1.0


def test_the_loss_counts_only_what_is_in_the_mask():
  rng = np.random.default_rng(0)
  pred, target = rng.normal(size=(2, 2, 7, 3)).astype(np.float32)
  mask = np.arange(7)[None] < np.array([[7], [2]])
  total, weight = matching.masked_loss(pred, target, mask)
  want = sum(
    np.square(pred[row, :n] - target[row, :n]).sum()
    for row, n in enumerate((7, 2))
  )
  assert float(total) == pytest.approx(want, rel=1e-5)
  assert float(weight) == 9 * 3


def test_draws_have_the_shares_they_say():
  counts = jnp.array([100] * 4000 + [9] * 4000)
  draw = matching.draw(jax.random.key(0), counts)
  keep, prefix = np.asarray(draw.keep_B), np.asarray(draw.prefix_B)
  assert keep.mean() == pytest.approx(0.8, abs=0.02)
  long, short = prefix[:4000], prefix[4000:]
  # Half have none, and of the others one in 31 draws a length of 0.
  assert (long > 0).mean() == pytest.approx(0.5 * 30 / 31, abs=0.03)
  assert long.max() == 30 and long[long > 0].min() == 1
  assert set(short) == {0, 1, 2}
  # t is the cosine map of a uniform draw: P(t < x) = 2/π · arccos(1 − x).
  times = np.asarray(draw.t_B)
  for x in (0.1, 0.5, 0.9):
    want = 2 / np.pi * np.arccos(1 - x)
    assert (times < x).mean() == pytest.approx(want, abs=0.02)


def test_draws_can_be_switched_off():
  draw = matching.draw(
    jax.random.key(0), jnp.full(50, 40), dropout=0.0, prefix_probability=0.0
  )
  assert draw.keep_B.all() and not draw.prefix_B.any()
