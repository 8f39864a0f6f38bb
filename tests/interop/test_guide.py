"""README's section on open language models, followed on a tiny folder.

Every command is taken from the README as it stands; only the sizes of the
model are overridden. Rows are made here instead of by `build`.
"""

import json
import pathlib
import re
import shlex

import ml_dtypes
import numpy as np
import pytest
import tokenizers

from step_audio_jax import __main__ as doors
from step_audio_jax.commands import cli
from step_audio_jax.interop.language import folders
from step_audio_jax.storage import shards
from tests.interop.language import tiny_folders as tiny
from tests.training import toy_rows

ROOT = pathlib.Path(__file__).parents[2]

WORDS = 20
SIZES = {
  'width': tiny.E,
  'layers': tiny.L,
  'heads': tiny.H,
  'kv_heads': tiny.G,
  'head_dim': tiny.D,
  'mlp_width': tiny.F,
}


def commands():
  text = (ROOT / 'README.md').read_text(encoding='utf-8')
  section = re.search(
    r'<!-- open_llm:begin -->(.*)<!-- open_llm:end', text, re.S
  )
  found = []
  for block in re.findall(r'^```\n(.*?)^```', section[1], re.M | re.S):
    for line in block.replace('\\\n', ' ').splitlines():
      found.append(shlex.split(line)[2:])
  return found


@pytest.fixture
def world(tmp_path, monkeypatch):
  """A working directory as the section assumes it."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(tiny, 'V', WORDS + 3)
  folder, theirs = tiny.make(
    tmp_path / 'models/Llama-3.2-1B',
    'llama',
    tied=True,
    dtype=ml_dtypes.bfloat16,
    files=2,
    rope_theta=500000.0,
    rope_scaling={
      'rope_type': 'llama3',
      'factor': 32.0,
      'low_freq_factor': 1.0,
      'high_freq_factor': 4.0,
      'original_max_position_embeddings': 8192,
    },
  )
  table = {f'w{i}': i for i in range(WORDS)}
  model = tokenizers.models.WordLevel(table, unk_token='w0')
  tokenizers.Tokenizer(model).save(str(folder / 'tokenizer.json'))
  for task in ('sft_asr', 'sft_tts'):
    toy_rows.write_source(tmp_path / 'data/mine/rows', f'llama_{task}', 9)
  return tmp_path, theirs


def test_the_readme_is_right(world, capsys):
  folder, theirs = world
  build, train, convert = commands()
  assert [build[1], train[1], convert[1]] == ['build', 'train', 'convert']
  made = dict(word.split('=', 1) for word in build[2:])
  used = dict(word.split('=', 1) for word in train[2:])
  assert json.loads(used['--gin.ROWS']) == made['--output']
  assert json.loads(used['--gin.TASK_PREFIX']) == f'{made["--name"]}_'
  assert json.loads(used['--gin.TEXT_MODEL']) == made['--text_model']
  sizes = [
    f'--gin.transformer.TransformerConfig.{name}={value}'
    for name, value in SIZES.items()
  ]
  short = ['--gin.STEPS=1', '--gin.loop.LoopConfig.log_every=1']
  short += ['--gin.loop.LoopConfig.checkpoint_every=0']
  short += ["--gin.lora.Lora.targets='attention/q/kernel$'"]  # compiles faster
  for words in ([*train, *sizes, *short], convert):
    status = cli.dispatch('step_audio_jax', doors.DOORS, words)
    assert status == 0, capsys.readouterr().err
  out = folder / 'models/llama_speech'
  config = folders.config_of(out)
  assert config['architectures'] == ['LlamaForCausalLM']
  note = {'control_rows': 68, 'speech_starts': WORDS}
  assert config['step_audio_jax'] == note
  assert (out / 'tokenizer.json').is_file()
  table = np.asarray(shards.read_folder(out)['model.embed_tokens.weight'])
  # One step of a warm-up from zero: text rows are those of the folder.
  old = theirs['model.embed_tokens.weight'][:WORDS].astype(np.float32)
  np.testing.assert_allclose(table[:WORDS], old, atol=1e-4)
  assert table.shape[0] == config['vocab_size'] >= WORDS + 5120 + 68
