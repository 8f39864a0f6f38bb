"""Parameters of scanned blocks, stacked or apart.

Training scans over stacked parameters. A program that only runs the blocks
reads each where it lies if they come apart; from a stack every block is first
copied out, in every call (3 % of the S3 encoder on a CPU).
"""

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp


def unstack(stacked: Any, layers: int) -> tuple[Any, ...]:
  """Parameters of the scanned blocks → those of each block."""
  stacked = nn.unbox(stacked)
  return tuple(
    jax.tree.map(lambda p, n=n: p[n], stacked) for n in range(layers)
  )


def stack(blocks: tuple[Any, ...]) -> Any:
  """The inverse of `unstack`."""
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)


def unstacked(module: nn.Module, name: str) -> tuple[Any, ...] | None:
  """Parameters of the blocks of that name if they lie apart, else None."""
  found = module.variables.get('params', {}).get(name)
  return found if isinstance(found, tuple) else None


def run(
  scanned: nn.Module, block: nn.Module, x: Any, *rest: Any
) -> tuple[Any, Any]:
  """All blocks, whichever way their parameters lie.

  Args:
    scanned: `nn.scan` over the blocks, a named submodule.
    block: One of them, without a parent.
    x: What goes from block to block.
    *rest: What every block is given besides.

  Returns:
    x behind the last block, and what the scan collected: None where the
    parameters lie apart.
  """
  found = unstacked(scanned.parent, scanned.name)
  if found is None:
    return scanned(x, *rest)
  for params in found:
    x, _ = block.apply({'params': params}, x, *rest)
  return x, None
