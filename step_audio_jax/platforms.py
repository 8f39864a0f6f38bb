"""Where jax looks for devices; decided before anything imports jax."""

import importlib.util
import os
import pathlib
import sys


def leave_absent_tpus_alone(
  devices: pathlib.Path = pathlib.Path('/dev'),
) -> None:
  """Keeps jax from looking for TPUs where libtpu only serves to compile.

  With libtpu installed and no TPU at hand, jax waits for a metadata server and
  prints errors before it falls back. Whatever JAX_PLATFORMS says stays; other
  plugins than CUDA's are left to jax. Runs when this package is imported; a
  jax that was imported before is told, and asks only when it is first used.

  Args:
    devices: Where a machine with TPUs shows them.
  """
  if 'JAX_PLATFORMS' in os.environ:
    return
  found = importlib.util.find_spec
  present = any(devices.glob('accel*')) or any(devices.glob('vfio/[0-9]*'))
  if present or not found('libtpu'):
    return
  if any(found(f'jax_cuda{version}_plugin') for version in (12, 13)):
    platforms = 'cuda,cpu'
  elif not found('jax_plugins'):
    platforms = 'cpu'
  else:
    return
  os.environ['JAX_PLATFORMS'] = platforms
  jax = sys.modules.get('jax')
  if jax is not None and not jax.config.jax_platforms:
    jax.config.update('jax_platforms', platforms)
