"""What ids belong to, through exports and imports."""

import json

import numpy as np
import pytest
import tokenizers

from step_audio_jax import errors
from step_audio_jax.generation import restore
from step_audio_jax.interop.language import exporting
from step_audio_jax.interop.language import folders
from step_audio_jax.interop.language import importing
from step_audio_jax.models.language import speech_text
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.text import text_models as text_lib
from step_audio_jax.tokenizers.text import vocabularies
from step_audio_jax.training import run_bindings
from step_audio_jax.training.objectives import objectives
from step_audio_jax.training.transfer import remap
from tests.interop.language import tiny_folders as tiny

ONE = bindings.tokenizer('runs/one', '1' * 64)
TWO = bindings.tokenizer('runs/two', '2' * 64)


def save_words(path, words):
  table = {word: place for place, word in enumerate(words)}
  tokenizers.Tokenizer(
    tokenizers.models.WordLevel(table, unk_token=words[0])
  ).save(str(path))
  return str(path)


@pytest.fixture
def base(tmp_path):
  folder, _ = tiny.make(
    tmp_path / 'base', 'llama', bos_token_id=1, eos_token_id=2
  )
  save_words(folder / 'tokenizer.json', [f'w{i}' for i in range(20)])
  return folder


def description_of(text_model, width=tiny.E):
  """Of an objective that would start from `base`."""
  table = vocabularies.load(text_model=str(text_model))
  config = speech_text.SpeechTextConfig(
    speech_text.TransformerConfig(
      vocab_size=table.table_size, width=width, layers=tiny.L, heads=tiny.H,
      kv_heads=tiny.G, head_dim=tiny.D, mlp_width=tiny.F, position='rope',
      norm_eps=1e-5, rope_theta=10000.0,
    )
  )  # fmt: skip
  model = speech_text.SpeechTextModel(config)
  return objectives.NextToken(model, table).describe()


def test_an_export_and_its_import_carry_both_digests(base, tmp_path):
  run, out, back = (tmp_path / name for name in ('run', 'out', 'back'))
  importing.import_folder(base, run, speech=True)
  config = files.read_json(run / 'config.json')
  pieces = text_lib.load(base / 'tokenizer.json').pieces_digest
  assert config['vocabulary']['pieces_sha256'] == pieces
  del config['converted_from']
  config[bindings.TOKENIZER] = ONE
  files.write_json(run / 'config.json', config)
  exporting.export_run(run, out)
  told = json.loads((out / 'config.json').read_text())[bindings.EXPORTED]
  assert told['vocabulary']['pieces_sha256'] == pieces
  assert told[bindings.TOKENIZER] == ONE
  importing.import_folder(out, back)
  again = files.read_json(back / 'config.json')
  assert again[bindings.TOKENIZER] == ONE
  assert again['vocabulary']['pieces_sha256'] == pieces
  # Another export of it does not keep what is no longer true.
  del again[bindings.TOKENIZER], again['converted_from']
  files.write_json(back / 'config.json', again)
  exporting.export_run(back, tmp_path / 'third')
  third = json.loads((tmp_path / 'third/config.json').read_text())
  assert bindings.TOKENIZER not in third[bindings.EXPORTED]


def test_an_export_takes_the_own_copy(base, tmp_path):
  importing.import_folder(base, tmp_path / 'run', speech=True)
  config = files.read_json(tmp_path / 'run/config.json')
  words = [f'w{i}' for i in range(19)] + ['other']
  config['vocabulary']['text_model'] = save_words(tmp_path / 'x.json', words)
  files.write_json(tmp_path / 'run/config.json', config)
  _, _, found = restore.load_model(tmp_path / 'run')
  assert found.encode('w19') == [68 + 19]
  exporting.export_run(tmp_path / 'run', tmp_path / 'out')
  out = tokenizers.Tokenizer.from_file(str(tmp_path / 'out/tokenizer.json'))
  assert out.token_to_id('w19') == 19 and out.token_to_id('other') is None


def test_a_folder_is_started_from_with_its_own_text_model_alone(base, tmp_path):
  tree = folders.read(base, description_of(base / 'tokenizer.json'))
  assert tree['params']['transformer']['embedding'].shape[1] == tiny.E
  swapped = [f'w{i}' for i in [0, 2, 1, *range(3, 20)]]
  other = save_words(tmp_path / 'other.json', swapped)
  with pytest.raises(errors.UserError) as refusal:
    folders.read(base, description_of(other))
  for word in ('base/tokenizer.json', 'other.json', 'convert --from'):
    assert word in str(refusal.value)
  # The way on that it names: the run's rows are matched by piece.
  importing.import_folder(base, tmp_path / 'run')
  (start,) = run_bindings.table_starts(
    [tmp_path / 'run'], description_of(other), {}, remap.MATCH
  )
  index = start.rows.index[68:88]
  assert index.tolist() == [68, 70, 69, *range(71, 88)]
  assert (start.rows.index[88 : 88 + 5120] == -1).all()
  assert np.array_equal(start.rows.index[:68], np.arange(68))


def test_codes_of_a_folder_are_compared(base):
  config = json.loads((base / 'config.json').read_text())
  config[bindings.EXPORTED] = {bindings.TOKENIZER: ONE}
  files.write_json(base / 'config.json', config)
  description = description_of(base / 'tokenizer.json')

  def start(tokenizer, policy=remap.MATCH):
    ids = {bindings.TOKENIZER: tokenizer}
    return run_bindings.table_starts([base], description, ids, policy)[0]

  assert start(ONE).tokenizer == ONE
  assert start(TWO, remap.KEEP).rows is None
  with pytest.raises(errors.UserError, match='runs/one.*runs/two'):
    start(TWO)
