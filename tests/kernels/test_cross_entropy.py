"""Chunked cross-entropy against one softmax over everything, in float32."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax.kernels import cross_entropy

N, E, V = 37, 16, 52


def inputs(dtype=np.float32, seed=0):
  rng = np.random.default_rng(seed)
  hidden = jnp.asarray(rng.standard_normal((N, E)), dtype)
  head = jnp.asarray(rng.standard_normal((V, E)), dtype)
  targets = jnp.asarray(rng.integers(0, V, N), jnp.int32)
  weights = rng.random(N) * (rng.random(N) > 0.3)
  return hidden, head, targets, jnp.asarray(weights, jnp.float32)


def dense(hidden, head, targets, weights, z_loss):
  logits = jnp.einsum('NE,VE->NV', hidden, head, precision='highest')
  log_z = jax.nn.logsumexp(logits, axis=-1)
  losses = log_z - jnp.take_along_axis(logits, targets[:, None], 1)[:, 0]
  return (weights * (losses + z_loss * log_z**2)).sum(), losses, log_z


def value_and_gradients(loss, hidden, head, *args):
  """Of 0.7 total: the cotangent of `total` must not be taken for 1."""

  def scaled(hidden, head):
    total, *rest = loss(hidden, head, *args)
    return 0.7 * total, (total, *rest)

  (_, outs), gradients = jax.jit(
    jax.value_and_grad(scaled, argnums=(0, 1), has_aux=True)
  )(hidden, head)
  return *outs, *gradients


def agree(got, want, tolerance=1e-5):
  for a, b in zip(got, want, strict=True):
    scale = max(1.0, float(jnp.abs(b).max()))
    np.testing.assert_allclose(
      np.asarray(a, np.float32), b, atol=tolerance * scale
    )


@pytest.mark.parametrize(
  ('chunk', 'z_loss'), [(8, 0.3), (37, 0.0), (36, 0.3), (1000, 0.3)]
)
def test_equals_the_dense_one(chunk, z_loss):
  got = value_and_gradients(
    functools.partial(cross_entropy.cross_entropy, z_loss=z_loss, chunk=chunk),
    *inputs(),
  )
  want = value_and_gradients(functools.partial(dense, z_loss=z_loss), *inputs())
  agree(got, want)


def test_without_gradients_the_same_values():
  loss = functools.partial(cross_entropy.cross_entropy, z_loss=0.1, chunk=10)
  agree(jax.jit(loss)(*inputs()), dense(*inputs(), 0.1))


def test_tokens_of_weight_0_may_have_any_target():
  hidden, head, targets, weights = inputs()
  odd = jnp.where(weights == 0, -5, targets)
  loss = functools.partial(cross_entropy.cross_entropy, chunk=8)
  got = value_and_gradients(loss, hidden, head, odd, weights)
  want = value_and_gradients(loss, hidden, head, targets, weights)
  np.testing.assert_array_equal(got[0], want[0])
  agree(got[3:], want[3:])
  assert not np.asarray(got[3])[np.asarray(weights) == 0].any()


def test_metrics_carry_no_gradient():
  hidden, head, targets, weights = inputs()

  def metric(hidden):
    _, losses, log_z = cross_entropy.cross_entropy(
      hidden, head, targets, weights
    )
    return losses.sum() + log_z.sum()

  assert not jax.jit(jax.grad(metric))(hidden).any()


@pytest.mark.parametrize('rows', [1, 2])
def test_vocabulary_split_over_devices(rows):
  mesh = jax.make_mesh(
    (rows, 4),
    ('data', 'tensor'),
    devices=jax.devices()[: rows * 4],
    axis_types=(jax.sharding.AxisType.Auto,) * 2,
  )
  P = jax.sharding.PartitionSpec

  def local(hidden, head, targets, weights):
    total, losses, log_z = cross_entropy.cross_entropy(
      *(hidden, head, targets, weights),
      z_loss=0.2,
      chunk=8,
      axis_name='tensor',
    )
    return jax.lax.psum(total, 'data'), losses, log_z

  split = jax.shard_map(
    local,
    mesh=mesh,
    in_specs=(P('data'), P('tensor'), P('data'), P('data')),
    out_specs=(P(), P('data'), P('data')),
    check_vma=False,
  )
  hidden, head, *rest = (
    x if i == 1 else x[:36] for i, x in enumerate(inputs())
  )
  got = value_and_gradients(split, hidden, head, *rest)
  want = value_and_gradients(
    functools.partial(dense, z_loss=0.2), hidden, head, *rest
  )
  agree(got, want)


def test_bfloat16_accumulates_in_float32():
  hidden, head, targets, weights = inputs(jnp.bfloat16)
  got = value_and_gradients(
    functools.partial(cross_entropy.cross_entropy, chunk=8),
    *(hidden, head, targets, weights),
  )
  want = value_and_gradients(
    functools.partial(dense, z_loss=0.0),
    *(x.astype(jnp.float32) for x in (hidden, head)),
    *(targets, weights),
  )
  agree(got[:3], want[:3], 1e-5)
  agree(got[3:], want[3:], 1e-2)
  assert got[3].dtype == got[4].dtype == jnp.bfloat16
  assert got[0].dtype == got[1].dtype == jnp.float32


def shapes_in(jaxpr):
  for equation in jaxpr.eqns:
    for value in equation.outvars:
      yield getattr(value.aval, 'shape', ())
    for inner in jax.core.jaxprs_in_params(equation.params):
      yield from shapes_in(inner)


def test_no_more_logits_than_a_chunk_of_them():
  tokens, vocabulary, chunk = 512, 4096, 64
  shape = jax.ShapeDtypeStruct
  jaxpr = jax.make_jaxpr(
    jax.grad(
      lambda *args: cross_entropy.cross_entropy(*args, chunk=chunk)[0],
      argnums=(0, 1),
    )
  )(
    shape((tokens, 8), jnp.float32),
    shape((vocabulary, 8), jnp.float32),
    shape((tokens,), jnp.int32),
    shape((tokens,), jnp.float32),
  )
  assert max(map(math.prod, shapes_in(jaxpr.jaxpr))) == chunk * vocabulary


@pytest.mark.parametrize(
  'change', [{'chunk': 0}, {'targets': N - 1}, {'width': E + 1}], ids=str
)
def test_wrong_shapes_are_told(change):
  hidden, head, targets, weights = inputs()
  with pytest.raises(ValueError, match='cross_entropy: .* expected'):
    cross_entropy.cross_entropy(
      hidden,
      jnp.zeros((V, change.get('width', E))),
      targets[: change.get('targets', N)],
      weights,
      chunk=change.get('chunk', 8),
    )


@pytest.mark.parametrize('chunk', [5, 8, 37])
def test_chunks_that_weigh_nothing_are_passed_over(chunk):
  hidden, head, targets, weights = inputs()
  weights = weights * (jnp.arange(N) % 4 == 1)
  loss = functools.partial(cross_entropy.cross_entropy, z_loss=0.2, chunk=chunk)
  got, want = (
    value_and_gradients(
      functools.partial(loss, sparse=sparse), hidden, head, targets, weights
    )
    for sparse in (True, False)
  )
  some = np.asarray(weights) != 0
  agree([got[0], *got[3:]], [want[0], *want[3:]])
  agree([x[some] for x in got[1:3]], [x[some] for x in want[1:3]])
  told = np.asarray(got[1])[~some]
  assert ((told == 0) | np.isclose(told, np.asarray(want[1])[~some])).all()
  if chunk < some.sum():
    assert (told == 0).any()
