"""Mesh sizes and where arrays lie."""

import jax
import pytest

from step_audio_jax import errors
from step_audio_jax.parallel import mesh as mesh_lib


def test_the_free_axis_takes_what_is_left():
  assert mesh_lib.MeshConfig(tensor=2).shape(8) == (1, 4, 1, 2)
  assert mesh_lib.MeshConfig(replica=2, fsdp=2, context=2).shape(8) == (
    2,
    2,
    2,
    1,
  )


@pytest.mark.parametrize(
  'sizes', [{'fsdp': 3}, {'tensor': 3}, {'fsdp': -1, 'tensor': -1}]
)
def test_sizes_that_do_not_fit_are_refused(sizes):
  with pytest.raises(errors.UserError, match='mesh: sizes'):
    mesh_lib.MeshConfig(**sizes).shape(8)


def test_an_axis_that_does_not_divide_is_left_out():
  mesh = mesh_lib.MeshConfig(fsdp=4, tensor=2).build(jax.devices())

  def spec(shape, names):
    return mesh_lib.sharding_for(
      shape, names, mesh, mesh_lib.DEFAULT_RULES
    ).spec

  assert spec((8, 6), ('embed', 'mlp')) == jax.P('fsdp', 'tensor')
  assert spec((6, 6), ('embed', 'mlp')) == jax.P(None, 'tensor')
  assert spec((6, 7), ('embed', 'mlp')) == jax.P(None, None)
  assert spec((8, 3), ('norm',)) == jax.P(None, None)


def test_one_mesh_axis_is_used_once_an_array():
  mesh = mesh_lib.MeshConfig(fsdp=4, tensor=2).build(jax.devices())
  spec = mesh_lib.sharding_for(
    (4, 4), ('heads', 'mlp'), mesh, mesh_lib.DEFAULT_RULES
  ).spec
  assert spec == jax.P('tensor', None)


def test_meshes_have_auto_axes():
  mesh = mesh_lib.MeshConfig().build(jax.devices())
  assert set(mesh.axis_types) == {jax.sharding.AxisType.Auto}
