"""Logits, exports and adapters against `transformers` itself."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers

from step_audio_jax.interop.language import configs
from step_audio_jax.interop.language import exporting
from step_audio_jax.interop.language import importing
from step_audio_jax.interop.language import weights
from step_audio_jax.models.language import speech_text
from step_audio_jax.storage import shards
from tests.parity import peers


def ours_of(folder):
  """(model, float32 variables) of a Hugging Face folder."""
  config = configs.read(json.loads((folder / 'config.json').read_text()))
  tree = weights.variables(config, shards.read_folder(folder), str(folder))
  variables = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), tree)
  model = speech_text.SpeechTextModel(speech_text.SpeechTextConfig(config))
  return jax.jit(model.apply), variables


@pytest.mark.parametrize('name', peers.LANGUAGE)
def test_logits(name, tmp_path, compare):
  theirs = peers.language(name)
  theirs.save_pretrained(tmp_path / 'm', max_shard_size='20KB')
  apply, variables = ours_of(tmp_path / 'm')
  rng = np.random.default_rng(3)
  for length in peers.LENGTHS:
    tokens = rng.integers(0, theirs.config.vocab_size, (2, length))
    want = peers.logits(theirs, tokens)
    got = apply(variables, jnp.asarray(tokens))
    compare(f'logits {name} of {length} tokens', got, want, 1e-4)


@pytest.mark.parametrize('name', peers.LANGUAGE)
def test_they_load_what_we_export(name, tmp_path, compare):
  """There, into a run, and back into their classes: the same logits."""
  theirs = peers.language(name)
  theirs.save_pretrained(tmp_path / 'm')
  importing.import_folder(tmp_path / 'm', tmp_path / 'run')
  # Without the origin's config.json: all of it is what we write.
  for file in (tmp_path / 'run/huggingface').iterdir():
    file.unlink()
  exporting.export_run(tmp_path / 'run', tmp_path / 'back', shard_gb=5e-5)
  back = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path / 'back', dtype='float32'
  ).eval()
  assert type(back) is type(theirs)
  tokens = np.random.default_rng(4).integers(0, 61, (2, 33))
  got, want = (peers.logits(model, tokens) for model in (back, theirs))
  compare(f'logits {name} exported', got, want, 0.0)
