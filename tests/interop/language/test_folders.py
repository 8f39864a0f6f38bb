"""Training starts from a Hugging Face folder, slice by slice."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.interop.language import configs
from step_audio_jax.interop.language import folders
from step_audio_jax.interop.language import vision
from step_audio_jax.interop.language import weights as language
from step_audio_jax.models.language import speech_text
from step_audio_jax.parallel import mesh as mesh_lib
from step_audio_jax.storage import shards
from step_audio_jax.tokenizers.text import text_models as text_lib
from step_audio_jax.training import loop
from step_audio_jax.training import optimizers
from step_audio_jax.training.feeds import feed
from step_audio_jax.training.objectives import objectives
from step_audio_jax.training.transfer import transfer
from tests.interop.language import test_vision as towers
from tests.interop.language import tiny_folders as tiny

WORDS = 20
MOVED = 68


class OnesFeed(feed.BlankFeed):
  """Rows of one document each, of the same few ids."""

  def batch(self, step, start=0, stop=None):
    batch = super().batch(step, start, stop)
    shape = batch['tokens'].shape
    batch['tokens'] = np.arange(shape[0] * shape[1]).reshape(shape) % 7 + 70
    batch['tokens'] = batch['tokens'].astype(np.int32)
    batch['segment_ids'] = np.ones(shape, np.int32)
    batch['loss_weights'] = np.ones(shape, np.float32)
    batch['positions'] = np.tile(
      np.arange(shape[1], dtype=np.int32), (shape[0], 1)
    )
    return batch


@functools.lru_cache
def opened(root, family, tied):
  """(folder, its tensors, the objective that speaks over it)."""
  folder, theirs = tiny.make(
    root / f'{family}{tied}', family, tied=tied, files=2
  )
  table = {f'w{i}': i for i in range(WORDS)}
  model = tokenizers.models.WordLevel(table, unk_token='w0')
  tokenizers.Tokenizer(model).save(str(folder / 'tokenizer.json'))
  text = text_lib.load(folder / 'tokenizer.json')
  speech = dataclasses.replace(
    vocabulary.Vocabulary.over(text), linguistic_size=6, semantic_size=4
  )
  speech = dataclasses.replace(speech, table_size=100)
  config = configs.read(json.loads((folder / 'config.json').read_text()))
  config = dataclasses.replace(config, vocab_size=100)
  objective = objectives.NextToken(
    speech_text.SpeechTextModel(speech_text.SpeechTextConfig(config)), speech
  )
  return folder, theirs, objective


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  return tmp_path_factory.mktemp('folders')


def trainer_of(objective):
  mesh = mesh_lib.MeshConfig(fsdp=4, tensor=2)
  return loop.Trainer(
    objective=objective,
    feed=OnesFeed(batch_size=8, length=6),
    optimizer=optimizers.OptimizerConfig(learning_rate=0.01),
    config=loop.LoopConfig(steps=2, log_every=1),
    mesh=mesh.build(),
  )


@pytest.mark.parametrize(
  ('family', 'tied'),
  [('qwen2', True), ('step1', False)],
)
def test_old_logits_stay_when_the_vocabulary_grows(root, family, tied):
  folder, theirs, objective = opened(root, family, tied)
  tree = folders.read(folder, objective.describe())
  variables, fresh = trainer_of(objective).variables_from([('m', tree)])
  assert not fresh
  table = np.asarray(variables['params']['transformer']['embedding'])
  old = theirs['model.embed_tokens.weight']
  np.testing.assert_array_equal(table[MOVED : MOVED + WORDS], old[:WORDS])
  assert table.shape == (100, tiny.E) and table[MOVED + WORDS :].std() > 0.1
  plain = dataclasses.replace(
    objective.model.config.transformer, vocab_size=tiny.V
  )
  before = speech_text.SpeechTextModel(speech_text.SpeechTextConfig(plain))
  tokens = np.random.default_rng(0).integers(0, WORDS, (2, 9))
  weights = jax.tree.map(
    np.asarray, language.variables(plain, shards.read_folder(folder), 'm')
  )
  want = jax.jit(before.apply)(weights, jnp.asarray(tokens))
  got = jax.jit(objective.model.apply)(variables, jnp.asarray(tokens + MOVED))
  np.testing.assert_allclose(
    got[..., MOVED : MOVED + WORDS], want[..., :WORDS], atol=2e-5
  )


def test_a_mesh_reads_every_byte_of_a_kernel_once(root, monkeypatch):
  folder, _, objective = opened(root, 'llama', False)
  read = {}
  whole = shards.Tensor.read

  def spied(self, spans):
    size = int(np.prod([stop - start for start, stop in spans]))
    read.setdefault(self.name, []).append(size)
    return whole(self, spans)

  monkeypatch.setattr(shards.Tensor, 'read', spied)
  tree = folders.read(folder, objective.describe())
  assert not read
  trainer_of(objective).variables_from([('m', tree)])
  q = read['model.layers.1.self_attn.q_proj.weight']
  assert sum(q) == tiny.H * tiny.D * tiny.E
  assert q == [sum(q) // 8] * 8  # fsdp 4 x tensor 2
  # One reading for the devices that share a slice.
  norm = read['model.norm.weight']
  assert norm == [tiny.E]


def test_lazy_and_eager_sources_agree(root):
  folder, _, objective = opened(root, 'qwen3', True)
  trainer = trainer_of(objective)
  tree = folders.read(folder, objective.describe())
  eager = jax.tree.map(np.asarray, tree)
  a, _ = trainer.variables_from([('m', tree)])
  b, _ = trainer.variables_from([('m', eager)])
  for path, leaf in transfer.flatten(a).items():
    other = transfer.flatten(b)[path]
    assert leaf.sharding == other.sharding
    np.testing.assert_allclose(leaf, other, atol=1e-6, err_msg=path)


@pytest.mark.parametrize(
  ('changes', 'told'),
  [
    ({'rope_theta': 5e5}, 'transformer.rope_theta of this model is 10000.0'),
    ({'norm_eps': 1e-6}, 'transformer.norm_eps of this model is 1e-05, but'),
    ({'layers': 4}, 'transformer.layers of this model is 3, but 4'),
    ({'qk_norm': True}, 'transformer.qk_norm of this model is False, but True'),
  ],
)
def test_another_model_is_refused(root, changes, told):
  folder, _, objective = opened(root, 'llama', False)
  config = dataclasses.replace(objective.model.config.transformer, **changes)
  description = objective.describe()
  description['model'] = {'transformer': dataclasses.asdict(config)}
  with pytest.raises(errors.UserError, match=told):
    folders.read(folder, description)
  if 'rope_theta' in changes:  # a longer context, say
    assert folders.read(folder, description, differ=('rope_theta',))


def test_what_is_no_folder_of_theirs(tmp_path, root):
  folder, _, objective = opened(root, 'llama', False)
  assert folders.read(tmp_path, objective.describe()) is None
  (tmp_path / 'config.json').write_text('[]')
  with pytest.raises(errors.UserError, match='found no JSON object'):
    folders.read(tmp_path, objective.describe())
  with pytest.raises(errors.UserError, match='has no transformer, which this'):
    folders.read(folder, {'vision': {}})


def test_an_image_encoder_is_a_source_too(tmp_path):
  config = towers.siglip(image_size=4)
  folder = tiny.write(tmp_path / 'siglip', config, towers.tensors_of())
  ours = vision.read_config(config)
  eyes = {'model': {'vision': dataclasses.asdict(ours)}}
  tree = folders.read(folder, eyes)
  assert set(tree['params']) == {'vision'}
  # The contrastive objective describes its encoder alone.
  assert folders.read(folder, eyes['model'])
  eyes['model']['vision']['norm_eps'] = 1e-5
  with pytest.raises(errors.UserError, match='vision.norm_eps of this model'):
    folders.read(folder, eyes)
  with pytest.raises(errors.UserError, match='has no vision, which this'):
    folders.read(folder, {'model': {'vision': None}})
