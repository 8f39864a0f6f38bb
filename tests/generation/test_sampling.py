"""Samplers against a sort-based numpy reference and drawn frequencies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.generation import sampling


def keys(n, seed=0):
  return jax.random.split(jax.random.key(seed), n)


def reference_keep(logits, temperature, top_k, top_p):
  """Ids that may be drawn, by plain sorting."""
  logits = logits / temperature
  order = np.argsort(-logits, kind='stable')
  if top_k:
    order = order[:top_k]
  p = np.exp(logits[order] - logits[order].max())
  p /= p.sum()
  keep, mass = [], 0.0
  for i, share in zip(order, p, strict=True):
    keep.append(int(i))
    mass += share
    if mass >= top_p:
      break
  return sorted(keep)


@pytest.mark.parametrize('temperature', [0.5, 1.0, 2.0])
@pytest.mark.parametrize('top_k', [0, 1, 5, 99])
@pytest.mark.parametrize('top_p', [0.05, 0.6, 0.95, 1.0])
def test_cut_keeps_what_the_reference_keeps(temperature, top_k, top_p):
  logits = np.random.default_rng(3).normal(size=(4, 23)).astype(np.float32)
  sampler = sampling.Sampler(temperature, top_k, top_p)
  cut = np.asarray(sampler.cut(jnp.asarray(logits)))
  for row, kept in zip(logits, cut > sampling.FORBIDDEN / 10, strict=True):
    expected = reference_keep(row, temperature, top_k, top_p)
    assert np.flatnonzero(kept).tolist() == expected


def test_greedy_is_argmax_and_needs_no_key():
  logits = np.random.default_rng(0).normal(size=(5, 9)).astype(np.float32)
  chosen = sampling.Sampler()(jnp.asarray(logits), keys(5))
  assert chosen.dtype == jnp.int32
  assert chosen.tolist() == logits.argmax(-1).tolist()


def test_greedy_takes_the_first_of_equals_and_stays_in_range():
  logits = jnp.asarray(
    [[1.0, 3.0, 3.0], [sampling.FORBIDDEN] * 3, [0.0, jnp.nan, 1.0]]
  )
  ids = sampling.Sampler()(logits, keys(3))
  assert ids.dtype == jnp.int32
  assert ids[:2].tolist() == [1, 0]
  assert 0 <= int(ids[2]) < 3


def test_frequencies_follow_the_tempered_softmax():
  logits = np.asarray([0.0, 1.0, 2.0, -1.0], np.float32)
  n = 20_000
  drawn = sampling.Sampler(temperature=2.0)(
    jnp.tile(jnp.asarray(logits), (n, 1)), keys(n)
  )
  expected = np.exp(logits / 2) / np.exp(logits / 2).sum()
  found = np.bincount(np.asarray(drawn), minlength=4) / n
  np.testing.assert_allclose(found, expected, atol=4 * 0.5 / n**0.5)


def test_a_row_depends_on_its_own_key_only():
  logits = jnp.asarray(np.random.default_rng(1).normal(size=(6, 50)), 'f')
  sampler, k = sampling.Sampler(1.0, 10, 0.9), keys(6)
  whole = sampler(logits, k)
  assert whole[3] == sampler(logits[3:4], k[3:4])[0]


def test_forbidden_ids_are_never_drawn():
  logits = jnp.full((500, 8), sampling.FORBIDDEN).at[:, 2].set(-5.0)
  logits = logits.at[:, 6].set(-5.0)
  drawn = sampling.Sampler(3.0, 5, 0.99)(logits, keys(500))
  assert set(np.asarray(drawn).tolist()) == {2, 6}


@pytest.mark.parametrize('temperature', [1e-6, 0.7, 1e6])
@pytest.mark.parametrize('top', [(0, 1.0), (5, 1.0), (0, 0.9), (5, 0.9)])
def test_forbidden_ids_are_never_drawn_however_hot(temperature, top):
  allowed = [3, 70, 99]
  logits = jnp.full((2000, 128), sampling.FORBIDDEN)
  logits = logits.at[:, allowed].set(jnp.asarray([-8.0, -9.0, -8.5]))
  drawn = sampling.Sampler(temperature, *top)(logits, keys(2000))
  found = set(np.asarray(drawn).tolist())
  assert found <= set(allowed)
  if temperature < 1e-3:
    assert found == {3}
  elif temperature > 1e3 and top[1] == 1:
    assert found == set(allowed)


def test_a_row_of_forbidden_ids_gives_a_valid_one():
  logits = jnp.full((3, 8), sampling.FORBIDDEN)
  for top in ((0, 1.0), (3, 0.5)):
    drawn = np.asarray(sampling.Sampler(1.0, *top)(logits, keys(3)))
    assert ((drawn >= 0) & (drawn < 8)).all()


def test_draws_are_those_of_logits_divided_by_the_temperature():
  """To the bit, as long as the temperature is an ordinary one."""
  logits = np.random.default_rng(5).normal(size=(64, 40)).astype(np.float32)
  logits[:, ::3] = sampling.FORBIDDEN
  for temperature in (0.3, 0.7, 1.3):
    scaled = jnp.asarray(logits) / temperature
    want = jax.vmap(jax.random.categorical)(keys(64), scaled)
    sampler = sampling.Sampler(temperature)
    assert sampler(jnp.asarray(logits), keys(64)).tolist() == want.tolist()
    cut = np.asarray(sampler.cut(jnp.asarray(logits)))
    allowed = logits > sampling.FORBIDDEN
    np.testing.assert_array_equal(cut[allowed], np.asarray(scaled)[allowed])


@pytest.mark.parametrize(
  'arguments, field',
  [
    ({'temperature': -1.0}, 'temperature'),
    ({'temperature': float('nan')}, 'temperature'),
    ({'temperature': float('inf')}, 'temperature is inf, expected 0'),
    ({'temperature': 1e35}, 'temperature'),
    ({'temperature': 1e-38}, 'temperature is 1e-38, expected 0'),
    ({'top_k': -1}, 'top_k'),
    ({'top_p': 0.0}, 'top_p'),
    ({'top_p': 1.5}, 'top_p'),
  ],
)
def test_bad_settings_are_named(arguments, field):
  with pytest.raises(errors.UserError, match=field):
    sampling.Sampler(**arguments)
