"""The released Step-Audio-Tokenizer, in small, through the convert door."""

import json
import re

import numpy as np
import pytest

from step_audio_jax import __main__ as doors
from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.interop.tokenizer import paraformer as paraformer_interop
from step_audio_jax.interop.tokenizer import released as tokenizer
from step_audio_jax.interop.tokenizer import s3 as s3_interop
from step_audio_jax.models import blocks
from step_audio_jax.tokenizers.speech import dual
from tests.interop.tokenizer import released_tokenizer as released


def convert(capsys, *argv):
  argv = ['-', 'convert', *map(str, argv)]
  status = cli.dispatch('step_audio_jax', doors.DOORS, argv)
  return status, *capsys.readouterr()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('released') / 'Step-Audio-Tokenizer'
  return folder, released.write(folder)


def same(found, want):
  assert found.keys() == want.keys()
  for name, value in want.items():
    if isinstance(value, dict):
      same(found[name], value)
    else:
      np.testing.assert_array_equal(found[name], value)


def check(made, written):
  """Every array lies where the networks look for it."""
  one, two = made.linguistic, made.semantic
  assert (one.config, two.config) == (released.PARAFORMER, released.S3)
  held = one._arrays['params']
  same(
    {**held, 'blocks': blocks.stack(held['blocks'])},
    paraformer_interop.encoder_params(written['encoder']),
  )
  np.testing.assert_array_equal(one._arrays['centroids'], written['centroids'])
  cmvn = one._arrays['shift'], one._arrays['scale']
  np.testing.assert_allclose(cmvn, written['cmvn'], rtol=1e-6)
  params, table = s3_interop.encoder_params(written['semantic'])
  held = two._arrays['params']
  same({**held, 'blocks': blocks.stack(held['blocks'])}, params)
  np.testing.assert_array_equal(two._arrays['codebook'], table)


def test_the_door_converts_once(folder, tmp_path, capsys):
  source, written = folder
  target = tmp_path / 'tokenizer'
  argv = (f'--from={source}', f'--to={target}', '--json')
  status, out, err = convert(capsys, *argv, '--dry_run')
  assert status == 0 and not target.exists(), err
  status, out, err = convert(capsys, *argv)
  assert status == 0, err
  facts = json.loads(out.splitlines()[-1])
  assert facts['linguistic_codes'] == 9 and facts['semantic_codes'] == 11
  count = sum(
    written[k][n].size for k in ('encoder', 'semantic') for n in written[k]
  )
  assert facts['parameters'] == count
  check(dual.DualTokenizer.load(target), written)
  status, _, err = convert(capsys, *argv)
  assert status == 2 and 'exists; expected a new folder' in err


@pytest.mark.parametrize('flag', ['--step=3', '--speech', '--dtype=float16'])
def test_flags_of_other_conversions_are_refused(folder, tmp_path, capsys, flag):
  argv = (f'--from={folder[0]}', f'--to={tmp_path / "t"}', flag)
  status, _, err = convert(capsys, *argv)
  assert status == 2 and 'means nothing when --from is a speech tok' in err


def test_norms_in_pieces_and_a_nested_state_dict(tmp_path):
  source = tmp_path / 'other'
  written = released.write(source, nested=True, pieces=True)
  check(tokenizer.read(source), written)


def refused(source, match):
  with pytest.raises(errors.UserError) as caught:
    tokenizer.read(source)
  text = str(caught.value)
  assert re.search(match, text), text
  assert '\n' not in text and str(source) in text


def test_a_missing_file_is_named(tmp_path):
  for name in (
    'linguistic_tokenizer.npy',
    'speech_tokenizer_v1.onnx',
    f'{released.INSIDE}/model.pt',
    f'{released.INSIDE}/config.yaml',
    f'{released.INSIDE}/am.mvn',
  ):
    source = tmp_path / name.replace('/', '_')
    released.write(source)
    (source / name).unlink()
    refused(source, name.rpartition('/')[2].replace('.', r'\.'))


ENCODER = 'encoder.encoders.1.norm1.weight'


@pytest.mark.parametrize('change', ['gone', 'other shape', 'more'])
def test_the_wrong_array_of_model_pt_is_named(folder, tmp_path, change):
  state = dict(folder[1]['encoder'])
  source = tmp_path / 's'
  released.write(source)
  found, wanted, name = 'nothing', r'\(16,\)', ENCODER
  if change == 'gone':
    del state[name]
  elif change == 'other shape':
    state[name], found = np.ones(12, np.float32), r'\(12,\)'
  else:
    name, found, wanted = 'encoder.extra', r'\(2,\)', 'nothing'
    state[name] = np.ones(2, np.float32)
  released.save_pt(source / released.INSIDE / 'model.pt', state)
  refused(source, rf'model\.pt: {name}: found {found}, expected {wanted}\.')


QUERY = 'encoder.blocks.1.attn.query.weight'


def test_an_onnx_of_another_network_is_refused(folder, tmp_path):
  source = tmp_path / 's'
  released.write(source)
  path = source / 'speech_tokenizer_v1.onnx'
  state = folder[1]['semantic']
  released.save_onnx(path, {**state, QUERY: np.ones((64, 48), np.float32)})
  refused(source, rf'{QUERY}: found \(64, 48\), expected \(64, 64\)')
  released.save_onnx(path, state, stride=1)
  refused(source, r'/conv1/Conv: found strides \(1,\), expected \(2,\)')
  narrow = released.s3.S3Config(
    width=48, heads=1, layers=1, positions=20, codes=11
  )
  released.save_onnx(path, released.arrays(s3_interop.shapes(narrow)))
  refused(source, 'found width 48, expected a multiple of 64')
  nodes, weights = released.onnx_parts(state)
  graph = b''.join(released.field(1, n) for n in nodes[:-1])
  graph += b''.join(released.field(5, w) for w in weights)
  path.write_bytes(released.field(7, graph))
  refused(source, 'found no quantizer._codebook.embed')


@pytest.mark.parametrize(
  'old, new, match',
  [
    ('lfr_m: 7', 'lfr_m: 5', r'frontend_conf\.lfr_m: found 5, expected 7'),
    ('pe_online', 'pe', r"encoder_conf\.input_layer: found 'pe', expected"),
    ('shfit: 0', 'shfit: 5', r'sanm_shfit: found 5, expected 0'),
    ('num_blocks: 3', 'num_blocks: no', r'num_blocks: found False, expected a'),
    ('encoder_conf', 'other_conf', 'found no encoder_conf'),
    ('num_blocks: 3', 'num_blocks: 4', r'encoders\.2\..*: found nothing'),
    ('model:', '{', r'config\.yaml: cannot be read'),
  ],
)
def test_another_config_is_refused(tmp_path, old, new, match):
  source = tmp_path / 's'
  released.write(source)
  path = source / released.INSIDE / 'config.yaml'
  path.write_text(path.read_text().replace(old, new))
  refused(source, match)


def test_a_config_cannot_run_anything(tmp_path):
  source = tmp_path / 's'
  released.write(source)
  victim = tmp_path / 'it_ran'
  path = source / released.INSIDE / 'config.yaml'
  tag = f'\nx: !!python/object/apply:os.system ["touch {victim}"]\n'
  path.write_text(path.read_text() + tag)
  refused(source, r'config\.yaml: cannot be read')
  assert not victim.exists()


@pytest.mark.parametrize(
  'text, match',
  [
    ('', 'found no numbers in brackets behind <AddShift>'),
    ('<AddShift> 2 2 [ 1 x ]', 'found no numbers in brackets'),
    ('<AddShift> 2 2 [ 1 2 ]', 'behind <Rescale>'),
    ('<AddShift> [ 1 nan ] <Rescale> [ 1 2 ]', 'not finite'),
    ('<AddShift> [ 1 2 ] <Rescale> [ 1 2 ]', 'found 2 numbers, expected 560'),
  ],
)
def test_a_broken_cmvn_is_refused(tmp_path, text, match):
  source = tmp_path / 's'
  released.write(source)
  (source / released.INSIDE / 'am.mvn').write_text(text)
  refused(source, match)


def test_centroids_that_do_not_fit_are_refused(tmp_path):
  source = tmp_path / 's'
  released.write(source)
  path = source / 'linguistic_tokenizer.npy'
  for value, match in (
    (np.ones((3, 5), np.float32), r'found \(3, 5\) of float32, expected'),
    (np.ones((3, 16), np.int64), 'of int64'),
    (np.array({'a': 1}, object), 'cannot be read as an array'),
  ):
    np.save(path, value, allow_pickle=True)
    refused(source, match)
