"""Peak memory of the loss of a 74,752-word vocabulary at 8,192 tokens.

    python benchmarks/training/cross_entropy_memory.py

Compiles value and gradients of the chunked cross-entropy and of the dense one,
with hidden states in bfloat16 and a float32 head, and prints one JSON line:
MiB of temporaries (arguments and the gradients themselves not counted) for
this CPU and, where `libtpu` is installed, for one v5p chip. Nothing is run:
the figures are the compilers'. A head of the whole width on one chip (3B), and
the eighth of it that a chip holds of the 130B model.
"""

import functools
import importlib.util
import json
import os

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')

import jax
from jax.experimental import topologies
import jax.numpy as jnp
import numpy as np

from step_audio_jax.kernels import cross_entropy

TOKENS = 8192
VOCABULARY = 74_752
CHUNK = 1024
# Model → (rows of the head on a chip, width).
HEADS = {
  '3b': (VOCABULARY, 3072),
  '130b_eighth': (VOCABULARY // 8, 12_288),
}


def dense(hidden_NE, head_VE, targets_N, weights_N):
  """All logits at once, as a plain model computes its loss."""
  logits_NV = jnp.einsum(
    'NE,VE->NV',
    hidden_NE,
    head_VE.astype(hidden_NE.dtype),
    preferred_element_type=jnp.float32,
  )
  log_z_N = jax.nn.logsumexp(logits_NV, axis=-1)
  chosen_N1 = jnp.take_along_axis(logits_NV, targets_N[:, None], axis=-1)
  return (weights_N * (log_z_N - chosen_N1[:, 0])).sum()


def chunked(*args):
  """The loss that trains."""
  return cross_entropy.cross_entropy(*args, chunk=CHUNK)[0]


def temporaries_mib(loss, rows, width, device) -> float:
  """MiB of temporaries of value and gradients, compiled for `device`."""
  sharding = jax.sharding.SingleDeviceSharding(device)
  array = functools.partial(jax.ShapeDtypeStruct, sharding=sharding)
  compiled = (
    jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    .lower(
      array((TOKENS, width), jnp.bfloat16),
      array((rows, width), jnp.float32),
      array((TOKENS,), jnp.int32),
      array((TOKENS,), jnp.float32),
    )
    .compile()
  )
  return round(compiled.memory_analysis().temp_size_in_bytes / 2**20, 1)


def main() -> None:
  """Prints the JSON line."""
  devices = {'cpu': jax.devices('cpu')[0]}
  if importlib.util.find_spec('libtpu'):
    devices['v5p'] = topologies.get_topology_desc(
      platform='tpu', topology_name='v5p:2x2x1'
    ).devices[0]
  result = {
    'benchmark': 'cross_entropy_memory',
    'tokens': TOKENS,
    'vocabulary': VOCABULARY,
    'chunk': CHUNK,
    'logits_mib': int(np.ceil(TOKENS * VOCABULARY * 4 / 2**20)),
    'temporaries_mib': {
      f'{model}_{platform}': {
        'chunked': temporaries_mib(chunked, *head, device),
        'dense': temporaries_mib(dense, *head, device),
      }
      for model, head in HEADS.items()
      for platform, device in devices.items()
    },
  }
  print(json.dumps(result))


if __name__ == '__main__':
  main()
