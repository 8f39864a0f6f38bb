"""The Optax chain against AdamW written out."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from step_audio_jax import errors
from step_audio_jax.training import optimizers

PARAMS = {
  'embedding': jnp.ones((3, 2)),
  'blocks': {'kernel': jnp.full((2, 2), 2.0), 'scale': jnp.ones(2)},
  'vision': {'kernel': jnp.ones((2, 2))},
}


def test_two_steps_of_adamw_with_multipliers():
  config = optimizers.OptimizerConfig(
    0.1,
    clip=0.0,
    weight_decay=0.5,
    multipliers=(('embedding', 5.0), ('vision', 0.0)),
  )
  chain = config.build(PARAMS, 10)
  state = chain.init(PARAMS)
  rng = np.random.default_rng(0)
  m = v = 0.0
  params, want = PARAMS, {'e': np.ones((3, 2)), 's': np.ones(2)}
  for t in (1, 2):
    g = rng.standard_normal((3, 2)).astype(np.float32)
    grads = {
      'embedding': jnp.asarray(g),
      'blocks': {'kernel': jnp.ones((2, 2)), 'scale': jnp.asarray(g[0])},
      'vision': {'kernel': jnp.ones((2, 2))},
    }
    updates, state = chain.update(grads, state, params)
    params = optax.apply_updates(params, updates)
    m = 0.9 * m + 0.1 * g
    v = 0.95 * v + 0.05 * g * g
    adam = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-8)
    want['e'] -= 0.1 * 5.0 * (adam + 0.5 * want['e'])
    want['s'] -= 0.1 * adam[0]  # rank one: no decay
  np.testing.assert_allclose(params['embedding'], want['e'], rtol=1e-5)
  np.testing.assert_allclose(params['blocks']['scale'], want['s'], rtol=1e-5)
  np.testing.assert_array_equal(params['vision']['kernel'], np.ones((2, 2)))


def test_schedules():
  cosine = optimizers.OptimizerConfig(
    1.0, schedule='cosine', warmup_steps=10, final_fraction=0.25
  ).learning_rate_at(110)
  assert float(cosine(5)) == pytest.approx(0.5)
  assert float(cosine(10)) == pytest.approx(1.0)
  assert float(cosine(60)) == pytest.approx((1 + 0.25) / 2)
  assert float(cosine(110)) == pytest.approx(0.25)
  constant = optimizers.OptimizerConfig(2.0, warmup_steps=4)
  assert float(constant.learning_rate_at(9)(2)) == pytest.approx(1.0)
  assert float(constant.learning_rate_at(9)(400)) == pytest.approx(2.0)


def test_mistakes_are_named():
  with pytest.raises(errors.UserError, match="matches the multiplier 'hed'"):
    optimizers.OptimizerConfig(1.0, multipliers=(('hed', 5.0),)).build(
      PARAMS, 1
    )
  with pytest.raises(errors.UserError, match="expected 'constant' or 'cosine'"):
    optimizers.OptimizerConfig(1.0, schedule='linear')
  with pytest.raises(errors.UserError, match='expected a positive number'):
    optimizers.OptimizerConfig(0.0)
