"""XLA flags of each TPU generation, handed over as LIBTPU_INIT_ARGS.

The sets follow what public trainers use for dense models: all-gathers of
sharded parameters run under the matmuls (asynchronous collective fusion),
data-parallel all-reduces under the backward pass, and on v6e more of the
on-chip memory goes to a kernel. They change speed, never results. Launched jobs
and the compiler for absent TPUs use the same ones.
"""

import types
from typing import Mapping

from step_audio_jax import errors

_OVERLAP = (
  '--xla_tpu_enable_async_collective_fusion=true',
  '--xla_tpu_enable_async_collective_fusion_fuse_all_gather=true',
  '--xla_tpu_enable_async_collective_fusion_multiple_steps=true',
  '--xla_tpu_overlap_compute_collective_tc=true',
  '--xla_enable_async_all_gather=true',
)
# The gradient sum over the data-centre network, of several slices.
_DATA_PARALLEL = (
  '--xla_tpu_enable_data_parallel_all_reduce_opt=true',
  '--xla_tpu_data_parallel_opt_different_sized_ops=true',
)
_LARGE_VMEM = ('--xla_tpu_scoped_vmem_limit_kib=98304',)

FLAGS: Mapping[str, tuple[str, ...]] = types.MappingProxyType(
  {
    'v4': _OVERLAP,
    'v5e': _OVERLAP,
    'v5p': _OVERLAP,
    'v6e': _OVERLAP + _LARGE_VMEM,
  }
)


def libtpu_init_args(chip: str, slices: int = 1) -> str:
  """The value of LIBTPU_INIT_ARGS for a job.

  Args:
    chip: Name of the generation in `topology.CHIPS`.
    slices: How many slices the job spans.

  Raises:
    UserError: The generation has no set of flags.
  """
  if chip not in FLAGS:
    raise errors.UserError(
      f'xla_flags: no flags for {chip!r}, expected one of {", ".join(FLAGS)}.'
    )
  return ' '.join(FLAGS[chip] + (_DATA_PARALLEL if slices > 1 else ()))
