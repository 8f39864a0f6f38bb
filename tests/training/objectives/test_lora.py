"""Low-rank adapters: what is trained, what it costs, what comes out."""

import dataclasses
import functools
import json

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors import numpy as safetensors_numpy

from step_audio_jax import __main__ as doors
from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.commands import cli
from step_audio_jax.generation import restore
from step_audio_jax.interop.language import peft
from step_audio_jax.models.language import speech_text
from step_audio_jax.parallel import mesh as mesh_lib
from step_audio_jax.storage import files
from step_audio_jax.storage import shards
from step_audio_jax.training import loop
from step_audio_jax.training import optimizers
from step_audio_jax.training import run
from step_audio_jax.training.checkpoints import checkpoints
from step_audio_jax.training.checkpoints import stored
from step_audio_jax.training.feeds import feed
from step_audio_jax.training.objectives import lora
from step_audio_jax.training.objectives import objectives
from step_audio_jax.training.transfer import transfer

E, L, H, G, D, F, R = 16, 3, 4, 2, 6, 12, 3
CONFIG = speech_text.TransformerConfig(
  vocab_size=30,
  width=E,
  layers=L,
  heads=H,
  kv_heads=G,
  head_dim=D,
  mlp_width=F,
  position='rope',
)
MODEL = speech_text.SpeechTextModel(speech_text.SpeechTextConfig(CONFIG))
WORDS = vocabulary.Vocabulary(20, 30, 6, 4)
PLAIN = objectives.NextToken(MODEL, WORDS)
ALL = r'blocks/.*/kernel$'
ADAPTED = lora.Lora(PLAIN, rank=R, alpha=6.0, targets=ALL)


class Ragged(feed.BlankFeed):
  """Random rows of two documents of uneven length and some padding."""

  def batch(self, step, start=0, stop=None):
    batch = super().batch(step, start, stop)
    rows, length = batch['tokens'].shape
    for row in range(rows):
      rng = np.random.default_rng([step, start + row])
      cut, end = rng.integers(2, length - 2), length - rng.integers(0, 2)
      batch['tokens'][row] = rng.integers(0, 30, length)
      batch['segment_ids'][row, :end] = 1 + (np.arange(end) >= cut)
      place = np.arange(length)
      batch['positions'][row] = np.where(place < cut, place, place - cut)
      batch['loss_weights'][row, :end] = 1.0
    return batch


@functools.cache
def batch():
  return Ragged(batch_size=8, length=12).batch(0)


@functools.cache
def variables():
  """Base weights and adapters as they start, but for the randomness."""
  shapes = nn.unbox(jax.eval_shape(ADAPTED.init, jax.random.key(0), batch()))
  rng = np.random.default_rng(0)
  random = jax.tree.map(
    lambda x: 0.3 * rng.standard_normal(x.shape, np.float32), shapes
  )
  flat = transfer.flatten(random)
  flat |= {p: np.zeros_like(x) for p, x in flat.items() if p.endswith('/b')}
  return transfer.traverse_util.unflatten_dict(flat, sep='/')


def trained(values, seed=1):
  """The same with adapters whose B is not zero."""
  rng = np.random.default_rng(seed)
  params = jax.tree.map(
    lambda x: x + 0.1 * rng.standard_normal(x.shape, np.float32),
    values['params'],
  )
  return {**values, 'params': params}


@jax.jit
def logits(params):
  return MODEL.apply({'params': params}, jnp.asarray(batch()['tokens']))


def test_adapters_start_with_nothing_to_say():
  key = jax.random.key(3)
  some = dataclasses.replace(ADAPTED, targets='attention/(q|out)/kernel')
  params = jax.jit(lambda: nn.unbox(some.init(key, batch()))['params'])()
  for path, a, b in lora.adapter_pairs(params):
    assert not np.asarray(b).any(), path
    fan_in = a.size // L // R
    np.testing.assert_allclose(np.std(a), fan_in**-0.5, rtol=0.4)


def test_an_untrained_adapter_changes_nothing():
  merged = ADAPTED.effective(variables())
  assert set(merged) == {'params'}
  np.testing.assert_array_equal(
    logits(merged['params']), logits(variables()['base'])
  )


def test_adapters_and_nothing_else_are_parameters():
  values = variables()
  flat = transfer.flatten({'params': values['params']})
  sizes = {
    'attention/q': E + H * D,
    'attention/k': E + G * D,
    'attention/v': E + G * D,
    'attention/out': H * D + E,
    'mlp/gate': E + F,
    'mlp/up': E + F,
    'mlp/down': F + E,
  }
  assert {
    p.rpartition('/kernel')[0].rpartition('blocks/')[2] for p in flat
  } == (set(sizes))
  assert transfer.sizes(values['params']) == L * R * sum(sizes.values())
  assert transfer.sizes(values['base']) == CONFIG.parameters
  moments = optax.adamw(1e-3).init(values['params'])
  # Two moments an adapter and a counter: none for the base.
  assert transfer.sizes(moments) == 2 * transfer.sizes(values['params']) + 1


def test_gradients_on_a_mesh_equal_those_of_the_written_out_kernel():
  values = trained(variables())

  def by_hand(params):
    base = transfer.flatten(dict(values['base']))
    for path, a, b in lora.adapter_pairs(params):
      inner = a.reshape(L, -1, R) @ b.reshape(L, R, -1)
      base[path] = base[path] + 2.0 * inner.reshape(base[path].shape)
    tree = transfer.traverse_util.unflatten_dict(base, sep='/')
    total, weight, _, _ = PLAIN.loss({'params': tree}, batch(), None)
    return total / weight

  want, want_grads = jax.jit(jax.value_and_grad(by_hand))(values['params'])
  trainer = loop.Trainer(
    objective=ADAPTED,
    feed=Ragged(batch_size=8, length=12),
    optimizer=optimizers.OptimizerConfig(learning_rate=0.01),
    config=loop.LoopConfig(steps=3, log_every=1),
    mesh=mesh_lib.MeshConfig(fsdp=4, tensor=2).build(),
  )
  state, _ = trainer.variables_from([('x', values)])
  with jax.set_mesh(trainer.mesh):
    (got, _, _), grads = jax.jit(trainer.gradients)(
      state, trainer.device_batch(0)
    )
  np.testing.assert_allclose(got, want, rtol=1e-5)
  assert jax.tree.structure(grads) == jax.tree.structure(values['params'])
  for path, grad in transfer.flatten(grads).items():
    other = transfer.flatten(want_grads)[path]
    assert np.abs(other).max() > 1e-4, path
    np.testing.assert_allclose(grad, other, atol=1e-5, err_msg=path)
  kernel = state['params']['transformer']['blocks']['attention']['q']
  shard = kernel['kernel']['a'].addressable_shards[0].data.shape
  assert shard == (L, E // 4, R)  # split as the kernel is


def test_merging_gives_the_same_logits():
  values = trained(variables())
  merged = lora.merge(values, ADAPTED.describe()['lora'])
  merged = jax.tree.map(np.asarray, merged)
  assert set(merged) == {'params'}
  unmerged = logits(ADAPTED.effective(values)['params'])
  assert np.abs(unmerged - logits(values['base'])).max() > 0.1
  np.testing.assert_allclose(logits(merged['params']), unmerged, atol=1e-5)


def test_slices_of_merged_kernels():
  values = trained(variables())
  lazily = lora.merge(values, ADAPTED.describe()['lora'])
  whole = transfer.flatten(ADAPTED.effective(values)['params'])
  for path, index in (
    ('attention/q', (slice(1, 3), slice(2, 9), slice(1, 3), slice(0, 5))),
    ('attention/out', (slice(0, 1), slice(1, 4), slice(2, 6), slice(3, 4))),
    ('mlp/down', (slice(2, 3), slice(0, 12), slice(5, 11))),
  ):
    path = f'transformer/blocks/{path}/kernel'
    np.testing.assert_allclose(
      transfer.flatten(lazily['params'])[path][index],
      whole[path][index],
      atol=1e-6,
    )


@pytest.fixture(scope='module')
def adapted_run(tmp_path_factory):
  """A run directory as training adapters leaves it."""
  folder = tmp_path_factory.mktemp('runs') / 'adapted'
  stored.write_variables(folder, 6, trained(variables()))
  description = {**ADAPTED.describe(), 'init_from': ['runs/base']}
  files.write_json(folder / 'config.json', description)
  return folder


class Linear:
  """Fits x w to y: as far from a language model as can be."""

  def init(self, rng, batch):
    del rng, batch
    w = nn.LogicallyPartitioned(jnp.zeros((4, 6)), ('embed', 'mlp'))
    bias = nn.LogicallyPartitioned(jnp.zeros(6), ('mlp',))
    return {'params': {'layer': {'w': w, 'bias': bias}}}

  def loss(self, variables, batch, rng):
    del rng
    p = variables['params']['layer']
    error = batch['x'] @ p['w'] + p['bias'].reshape(1, 6) - batch['y']
    total = jnp.square(error).sum()
    weight = jnp.asarray(float(error.size))
    return total, weight, {'loss': (total, weight)}, {}

  def describe(self):
    return {}


class Points(feed.BlankFeed):
  """y = x u v for fixed vectors u and v: what rank 1 can learn."""

  def batch(self, step, start=0, stop=None):
    stop = self.batch_size if stop is None else stop
    rng = np.random.default_rng([step, start])
    x = rng.standard_normal((stop - start, 4), np.float32)
    u = np.asarray([[1.0], [-1.0], [0.5], [2.0]], np.float32)
    v = np.asarray([[1.0, 0.0, -1.0, 2.0, 0.5, 1.0]], np.float32)
    return {'x': x, 'y': x @ u @ v}

  def describe(self):
    return {}


def test_training_moves_the_adapters_and_leaves_the_base(tmp_path):
  base = {
    'w': np.full((4, 6), 0.25, np.float32),
    'bias': np.full(6, 0.5, np.float32),
  }
  stored.write_variables(tmp_path / 'base', 0, {'params': {'layer': base}})
  files.write_json(tmp_path / 'base/config.json', {})
  result = run.train(
    run_dir=str(tmp_path / 'run'),
    objective=lora.Lora(Linear(), rank=2, alpha=2.0, targets='layer/w$'),
    feed=Points(batch_size=8, length=1),
    optimizer=optimizers.OptimizerConfig(
      learning_rate=0.1, weight_decay=0.0, clip=0.0
    ),
    config=loop.LoopConfig(steps=60, log_every=1),
    init_from=[str(tmp_path / 'base')],
  )
  assert result['fresh'] == ['params/layer/w/a', 'params/layer/w/b']
  lines = (tmp_path / 'run/metrics.jsonl').read_text().splitlines()
  first, last = (json.loads(lines[i])['loss'] for i in (0, -1))
  assert last < 0.2 * first
  got, _ = checkpoints.load_variables(tmp_path / 'run')
  for name, value in base.items():
    np.testing.assert_array_equal(got['base']['layer'][name], value)
  assert np.abs(got['params']['layer']['w']['b']).max() > 0.1
  # The optimizer keeps moments of the adapters and of nothing else.
  names = (tmp_path / 'run/checkpoints/60/optimizer/_METADATA').read_text()
  assert "'a'" in names and 'bias' not in names


def test_the_run_is_loaded_merged(adapted_run):
  values, _ = checkpoints.load_variables(adapted_run)
  model, loaded, _ = restore.load_model(adapted_run)
  assert model == MODEL
  want = logits(ADAPTED.effective(values)['params'])
  np.testing.assert_allclose(logits(loaded['params']), want, atol=1e-5)


def test_another_run_starts_from_merged_weights_or_from_adapters(adapted_run):
  merged = run._open(adapted_run, PLAIN, ())
  assert set(merged) == {'params'}
  _, want, _ = restore.load_model(adapted_run)
  for path, leaf in transfer.flatten(want['params']).items():
    np.testing.assert_array_equal(
      transfer.flatten(merged['params'])[path], leaf
    )
  again = run._open(adapted_run, ADAPTED, ())
  assert set(again) == {'params', 'base'}


def converted(*argv):
  argv = ['-', 'convert', *map(str, argv)]
  assert cli.dispatch('step_audio_jax', doors.DOORS, argv) == 0


def test_export_as_merged_weights(adapted_run, tmp_path):
  converted(f'--from={adapted_run}', f'--to={tmp_path}/hf')
  tensors = shards.read_folder(tmp_path / 'hf')
  _, want, _ = restore.load_model(adapted_run)
  up = want['params']['transformer']['blocks']['mlp']['up']['kernel']
  np.testing.assert_array_equal(
    np.asarray(tensors['model.layers.2.mlp.up_proj.weight']), up[2].T
  )


def test_export_as_an_adapter(adapted_run, tmp_path):
  """PEFT adds lora_alpha / r * B A to a torch weight (out, in)."""
  converted(f'--from={adapted_run}', f'--to={tmp_path}/peft', '--adapter')
  tensors = safetensors_numpy.load_file(tmp_path / 'peft' / peft.WEIGHTS)
  config = json.loads((tmp_path / 'peft' / peft.CONFIG).read_text())
  assert config['r'] == R and config['lora_alpha'] == 6.0
  assert config['peft_type'] == 'LORA' and len(tensors) == L * 7 * 2
  assert set(config['target_modules']) == {
    *('q_proj', 'k_proj', 'v_proj', 'o_proj'),
    *('gate_proj', 'up_proj', 'down_proj'),
  }
  assert config['base_model_name_or_path'].endswith('base')
  values, _ = checkpoints.load_variables(adapted_run)
  _, merged, _ = restore.load_model(adapted_run)
  blocks = merged['params']['transformer']['blocks']['attention']
  old = values['base']['transformer']['blocks']['attention']
  for name in ('q', 'out'):
    theirs = f'base_model.model.model.layers.1.self_attn.{name[0]}_proj'
    a, b = (tensors[f'{theirs}.lora_{x}.weight'] for x in 'AB')
    delta = 6.0 / R * b @ a
    change = blocks[name]['kernel'][1] - old[name]['kernel'][1]
    change = (
      change.reshape(H * D, E).T
      if name == 'out'
      else change.reshape(E, H * D).T
    )
    assert a.shape[0] == R and delta.shape == change.shape
    np.testing.assert_allclose(delta, change, atol=1e-6)


def test_a_base_of_half_the_bytes():
  half = dataclasses.replace(ADAPTED, base_dtype='bfloat16')

  def shapes():
    values = nn.unbox(half.init(jax.random.key(0), batch()))
    return values, half.effective(values)['params']

  values, params = jax.eval_shape(shapes)
  (dtype,) = {x.dtype for x in jax.tree.leaves(values['base'])}
  assert dtype == jnp.bfloat16
  trees = (values['params'], params)
  (dtype,) = {x.dtype for x in jax.tree.leaves(trees)}
  assert dtype == jnp.float32


def test_tables_may_be_trained_in_full():
  both = dataclasses.replace(ADAPTED, whole='embedding|head$')
  shapes = nn.unbox(jax.eval_shape(both.init, jax.random.key(0), batch()))
  tables = {'transformer/embedding', 'transformer/head'}
  assert set(lora.full_parameters(shapes['params'])) == tables
  assert not tables & set(transfer.flatten(shapes['base']))
  rng = np.random.default_rng(5)
  values = jax.tree.map(lambda x: rng.standard_normal(x.shape), shapes)
  merged = lora.merge(values, both.describe()['lora'])
  plain = nn.unbox(jax.eval_shape(PLAIN.init, jax.random.key(0), batch()))
  sizes = jax.tree.map(np.shape, merged['params'])
  assert sizes == jax.tree.map(np.shape, plain['params'])
  head = merged['params']['transformer']['head']
  assert head is values['params']['transformer']['head']
  effective = jax.eval_shape(both.effective, values)
  assert jax.tree.map(np.shape, effective['params']) == sizes
  with pytest.raises(errors.UserError, match='was trained in full; merge'):
    peft.adapter(values['params'], both.describe()['lora'])


@pytest.mark.parametrize(
  ('change', 'told'),
  [
    ({'rank': 0}, 'rank is 0'),
    ({'base_dtype': 'int8'}, "base_dtype is 'int8'"),
    ({'targets': 'nothing'}, "targets 'nothing' matches no parameter"),
    ({'targets': 'norm/scale'}, 'is no matrix; targets must match kernels'),
  ],
)
def test_bad_adapters(change, told):
  with pytest.raises(errors.UserError, match=told):
    wrong = dataclasses.replace(ADAPTED, **change)
    jax.eval_shape(lambda: wrong.init(jax.random.key(0), batch()))


def test_only_linear_layers_are_exported():
  tree = {'transformer': {'embedding': {'a': np.ones(2), 'b': np.ones(2)}}}
  with pytest.raises(errors.UserError, match='is no linear layer'):
    peft.adapter(tree, {'rank': 1, 'alpha': 1.0})


def test_a_merged_kernel_is_not_rounded_to_its_base():
  rng = np.random.default_rng(0)
  kernel = rng.normal(size=(4, 5)).astype(jnp.bfloat16)
  a, b = rng.normal(size=(4, 2)), rng.normal(size=(2, 5))
  merged = np.asarray(lora.MergedKernel(kernel, a, b, 0.5))
  assert merged.dtype == np.float32
  want = kernel.astype(np.float64) + 0.5 * a @ b
  np.testing.assert_allclose(merged, want, atol=1e-6)


def gradients(objective, values):
  """(loss, gradients) of an objective at some variables."""
  rows = {name: jnp.asarray(rows) for name, rows in batch().items()}
  rows['loss_weights'] *= np.arange(12)[None] > 7

  def loss(params):
    return objective.loss({**values, 'params': params}, rows, None)[0]

  return jax.jit(jax.value_and_grad(loss))(values['params'])


def test_adapters_beside_their_kernels_learn_the_same():
  values = trained(variables())
  want = gradients(ADAPTED, values)
  answers = dataclasses.replace(PLAIN, answers=True)
  for changes in ({}, {'objective': answers}):
    other = dataclasses.replace(ADAPTED, factored=True, **changes)
    got = gradients(other, values)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
      np.testing.assert_allclose(a, b, atol=1e-5 * max(1, np.abs(b).max()))


def test_text_rows_stay_and_others_learn():
  table = vocabulary.Vocabulary(80, 100, 6, 4)
  model = speech_text.SpeechTextModel(
    speech_text.SpeechTextConfig(dataclasses.replace(CONFIG, vocab_size=100))
  )
  plain = objectives.NextToken(model, table)
  free = lora.Lora(plain, rank=R, targets=ALL, whole='embedding')
  fixed = dataclasses.replace(free, text_rows=False)
  values = nn.unbox(jax.jit(free.init)(jax.random.key(0), batch()))
  rows = {name: np.array(rows) for name, rows in batch().items()}
  rng = np.random.default_rng(1)
  rows['tokens'] = rng.integers(0, 90, rows['tokens'].shape)

  def of_embedding(objective):
    def loss(params):
      return objective.loss({**values, 'params': params}, rows, None)[0]

    @jax.jit
    def gradient(params):  # of the table alone: nothing else is compiled
      (table,) = lora.full_parameters(jax.grad(loss)(params)).values()
      return table

    return np.array(gradient(values['params']))

  all_of_it, some = of_embedding(free), of_embedding(fixed)
  text = slice(vocabulary.CONTROL_SIZE, table.text_size)
  assert all_of_it[text].any() and not some[text].any()
  all_of_it[text] = 0
  np.testing.assert_allclose(some, all_of_it, atol=1e-5)
  with pytest.raises(errors.UserError, match='text_rows is False'):
    dataclasses.replace(ADAPTED, text_rows=False)


def test_what_is_no_kernel_cannot_be_factored():
  odd = dataclasses.replace(ADAPTED, factored=True, targets='embedding$')

  def loss():
    values = nn.unbox(odd.init(jax.random.key(0), batch()))
    return odd.loss(values, batch(), None)

  with pytest.raises(errors.UserError, match='cannot be factored'):
    jax.eval_shape(loss)
