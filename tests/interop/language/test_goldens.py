"""Logits and features of `transformers`, from files that it left.

tests/parity/make_goldens.py wrote them; each holds a tiny random model.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy
from safetensors import safe_open

from step_audio_jax.interop.language import configs
from step_audio_jax.interop.language import vision as vision_interop
from step_audio_jax.interop.language import weights as language
from step_audio_jax.models.language import speech_text
from step_audio_jax.models.language import vision
from step_audio_jax.storage import shards

GOLDEN = pathlib.Path(__file__).parents[2] / 'golden'
NAMES = sorted(p.stem.removeprefix('hf_') for p in GOLDEN.glob('hf_*'))
TEXT = [name for name in NAMES if name.startswith(('llama', 'qwen'))]
TOWERS = [name for name in NAMES if name.startswith(('siglip', 'clip'))]


def golden(name, folder):
  """(config.json, tensors read by `shards`, arrays that came out)."""
  path = GOLDEN / f'hf_{name}.safetensors'
  with safe_open(path, 'np') as handle:
    config = json.loads(handle.metadata()['config'])
  arrays = safetensors_numpy.load_file(path)
  weights = {
    key.removeprefix('weights/'): value
    for key, value in arrays.items()
    if key.startswith('weights/')
  }
  folder.mkdir()
  safetensors_numpy.save_file(weights, folder / 'model.safetensors')
  rest = {k: v for k, v in arrays.items() if not k.startswith('weights/')}
  return config, shards.read_folder(folder), rest


def numpy_of(tree):
  return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), tree)


def test_there_are_goldens():
  assert len(TEXT) == 5 and len(TOWERS) == 3


@pytest.mark.parametrize('name', TEXT)
def test_logits(name, tmp_path):
  config, tensors, arrays = golden(name, tmp_path / 'model')
  ours = configs.read(config)
  variables = numpy_of(language.variables(ours, tensors, name))
  model = speech_text.SpeechTextModel(speech_text.SpeechTextConfig(ours))
  documents = [
    (arrays[key][0], arrays[key.replace('tokens', 'logits')][0])
    for key in sorted(arrays)
    if key.startswith('tokens/')
  ]
  if name == 'llama_dynamic':
    # Its frequencies depend on the longest document of the batch.
    rows = [[pair] for pair in documents if len(pair[0]) == 33]
  else:
    rows = [documents]
  apply = jax.jit(model.apply)
  for row in rows:
    tokens = np.concatenate([ids for ids, _ in row])[None]
    sizes = [len(ids) for ids, _ in row]
    segments = np.repeat(np.arange(len(row)) + 1, sizes)[None]
    positions = np.concatenate([np.arange(size) for size in sizes])[None]
    got = apply(
      variables,
      jnp.asarray(tokens),
      segment_ids_BT=jnp.asarray(segments, jnp.int32),
      positions_BT=jnp.asarray(positions, jnp.int32),
    )
    want = np.concatenate([logits for _, logits in row])
    assert np.abs(want).max() > 0.5
    np.testing.assert_allclose(got[0], want, atol=1e-4, rtol=0)


@pytest.mark.parametrize('name', TOWERS)
def test_features(name, tmp_path):
  config, tensors, arrays = golden(name, tmp_path / 'model')
  assert vision_interop.is_vision(config)
  ours = vision_interop.read_config(config)
  variables = vision_interop.variables(ours, tensors, name)['params']['vision']
  encoder = vision.VisionEncoder(ours)
  got = jax.jit(encoder.apply)(
    {'params': numpy_of(variables)}, arrays['pixels']
  )
  want = arrays['features'][:, 1 if ours.class_token else 0 :]
  assert got.shape == want.shape and np.abs(want).max() > 0.5
  np.testing.assert_allclose(got, want, atol=1e-4, rtol=0)
