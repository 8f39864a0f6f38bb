"""Phases against sums in double precision, and their independence of cuts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax.models.vocoder import harmonic_source

RATE, HOP = 22050, 256
SINES = dict(rate=RATE, hop=HOP, amplitude=0.1, deviation=0.003, voiced_hz=10.0)


def summed(f0_T, number, hop=HOP):
  """Turns after each sample, the float32 steps added in float64."""
  step = np.float32(f0_T) * np.float32(number + 1) / np.float32(RATE)
  return np.cumsum(np.repeat(step.astype(np.float64), hop))


@functools.partial(jax.jit, static_argnums=(1, 2))
def turned(f0_BT, harmonic, hop=HOP):
  return harmonic_source.phases(
    harmonic_source.phase_steps(f0_BT, RATE, harmonic), hop
  )


def apart(turns, expected):
  """Largest distance on the circle, in turns."""
  error = np.asarray(turns, np.float64) - expected
  return np.abs(error - np.round(error)).max()


@pytest.mark.parametrize('hop', [1, 256, 480])
def test_phases_are_those_of_a_sum_in_double_precision(hop):
  # 20 s: a float32 sum has drifted far by then.
  frames = 20 * RATE // hop if hop > 1 else 5000
  f0 = np.random.default_rng(0).uniform(50, 400, frames).astype(np.float32)
  turns = turned(f0[None], 8, hop)
  assert turns.shape == (1, frames * hop, 9) and turns.dtype == jnp.float32
  for number in (0, 3, 8):
    expected = summed(f0, number, hop)
    assert apart(turns[0, :, number], expected) < 2e-7
  naive = np.cumsum(np.repeat(f0 / np.float32(RATE), hop), dtype=np.float32)
  if hop > 1:
    assert apart(naive, summed(f0, 0, hop)) > 1e-3


@pytest.mark.parametrize('f0', [0.3, 11.0, 2450.0, 2451.0, 11025.0, 40000.0])
def test_steps_of_any_size(f0):
  frames = np.full(40, f0, np.float32)
  turns = turned(frames[None], 8)[0]
  for number in range(9):
    # A step below 2⁻⁹ of a turn keeps 32 bits behind the point, no more.
    assert apart(turns[:, number], summed(frames, number)) < 2e-6


def test_chunks_carry_their_phase_exactly():
  f0 = np.random.default_rng(1).uniform(0, 500, (2, 37)).astype(np.float32)
  steps = harmonic_source.phase_steps(f0, RATE, 3)
  whole = np.asarray(harmonic_source.phases(steps, HOP))
  begin, at = jnp.zeros((2, 4), jnp.uint32), 0
  for count in (1, 7, 0, 20, 9):
    part = steps[:, at : at + count]
    np.testing.assert_array_equal(
      harmonic_source.phases(part, HOP, begin),
      whole[:, at * HOP : (at + count) * HOP],
    )
    begin = harmonic_source.advance_phases(part, HOP, begin)
    at += count
  assert at == 37


def test_sines_are_the_formula():
  f0 = np.array([[200.0, 0.0, 10.0, 10.001, 3000.0]], np.float32)
  rng = np.random.default_rng(2)
  phase = rng.uniform(-np.pi, np.pi, (1, 4)).astype(np.float32)
  noise = rng.standard_normal((1, 5 * HOP, 4)).astype(np.float32)
  got = np.asarray(
    harmonic_source.harmonics_and_noise(f0, phase, noise, **SINES)
  )[0]
  voiced = np.repeat([1, 0, 0, 1, 1], HOP)  # strictly above 10 Hz
  for number in range(4):
    offset = phase[0, number] if number else 0.0
    wave = 0.1 * np.sin(2 * np.pi * summed(f0[0], number) + offset)
    spread = np.where(voiced, 0.003, 0.1 / 3)
    expected = voiced * wave + spread * noise[0, :, number]
    np.testing.assert_allclose(got[:, number], expected, atol=3e-7)


def test_no_gradient_reaches_f0():
  def loss(f0):
    zeros = jnp.zeros((1, HOP, 2))
    return harmonic_source.harmonics_and_noise(
      f0, jnp.ones((1, 2)), zeros, **SINES
    ).sum()

  assert float(jax.grad(loss)(jnp.array([[150.0]]))[0, 0]) == 0.0
