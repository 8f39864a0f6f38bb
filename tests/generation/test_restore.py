"""A model rebuilt from its run directory is the model that was trained."""

import dataclasses
import functools
import json

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

from step_audio_jax import errors
from step_audio_jax.generation import restore
from step_audio_jax.models.language import speech_text
from step_audio_jax.storage import files
from step_audio_jax.training.checkpoints import checkpoints

CONFIG = speech_text.SpeechTextConfig(
  speech_text.TransformerConfig(
    vocab_size=40,
    width=8,
    layers=2,
    heads=2,
    kv_heads=1,
    mlp_width=8,
    position='rope',
    qk_norm=True,
  ),
  speech_text.VisionConfig(
    image_size=4, patch_size=4, width=8, layers=1, heads=2, mlp_width=8
  ),
)
DEAF = dataclasses.replace(CONFIG, vision=None)
SIZES = {
  'text_size': 30,
  'table_size': 40,
  'linguistic_size': 4,
  'semantic_size': 6,
}


@functools.cache
def variables_of(config, seed):
  shapes = jax.eval_shape(
    speech_text.SpeechTextModel(config).init,
    jax.random.key(0),
    jnp.zeros((1, 2), jnp.int32),
  )
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), nn.unbox(shapes)
  )


def make_run(folder, config, **vocabulary):
  """What `train` leaves behind."""
  told = {'model': dataclasses.asdict(config), 'vocabulary': vocabulary}
  files.write_json(folder / 'config.json', told)
  store = checkpoints.Checkpoints(folder)
  for step in (1, 2):
    mean = variables_of(config, 7)['params'] if step == 1 else None
    store.save(step, variables_of(config, step), {'count': step}, {}, mean)
  store.close()
  return folder


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  return make_run(folder, CONFIG, **SIZES, text_model=None, sha256='…')


@pytest.mark.parametrize(('step', 'seed'), [(None, 2), (1, 1)])
def test_logits_are_those_of_the_trained_model(run, step, seed):
  model, variables, vocabulary = restore.load_model(run, step)
  assert model.config == CONFIG
  assert all(type(x) is np.ndarray for x in jax.tree.leaves(variables))
  tokens = jnp.arange(10).reshape(2, 5)
  images = jnp.full((2, 1, 4, 4, 3), 200, jnp.uint8)
  slots = jnp.array([[1], [-1]])

  @jax.jit
  def logits(v):
    return model.apply(v, tokens, images_BNHWC=images, image_slots_BN=slots)

  np.testing.assert_allclose(
    logits(variables), logits(variables_of(CONFIG, seed)), atol=1e-6
  )
  told = {name: getattr(vocabulary, name) for name in SIZES}
  assert told == SIZES and vocabulary.text is None


def test_the_mean_of_the_parameters_is_loaded_where_it_is_asked_for(run):
  _, variables, _ = restore.load_model(run, 1, ema=True)
  wanted = variables_of(CONFIG, 7)
  jax.tree.map(np.testing.assert_array_equal, variables, wanted)
  with pytest.raises(errors.UserError, match='2: has no mean'):
    restore.load_model(run, ema=True)


def test_a_model_without_eyes_stays_without():
  model = restore.model_from(dataclasses.asdict(DEAF))
  assert model.config == DEAF
  told = dataclasses.asdict(DEAF)
  del told['vision']
  assert restore.model_from(told).config == DEAF


def test_descriptions_survive_json():
  told = json.loads(json.dumps(dataclasses.asdict(CONFIG)))
  assert restore.model_from(told).config == CONFIG


def change(run, folder, edit):
  """The run with an edited config.json."""
  told = json.loads((run / 'config.json').read_text())
  edit(told)
  files.write_json(folder / 'config.json', told)
  (folder / 'checkpoints').symlink_to(run / 'checkpoints')
  return folder


def test_the_text_model_is_loaded_too(run, tmp_path):
  path = tmp_path / 'tokenizer.json'
  words = {'unknown': 0, 'cat': 1}
  tokenizers.Tokenizer(
    tokenizers.models.WordLevel(words, unk_token='unknown')
  ).save(str(path))

  def edit(told):
    told['vocabulary'] = {
      **SIZES,
      'text_size': 70,
      'table_size': 80,
      'text_model': str(path),
    }

  _, _, vocabulary = restore.load_model(change(run, tmp_path, edit))
  assert vocabulary.encode('cat<|EOT|><audio_1>') == [69, 3, 71]
  assert vocabulary.decode([69]) == 'cat'


def no_model(told):
  del told['model']


def no_vocabulary(told):
  del told['vocabulary']


def strange_field(told):
  told['model']['transformer']['depth'] = 3


def no_transformer(told):
  del told['model']['transformer']


def bad_heads(told):
  told['model']['transformer']['kv_heads'] = 0


def lost_text(told):
  told['vocabulary']['text_model'] = 'gone/text.model'


def small_table(told):
  told['vocabulary']['table_size'] = 39


@pytest.mark.parametrize(
  ('edit', 'words'),
  [
    (no_model, 'found no "model" and "vocabulary"'),
    (no_vocabulary, 'found no "model" and "vocabulary"'),
    (strange_field, 'config.json: "model" is not the description.*depth'),
    (no_transformer, 'config.json: "model" is not the .*transformer'),
    (bad_heads, 'kv_heads is 0, expected at least 1'),
    (lost_text, 'gone/text.model: no such text vocabulary'),
    (small_table, 'table_size is 39, expected at least 40'),
  ],
)
def test_a_config_that_does_not_fit_is_told(run, tmp_path, edit, words):
  with pytest.raises(errors.UserError, match=words):
    restore.load_model(change(run, tmp_path, edit))


def test_missing_parts_are_told(run, tmp_path):
  with pytest.raises(errors.UserError, match='config.json: cannot be read'):
    restore.load_model(tmp_path)
  (tmp_path / 'config.json').write_text((run / 'config.json').read_text())
  with pytest.raises(errors.UserError, match='no finished checkpoint'):
    restore.load_model(tmp_path)
  with pytest.raises(errors.UserError, match=r'no checkpoint of step 7'):
    restore.load_model(run, 7)
