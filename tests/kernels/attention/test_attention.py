"""Attention against a loop over pairs in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax.kernels.attention import attention
from tests.kernels import rows


def oracle(q, k, v, q_pos, kv_pos, q_seg, kv_seg, slopes):
  """The definition, one query at a time."""
  B, T, H, D = q.shape
  repeat = H // k.shape[2]
  out = np.zeros((B, T, H, D))
  for b in range(B):
    for t in range(T):
      seen = [
        s
        for s in range(k.shape[1])
        if kv_seg[b, s] == q_seg[b, t] and kv_pos[b, s] <= q_pos[b, t]
      ]
      for h in range(H):
        scores = np.array(
          [
            q[b, t, h].astype(np.float64) @ k[b, s, h // repeat] / np.sqrt(D)
            - (slopes[h] if slopes is not None else 0)
            * np.sqrt(q_pos[b, t] - kv_pos[b, s])
            for s in seen
          ]
        )
        weights = np.exp(scores - scores.max())
        weights /= weights.sum()
        out[b, t, h] = sum(
          w * v[b, s, h // repeat] for w, s in zip(weights, seen)
        )
  return out


@pytest.mark.parametrize('alibi', [True, False])
def test_matches_the_definition_on_ragged_packed_rows(alibi):
  rng = np.random.default_rng(0)
  segments = np.array(
    [
      [1, 1, 1, 2, 2, 2, 2, 2, 3, 0, 0],
      [1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2],
    ]
  )
  positions = np.array(
    [
      [0, 1, 2, 0, 1, 2, 3, 4, 0, 0, 1],
      [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    ]
  )
  q = rng.standard_normal((2, 11, 6, 8), np.float32)
  k, v = rng.standard_normal((2, 2, 11, 2, 8), np.float32)
  slopes = attention.alibi_slopes(6) if alibi else None
  got = attention.attention(
    q,
    k,
    v,
    q_positions_BT=jnp.asarray(positions),
    kv_positions_BS=jnp.asarray(positions),
    q_segment_ids_BT=jnp.asarray(segments),
    kv_segment_ids_BS=jnp.asarray(segments),
    slopes_H=slopes,
  )
  want = oracle(q, k, v, positions, positions, segments, segments, slopes)
  np.testing.assert_allclose(got, want, atol=1e-5)


def test_a_query_that_sees_nothing_is_finite():
  ones = jnp.ones((1, 1, 1, 4))
  got = attention.attention(
    ones,
    ones,
    ones,
    q_positions_BT=jnp.zeros((1, 1), jnp.int32),
    kv_positions_BS=jnp.zeros((1, 1), jnp.int32),
    q_segment_ids_BT=jnp.ones((1, 1), jnp.int32),
    kv_segment_ids_BS=jnp.zeros((1, 1), jnp.int32),
    slopes_H=attention.alibi_slopes(1),
  )
  assert np.isfinite(got).all()


def test_published_slopes_of_48_and_96_heads():
  slopes = attention.alibi_slopes(48)
  np.testing.assert_allclose(slopes[:32], 2.0 ** (-np.arange(1, 33) / 4))
  np.testing.assert_allclose(
    slopes[32:], 2.0 ** (-(2 * np.arange(1, 17) - 1) / 8)
  )
  slopes = attention.alibi_slopes(96)
  assert slopes[63] == 2.0**-8 and np.isclose(slopes[95], 2.0**-3.9375)


def call(q, k, v, segments, positions, implementation='auto'):
  return attention.attention(
    q,
    k,
    v,
    q_positions_BT=positions,
    kv_positions_BS=positions,
    q_segment_ids_BT=segments,
    kv_segment_ids_BS=segments,
    slopes_H=attention.alibi_slopes(q.shape[2]),
    implementation=implementation,
  )


def plain(q, k, v, segments, positions):
  return call(q, k, v, segments, positions)


def sharded(q, k, v, segments, positions):
  """Rows over two devices, heads and groups over two."""
  mesh = jax.make_mesh(
    (2, 2),
    ('data', 'tensor'),
    devices=jax.devices()[:4],
    axis_types=(jax.sharding.AxisType.Auto,) * 2,
  )
  P = jax.sharding.PartitionSpec
  heads = P('data', None, 'tensor')
  slopes = jnp.asarray(attention.alibi_slopes(q.shape[2]))

  def local(q, k, v, segments, positions, slopes):
    return attention.attention(
      q,
      k,
      v,
      q_positions_BT=positions,
      kv_positions_BS=positions,
      q_segment_ids_BT=segments,
      kv_segment_ids_BS=segments,
      slopes_H=slopes,
    )

  return jax.shard_map(
    local,
    mesh=mesh,
    in_specs=(heads, heads, heads, P('data'), P('data'), P('tensor')),
    out_specs=heads,
    check_vma=False,
  )(q, k, v, segments, positions, slopes)


def in_scan(q, *args):
  def layer(q, _):
    return sharded(q, *args), None

  return jax.lax.scan(jax.checkpoint(layer), q, None, length=2)[0]


@pytest.mark.parametrize(
  ('run', 'jitted'),
  [
    (plain, True),
    (jax.checkpoint(plain), True),
    (sharded, True),
    (jax.checkpoint(sharded), True),
    (sharded, False),
  ],
)
def test_dispatch_under_jit_checkpoint_and_shard_map(run, jitted):
  segments, positions = map(jnp.asarray, rows.packed(2, 40, 15))
  q, k, v, dout = rows.tensors(2, 40, 4, 2, 8)

  def gradients(run, jitted):
    def total(q, k, v):
      return (run(q, k, v, segments, positions) * dout).sum()

    step = jax.value_and_grad(total, argnums=(0, 1, 2))
    return (jax.jit(step) if jitted else step)(q, k, v)

  def dense(*args):
    return call(*args, implementation='dense')

  jax.tree.map(
    # The total is of magnitude 36, where float32 steps by 4e-6.
    lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-5),
    gradients(run, jitted),
    gradients(dense, True),
  )


def lowered(run, platform, length=256):
  shape = jax.ShapeDtypeStruct
  q = shape((2, length, 4, 64), jnp.bfloat16)
  k = shape((2, length, 2, 64), jnp.bfloat16)
  ids = shape((2, length), jnp.int32)

  def total(q, k, v, segments, positions):
    return run(q, k, v, segments, positions).astype(jnp.float32).sum()

  step = jax.jit(jax.grad(total, argnums=(0, 1, 2)))
  return (
    step.trace(q, k, k, ids, ids).lower(lowering_platforms=(platform,))
  ).as_text()


@pytest.mark.parametrize('platform', ['tpu', 'cuda'])
def test_layers_of_a_scan_lower_to_the_kernels_of_absent_chips(platform):
  text = lowered(in_scan, platform)
  for kernel in ('attention_forward', 'attention_dq', 'attention_dkv'):
    assert kernel in text
  assert 'attention_forward' not in lowered(in_scan, 'cpu')


@pytest.mark.parametrize(
  ('names', 'forwards'),
  [(('attention_out', 'attention_lse'), 1), (('attention_out',), 2)],
)
def test_remat_can_keep_what_backward_needs(names, forwards):
  policy = jax.checkpoint_policies.save_only_these_names(*names)
  text = lowered(jax.checkpoint(plain, policy=policy), 'tpu')
  assert text.count('kernel_name = "attention_forward"') == forwards


def test_decoding_takes_the_dense_path():
  q, k, v, _ = rows.tensors(1, 16, 2, 1, 8)
  segments, positions = map(jnp.asarray, rows.packed(1, 16, 10))
  got = call(q, k, v, segments, positions)
  want = call(q, k, v, segments, positions, 'dense')
  np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
  ('wrong', 'message'),
  [
    ({'implementation': 'flash'}, "'flash', expected one of auto, dense"),
    ({'blocks': (100, 0)}, 'queries is 100, expected 0 or a power of two'),
    ({'groups': 3}, '4 query heads and 3 key/value groups'),
  ],
)
def test_wrong_arguments_are_told(wrong, message):
  q, k, v, _ = rows.tensors(1, 32, 4, wrong.pop('groups', 2), 8)
  ids = jnp.ones((1, 32), jnp.int32)
  with pytest.raises(ValueError, match=message):
    if 'blocks' in wrong:
      wrong['blocks'] = attention.Blocks(*wrong['blocks'])
    attention.attention(
      q,
      k,
      v,
      q_positions_BT=ids,
      kv_positions_BS=ids,
      q_segment_ids_BT=ids,
      kv_segment_ids_BS=ids,
      **wrong,
    )


@pytest.mark.parametrize('implementation', ['blockwise', 'interpret'])
def test_blocks_that_show_nothing_are_never_read(implementation):
  q, k, v, dout, *rest = rows.case(*rows.CASES[0])
  blocks = attention.Blocks(queries=128, keys=256)
  out, dq, *_ = rows.out_and_gradients(
    q,
    k.at[:, 256:].set(jnp.nan),
    v.at[:, 256:].set(jnp.nan),
    *(dout, *rest, implementation, blocks),
  )
  # A weight of 0 times NaN would be NaN.
  assert np.isfinite(out[:, :256]).all() and np.isfinite(dq[:, :256]).all()
  assert np.isnan(out[:, 256:]).any()


def test_parts_of_the_queries_add_up_to_all_of_them():
  """As under context parallelism, or with a cache longer than the prompt."""
  key = rows.CASES[0]
  q, k, v, dout, segments, positions, slopes = rows.case(*key)

  @jax.jit
  def part(q, k, v, dout, q_segments, q_positions):
    out, vjp = jax.vjp(
      lambda q, k, v: attention.attention(
        q,
        k,
        v,
        q_positions_BT=q_positions,
        kv_positions_BS=positions,
        q_segment_ids_BT=q_segments,
        kv_segment_ids_BS=segments,
        slopes_H=slopes,
        implementation='interpret',
        blocks=attention.Blocks(queries=64, keys=128),
      ),
      *(q, k, v),
    )
    return out, *vjp(dout)

  halves = [
    part(q[:, s], k, v, dout[:, s], segments[:, s], positions[:, s])
    for s in (slice(150), slice(150, 300))
  ]
  (out0, dq0, dk0, dv0), (out1, dq1, dk1, dv1) = halves
  joined = (jnp.concatenate(x, axis=1) for x in ((out0, out1), (dq0, dq1)))
  rows.agree((*joined, dk0 + dk1, dv0 + dv1), key)
