"""An exported folder in the hands of `transformers`: `generate` ends.

The model is made by hand: what it says next depends on the last piece alone.
"""

import json

import jax
import numpy as np
import pytest
import tokenizers
from tokenizers import decoders
from tokenizers import models
from tokenizers import pre_tokenizers
import torch
import transformers

from step_audio_jax import documents
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.generation import restore
from step_audio_jax.interop.language import exporting
from step_audio_jax.interop.language import importing
from step_audio_jax.storage import files
from step_audio_jax.training.checkpoints import stored
from tests.interop.language import tiny_folders as tiny

CONTROL = vocabulary_lib.CONTROL


def byte_level(path):
  """A byte-level BPE without merges, as its author left it."""
  alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
  model = tokenizers.Tokenizer(
    models.BPE({piece: i for i, piece in enumerate(alphabet)}, [])
  )
  model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  model.decoder = decoders.ByteLevel()
  model.add_special_tokens(['<|endoftext|>'])
  model.enable_truncation(8)
  model.save(str(path))


@pytest.fixture(params=['llama', 'qwen2', 'qwen3'])
def world(request, tmp_path, monkeypatch):
  """(run directory, exported folder, vocabulary) of a model made by hand."""
  monkeypatch.setattr(tiny, 'V', 260)
  config = tiny.config_of(
    request.param, bos_token_id=256, eos_token_id=256, pad_token_id=256
  )
  tensors = tiny.tensors_of(request.param)
  for name in tensors:
    if 'o_proj' in name or 'down_proj' in name:
      tensors[name][:] = 0  # each place says what follows its own piece
    elif name.endswith('norm.weight'):
      tensors[name][:] = 1
  base = tiny.write(tmp_path / 'base', config, tensors)
  byte_level(base / 'tokenizer.json')
  files.write_json(base / 'generation_config.json', {'eos_token_id': 256})
  importing.import_folder(base, tmp_path / 'imported', speech=True)
  _, variables, table = restore.load_model(tmp_path / 'imported')
  variables = jax.tree.map(np.array, variables)
  backbone = variables['params']['transformer']
  said = [
    CONTROL['<audio_start>'],
    *(table.text_size + k for k in (7, 1030)),
    vocabulary_lib.EOT,
    *table.encode_text('no'),  # what would follow if it ran on
  ]
  backbone['embedding'][:] = 0.01
  backbone['head'][:] = 0
  for axis, (piece, following) in enumerate(zip(said, said[1:])):
    backbone['embedding'][piece] = np.eye(tiny.E)[axis]
    backbone['head'][following] = 10 * np.eye(tiny.E)[axis]
  run = tmp_path / 'run'
  run.mkdir()
  stored.write_variables(run, 0, variables, lambda written: None)
  description = files.read_json(tmp_path / 'imported/config.json')
  del description['converted_from']
  description['init_from'] = [str(base)]
  files.write_json(run / 'config.json', description)
  exporting.export_run(run, tmp_path / 'out')
  return run, tmp_path / 'out', table


def test_generate_stops_and_speech_has_its_pieces(world):
  _, out, _ = world
  tokenizer = transformers.AutoTokenizer.from_pretrained(out)
  model = transformers.AutoModelForCausalLM.from_pretrained(out).eval()
  prompt = tokenizer('say it<audio_start>', return_tensors='pt').input_ids
  with torch.no_grad():
    ids = model.generate(prompt, max_new_tokens=9, do_sample=False)
  answer = ids[0, prompt.shape[1] :].tolist()
  assert tokenizer.decode(answer) == '<audio_7><audio_1030><|EOT|>'
  spoken = tokenizer.decode(answer, skip_special_tokens=True)
  assert spoken == '<audio_7><audio_1030>'
  assert len(tokenizer) == model.config.vocab_size
  assert model.config.eos_token_id == tokenizer.eos_token_id == answer[-1]
  assert model.generation_config.eos_token_id == answer[-1]


def test_texts_and_turns_are_documents(world):
  _, out, table = world
  tokenizer = transformers.AutoTokenizer.from_pretrained(out)
  size, rows = table.text_size - 68, len(tokenizer)

  def row_of(ids):
    return [i - 68 if i >= 68 else rows - 68 + i for i in map(int, ids)]

  words = 'Say “妈妈” and go on for more than eight pieces.'
  text = documents.LAYOUTS['text'].document(table, 'x', text=words).tokens
  assert tokenizer(words + '<|EOT|>').input_ids == row_of(text)
  turns = [('system', 'Be kind.'), ('user', words), ('assistant', 'no  thanks')]
  chat = documents.CHAT.document(table, 'x', turns).tokens
  messages = [{'role': role, 'content': said} for role, said in turns]
  found = tokenizer.apply_chat_template(
    messages, tokenize=True, return_dict=False
  )
  assert found == row_of(chat)
  begun = tokenizer.apply_chat_template(
    messages[:2], tokenize=True, return_dict=False, add_generation_prompt=True
  )
  assert begun == row_of(chat)[: len(begun)] and len(begun) > 60
  assert begun == row_of(documents.CHAT.prompt(table, turns[:2]))
  assert json.loads((out / 'config.json').read_text())['step_audio_jax'] == {
    'control_rows': 68,
    'speech_starts': size,
  }
