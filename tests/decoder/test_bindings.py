"""A decoder speaks the codes of its own tokenizer alone."""

import json
import pathlib
import types

import pytest

from step_audio_jax import errors
from step_audio_jax.decoder import code_sources
from step_audio_jax.decoder import speech
from step_audio_jax.decoder.doors import speak
from step_audio_jax.evaluation import origins
from step_audio_jax.evaluation.metrics import sound
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.speech import seal
from tests.decoder import tiny_decoder as tiny

ONE = bindings.tokenizer('runs/one', '1' * 64)
TWO = bindings.tokenizer('runs/two', '2' * 64)


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
  monkeypatch.setattr(bindings, '_said', set())


def decoder(tokenizer=ONE):
  made = speech.SpeechDecoder(
    tiny.Painted(), tiny.Steps(), tiny.speaker(), tiny.MEL, tiny.voice(2)
  )
  made.tokenizer, made.name = tokenizer, 'runs/decoder'
  return made


def test_the_folder_keeps_its_tokenizer(tmp_path):
  made = tiny.decoder(tiny.voice(1))
  made.tokenizer = ONE
  made.save(tmp_path / 'decoder')
  found = speech.SpeechDecoder.load(tmp_path / 'decoder')
  assert found.tokenizer == ONE and found.name == str(tmp_path / 'decoder')
  made.tokenizer = None
  made.save(tmp_path / 'decoder')
  assert speech.SpeechDecoder.load(tmp_path / 'decoder').tokenizer is None


def test_codes_of_another_tokenizer_are_refused_with_both_folders():
  made = decoder()
  made.check_codes('runs/sft', {**ONE, 'folder': 'moved'})
  assert not made.unchecked
  with pytest.raises(errors.UserError) as refusal:
    made.check_codes('runs/sft', TWO)
  for word in ('runs/sft', 'runs/two', 'runs/decoder', 'runs/one'):
    assert word in str(refusal.value)
  made.check_codes('runs/sft', None)
  assert 'runs/sft: which speech tokenizer' in made.unchecked[0]


def test_a_voice_is_heard_with_the_own_tokenizer():
  class Ruler(tiny.Ruler):
    identity = TWO

  with pytest.raises(errors.UserError, match='--tokenizer, for ref.wav'):
    decoder().voice_from(None, 16000, Ruler(), name='ref.wav')


@pytest.mark.parametrize('layout', ['whole', 'file', 'ids', 'old'])
def test_codes_files_tell_their_tokenizer(tmp_path, layout):
  ids = tiny.ids(3)
  one, two = code_sources.voice_lib.IDS.deinterleave(ids)
  value = {'linguistic': one.tolist(), 'semantic': two.tolist()}
  if layout == 'file':
    value[bindings.TOKENIZER] = ONE
  elif layout == 'whole':
    value = {bindings.TOKENIZER: ONE, 'files': [value]}
  elif layout == 'ids':
    value = ids.tolist()
  path = tmp_path / 'codes.json'
  path.write_text(json.dumps(value))
  told = []
  found = code_sources.read(
    str(path), None, check=lambda what, made_by: told.append((what, made_by))
  )
  assert found.tolist() == ids.tolist()
  known = layout in ('file', 'whole')
  assert told == [(str(path), ONE if known else None)]


class Flags:
  """The only flag that is asked for."""

  tokenizer = None


def tokenizer_folder(path, codes=27):
  files.write_json(
    path / seal.NAME, {'linguistic_codes': codes, 'semantic_codes': 5}
  )
  return seal.identity(path)


def test_the_decoders_own_tokenizer_is_found(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  own = tokenizer_folder(pathlib.Path('mine/tokenizer'))
  other = tokenizer_folder(pathlib.Path('other'), 64)
  assert own['sha256'] != other['sha256']
  monkeypatch.setenv('STEP_AUDIO_TOKENIZER', 'other')
  lazily = speak._Lazy(Flags, decoder(own))
  assert lazily.folder() == 'mine/tokenizer'
  assert lazily.code_counts() == (27, 5)
  # It was trained again meanwhile: what is named instead must be the same.
  tokenizer_folder(pathlib.Path('mine/tokenizer'), 32)
  assert lazily.folder() == 'other'
  with pytest.raises(errors.UserError, match=r'other .*mine/tokenizer'):
    lazily.code_counts()


def test_the_seal_is_its_content(tmp_path):
  one = tokenizer_folder(tmp_path / 'a')
  files.write_json(tmp_path / 'b/dual.json', {'linguistic_codes': 27})
  path = tmp_path / 'c/dual.json'
  path.parent.mkdir()
  path.write_text('{"semantic_codes":5,"linguistic_codes":27}')
  assert seal.identity(tmp_path / 'c')['sha256'] == one['sha256']
  assert seal.identity(tmp_path / 'b')['sha256'] != one['sha256']


def test_an_evaluation_compares_before_it_scores(tmp_path, monkeypatch):
  run, codes = tmp_path / 'run', tmp_path / 'codes'
  mine = {
    'text_model': 'a.model', 'text_size': 90, 'table_size': 5210,
    'linguistic_size': 1024, 'semantic_size': 4096, 'pieces_sha256': 'a',
  }  # fmt: skip
  told = {'vocabulary': mine, 'speech_tokenizer': ONE}
  files.write_json(run / 'config.json', told)
  files.write_json(codes / 'stats.json', {'tokenizer_sha256': ONE['sha256']})
  origins.check(run, codes=str(codes))

  files.write_json(codes / 'stats.json', {'tokenizer_sha256': TWO['sha256']})
  with pytest.raises(errors.UserError, match='codes: its codes'):
    origins.check(run, codes=str(codes))

  config = tmp_path / 'decoder/config.json'
  settings = sound.SoundConfig(str(config.parent), str(tmp_path / 'none'))
  files.write_json(config, {'speech_tokenizer': ONE})
  origins.check(run, sound=settings)
  files.write_json(config, {'speech_tokenizer': TWO})
  with pytest.raises(errors.UserError, match='runs/one.*runs/two'):
    origins.check(run, sound=settings)

  source = types.SimpleNamespace(
    folder='rows/asr/dev', vocabulary=mine, tokenizer=ONE, speech=True
  )
  monkeypatch.setattr(origins, '_sources', lambda *_: [source])
  origins.check(run, rows='rows')
  for field, value in (
    ('tokenizer', TWO), ('vocabulary', {**mine, 'pieces_sha256': 'b'}),
  ):  # fmt: skip
    other = types.SimpleNamespace(**{**vars(source), field: value})
    monkeypatch.setattr(origins, '_sources', lambda *_, o=other: [o])
    with pytest.raises(errors.UserError, match='rows/asr/dev: its'):
      origins.check(run, rows='rows')
