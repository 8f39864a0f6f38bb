"""Kernels under shard_map: every split gives what one device gives."""

import contextlib

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.kernels.attention import attention as attention_lib
from step_audio_jax.parallel import mesh as mesh_lib
from step_audio_jax.parallel import partition

RULES = mesh_lib.DEFAULT_RULES
B, T, D = 4, 16, 4


@contextlib.contextmanager
def on_mesh(**sizes):
  mesh = mesh_lib.MeshConfig(**sizes).build(jax.devices()[:8])
  with jax.set_mesh(mesh), nn.logical_axis_rules(RULES):
    yield


def packed(rng):
  """Ragged segments and a tail of padding: (segment ids, positions), BT."""
  segments, positions = np.zeros((2, B, T), np.int32)
  for b in range(B):
    place, segment = 0, 0
    while place < T - b:
      n = min(int(rng.integers(1, 8)), T - b - place)
      segment += 1
      segments[b, place : place + n] = segment
      positions[b, place : place + n] = np.arange(n)
      place += n
  return jnp.asarray(segments), jnp.asarray(positions)


def attend(heads, groups, seed=0):
  """(function of q, k, v; its arguments) with a fixed cotangent."""
  rng = np.random.default_rng(seed)
  segments, positions = packed(rng)
  q, k, v, weight = (
    jnp.asarray(rng.standard_normal((B, T, n, D)), jnp.float32)
    for n in (heads, groups, groups, heads)
  )

  def total(q, k, v):
    out = partition.attention(
      q,
      k,
      v,
      q_positions_BT=positions,
      kv_positions_BS=positions,
      q_segment_ids_BT=segments,
      kv_segment_ids_BS=segments,
      slopes_H=attention_lib.alibi_slopes(heads),
      implementation='blockwise',
    )
    return (out * weight).sum(), out

  step = jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True)
  return step, (q, k, v)


@pytest.mark.parametrize(
  'sizes, heads, groups',
  [
    ({'fsdp': 4, 'tensor': 2}, 6, 2),
    ({'context': 4, 'tensor': 2}, 6, 2),
    ({'replica': 2, 'context': 2, 'tensor': 2}, 6, 6),
    # Fewer groups than parts: each device picks the one group of its heads.
    ({'fsdp': 2, 'tensor': 4}, 12, 2),
    ({'context': 2, 'tensor': 4}, 8, 1),
    ({'fsdp': 1, 'tensor': 8}, 24, 4),
  ],
  ids=str,
)
def test_attention_split_every_way_is_that_of_one_device(sizes, heads, groups):
  step, args = attend(heads, groups)
  want = jax.jit(step)(*args)
  with on_mesh(**sizes):
    lowered = jax.jit(step).lower(*args)
    got = lowered.compile()(*args)
  assert 'manual_computation' in lowered.as_text()
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5),
    got,
    want,
  )


def test_heads_of_a_device_lie_in_one_group():
  step, args = attend(12, 3)  # four heads a group, three heads a device
  with on_mesh(fsdp=2, tensor=4):
    with pytest.raises(errors.UserError, match='cannot be split in 4'):
      jax.jit(step).lower(*args)


def test_heads_lie_with_their_groups():
  rules = (('heads', ('fsdp', 'tensor')), ('kv_heads', 'tensor'))
  with on_mesh(fsdp=4, tensor=2), nn.logical_axis_rules(rules):
    step, args = attend(8, 2)
    with pytest.raises(errors.UserError, match='begin with those of their gro'):
      jax.jit(step).lower(*args)


@pytest.mark.parametrize(
  'sizes',
  [
    {'fsdp': 4, 'tensor': 2},
    {'fsdp': 2, 'context': 2, 'tensor': 2},
    {'replica': 2, 'fsdp': 4},
    {'fsdp': 1, 'tensor': 8},
    {'fsdp': 8},  # four rows: every device holds them all
  ],
  ids=str,
)
def test_cross_entropy_split_every_way_is_the_dense_one(sizes):
  rng = np.random.default_rng(1)
  E, V = 8, 24
  hidden = jnp.asarray(rng.standard_normal((B, T, E)), jnp.float32)
  head = jnp.asarray(rng.standard_normal((V, E)), jnp.float32)
  targets = jnp.asarray(rng.integers(0, V, (B, T)))
  weights = jnp.asarray(rng.random((B, T)) * (rng.random((B, T)) > 0.3))
  weights = weights.astype(jnp.float32)

  def dense(hidden, head):
    logits = jnp.einsum('BTE,VE->BTV', hidden, head)
    log_z = jax.nn.logsumexp(logits, axis=-1)
    chosen = jnp.take_along_axis(logits, targets[..., None], -1)[..., 0]
    total = (weights * (log_z - chosen + 0.1 * log_z**2)).sum()
    return total, (log_z - chosen, log_z)

  def split(hidden, head):
    total, losses, log_z = partition.cross_entropy(
      hidden, head, targets, weights, z_loss=0.1, chunk=6
    )
    return total, (losses, log_z)

  def step(function):
    return jax.value_and_grad(function, argnums=(0, 1), has_aux=True)

  want = jax.jit(step(dense))(hidden, head)
  with on_mesh(**sizes):
    got = jax.jit(step(split))(hidden, head)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), got, want
  )


@pytest.mark.parametrize(
  'sizes', [{}, {'fsdp': 2, 'context': 2, 'tensor': 2}, {'fsdp': 8}], ids=str
)
def test_log_probs_have_the_dense_gradient_at_each_place(sizes):
  rng = np.random.default_rng(2)
  E, V = 8, 24
  hidden = jnp.asarray(rng.standard_normal((B, T, E)), jnp.float32)
  head = jnp.asarray(rng.standard_normal((V, E)), jnp.float32)
  targets = jnp.asarray(rng.integers(0, V, (B, T)))
  mask = jnp.asarray(rng.random((B, T)) > 0.6)
  factors = jnp.asarray(rng.standard_normal((B, T)), jnp.float32)

  def dense(hidden, head):
    logits = jnp.einsum('BTE,VE->BTV', hidden, head)
    found = jnp.take_along_axis(
      jax.nn.log_softmax(logits), targets[..., None], 2
    )
    return jnp.where(mask, found[..., 0], 0.0)

  def split(hidden, head):
    return partition.target_log_probs(hidden, head, targets, mask, chunk=6)

  def step(function):
    def total(hidden, head):
      found = function(hidden, head)
      # Not linear: each place has a cotangent of its own.
      return (factors * jnp.tanh(found)).sum(), found

    return jax.value_and_grad(total, argnums=(0, 1), has_aux=True)

  want = jax.jit(step(dense))(hidden, head)
  with on_mesh(**sizes) if sizes else contextlib.nullcontext():
    got = jax.jit(step(split))(hidden, head)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, want
  )


def test_without_a_mesh_nothing_is_split():
  assert partition.current_spec((8, 8), ('batch', 'length')) is None
  with on_mesh(fsdp=4, tensor=2):
    found = partition.current_spec((8, 6, 6), ('batch', 'length', 'heads'))
    assert found == jax.P('fsdp', None, 'tensor')
    # Seven rows on four devices: left whole rather than padded.
    assert partition.current_spec((7,), ('batch',)) == jax.P(None)
