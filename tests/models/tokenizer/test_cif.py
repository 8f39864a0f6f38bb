"""Integrate-and-fire against a loop over frames; its losses and gradients."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.test_util import check_grads
import numpy as np
import pytest

from step_audio_jax.models.tokenizer import cif

LENGTHS = np.array([12, 1, 7, 9], np.int32)


def ragged(seed=0, width=5):
  """Frames and weights below 1; loud where no frame is."""
  rng = np.random.default_rng(seed)
  hidden = rng.normal(size=(4, 12, width)).astype(np.float32)
  alpha = rng.uniform(0.05, 0.95, (4, 12)).astype(np.float32)
  inside = np.arange(12)[None, :] < LENGTHS[:, None]
  hidden[~inside] = 50.0
  return hidden, np.where(inside, alpha, 0.0).astype(np.float32)


def loop(hidden, alpha):
  """Frame by frame: add up, fire, carry what is left. Of one row, float64.

  Several tokens may fire in one frame. Also returns the unfinished rest.
  """
  fired, current, level = [], np.zeros(hidden.shape[-1]), 0.0
  for h, a in zip(hidden.astype(np.float64), alpha.astype(np.float64)):
    while level + a >= 1.0:
      fired.append(current + (1.0 - level) * h)
      a -= 1.0 - level
      current, level = np.zeros_like(current), 0.0
    current, level = current + a * h, level + a
  return fired, current, level


@functools.partial(jax.jit, static_argnums=2)
def fired(hidden, alpha, tokens):
  return cif.integrate_and_fire(hidden, alpha, tokens)


@pytest.mark.parametrize('loudness', [1.0, 4.0])
def test_firing_equals_the_loop(loudness):
  hidden, alpha = ragged()
  alpha = alpha * np.float32(loudness)  # at 4 several fire in a frame
  got = fired(hidden, alpha, 40)
  most = 0
  for row, length in enumerate(LENGTHS):
    want, rest, _ = loop(hidden[row, :length], alpha[row, :length])
    most = max(most, len(want))
    for token, vector in zip(got[row], [*want, rest]):
      np.testing.assert_allclose(token, vector, atol=2e-5)
    assert not np.any(got[row, len(want) + 1 :])
  assert most > length if loudness > 1 else most > 3


def test_scaled_weights_fire_one_token_for_each_label():
  hidden, alpha = ragged(1)
  counts = np.array([5, 1, 0, 9], np.int32)
  parts = np.asarray(cif.token_weights(cif.scale_to_counts(alpha, counts), 9))
  for row, count in enumerate(counts):
    np.testing.assert_allclose(parts[row].sum(1)[:count], 1.0, atol=1e-5)
    assert parts[row, count:].sum() < 1e-5
    # Time runs forward: a token begins where the one before it ended.
    places = (parts[row] * np.arange(12)[None, :]).sum(1)[:count]
    assert (np.diff(places) > 0).all()
  scaled = np.asarray(cif.scale_to_counts(alpha, counts))
  np.testing.assert_allclose(parts.sum(1), scaled, atol=1e-5)


def test_the_tail_fires_what_is_nearly_complete():
  hidden = np.ones((3, 4, 2), np.float32)
  alpha = np.array([[0.5, 0.6, 0.5, 0.0], [0.5, 0.5, 0.5, 0.0], [0.9] * 4])
  lengths = np.array([3, 3, 4])
  h, a, counts = cif.append_tail(hidden, alpha.astype(np.float32), lengths)
  # 1.6 + 0.45, 1.5 + 0.45, 3.6 + 0.45
  assert counts.tolist() == [2, 1, 4]
  np.testing.assert_allclose(a[0], [0.5, 0.6, 0.5, 0.45, 0], rtol=1e-6)
  np.testing.assert_allclose(a[2, 4], 0.45, rtol=1e-6)
  assert not np.any(h[0, 3:]) and np.all(h[0, :3] == 1)
  for row in range(3):
    want, _, _ = loop(np.asarray(h[row]), np.asarray(a[row]))
    assert len(want) == counts[row]
    np.testing.assert_allclose(
      fired(h, a, 4)[row, : len(want)], np.stack(want), atol=1e-5
    )


def test_gradients_are_those_of_finite_differences():
  hidden, alpha = ragged(2)
  counts = np.array([4, 1, 3, 6], np.float32)
  probe = np.random.default_rng(3).normal(size=(4, 6, 5)).astype(np.float32)

  inside = np.arange(12)[None, :] < LENGTHS[:, None]
  hidden = np.where(inside[:, :, None], hidden, 0.0).astype(np.float32)

  def value(hidden, alpha):
    alpha = jnp.where(inside, alpha, 0.0)
    out = cif.integrate_and_fire(hidden, cif.scale_to_counts(alpha, counts), 6)
    return jnp.sum(out * probe) / 50

  # Away from the borders where a frame changes its token.
  check_grads(
    jax.jit(value), (hidden, alpha), 1, ('rev',), atol=2e-2, rtol=2e-2, eps=1e-3
  )


@pytest.fixture(scope='module')
def head():
  model = cif.CifHead(width=5, labels=4)
  hidden, _ = ragged()
  init = functools.partial(model.init, tokens=4)
  counts = np.array([4, 1, 3, 2], np.int32)
  variables = nn.unbox(
    jax.jit(init)(jax.random.key(0), hidden, LENGTHS, counts)
  )
  return model, variables, hidden, counts


def test_the_predictor_sees_no_padding(head):
  model, variables, hidden, counts = head
  apply = jax.jit(functools.partial(model.apply, tokens=4))
  other = np.where(hidden == 50.0, -3.0, hidden)
  for a, b in zip(
    apply(variables, hidden, LENGTHS, counts),
    apply(variables, other, LENGTHS, counts),
  ):
    np.testing.assert_array_equal(a, b)
  logits, alpha = apply(variables, hidden, LENGTHS, counts)
  assert logits.shape == (4, 4, 4)
  p = variables['params']
  x = np.pad(hidden[2, :7], ((1, 1), (0, 0)))
  taps = np.concatenate([x[:-2], x[1:-1], x[2:]], axis=1)
  h = np.maximum(taps @ p['convolution']['kernel'], 0)
  want = 1 / (1 + np.exp(-(h @ p['weight']['kernel'])[:, 0]))
  np.testing.assert_allclose(alpha[2, :7], want, atol=1e-5)
  assert not np.any(alpha[2, 7:])


def test_losses_equal_their_sums_and_reach_every_parameter(head):
  model, variables, hidden, counts = head
  labels = np.array([[1, 2, 3, 1], [3, 0, 0, 0], [2, 2, 1, 0], [1, 3, 0, 0]])

  def total(params):
    logits, alpha = model.apply(
      {'params': params}, hidden, LENGTHS, counts, tokens=4
    )
    entropy_B, away_B = cif.losses(logits, alpha, labels, counts)
    return jnp.sum(entropy_B + away_B), (logits, alpha, entropy_B, away_B)

  grads, (logits, alpha, entropy, away) = jax.jit(
    jax.grad(total, has_aux=True)
  )(variables['params'])
  for row, count in enumerate(counts):
    want = sum(
      np.log(np.exp(logits[row, n]).sum()) - logits[row, n, labels[row, n]]
      for n in range(count)
    )
    np.testing.assert_allclose(entropy[row], want, rtol=1e-4)
    np.testing.assert_allclose(
      away[row], abs(float(alpha[row].sum()) - count), rtol=1e-4
    )
  for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
    assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0, path
