"""Projections give the same however their weights lie."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax.kernels import projections


class Network(nn.Module):
  """Two maps of one input, one back from both axes, one onto a table."""

  @nn.compact
  def __call__(self, x_BTE):
    axes = ('embed', 'heads', 'head_dim')
    a_BTHD, b_BTHD = projections.project_together(
      x_BTE,
      projections.Projection((3, 4), axes, 'float32', use_bias=True, name='a'),
      projections.Projection((2, 4), axes, 'float32', use_bias=True, name='b'),
    )
    back = projections.Projection(
      (6,), ('heads', 'head_dim', 'embed'), 'float32', contract=2, name='back'
    )
    y_BTE = back(jnp.concatenate([a_BTHD, 2 * b_BTHD], axis=2))
    y_BTE *= self.param('scale', nn.initializers.ones, (1, 1, 6))
    table_VE = self.param('table', nn.initializers.normal(), (70, 6))
    return projections.project_onto_rows(self, 'table', y_BTE, table_VE)


@pytest.fixture(name='case', scope='module')
def _case():
  """(input, variables with no zeros among the biases)."""
  x_BTE = jax.random.normal(jax.random.key(0), (2, 3, 6))
  boxed = Network().init(jax.random.key(1), x_BTE)
  assert boxed['params']['back']['kernel'].names == (
    'heads',
    'head_dim',
    'embed',
  )
  assert boxed['params']['b']['bias'].names == ('heads', 'head_dim')
  return x_BTE, jax.tree.map(lambda p: p + 0.1, nn.unbox(boxed))


def test_each_projection_has_its_own_parameters(case):
  x_BTE, variables = case
  p = jax.tree.map(np.asarray, variables['params'])
  assert set(p) == {'a', 'b', 'back', 'scale', 'table'}
  a, b = (
    np.einsum('bte,ehd->bthd', x_BTE, p[n]['kernel']) + p[n]['bias']
    for n in 'ab'
  )
  both = np.concatenate([a, 2 * b], axis=2)
  y = np.einsum('bthd,hde->bte', both, p['back']['kernel']) * p['scale']
  found = Network().apply(variables, x_BTE)
  np.testing.assert_allclose(found, y @ p['table'].T, rtol=1e-4, atol=1e-5)


def test_tiles_give_the_same(case):
  x_BTE, variables = case
  params = dict(variables['params'])
  # Scores are of the table's tiles alone.
  table_VE = params.pop('table')
  laid = {
    **projections.tile(params, together=[('a', 'b')], contract={'back': 2}),
    **projections.tile_table('table', table_VE),
    'table': jnp.zeros_like(table_VE),
  }
  assert set(laid) == {'a_b', 'back', 'scale', 'table', 'table_tiles'}
  assert set(laid['a_b']) == {'bias', 'tiles'}
  np.testing.assert_allclose(
    Network().apply({'params': laid}, x_BTE),
    Network().apply(variables, x_BTE),
    rtol=1e-4,
    atol=1e-5,
  )


def test_tiles_are_for_a_few_rows_on_a_cpu():
  rows = [n for n in range(40) if projections.tiles_pay(n)]
  assert rows == (list(range(2, 17)) if jax.default_backend() == 'cpu' else [])


@pytest.mark.parametrize(
  'E, F, part',
  [(512, 192, 256), (512, 1024, 64), (1280, 512, 128), (96, 70, 96)],
)
@pytest.mark.parametrize('lead', [(3,), (2, 5)])
def test_product_of_tiles_is_the_product(E, F, part, lead):
  rng = np.random.default_rng(E + F)
  x, kernel_EF = rng.normal(size=(*lead, E)), rng.normal(size=(E, F))
  tiles = projections.pack_tiles(jnp.asarray(kernel_EF, jnp.float32))
  assert tiles.shape[-2:] == (part, 64) and tiles.size >= E * F
  ours = projections.multiply_tiles(jnp.asarray(x, jnp.float32), tiles, F)
  np.testing.assert_allclose(ours, x @ kernel_EF, rtol=1e-4, atol=1e-4)
