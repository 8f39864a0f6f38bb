"""Where arrays lie: what a kernel may assume of their axes."""

import jax


def one_device() -> bool:
  """Whether nothing can be split: no mesh in force, or one of one device."""
  mesh = jax.sharding.get_abstract_mesh()
  return mesh.empty or mesh.size == 1
