"""Voices by path and by package, pinned or not, and when they are missing."""

import json
import sys

import pytest

from data_pipelines import __main__ as doors
from data_pipelines.synthesis.voices import catalogue
from data_pipelines.synthesis.voices import runtime
from data_pipelines.synthesis.voices import sources
from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.storage import digests
from tests.data_pipelines.synthesis.voices import tiny

CARD = '# Model card\n\n* URL: https://example.org/voices\n* License: CC0\n'


@pytest.fixture
def package(tmp_path, monkeypatch):
  """An installed package `tiny-voice` whose code must not run."""
  site = tmp_path / 'site'
  data = site / 'tiny_voice' / 'data'
  tiny.write(data)
  (data.parent / '__init__.py').write_text('raise SystemExit("it ran")')
  about = site / 'tiny_voice-1.2.dist-info'
  about.mkdir()
  (about / 'METADATA').write_text(
    'Metadata-Version: 2.4\nName: tiny-voice\nVersion: 1.2\n'
    'License-Expression: MIT\n'
  )
  names = ('__init__.py', 'data/tiny.onnx', 'data/tiny.onnx.json')
  (about / 'RECORD').write_text(''.join(f'tiny_voice/{n},,\n' for n in names))
  monkeypatch.syspath_prepend(str(site))
  return data


def test_a_voice_of_a_package(package):
  found = sources.find('package:tiny-voice')
  assert (found.model, found.licence) == (package / 'tiny.onnx', 'MIT')
  assert found.origin == 'tiny-voice==1.2'
  assert 'tiny_voice' not in sys.modules
  (package / 'MODEL_CARD').write_text(CARD)
  found = sources.find('package:tiny-voice')
  assert found.licence == 'CC0'
  assert found.origin == 'tiny-voice==1.2; https://example.org/voices'


def test_a_voice_by_path(tmp_path):
  path = tiny.write(tmp_path / 'voice')
  found = sources.find(str(path))
  assert (found.model, found.licence) == (path, sources.NOT_STATED)
  assert sources.find(str(path.parent)).files == found.files
  before = found.sha256
  (tmp_path / 'voice/tiny.onnx.json').write_text('{}')
  assert sources.find(str(path)).sha256 != before


def test_the_digest_is_that_of_the_model(tmp_path, package):
  path = tiny.write(tmp_path / 'voice')
  digest = digests.of_file(path)
  for where in (path, 'package:tiny-voice'):
    found = sources.find(f'{where}@sha256:{digest}')
    assert found.files['tiny.onnx'] == digest
    with pytest.raises(errors.UserError, match='has the digest .*, expected 0'):
      sources.find(f'{where}@sha256:{"0" * 64}')
  with pytest.raises(errors.UserError, match='a digest that is none'):
    sources.find(f'{path}@sha256:12')


def test_what_is_no_voice_is_told(tmp_path):
  path = tiny.write(tmp_path / 'voice')
  for where, said in (
    ('nowhere.onnx', 'no such voice'),
    (tmp_path, 'found 0 .onnx files'),
    ('package:pytest', 'found 0 .onnx files'),
    ('package:no-such-voice', 'pip install no-such-voice'),
    ('package:', "--voice: found 'package:', expected"),
    ('', "--voice: found '', expected"),
  ):
    with pytest.raises(errors.UserError, match=said):
      sources.find(str(where))
  tiny.write(tmp_path / 'voice', 'other.onnx')
  with pytest.raises(errors.UserError, match='found 2 .onnx files'):
    sources.find(str(path.parent))
  (tmp_path / 'voice/tiny.onnx.json').unlink()
  with pytest.raises(errors.UserError, match='tiny.onnx.json is missing'):
    sources.find(str(path))


def test_an_optional_voice_that_is_missing_is_noted(tmp_path, monkeypatch):
  path = tiny.write(tmp_path)
  monkeypatch.setitem(sys.modules, 'onnxruntime', None)
  with pytest.raises(runtime.Missing, match='onnxruntime is not installed'):
    catalogue.load_all([str(path)])
  voices, notes = catalogue.load_all([], [str(path), 'package:no-such-voice'])
  assert not voices and len(notes) == 2
  assert all('espeak-ng speaks instead' in note for note in notes)
  # What is there and wrong is never passed over.
  path.write_bytes(b'no model')
  with pytest.raises(errors.UserError, match='not a whole ONNX'):
    catalogue.load_all([], [str(path)])


def test_the_flag_that_named_nothing_is_told():
  for named in ('', 'package:'):
    with pytest.raises(errors.UserError, match='^--voice: found'):
      catalogue.load_all([named])
    with pytest.raises(errors.UserError, match='^--optional_voice: found'):
      catalogue.load_all([], [named])


def test_a_voice_that_would_say_nothing_is_told(tmp_path, monkeypatch):
  monkeypatch.setattr(runtime, 'require', lambda: None)
  path = str(tiny.write(tmp_path, espeak={'voice': 'de'}))
  why = 'it speaks de, the corpus needs en or zh'
  with pytest.raises(errors.UserError, match=f'--voice: {path}: {why}'):
    catalogue.load_all([path], languages=('en', 'zh'))
  voices, notes = catalogue.load_all([], [path], ('en', 'zh'))
  assert not voices
  assert notes == [f'{path} is not used, espeak-ng speaks instead: {why}.']
  assert len(catalogue.load_all([path])[0]) == 1
  argv = ['d', 'synthesize', f'--output={tmp_path}/x', '--dry_run']
  assert cli.dispatch('d', doors.DOORS, [*argv, f'--voice={path}']) == 2
  # English alone is wanted, and the voice speaks Mandarin.
  path = str(tiny.write(tmp_path, espeak={'voice': 'cmn'}))
  argv += ['--english_share=1', f'--voice={path}']
  assert cli.dispatch('d', doors.DOORS, argv) == 2


def test_the_door(tmp_path, capsys, monkeypatch):
  argv = ['data_pipelines', 'synthesize', f'--output={tmp_path}/x', '--dry_run']
  assert (
    cli.dispatch('d', doors.DOORS, [*argv, '--voice=package:no-such-voice'])
    == 2
  )
  told = capsys.readouterr().err.strip()
  assert told.startswith('error: ') and len(told.splitlines()) == 1
  optional = '--optional_voice=package:no-such-voice'
  assert cli.dispatch('d', doors.DOORS, [*argv, optional, '--json']) == 0
  out, err = capsys.readouterr()
  assert 'note: package:no-such-voice is not used' in err
  assert json.loads(out.splitlines()[-1])['utterances'] == 1760
