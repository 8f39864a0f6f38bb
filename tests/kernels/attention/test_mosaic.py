"""The TPU kernels: interpreted against the oracle, compiled for real chips."""

import json
import os
import subprocess
import sys

import jax.numpy as jnp
import pytest

from step_audio_jax.kernels.attention import attention
from tests.kernels import rows

SMALL = attention.Blocks(queries=128, keys=256)


def run(*args):
  return rows.out_and_gradients(*args, 'interpret', SMALL)


@pytest.mark.parametrize('key', rows.CASES)
def test_values_and_gradients_equal_the_dense_ones(key):
  rows.agree(run(*rows.case(*key)), key)


def test_4096_tokens():
  args = rows.case(*rows.LONG)
  got = rows.out_and_gradients(*args, 'interpret', attention.Blocks())
  rows.agree(got, rows.LONG)


def test_slopes_of_zero_mask_all_the_same():
  q, k, v, dout, segments, positions, _ = rows.case(*rows.CASES[0])
  got = run(q, k, v, dout, segments, positions, jnp.zeros(3))
  rows.agree(got, (*rows.CASES[0][:2], False))


COMPILE = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from step_audio_jax.kernels.attention import attention

def compile(chip, B, T, H, G, D, dtype, biased):
  devices = topologies.get_topology_desc(
    platform='tpu', topology_name=chip
  ).devices
  sharding = NamedSharding(
    Mesh(np.array(devices[:1]), ('x',)), PartitionSpec()
  )
  def array(shape, dtype):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
  def step(q, k, v, dout, segments, positions, slopes):
    out, vjp = jax.vjp(lambda q, k, v: attention.attention(
      q, k, v, q_positions_BT=positions, kv_positions_BS=positions,
      q_segment_ids_BT=segments, kv_segment_ids_BS=segments,
      slopes_H=slopes if biased else None), q, k, v)
    return out, vjp(dout)
  q, k = array((B, T, H, D), dtype), array((B, T, G, D), dtype)
  ids = array((B, T), jnp.int32)
  compiled = jax.jit(step).lower(
    q, k, k, q, ids, ids, array((H,), jnp.float32)
  ).compile()
  return {
    'kernels': compiled.as_text().count('tpu_custom_call'),
    'temporaries': compiled.memory_analysis().temp_size_in_bytes,
  }

print(json.dumps([compile(*case) for case in json.loads(sys.argv[1])]))
"""

# Shards of real models: 130B over 8 chips (12 heads, 1 group), 3B whole (its
# heads are 64 wide), Llama-3-8B without a bias.
CASES = [
  ('v5p:2x2x1', 1, 8192, 12, 1, 128, 'bfloat16', True),
  ('v5e:2x2', 1, 32768, 48, 4, 64, 'bfloat16', True),
  ('v6e:2x2', 2, 1000, 32, 8, 128, 'bfloat16', False),
]


def test_compile_for_v5e_v5p_and_v6e():
  environment = {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    'TPU_SKIP_MDS_QUERY': '1',
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
  }
  result = subprocess.run(
    [sys.executable, '-c', COMPILE, json.dumps(CASES)],
    env=environment,
    capture_output=True,
    text=True,
  )
  assert not result.returncode, result.stderr[-3000:]
  got = json.loads(result.stdout.splitlines()[-1])
  for case, figures in zip(CASES, got):
    assert figures['kernels'] == 3, case  # forward, dq, dk and dv
  B, T, H, _, D = CASES[0][1:6]
  # No more than a few copies of the queries, far from one head's T x T.
  assert got[0]['temporaries'] <= 4 * B * T * H * D * 2
