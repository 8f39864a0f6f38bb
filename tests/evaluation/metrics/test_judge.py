"""An outside ear: where it is found, what is refused, how texts compare."""

import hashlib
import importlib.util
import sys
import types

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.evaluation.metrics import judge
from step_audio_jax.evaluation.metrics import judge_folder
from tests.evaluation import ear

PACKAGES = 'package:ear-one+ear-two'
REST = {name: ear.FILES[name] for name in ear.FILES if name != 'model.bin'}
PIECES = ear.FILES['model.bin'][:25], ear.FILES['model.bin'][25:]


def test_a_folder_is_found_by_its_path(tmp_path):
  folder = ear.write_folder(tmp_path / 'base')
  place = judge_folder.locate(str(folder))
  assert (place.folder, place.name) == (folder, 'base')


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'model': None}, r'base: model\.bin not found'),
    ({'tokenizer': None, 'config': None}, r'config\.json, tokenizer\.json not'),
    ({'vocabulary': None}, r'vocabulary\.json or vocabulary\.txt not found'),
    ({'model': b'PK\3\4 and more of it'}, 'found no Whisper model of CTransl'),
    ({'model': ear.HEAD[:9]}, 'found no Whisper model of CTranslate2'),
    ({'model': b''}, 'found no Whisper model of CTranslate2'),
    ({'tokenizer': b'{"a"'}, r'judge: .*tokenizer\.json: not valid JSON'),
    ({'config': b'[]'}, r'base: config\.json: found no JSON object'),
  ],
)
def test_what_is_no_judge_is_refused(tmp_path, changes, message):
  folder = ear.write_folder(tmp_path / 'base', **changes)
  with pytest.raises(errors.UserError, match=message) as told:
    judge_folder.locate(str(folder))
  assert '\n' not in str(told.value)
  assert not isinstance(told.value, judge.NotInstalledError)


def test_settings_of_sound_that_are_none_are_refused(tmp_path):
  folder = ear.write_folder(tmp_path / 'base')
  (folder / 'preprocessor_config.json').write_text('[1]')
  with pytest.raises(errors.UserError, match='preprocessor_config.*no JSON ob'):
    judge_folder.locate(str(folder))


def test_a_folder_that_is_not_there(tmp_path):
  with pytest.raises(errors.UserError, match='no such folder'):
    judge_folder.locate(str(tmp_path / 'base'))


def test_another_digest_is_refused(tmp_path):
  place = judge_folder.locate(str(ear.write_folder(tmp_path / 'base')))
  judge_folder.check_model(place, 'ab' * 32, None)
  judge_folder.check_model(place, 'ab' * 32, 'AB' * 32)
  with pytest.raises(errors.UserError, match='SHA-256 abab.*expected cdcd'):
    judge_folder.check_model(place, 'ab' * 32, 'cd' * 32)


@pytest.fixture
def site(tmp_path, monkeypatch):
  """A place where packages are installed."""
  folder = tmp_path / 'site'
  folder.mkdir()
  monkeypatch.syspath_prepend(str(folder))
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  return folder


def install(site, one=None, two=None):
  ear.install(
    site, 'ear_one', {'model.bin.part1': PIECES[0], **REST, **(one or {})}
  )
  ear.install(site, 'ear_two', two or {'model.bin.part2': PIECES[1]})


def test_packages_become_one_folder_and_are_not_imported(site, tmp_path):
  install(site)
  place = judge_folder.locate(PACKAGES)
  assert place.name == 'ear-one 1.0 + ear-two 1.0'
  assert place.folder.is_relative_to(tmp_path / 'cache')
  found = {path.name: path.read_bytes() for path in place.folder.iterdir()}
  assert found == ear.FILES
  assert not {'ear_one', 'ear_two'} & set(sys.modules)
  # The second time nothing is copied; the order of packages is no matter.
  before = (place.folder / 'model.bin').stat().st_mtime_ns
  again = judge_folder.locate('package:ear-two+ear-one')
  assert again.folder == place.folder
  assert (again.folder / 'model.bin').stat().st_mtime_ns == before
  elsewhere = judge_folder.locate(PACKAGES, str(tmp_path / 'mine'))
  assert elsewhere.folder.parent == tmp_path / 'mine'


def test_packages_that_are_not_installed(site):
  for model in (PACKAGES, 'package:ear-one'):
    with pytest.raises(judge.NotInstalledError, match='ear-one is not install'):
      judge_folder.locate(model)
  with pytest.raises(errors.UserError, match='expected package:NAME'):
    judge_folder.locate('package:ear-one+')


def test_half_of_the_packages(site):
  install(site)
  with pytest.raises(errors.UserError, match=r'model\.bin\.part2 not found'):
    judge_folder.locate('package:ear-one')
  with pytest.raises(errors.UserError, match=r'model\.bin\.part1 not found'):
    judge_folder.locate('package:ear-two')


def test_a_package_that_was_changed_leaves_nothing(site, tmp_path):
  install(site)
  path = site / 'ear_two' / 'data' / 'model.bin.part2'
  path.write_bytes(PIECES[1][:-1])
  with pytest.raises(
    errors.UserError, match='part2: found SHA-256 .*installed'
  ):
    judge_folder.locate(PACKAGES)
  assert not [p for p in (tmp_path / 'cache').rglob('*') if p.is_file()]
  path.write_bytes(PIECES[1])
  judge_folder.locate(PACKAGES)


def test_packages_that_contradict_each_other(site):
  install(site, two={'model.bin.part2': PIECES[1], 'config.json': b'{"a": 1}'})
  with pytest.raises(errors.UserError, match=r'different files config\.json'):
    judge_folder.locate(PACKAGES)


def test_packages_without_a_judge_leave_nothing(site, tmp_path):
  ear.install(site, 'ear_one', {'readme.txt': b'nothing'})
  said = 'judge: package:ear-one: model.bin, config.json, token'
  with pytest.raises(errors.UserError, match=said):
    judge_folder.locate('package:ear-one')
  ear.install(site, 'ear_two', {**ear.FILES, 'model.bin': b'of another kind'})
  said = 'judge: package:ear-two: model.bin: found no Whisper'
  with pytest.raises(errors.UserError, match=said):
    judge_folder.locate('package:ear-two')
  assert not (tmp_path / 'cache').exists()


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'model': ''}, 'model is empty'),
    ({'beam': 0}, 'beam 0'),
    ({'utterances': -1}, 'utterances is -1'),
    ({'fold': ('case',)}, "fold has 'case', expected some of punctuation"),
  ],
)
def test_bad_settings(settings, message):
  with pytest.raises(errors.UserError, match=message):
    judge.JudgeConfig(**{'model': 'x', **settings})


def test_without_the_library(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(judge.NotInstalledError, match="the extra 'judge'"):
    judge.check_library()
  with pytest.raises(errors.UserError, match='opencc-python-reimplemented'):
    judge.fold_text('媽', 'zh', ('simplified',))


class Whisper:
  """The library's class, as far as it is used."""

  supported_languages = ['en', 'zh']

  def __init__(self, path, **settings):
    if 'broken' in path:
      # The tokenizers library raises this one.
      raise Exception('File model.bin\nis incomplete')
    self.path, self.settings, self.asked = path, settings, None
    known = {} if 'foreign' in path else {'<|startoftranscript|>': 7}
    self.hf_tokenizer = types.SimpleNamespace(token_to_id=known.get)

  def transcribe(self, wave, **asked):
    self.asked = asked
    if not len(wave):
      raise IndexError('list index\nout of range')
    assert wave.dtype == np.float32
    pieces = (types.SimpleNamespace(text=text) for text in (' A red', ' cat.'))
    return pieces, None


@pytest.fixture
def library(monkeypatch):
  monkeypatch.setattr(judge, 'check_library', lambda: None)
  module = types.SimpleNamespace(WhisperModel=Whisper)
  monkeypatch.setitem(sys.modules, 'faster_whisper', module)


def test_nothing_is_fetched_and_nothing_is_prompted(library, tmp_path):
  place = judge_folder.Place(tmp_path, 'x')
  found = judge.Judge(place, judge.JudgeConfig('x', beam=3))
  model = found._model
  assert found.hear(np.zeros(9), 'en') == 'A red cat.'
  assert found.languages == {'en', 'zh'}
  assert model.path == str(tmp_path) and model.settings['local_files_only']
  assert model.asked['beam_size'] == 3 and model.asked['language'] == 'en'
  assert model.asked['temperature'] == 0.0
  assert not {'initial_prompt', 'prefix', 'hotwords'} & set(model.asked)


def test_a_model_that_breaks_off_is_one_sentence(library, tmp_path):
  place = judge_folder.Place(tmp_path / 'broken', 'x')
  with pytest.raises(errors.UserError, match='File model.bin is incomplete'):
    judge.Judge(place, judge.JudgeConfig('x'))


def test_files_that_do_not_fit_are_one_sentence(library, tmp_path):
  place = judge_folder.Place(tmp_path / 'foreign', 'x')
  with pytest.raises(errors.UserError, match='tokenizer.json: found no token'):
    judge.Judge(place, judge.JudgeConfig('x'))
  place = judge_folder.Place(tmp_path / 'whole', 'x')
  found = judge.Judge(place, judge.JudgeConfig('x'))
  with pytest.raises(errors.UserError, match=r'whole: .* \(list index out of'):
    found.hear(np.zeros(0), 'en')


@pytest.mark.parametrize(
  'text, language, folds, expected',
  [
    ('A cat, red.', 'en', (), 'A cat, red.'),
    ('A cat, red.', 'en', ('punctuation',), 'A cat  red '),
    ("It's (5) well-known", 'en', ('punctuation',), 'Its  5  well known'),
    ('我有3只、两条。', 'zh', ('punctuation', 'numbers'), '我有三只 二条 '),
    ('10 12 20 105 1010 2026', 'zh', ('numbers',),
     '十 十二 二十 一百零五 一千零一十 二千零二十六'),
    ('3 cats, 两', 'en', ('numbers',), '3 cats, 两'),
  ],
)  # fmt: skip
def test_only_what_is_declared_is_folded(text, language, folds, expected):
  assert judge.fold_text(text, language, folds) == expected


def test_traditional_characters(monkeypatch):
  opencc = types.SimpleNamespace(
    OpenCC=lambda kind: types.SimpleNamespace(
      convert=lambda text: text.replace('媽', '妈')
    )
  )
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: name)
  monkeypatch.setitem(sys.modules, 'opencc', opencc)
  assert judge.fold_text('媽', 'zh-TW', ('simplified',)) == '妈'
  assert judge.fold_text('媽', 'ja', ('simplified',)) == '媽'


def test_what_stands_beside_a_figure():
  digest = hashlib.sha256(b'x').hexdigest()
  sums = {'model.bin': digest, 'config.json': 'ab'}
  config = judge.JudgeConfig('x', beam=7, fold=('punctuation', 'simplified'))
  told = judge.describe(judge.convention(config, 'base', sums))
  assert told == (
    f'base (Whisper, SHA-256 {digest[:12]}), beam 7, float32 on cpu, language '
    'told, no prompt, no grammar; texts compared as plain 2, without '
    'punctuation, Mandarin in simplified characters'
  )
