"""NaN, infinite and unrepresentable weights are told where they come in."""

import json

import jax
import ml_dtypes
import numpy as np
import pytest

from step_audio_jax import __main__ as doors
from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.generation import restore
from step_audio_jax.interop.decoder import importing
from step_audio_jax.interop.formats import checked
from step_audio_jax.interop.language import configs
from step_audio_jax.interop.language import folders
from step_audio_jax.storage import files
from step_audio_jax.storage import lazy
from step_audio_jax.storage import shards
from step_audio_jax.training.checkpoints import stored
from tests.interop.decoder import released_decoder as released
from tests.interop.language import tiny_folders as tiny
from tests.interop.tokenizer import released_tokenizer

NAME = 'model.layers.1.mlp.up_proj.weight'


def convert(capsys, *argv):
  argv = ['-', 'convert', *map(str, argv)]
  status = cli.dispatch('step_audio_jax', doors.DOORS, argv)
  return status, capsys.readouterr().err


def refused(capsys, *argv):
  status, err = convert(capsys, *argv)
  assert status == 2 and err.startswith('error: ') and err.count('error') == 1
  return ' '.join(err.split())


def folder_with(path, values, dtype=np.float32):
  """A folder one tensor of which holds some numbers."""
  tensors = tiny.tensors_of('llama', dtype=dtype)
  tensors[NAME].reshape(-1)[: len(values)] = np.array(values).astype(dtype)
  return tiny.write(path, tiny.config_of('llama'), tensors), tensors


@pytest.mark.parametrize('dtype', [np.float32, ml_dtypes.bfloat16])
def test_the_tensor_and_the_count_are_told(tmp_path, capsys, dtype):
  folder, tensors = folder_with(
    tmp_path / 'm', [np.nan, np.inf, -np.inf], dtype
  )
  to = f'--to={tmp_path}/run'
  told = refused(capsys, f'--from={folder}', to)
  assert f"{folder}/model.safetensors: tensor '{NAME}': 3 of 84 numbers" in told
  assert 'are NaN or infinite' in told and '--allow_nonfinite' in told
  assert [path.name for path in tmp_path.iterdir()] == ['m']
  status, err = convert(capsys, f'--from={folder}', to, '--allow_nonfinite')
  assert status == 0 and '3 of 84 numbers are NaN or infinite; they are' in err
  assert err.count('warning') == 1
  tree, _ = stored.open_variables(tmp_path / 'run')
  up = np.asarray(
    tree['params']['transformer']['blocks']['mlp']['up']['kernel']
  )
  assert up[1].T.tobytes() == tensors[NAME].tobytes()


def test_what_a_dtype_cannot_hold_is_told(tmp_path, capsys):
  values = [7e4, -1e5, 65504.0, 65519.0]  # the last rounds to the largest
  folder, _ = folder_with(tmp_path / 'm', values)
  args = [f'--from={folder}', f'--to={tmp_path}/run', '--dtype=float16']
  told = refused(capsys, *args)
  assert f"'{NAME}': 2 of 84 numbers are beyond the range of float16" in told
  status, err = convert(capsys, *args, '--allow_nonfinite')
  assert status == 0 and 'warning' in err
  # And on the way out.
  status, _ = convert(capsys, f'--from={folder}', f'--to={tmp_path}/wide')
  assert status == 0
  args = [f'--from={tmp_path}/wide', f'--to={tmp_path}/out', '--dtype=float16']
  told = refused(capsys, *args)
  assert f"'{NAME}': 2 of 84 numbers are beyond the range of float16" in told
  assert not (tmp_path / 'out').exists()
  args[-1] = '--dtype=bfloat16'
  assert convert(capsys, *args)[0] == 0


def test_the_largest_floats_do_not_round_up_to_infinity(tmp_path, capsys):
  folder, _ = folder_with(tmp_path / 'm', [np.finfo(np.float32).max])
  args = [f'--from={folder}', f'--to={tmp_path}/run', '--dtype=bfloat16']
  assert '1 of 84 numbers are beyond the range of bfloat16' in refused(
    capsys, *args
  )


def test_a_run_that_went_astray_is_not_exported(tmp_path, capsys):
  folder, _ = tiny.make(tmp_path / 'm', 'llama')
  assert convert(capsys, f'--from={folder}', f'--to={tmp_path}/ok')[0] == 0
  _, variables, _ = restore.load_model(tmp_path / 'ok')
  variables = jax.tree.map(np.array, variables)
  variables['params']['transformer']['head'][3, :5] = np.nan
  run = tmp_path / 'run'
  run.mkdir()
  stored.write_variables(run, 0, variables, lambda written: None)
  files.write_json(
    run / 'config.json', json.loads((tmp_path / 'ok/config.json').read_text())
  )
  args = [f'--from={run}', f'--to={tmp_path}/out']
  told = refused(capsys, *args)
  assert f"{run}: tensor 'lm_head.weight': 5 of 276 numbers" in told
  status, err = convert(capsys, *args, '--allow_nonfinite')
  assert status == 0 and "'lm_head.weight': 5 of 276" in err
  head = np.asarray(shards.read_folder(tmp_path / 'out')['lm_head.weight'])
  assert np.isnan(head).sum() == 5


def test_training_does_not_begin_with_it(tmp_path):
  folder, _ = folder_with(tmp_path / 'm', [np.nan])
  config = json.loads((folder / 'config.json').read_text())
  ours = configs.read(config)
  description = {
    'model': {'transformer': vars(ours)},
    'vocabulary': {
      'text_size': tiny.V,
      'table_size': tiny.V,
      'linguistic_size': 0,
      'semantic_size': 0,
    },
  }
  tree = folders.read(folder, description)
  with pytest.raises(errors.UserError, match='1 of 84 numbers are NaN'):
    np.asarray(tree['params']['transformer']['blocks']['mlp']['up']['kernel'])


@pytest.mark.parametrize('dtype', [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize('value', [np.nan, -np.nan, np.inf, -np.inf])
def test_one_number_of_many(dtype, value):
  info = ml_dtypes.finfo(dtype)
  array = np.array([0.0, info.max, info.min, info.tiny, -0.0] * 9).astype(dtype)
  assert checked.all_finite(array) and checked.all_finite(array[::2])
  array[17] = value
  assert not checked.all_finite(array)


def test_every_block_is_counted():
  array = np.zeros((1000, 3), np.float32)
  array[[0, 5, 999]] = np.nan
  array[7] = 1e9
  found = checked.CheckedArray(array, 'x', 'f', dtype=np.float16)
  with pytest.raises(errors.UserError, match=r"f: tensor 'x': 9 of 3000 .* an"):
    _ = found[5:6]
  assert np.asarray(checked.CheckedArray(array[8:20], 'x', 'f')).sum() == 0
  assert isinstance(found, lazy.LazyArray) and found.dtype == np.float16


def test_speech_decoders(tmp_path, capsys):
  source = tmp_path / 'source'
  written = released.write(source, folded=False)
  broken = {
    'campplus.onnx': ('speaker', 'head.conv1.weight'),
    'flow.pt': ('flow', 'encoder_proj.weight'),
    'hift.pt': ('hift', 'conv_post.bias'),
  }
  told = {}
  for file, (key, name) in broken.items():
    state, good = written[key], (source / file).read_bytes()
    state[name] = state[name].copy()
    state[name].reshape(-1)[:2] = np.nan
    if key == 'speaker':
      parts = released.campplus_parts(state, folded=False)
      released.save_graph(source / file, *parts)
    else:
      released_tokenizer.save_pt(source / file, state)
    size = state[name].size
    told[file] = f"{source}/{file}: tensor '{name}': 2 of {size} numbers are N"
    with pytest.raises(errors.UserError) as caught:
      importing.import_folder(source, tmp_path / 'decoder')
    assert str(caught.value).startswith(told[file])
    assert [path.name for path in tmp_path.iterdir()] == ['source']
    bad = (source / file).read_bytes()
    (source / file).write_bytes(good)
    broken[file] = bad
  for file, bad in broken.items():
    (source / file).write_bytes(bad)
  args = [f'--from={source}', f'--to={tmp_path}/decoder', '--allow_nonfinite']
  status, err = convert(capsys, *args)
  assert status == 0 and all(line in err for line in told.values())
  # Out again: told once more.
  told = refused(capsys, f'--from={tmp_path}/decoder', f'--to={tmp_path}/out')
  assert 'are NaN or infinite' in told and not (tmp_path / 'out').exists()


@pytest.mark.parametrize('part', ['encoder', 'semantic', 'centroids'])
def test_tokenizers(tmp_path, capsys, part):
  source = tmp_path / 'source'
  written = released_tokenizer.write(source)
  if part == 'centroids':
    written['centroids'][2, :3] = np.inf
    np.save(source / 'linguistic_tokenizer.npy', written['centroids'])
    told = "linguistic_tokenizer.npy: tensor 'centroids': 3 of 144"
  elif part == 'encoder':
    state = written['encoder']
    state['encoder.after_norm.bias'][:3] = np.nan
    inside = source / released_tokenizer.INSIDE
    released_tokenizer.save_pt(inside / 'model.pt', state)
    told = "model.pt: tensor 'encoder.after_norm.bias': 3 of 16"
  else:
    state = written['semantic']
    state['encoder.conv2.bias'][:3] = -np.inf
    released_tokenizer.save_onnx(source / 'speech_tokenizer_v1.onnx', state)
    told = "speech_tokenizer_v1.onnx: tensor 'encoder.conv2.bias': 3 of 64"
  args = [f'--from={source}', f'--to={tmp_path}/tokenizer']
  assert told in refused(capsys, *args)
  status, err = convert(capsys, *args, '--allow_nonfinite')
  assert told in err
