"""The released decoder, in small, through the convert door, and back."""

import dataclasses
import json
import pathlib
import re
import tracemalloc

import numpy as np
import pytest
import yaml

from step_audio_jax import __main__ as doors
from step_audio_jax import errors
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.commands import cli
from step_audio_jax.decoder import speech
from step_audio_jax.interop.decoder import campplus as campplus_interop
from step_audio_jax.interop.decoder import exporting
from step_audio_jax.interop.decoder import flow as flow_interop
from step_audio_jax.interop.decoder import hift as hift_interop
from step_audio_jax.interop.decoder import importing
from step_audio_jax.interop.formats import hyper_yaml
from step_audio_jax.interop.formats import pickles
from step_audio_jax.interop.formats import torch_archive
from step_audio_jax.storage import shards
from tests.interop.decoder import released_decoder as released
from tests.interop.tokenizer import released_tokenizer

FILES = ('config.json', 'flow.safetensors', 'vocoder.safetensors')
FILES += ('speaker.safetensors',)


def convert(capsys, *argv):
  argv = ['-', 'convert', *map(str, argv)]
  status = cli.dispatch('step_audio_jax', doors.DOORS, argv)
  return status, *capsys.readouterr()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A released folder with both spellings of names, and what is in it."""
  folder = tmp_path_factory.mktemp('released') / 'CosyVoice-300M-25Hz'
  return folder, released.write(folder, folded=False)


@pytest.fixture(scope='module')
def sealed(folder, tmp_path_factory):
  target = tmp_path_factory.mktemp('sealed') / 'decoder'
  importing.import_folder(folder[0], target)
  return target


def tree_of(path):
  return {k: np.asarray(v) for k, v in shards.read_header(path).items()}


def same(found, want):
  assert found.keys() == want.keys()
  for name, value in want.items():
    np.testing.assert_array_equal(found[name], value)


def test_the_door_converts_once(folder, tmp_path, capsys):
  source, written = folder
  target = tmp_path / 'decoder'
  argv = (f'--from={source}', f'--to={target}', '--json')
  status, out, err = convert(capsys, *argv, '--dry_run')
  assert status == 0 and not target.exists(), err
  status, out, err = convert(capsys, *argv)
  assert status == 0, err
  facts = json.loads(out.splitlines()[-1])
  assert sorted(p.name for p in target.iterdir()) == sorted(FILES)
  counts = {
    name: sum(value.size for value in written[name].values())
    for name in ('flow', 'speaker')
  }
  assert counts.items() <= facts['parts'].items()
  assert facts['parameters'] == sum(facts['parts'].values())
  assert facts['speech_ids'] == 5121 and facts['sample_rate'] == 8000
  status, _, err = convert(capsys, *argv)
  assert status == 2 and 'exists; expected a new folder' in err


@pytest.mark.parametrize('flag', ['--step=3', '--speech', '--dtype=float16'])
def test_flags_of_other_conversions_are_refused(folder, tmp_path, capsys, flag):
  argv = (f'--from={folder[0]}', f'--to={tmp_path / "t"}', flag)
  status, _, err = convert(capsys, *argv)
  assert status == 2
  assert 'means nothing when --from is a released speech decoder' in err


def test_every_array_lies_where_the_networks_look(folder, sealed):
  made, written = speech.SpeechDecoder.load(sealed), folder[1]
  assert made.flow.config == released.FLOW
  assert made.vocoder.config == released.HIFT
  assert made.speaker.config == released.SPEAKER
  assert made.mel == vocoder_mel.VocoderMel(8000, 16, 256, 256, 64, 0, 4000)
  same(flow_interop.state(made.flow.params, released.FLOW), written['flow'])
  same(
    campplus_interop.state(made.speaker.params, released.SPEAKER),
    written['speaker'],
  )
  found = hift_interop.state(made.vocoder.params, released.HIFT, 'plain')
  for name in ('conv_pre', 'ups.1', 'resblocks.2.convs2.1'):
    g, v = (written['hift'][f'{name}.weight_{k}'] for k in 'gv')
    norm = np.sqrt(np.square(v, dtype=np.float64).sum((1, 2), keepdims=True))
    np.testing.assert_allclose(found[f'{name}.weight'], g * v / norm, rtol=1e-5)


def test_both_spellings_and_folded_norms(folder, sealed, tmp_path):
  source = tmp_path / 'other'
  released.write(source, spelling='parametrizations', folded=True)
  target = tmp_path / 'decoder'
  importing.import_folder(source, target)
  for name in ('flow', 'vocoder'):
    file = f'{name}.safetensors'
    same(tree_of(target / file), tree_of(sealed / file))
  one, two = (
    json.loads((place / 'config.json').read_text())
    for place in (target, sealed)
  )
  # Folded norms are equal but for rounding, so their bytes may differ.
  assert one.pop('sha256').keys() == two.pop('sha256').keys()
  assert one == two


@pytest.fixture(scope='module')
def exported(sealed, tmp_path_factory):
  target = tmp_path_factory.mktemp('exported') / 'cosyvoice'
  facts = exporting.export_folder(sealed, target)
  return target, facts


def test_export_has_the_original_names(folder, exported):
  target, facts = exported
  names = ('flow.pt', 'hift.pt', 'cosyvoice.yaml', 'speaker.safetensors')
  assert sorted(p.name for p in target.iterdir()) == sorted(names)
  assert facts['left_out'] == ['campplus.onnx']
  written = folder[1]
  same(dict(pickles.Checkpoint(target / 'flow.pt')), written['flow'])
  same(tree_of(target / 'speaker.safetensors'), written['speaker'])
  hift = pickles.Checkpoint(target / 'hift.pt')
  assert {n: hift.shape(n) for n in hift} == {
    n: v.shape for n, v in written['hift'].items()
  }


def test_there_and_back_is_equal_to_the_bit(sealed, exported, tmp_path):
  target = tmp_path / 'again'
  importing.import_folder(exported[0], target)
  for file in FILES[1:]:
    same(tree_of(target / file), tree_of(sealed / file))
  one, two = (
    json.loads((f / 'config.json').read_text()) for f in (target, sealed)
  )
  assert one == two


def test_the_yaml_names_the_classes_that_cosyvoice_makes(exported):
  """Each section of the released file that the decoder needs, tags as there."""

  class Tags(yaml.SafeLoader):
    """Keeps them."""

  def keep(loader, suffix, node):
    if isinstance(node, yaml.MappingNode):
      return suffix, loader.construct_mapping(node, deep=True)
    return f'!{suffix} {node.value}'

  Tags.add_multi_constructor('!', keep)
  written = yaml.load((exported[0] / 'cosyvoice.yaml').read_text(), Tags)
  wanted = yaml.load(released.YAML, Tags)

  def tags(value):
    if isinstance(value, tuple):
      return value[0], tags(value[1])
    if isinstance(value, dict):
      inner = {k: tags(v) for k, v in value.items()}
      return {k: v for k, v in inner.items() if v}
    return None

  for section in ('flow', 'hift', 'feat_extractor'):
    assert tags(written[section]) == tags(wanted[section])
  ours = hyper_yaml.read(exported[0] / 'cosyvoice.yaml')
  path = exported[0].with_name('theirs.yaml')
  path.write_text(released.YAML)
  theirs = hyper_yaml.read(path)
  # The table alone says how many ids there are; the released yaml says 4096.
  theirs['flow']['vocab_size'] = 5121
  for section in ('flow', 'hift', 'feat_extractor'):
    assert ours[section] == theirs[section]


def test_the_door_exports(sealed, tmp_path, capsys):
  target = tmp_path / 'out'
  argv = (f'--from={sealed}', f'--to={target}', '--json')
  status, out, err = convert(capsys, *argv, '--dry_run')
  assert status == 0 and not target.exists(), err
  facts = json.loads(out.splitlines()[-1])
  assert facts['left_out'] == ['campplus.onnx']
  assert 'left out: campplus.onnx' in out
  status, _, err = convert(capsys, *argv, '--ema')
  assert status == 2 and '--ema: means nothing' in err


def test_griffin_lim_and_no_speaker_are_exported_as_such(sealed, tmp_path):
  config = json.loads((sealed / 'config.json').read_text())
  less = tmp_path / 'less'
  less.mkdir()
  (less / 'flow.safetensors').write_bytes(
    (sealed / 'flow.safetensors').read_bytes()
  )
  (less / 'config.json').write_text(
    json.dumps({**config, 'vocoder': None, 'speaker': None})
  )
  facts = exporting.export_folder(less, tmp_path / 'out')
  assert 'hift.pt: Griffin-Lim speaks' in facts['left_out']
  names = sorted(p.name for p in (tmp_path / 'out').iterdir())
  assert names == ['cosyvoice.yaml', 'flow.pt']


@pytest.mark.parametrize(
  'part, change, said',
  [
    ('vocoder', {'causal': True}, r'vocoder\.causal: found True, expected'),
    ('flow', {'chunks': 3}, r'flow\.chunks: no such field'),
    ('flow', None, 'flow: found none, expected it'),
    ('speaker', {'bands': 3}, 'bands is 3, expected a multiple of 8'),
  ],
)
def test_what_cosyvoice_cannot_be_is_not_exported(
  sealed, tmp_path, part, change, said
):
  config = json.loads((sealed / 'config.json').read_text())
  config[part] = change and {**config[part], **change}
  other = tmp_path / 'other'
  other.mkdir()
  (other / 'config.json').write_text(json.dumps(config))
  with pytest.raises(errors.UserError, match=said):
    exporting.export_folder(other, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_a_large_flow_needs_little_more_than_its_size(copy):
  wide = dataclasses.replace(
    released.FLOW,
    encoder=dataclasses.replace(
      released.FLOW.encoder, width=128, mlp_width=4096, layers=4
    ),
  )
  shapes = flow_interop.shapes(wide)
  arrays = released_tokenizer.arrays(shapes)
  torch_archive.write(copy / 'flow.pt', arrays)
  size = sum(value.nbytes for value in arrays.values())
  del arrays
  path = copy / 'cosyvoice.yaml'
  text = path.read_text().replace('linear_units: 20', 'linear_units: 4096')
  text = text.replace('        output_size: 16', '        output_size: 128')
  path.write_text(text.replace('num_blocks: 2', 'num_blocks: 4'))
  tracemalloc.start()
  importing.import_folder(copy, copy.with_name('target'))
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert size < 20e6 < 2 * size
  assert peak < 2 * size, f'{peak / size:.2f} times the weights'


# What is wrong with a folder: one sentence, and nothing is written.


@pytest.fixture
def copy(folder, tmp_path):
  source = tmp_path / 'source'
  source.mkdir()
  for path in folder[0].iterdir():
    (source / path.name).write_bytes(path.read_bytes())
  return source


def refused(source, match):
  target = source.with_name('target')
  with pytest.raises(errors.UserError) as caught:
    importing.import_folder(source, target)
  text = str(caught.value)
  assert re.search(match, text), text
  assert '\n' not in text and str(source) in text
  left = {p.name for p in source.parent.iterdir()}
  assert left == {source.name}


@pytest.mark.parametrize(
  'name', ['flow.pt', 'hift.pt', 'campplus.onnx', 'cosyvoice.yaml']
)
def test_a_missing_file_is_named(copy, name):
  (copy / name).unlink()
  refused(copy, rf'{re.escape(name)}: no such file')


def test_a_released_decoder_is_not_taken_for_a_tokenizer(copy):
  """It has `speech_tokenizer_v1.onnx` too."""
  assert importing.is_folder(copy)
  (copy / 'flow.pt').unlink()
  assert importing.is_folder(copy)
  (copy / 'hift.pt').unlink()
  assert not importing.is_folder(copy)


def test_a_vocoder_of_another_layout_is_refused(copy, folder):
  state = dict(folder[1]['hift'])
  wide = {**state, 'conv_pre.bias': np.zeros(16, np.float32)}
  released_tokenizer.save_pt(copy / 'hift.pt', wide)
  refused(copy, r'hift: conv_pre\.bias: found \(16,\) .* expected \(8,\)')
  del state['resblocks.3.convs1.0.bias']
  released_tokenizer.save_pt(copy / 'hift.pt', state)
  refused(copy, r'resblocks\.3\.convs1\.0\.bias: found nothing')
  text = (copy / 'cosyvoice.yaml').read_text()
  (copy / 'cosyvoice.yaml').write_text(
    text.replace('upsample_rates: [4, 4]', 'upsample_rates: [8, 4]')
  )
  refused(copy, 'hift: .*expected')


def test_a_flow_of_another_layout_is_refused(copy, folder):
  name = 'decoder.estimator.mid_blocks.1.1.0.attn1.to_v.weight'
  for change, said in (
    (np.ones((12, 9), np.float32), r'found \(12, 9\), expected \(12, 8\)'),
    (None, r'found nothing, expected \(12, 8\)'),
  ):
    state = dict(folder[1]['flow'])
    if change is None:
      del state[name]
    else:
      state[name] = change
    released_tokenizer.save_pt(copy / 'flow.pt', state)
    refused(copy, rf'flow\.pt: {re.escape(name)}: {said}')
  state = {**folder[1]['flow'], 'extra.weight': np.ones(2, np.float32)}
  released_tokenizer.save_pt(copy / 'flow.pt', state)
  refused(copy, r'flow\.pt: extra\.weight: found \(2,\), expected nothing')


@pytest.mark.parametrize('name', ['flow.pt', 'hift.pt'])
def test_a_pickle_that_wants_to_run_something_does_not(copy, tmp_path, name):
  victim = copy.parent.parent / f'{copy.parent.name}_ran'
  hostile = released_tokenizer.Call('os', 'system', f'touch {victim}')
  released_tokenizer.save_pt(
    copy / name, {'a': np.ones(3, np.float32), 'b': hostile}
  )
  refused(copy, 'its pickle asks for os.system, expected nothing but tensors')
  assert not victim.exists()


@pytest.mark.parametrize(
  'old, new, said',
  [
    ('flow: !new', 'flows: !new', 'flow: found None, expected its descr'),
    ('hift: !new', 'hifts: !new', 'hift: found None, expected its descr'),
    ('n_fft: 256', 'n_fft: x', r"feat_extractor\.n_fft: found 'x', expected"),
    ('fmax: 4000', 'fmax: 9000', 'bands from 0 to 9000 Hz; expected a range'),
    ('center: False', 'center: True', r'feat_extractor\.center: found True'),
    ('num_mels: 16', 'num_mels: 8', r'num_mels: found 8, expected 16'),
    ('hop_size: 64', 'hop_size: 32', 'hop 64, expected 32'),
    ('embed_dim: 6', 'embed_dim: 8', r'spk_embed_affine.*found \(16, 6\), exp'),
    ("solver: 'euler'", "solver: 'rk4'", r"solver: found 'rk4', expected 'eul"),
    ('num_mid_blocks: 2', 'num_mid_blocks: 1', r'mid_blocks\.1\..*found'),
    ('!ref <sample_rate>', '!ref <rate>', 'found !ref <rate>, which names'),
    ('llm: !new', 'llm: {', 'cannot be read'),
  ],
)
def test_another_yaml_is_refused(copy, old, new, said):
  path = copy / 'cosyvoice.yaml'
  text = path.read_text()
  assert old in text
  path.write_text(text.replace(old, new))
  refused(copy, said)


def test_a_speaker_encoder_of_another_width_is_refused(copy):
  wide = released.campplus.CampplusConfig(
    **{**released.SPEAKER.__dict__, 'embedding': 8}
  )
  state = released.speaker_state(wide)
  released.save_graph(
    copy / 'campplus.onnx', *released.campplus_parts(state, wide)
  )
  refused(copy, 'spk_embed_dim: found 6, expected 8')


def test_a_broken_named_speaker_is_refused(copy, folder):
  (copy / 'campplus.onnx').unlink()
  state = dict(folder[1]['speaker'])
  path = pathlib.Path(copy / 'speaker.safetensors')
  state['head.bn1.bias'] = np.ones(7, np.float32)
  shards.write_file(path, state)
  refused(copy, r'safetensors: head\.bn1\.bias: found \(7,\), expected \(2,\)')
  del state['xvector.tdnn.linear.weight']
  shards.write_file(path, state)
  refused(copy, "safetensors: .*found no 'xvector.tdnn.linear.weight'")
