"""The convert door: round trips to the bit, vocabularies, whole outputs."""

import json
import os

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy
import tokenizers

from step_audio_jax import __main__ as doors
from step_audio_jax import vocabulary
from step_audio_jax.commands import cli
from step_audio_jax.generation import restore
from step_audio_jax.interop.language import rows
from step_audio_jax.storage import shards
from step_audio_jax.training.checkpoints import stored
from tests.interop.language import tiny_folders as tiny


def convert(capsys, *argv):
  """The JSON that the door prints."""
  argv = ['-', 'convert', *map(str, argv), '--json']
  status = cli.dispatch('step_audio_jax', doors.DOORS, argv)
  out, err = capsys.readouterr()
  assert status == 0, err
  return json.loads(out.splitlines()[-1])


def refused(capsys, *argv):
  argv = ['-', 'convert', *map(str, argv)]
  assert cli.dispatch('step_audio_jax', doors.DOORS, argv) == 2
  err = capsys.readouterr().err
  assert err.startswith('error: ') and err.count('\n') == 1
  return err


def arrays(folder):
  tensors = shards.read_folder(folder)
  return {name: np.asarray(tensor) for name, tensor in tensors.items()}


def same_bits(found, want):
  assert set(found) == set(want)
  for name, value in want.items():
    assert found[name].dtype == value.dtype
    assert found[name].tobytes() == value.tobytes(), name


def with_tokenizer(folder, words=20):
  """A word tokenizer of `words` ids."""
  table = {f'w{i}': i for i in range(words)}
  model = tokenizers.models.WordLevel(table, unk_token='w0')
  tokenizer = tokenizers.Tokenizer(model)
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  tokenizer.save(str(folder / 'tokenizer.json'))


@pytest.mark.parametrize('family', tiny.FAMILIES)
@pytest.mark.parametrize('dtype', [np.float32, ml_dtypes.bfloat16])
def test_round_trip_to_the_bit(tmp_path, capsys, monkeypatch, family, dtype):
  monkeypatch.setattr(stored, 'CHUNK_BYTES', 300)  # several chunks an array
  tied = family.startswith('qwen') and dtype == np.float32
  _, want = tiny.make(
    tmp_path / 'theirs', family, tied=tied, dtype=dtype, files=2
  )
  there = convert(capsys, f'--from={tmp_path}/theirs', f'--to={tmp_path}/run')
  assert there['parameters'] == sum(value.size for value in want.values())
  back = convert(
    capsys,
    *(f'--from={tmp_path}/run', f'--to={tmp_path}/back', '--shard_gb=1e-6'),
  )
  assert back['files'] > 3 and back['bytes'] == there['bytes']
  same_bits(arrays(tmp_path / 'back'), want)
  # In the eyes of the library of that name as well.
  found = {}
  for path in (tmp_path / 'back').glob('*.safetensors'):
    found |= safetensors_numpy.load_file(path)
  same_bits(found, want)
  old = json.loads((tmp_path / 'theirs/config.json').read_text())
  new = json.loads((tmp_path / 'back/config.json').read_text())
  del old['torch_dtype']
  assert {name: new[name] for name in old} == old


def test_the_run_can_be_opened_by_everything_else(tmp_path, capsys):
  folder, theirs = tiny.make(tmp_path / 'm', 'qwen2')
  with_tokenizer(folder)
  (folder / 'chat_template.jinja').write_text('hello')
  told = convert(capsys, f'--from={folder}', f'--to={tmp_path}/run')
  model, variables, text = restore.load_model(tmp_path / 'run')
  config = model.config.transformer
  # 68 control rows in front of their 23, of which 3 pad their table.
  assert config.vocab_size == 68 + tiny.V == text.table_size
  assert text.text_size == 68 + 20 and text.encode('w3 w5') == [71, 73]
  table = variables['params']['transformer']['embedding']
  np.testing.assert_array_equal(table[68:], theirs['model.embed_tokens.weight'])
  assert told['vocabulary']['linguistic_size'] == 0
  tokens = np.asarray([[71, 73, 70]])
  logits = jax.jit(model.apply)(variables, tokens)
  assert logits.shape == (1, 3, 91)
  convert(capsys, f'--from={tmp_path}/run', f'--to={tmp_path}/back')
  same_bits(arrays(tmp_path / 'back'), theirs)
  names = {path.name for path in (tmp_path / 'back').iterdir()}
  assert {'tokenizer.json', 'chat_template.jinja'} <= names


def test_speech_rows_and_back(tmp_path, capsys):
  folder, theirs = tiny.make(
    tmp_path / 'm', 'llama', bos_token_id=4, eos_token_id=[5, 6]
  )
  with_tokenizer(folder)
  told = convert(capsys, f'--from={folder}', f'--to={tmp_path}/run', '--speech')
  _, variables, text = restore.load_model(tmp_path / 'run')
  assert text == vocabulary.Vocabulary(text_size=88)
  assert told['vocabulary']['table_size'] == 88 + 5120
  for ours, name in (
    ('embedding', 'model.embed_tokens.weight'),
    ('head', 'lm_head.weight'),
  ):
    table = variables['params']['transformer'][ours]
    old = theirs[name]
    np.testing.assert_array_equal(table[68:88], old[:20])
    # <s>, </s> and <|EOT|> are the model's own begin and end.
    np.testing.assert_array_equal(table[[1, 2, 3]], old[[4, 5, 5]])
    drawn = table[88:]
    np.testing.assert_allclose(drawn.mean(0), old[:20].mean(0), atol=0.15)
    spread = np.cov(old[:20].T)
    np.testing.assert_allclose(np.cov(drawn.T), spread, atol=0.2)
    assert len(np.unique(drawn[:, 0])) > 5000
  embedding = variables['params']['transformer']['embedding']
  head = variables['params']['transformer']['head']
  assert abs(np.corrcoef(embedding[88:, 0], head[88:, 0])[0, 1]) < 0.1
  back = convert(capsys, f'--from={tmp_path}/run', f'--to={tmp_path}/back')
  assert back['rows'] == {'control_rows': 68, 'speech_starts': 20}
  theirs_now = arrays(tmp_path / 'back')['model.embed_tokens.weight']
  # Text keeps the ids of its own tokenizer; speech follows, control is last.
  np.testing.assert_array_equal(theirs_now[:20], embedding[68:88])
  np.testing.assert_array_equal(theirs_now[20:-68], embedding[88:])
  np.testing.assert_array_equal(theirs_now[-68:], embedding[:68])
  again = tmp_path / 'again'
  convert(capsys, f'--from={tmp_path}/back', f'--to={again}')
  _, once_more, text_again = restore.load_model(again)
  assert text_again == text
  np.testing.assert_array_equal(
    once_more['params']['transformer']['embedding'], embedding
  )


def test_rows_of_step_audio_stay(tmp_path, capsys):
  """Its own vocabulary holds control pieces and speech: nothing moves."""
  table = np.zeros((9, 4), np.float32)
  theirs = rows.Rows(moved=0, text_size=5, speech_size=2, table_size=9)
  config = {'bos_token_id': 1}
  assert rows.to_ours({'head': table}, theirs, config, 'f')['head'] is table
  assert rows.to_theirs({'head': table}, theirs)['head'] is table
  assert theirs.note() is None


def test_a_dtype_may_be_asked_for(tmp_path, capsys):
  _, theirs = tiny.make(tmp_path / 'm', 'llama')
  convert(
    capsys,
    *(f'--from={tmp_path}/m', f'--to={tmp_path}/run', '--dtype=bfloat16'),
  )
  tree, _ = stored.open_variables(tmp_path / 'run')
  kernel = tree['params']['transformer']['head']
  assert kernel.dtype == ml_dtypes.bfloat16
  convert(
    capsys,
    *(f'--from={tmp_path}/run', f'--to={tmp_path}/b', '--dtype=float32'),
  )
  want = theirs['lm_head.weight'].astype(ml_dtypes.bfloat16)
  np.testing.assert_array_equal(
    arrays(tmp_path / 'b')['lm_head.weight'], want.astype(np.float32)
  )
  written = json.loads((tmp_path / 'b/config.json').read_text())
  assert written['torch_dtype'] == 'float32'


def test_a_dry_run_checks_and_writes_nothing(tmp_path, capsys):
  tiny.make(tmp_path / 'm', 'llama')
  before = sorted(tmp_path.rglob('*'))
  told = convert(
    capsys, f'--from={tmp_path}/m', f'--to={tmp_path}/run', '--dry_run'
  )
  assert told['parameters'] and sorted(tmp_path.rglob('*')) == before
  broken = tiny.tensors_of('llama')
  del broken['model.norm.weight']
  tiny.write(tmp_path / 'b', tiny.config_of('llama'), broken)
  told = refused(
    capsys, f'--from={tmp_path}/b', f'--to={tmp_path}/run', '--dry_run'
  )
  assert "tensor 'model.norm.weight' is missing" in told


def test_nothing_half_written_stays(tmp_path, capsys, monkeypatch):
  tiny.make(tmp_path / 'm', 'llama')
  whole = shards.Tensor.read

  def failing(self, spans):
    if self.name == 'model.norm.weight':
      raise KeyboardInterrupt
    return whole(self, spans)

  monkeypatch.setattr(shards.Tensor, 'read', failing)
  argv = [f'--from={tmp_path}/m', f'--to={tmp_path}/run']
  status = cli.dispatch('step_audio_jax', doors.DOORS, ['-', 'convert', *argv])
  assert status == 130
  assert [path.name for path in tmp_path.iterdir()] == ['m']


def test_a_source_is_a_folder_or_a_file(tmp_path, capsys):
  to = f'--to={tmp_path}/new'
  assert '--from: found nothing, expected a path' in refused(
    capsys, '--from=', to
  )
  os.mkfifo(tmp_path / 'pipe')
  (tmp_path / 'link').symlink_to(tmp_path / 'gone')
  for name, found in (('pipe', 'a device or pipe'), ('link', 'a link to no')):
    err = refused(capsys, f'--from={tmp_path}/{name}', to)
    assert f'--from={tmp_path}/{name}: found {found}' in err
    assert 'expected a folder or a .gguf file' in err
  (tmp_path / 'many').mkdir()
  for name in ('q8.gguf', 'q4.gguf'):
    (tmp_path / 'many' / name).write_bytes(b'GGUF')
  err = refused(capsys, f'--from={tmp_path}/many', to)
  assert f'{tmp_path}/many: found no config.json but q4.gguf, q8.gguf' in err
  assert f'expected the file itself, --from={tmp_path}/many/q4.gguf.' in err


@pytest.mark.parametrize('dry', [(), ('--dry_run',)])
def test_an_export_is_like_something_that_is_there(tmp_path, capsys, dry):
  tiny.make(tmp_path / 'm', 'llama')
  convert(capsys, f'--from={tmp_path}/m', f'--to={tmp_path}/run')
  (tmp_path / 'empty').mkdir()
  argv = f'--from={tmp_path}/run', f'--to={tmp_path}/out', *dry
  for name, found in (('no', 'no such folder'), ('empty', 'no config.json')):
    err = refused(capsys, *argv, f'--like={tmp_path}/{name}')
    wanted = f'found {found}, expected a Hugging Face folder'
    assert f'--like={tmp_path}/{name}: {wanted}' in err
  for size in ('nan', 'inf', '0', '1e-10'):
    err = refused(capsys, *argv, f'--shard_gb={size}')
    assert f'--shard_gb: found {float(size)}, expected a finite number' in err
  assert '--shard_gb=-1' in refused(capsys, *argv, '--shard_gb=-1')
  assert not (tmp_path / 'out').exists()


def test_bad_calls(tmp_path, capsys):
  folder, _ = tiny.make(tmp_path / 'm', 'llama')
  (tmp_path / 'there').mkdir()
  (tmp_path / 'empty').mkdir()
  to = f'--to={tmp_path}/new'
  assert 'no such folder' in refused(capsys, f'--from={tmp_path}/no', to)
  assert 'exists' in refused(
    capsys, f'--from={folder}', f'--to={tmp_path}/there'
  )
  assert '--step: means nothing' in refused(
    capsys, f'--from={folder}', to, '--step=3'
  )
  assert 'config.json: cannot be read' in refused(
    capsys, f'--from={tmp_path}/empty', to
  )
  convert(capsys, f'--from={folder}', to)
  assert '--speech: means nothing' in refused(
    capsys, f'--from={tmp_path}/new', f'--to={tmp_path}/x', '--speech'
  )
  assert 'leave --adapter out' in refused(
    capsys, f'--from={tmp_path}/new', f'--to={tmp_path}/x', '--adapter'
  )
  assert 'no checkpoint of step 7' in refused(
    capsys, f'--from={tmp_path}/new', f'--to={tmp_path}/x', '--step=7'
  )
  with_tokenizer(folder, words=tiny.V + 1)
  assert 'vocab_size is 23, expected at least 24' in refused(
    capsys, f'--from={folder}', f'--to={tmp_path}/x'
  )
