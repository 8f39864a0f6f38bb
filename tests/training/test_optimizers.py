"""The Optax chain against AdamW written out, and Muon against Optax's own."""

import json

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from step_audio_jax import errors
from step_audio_jax.parallel import mesh as mesh_lib
from step_audio_jax.training import loop
from step_audio_jax.training import muon
from step_audio_jax.training import optimizers
from step_audio_jax.training.checkpoints import checkpoints
from tests.training import toy_regression

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
  update = jax.jit(chain.update)
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
    updates, state = update(grads, state, params)
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


ONE = optimizers.OptimizerConfig(
  0.1, clip=0.5, weight_decay=0.5, multipliers=(('scale', 3.0),)
)
TWO = optimizers.OptimizerConfig(
  0.02, schedule='cosine', beta1=0.8, beta2=0.99, clip=2.0, warmup_steps=1
)


def test_each_group_is_a_chain_of_its_own():
  groups = optimizers.OptimizerGroups(
    {'blocks': ('^params/blocks', ONE), 'rest': ('', TWO)}
  )
  apart = {
    'blocks': (ONE, {'blocks': PARAMS['blocks']}),
    'rest': (TWO, {k: PARAMS[k] for k in ('embedding', 'vision')}),
  }

  def walk(config, params):
    chain = config.build(params, 4)
    state = chain.init(params)
    rng = np.random.default_rng(7)
    for _ in range(3):
      # Different sizes: the norm of one group must not clip the other.
      drawn = {
        name: jax.tree.map(
          lambda p: jnp.asarray(
            rng.standard_normal(p.shape) * 5.0, jnp.float32
          ),
          PARAMS[name],
        )
        for name in sorted(PARAMS)
      }
      grads = {name: drawn[name] for name in params}
      updates, state = chain.update(grads, state, params)
      params = optax.apply_updates(params, updates)
    return params

  together = walk(groups, PARAMS)
  for config, part in apart.values():
    for name, want in walk(config, part).items():
      jax.tree.map(np.testing.assert_array_equal, together[name], want)


def test_mistakes_of_groups_are_named():
  with pytest.raises(errors.UserError, match='groups is empty'):
    optimizers.OptimizerGroups({})
  for groups, pattern in (
    ({'a': ('blocks', ONE)}, 'params/embedding belongs to no group'),
    ({'a': ('', ONE), 'b': ('vision', TWO)}, "left for the group 'b'"),
    (
      {'a': ('embedding', ONE), 'b': ('', TWO)},
      "matches the multiplier 'scale'",
    ),
  ):
    with pytest.raises(errors.UserError, match=pattern):
      optimizers.OptimizerGroups(groups).build(PARAMS, 1)


_Axes = optax.contrib.MuonDimensionNumbers
# Logical axes, shape, and what of it Optax is told.
MATRICES = {
  'wide': (('embed', 'mlp'), (3, 5), _Axes(0, 1)),
  'tall': (('mlp', 'embed'), (5, 3), _Axes(0, 1)),
  'heads': (
    ('layers', 'embed', 'heads', 'head_dim'),
    (2, 6, 2, 4),
    _Axes(1, (2, 3)),
  ),
  'out': (
    ('layers', 'heads', 'head_dim', 'embed'),
    (2, 2, 4, 6),
    _Axes((1, 2), 3),
  ),
  'taps': ((None, 'embed', 'mlp'), (3, 4, 5), _Axes((0, 1), 2)),
}
NO_MATRICES = {
  'embedding': (('vocab', 'embed'), (7, 3)),
  'places': (('patches', 'embed'), (4, 3)),
  'scale': (('norm',), (3,)),
  'bias': (('layers', 'heads', 'head_dim'), (2, 2, 4)),
  'each': ((None, 'embed'), (3, 4)),
  'gate': ((), ()),
}


def boxed(shapes):
  """Parameters of a table of (logical axes, shape, …)."""
  rng = np.random.default_rng(1)
  return {
    name: nn.LogicallyPartitioned(
      jnp.asarray(rng.standard_normal(shape), jnp.float32), names
    )
    for name, (names, shape, *_) in shapes.items()
  }


def gradients(params, step):
  rng = np.random.default_rng([2, step])
  return jax.tree.map(
    lambda p: jnp.asarray(rng.standard_normal(p.shape), jnp.float32), params
  )


def test_muon_turns_what_optax_turns():
  params = nn.unbox(boxed(MATRICES))
  splits = {name: muon.split(names) for name, (names, *_) in MATRICES.items()}
  axes = {name: found for name, (*_, found) in MATRICES.items()}
  ours = muon.scale_by_muon(splits, 0.9)
  theirs = optax.contrib.muon(
    1.0, beta=0.9, muon_weight_dimension_numbers=axes, consistent_rms=0.2
  )
  states = ours.init(params), theirs.init(params)
  our_update, their_update = map(jax.jit, (ours.update, theirs.update))
  for step in range(3):
    grads = gradients(params, step)
    got, ours_after = our_update(grads, states[0])
    want, theirs_after = their_update(grads, states[1], params)
    states = ours_after, theirs_after
    for name in MATRICES:
      np.testing.assert_allclose(got[name], -want[name], atol=2e-5)


def test_muon_is_for_matrices_and_adamw_for_the_rest():
  params = boxed(MATRICES | NO_MATRICES)
  config = optimizers.OptimizerConfig(
    0.1, algorithm='muon', by_adam='tall', multipliers=(('each', 3.0),)
  )
  both = config.build(params, 4)
  adam = optimizers.OptimizerConfig(0.1, multipliers=(('each', 3.0),)).build(
    params, 4
  )
  params = nn.unbox(params)
  states, outs = (both.init(params), adam.init(params)), []
  grads = gradients(params, 0)
  for chain, state in zip((both, adam), states):
    outs.append(jax.jit(chain.update)(grads, state, params)[0])
  same = {
    name for name in params if np.array_equal(outs[0][name], outs[1][name])
  }
  assert same == {'tall', *NO_MATRICES}
  # Of a size with Adam's, so that one learning rate serves both.
  for name in set(MATRICES) - same:
    sizes = [float(jnp.sqrt(jnp.mean(out[name] ** 2))) for out in outs]
    assert 0.05 < sizes[0] / sizes[1] < 0.5


def test_muon_s_mistakes_are_named():
  for settings, pattern in (
    ({'algorithm': 'moun'}, "expected 'adamw' or 'muon'"),
    ({'momentum': 1.0}, 'expected 0 to below 1'),
    ({'by_adam': '('}, 'expected a regular expression'),
  ):
    with pytest.raises(errors.UserError, match=pattern):
      optimizers.OptimizerConfig(0.1, **settings)
  config = optimizers.OptimizerConfig(0.1, algorithm='muon', by_adam='hed')
  with pytest.raises(errors.UserError, match="matches by_adam, 'hed'"):
    config.build(boxed(MATRICES), 1)
  with pytest.raises(errors.UserError, match='is a matrix by its logical axes'):
    config.build(boxed(NO_MATRICES), 1)


UP = optimizers.OptimizerConfig(1e-2, clip=0.1)
MUON = optimizers.OptimizerConfig(1e-2, algorithm='muon')


def two_groups(up=UP, **settings):
  """A toy trainer on 8 devices whose layers have chains of their own."""
  return toy_regression.trainer(
    devices=8,
    mesh=mesh_lib.MeshConfig(fsdp=4, tensor=2),
    optimizer=optimizers.OptimizerGroups(
      {
        'up': ('params/up', up),
        'down': ('params/down', optimizers.OptimizerConfig(3e-2, beta1=0.5)),
      }
    ),
    **settings,
  )


def test_moments_of_groups_lie_where_their_parameters_do():
  variables, state = toy_regression.state(two_groups())
  for name in ('up', 'down'):
    chain = state.chain.inner_states[name].inner_state
    moments = chain[1].mu
    want = variables['params'][name].sharding
    assert moments[name].sharding == want
    assert not want.is_fully_replicated
    assert len(jax.tree.leaves(moments)) == 1
  assert variables['params']['up'].sharding.spec == jax.P('fsdp', 'tensor')


def test_momentum_lies_where_its_matrix_does():
  trainer = toy_regression.trainer(
    devices=8, mesh=mesh_lib.MeshConfig(fsdp=4, tensor=2), optimizer=MUON
  )
  variables, state = toy_regression.state(trainer)
  inner = state.chain[1].inner_states
  momentum = inner['muon'].inner_state.momentum
  want = variables['params']['up'].sharding
  assert momentum['up'].sharding == want and not want.is_fully_replicated
  assert len(jax.tree.leaves(momentum)) == 1
  assert len(jax.tree.leaves(inner['adam'].inner_state.mu)) == 1
  one = toy_regression.walk(toy_regression.trainer(optimizer=MUON), 3)[-1]
  for a, b in zip(one[:1], toy_regression.walk(trainer, 3)[-1][:1]):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), a, b)


@pytest.mark.parametrize('up', [UP, MUON], ids=['adamw', 'muon'])
def test_a_run_with_groups_resumes_to_the_same_bits(tmp_path, monkeypatch, up):
  trainer = two_groups(up, checkpoint_every=4, ema_decay=0.9)
  whole, cut = tmp_path / 'whole', tmp_path / 'cut'
  loop.run(trainer, whole)
  step, calls = trainer.step, []

  def dying(*args):
    calls.append(None)
    if len(calls) == 6:
      raise KeyboardInterrupt
    return step(*args)

  monkeypatch.setattr(trainer, 'step', dying)
  with pytest.raises(KeyboardInterrupt):
    loop.run(trainer, cut)
  assert checkpoints.all_steps(cut) == [4]
  monkeypatch.setattr(trainer, 'step', step)
  loop.run(trainer, cut)
  for ema in (False, True):
    a, b = (checkpoints.load_variables(d, ema=ema)[0] for d in (whole, cut))
    jax.tree.map(np.testing.assert_array_equal, a, b)
  losses = [
    [json.loads(line)['loss'] for line in open(d / 'metrics.jsonl')]
    for d in (whole, cut)
  ]
  assert losses[0] == losses[1] and losses[0][-1] < losses[0][0]
