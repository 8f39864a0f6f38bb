"""Answers on a mesh: the same ones under other rules, and no array twice."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.alignment.rollouts import sampling
from step_audio_jax.parallel import mesh as mesh_lib
from tests.alignment import toy_policy

MESH = mesh_lib.MeshConfig(tensor=2)
# All weights over all devices, and the rows over none.
ALL = ('fsdp', 'tensor')
SPREAD = (('vocab', ALL), ('heads', ALL), ('kv_heads', 'fsdp'), ('mlp', ALL))


def rolled(devices, rules=None):
  """(trainer, variables, rollout) of a first step."""
  it = toy_policy.objective()
  it = dataclasses.replace(
    it, sampling=dataclasses.replace(it.sampling, rules=rules)
  )
  mesh = MESH if devices > 1 else mesh_lib.MeshConfig()
  trainer = toy_policy.trainer(it, devices, mesh)
  with jax.set_mesh(trainer.mesh):
    variables = jax.tree.map(jax.device_put, host(), trainer.shardings)
    rollout = trainer.rollout(variables, trainer.device_batch(0), 0)
  return trainer, variables, rollout


@functools.cache
def host():
  trainer = toy_policy.trainer()
  with jax.set_mesh(trainer.mesh):
    return jax.tree.map(np.asarray, trainer.fresh_variables())


@functools.cache
def on_mesh(rules=None):
  return rolled(4, rules)


def test_rules_of_their_own_draw_the_same_answers():
  _, _, one = rolled(1)
  for rules in (None, SPREAD):
    trainer, _, found = on_mesh(rules)
    for name in ('tokens', 'starts', 'lengths', 'stopped', 'support'):
      np.testing.assert_array_equal(
        getattr(found, name), getattr(one, name), err_msg=name
      )
    np.testing.assert_allclose(found.log_probs, one.log_probs, atol=1e-5)
    # The learner finds its rows where it has them.
    rows = trainer._rows_sharding((8,))
    for leaf in jax.tree.leaves(found):
      assert leaf.sharding.is_equivalent_to(rows, leaf.ndim)


def leaves(tree):
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
  }


def test_what_agrees_is_the_array_of_the_trainer():
  trainer, variables, _ = on_mesh()
  decoder, mine = trainer._decoder, leaves(variables)
  laid = leaves(decoder.laid_out(variables))
  same = {name for name, leaf in laid.items() if leaf is mine.get(name)}
  backbone = 'params/transformer'
  assert same == {
    f'{backbone}/{name}' for name in ('embedding', 'head', 'final_norm/scale')
  }
  # The rest is cut out of the stack of blocks, and lies as that does.
  kernel = laid[f'{backbone}/blocks/1/mlp/up/kernel']
  stacked = mine[f'{backbone}/blocks/mlp/up/kernel']
  np.testing.assert_array_equal(kernel, stacked[1])
  spec = tuple(kernel.sharding.spec)
  assert spec == tuple(stacked.sharding.spec)[1:] == ('fsdp', 'tensor')


def test_rules_say_where_the_rest_lies():
  trainer, variables, _ = on_mesh(SPREAD)
  decoder, mine = trainer._decoder, leaves(variables)
  laid = leaves(decoder.laid_out(variables))
  assert {name for name, leaf in laid.items() if leaf is mine.get(name)} == {
    'params/transformer/final_norm/scale'
  }
  kernel = laid['params/transformer/blocks/0/mlp/up/kernel']
  assert tuple(kernel.sharding.spec) == (None, ALL)
  assert kernel.addressable_shards[0].data.shape == (16, 24 // 4)
  cache = decoder.cache(8, 64)
  spec = tuple(cache['layers'][0]['key'].sharding.spec)
  assert spec[:2] == (None, 'fsdp')
  for name, leaf in leaves(decoder.abstract()).items():
    assert (leaf.shape, leaf.dtype) == (laid[name].shape, laid[name].dtype)
    assert leaf.sharding.is_equivalent_to(laid[name].sharding, leaf.ndim)


@pytest.mark.parametrize(
  'rules',
  [
    (('mlp', 'fsdpp'),),
    (('mpl', 'fsdp'),),
    [('mlp', 'fsdp')],
    (['mlp', 'fsdp'],),
    ('mlp', 'fsdp'),
  ],
)
def test_rules_that_say_nothing_are_refused(rules):
  with pytest.raises(errors.UserError, match='sampling: rules has'):
    sampling.Sampling(rules=rules)
  sampling.Sampling(rules=(('mlp', ('fsdp', 'tensor')), ('vocab', None)))
