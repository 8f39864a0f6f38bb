"""Python files and gin files that cannot be read: one sentence, of the file."""

import sys

import pytest

from data_pipelines import __main__ as data_doors
from data_pipelines.tasks import modules
from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.commands import gin_files

# Bytes of a Python file → its line or none, and what is said.
BROKEN = {
  'coding': (b'# coding: nope\n', '', ' (unknown encoding: nope).'),
  'null': (b'x = 1\0\n', '', ' (source code string cannot contain null bytes)'),
  'syntax': (b'\nx = (\n', ':2', ": x = ( ('(' was never closed)."),
  'indent': (b'x = 1\n  y = 2\n', ':2', ': y = 2 (unexpected indent).'),
  'no UTF-8': (b'x = "\xff"\n', ':1', 'unicode error'),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', [str(tmp_path), *sys.path])
  known = set(sys.modules)
  yield tmp_path
  for name in set(sys.modules) - known:
    if str(tmp_path) in str(getattr(sys.modules[name], '__file__', '')):
      del sys.modules[name]


def refused(function, *arguments):
  with pytest.raises(errors.UserError) as info:
    function(*arguments)
  assert '\n' not in str(info.value) and len(str(info.value)) < 700
  return str(info.value)


@pytest.mark.parametrize('raw, line, said', BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize('how', ['gin', 'binding', 'module'])
@pytest.mark.parametrize('through', [False, True])
def test_a_python_file_is_named(folder, raw, line, said, how, through):
  (folder / 'broken_one.py').write_bytes(raw)
  (folder / 'over.py').write_text('\nimport broken_one\n')
  name = 'over' if through else 'broken_one'
  (folder / 'mine.gin').write_text(f'import {name}\n')
  if how == 'gin':
    told = refused(gin_files.parse, ['mine.gin'], [])
  elif how == 'binding':
    told = refused(gin_files.parse, [], [f'import {name}'])
  else:
    told = refused(modules.import_all, [name])
  where = folder / 'broken_one.py'
  assert told.startswith(f'{where}{line}: not Python syntax') and said in told


def test_a_text_that_a_module_evaluates_is_told_by_its_line(folder):
  (folder / 'evaluating.py').write_text('x = 1\neval("1 +")\n')
  told = refused(modules.import_all, ['evaluating'])
  assert told.startswith(f'{folder}/evaluating.py:2: not Python syntax (')


def test_other_faults_of_a_module_are_its_own(folder):
  (folder / 'raising.py').write_text("int('x')\n")
  with pytest.raises(ValueError, match='invalid literal'):
    modules.import_all(['raising'])


def test_a_door_answers_with_one_sentence(folder, capsys):
  (folder / 'broken_two.py').write_text('x = (\n')
  argv = ['data_pipelines', 'build', '--output=rows', '--gin.LENGTH=32']
  argv += ['--gin_file=gin/pretrain/rows.gin', "--gin.MODULES=['broken_two']"]
  assert cli.dispatch('data_pipelines', data_doors.DOORS, argv) == 2
  (told,) = capsys.readouterr().err.strip().splitlines()
  assert told.startswith(f'error: {folder}/broken_two.py:1: not Python syntax')


@pytest.mark.parametrize(
  'line',
  [
    'from __gin__ import dynamic_registration as x',
    'from __gin__ import nothing',
    'import os\nfrom __gin__ import dynamic_registration',
    'A = = 1',
    '  A = 1\n B = 1',
  ],
)
def test_gin_text_is_no_python(folder, line):
  (folder / 'mine.gin').write_text(f'{line}\n')
  told = refused(gin_files.parse, ['mine.gin'], [])
  assert told.startswith('mine.gin: not gin syntax in line ')


def test_a_file_that_includes_itself_is_told(folder):
  (folder / 'one.gin').write_text("include 'one.gin'\n")
  assert refused(gin_files.parse, ['one.gin'], []) == (
    'one.gin: includes itself.'
  )
  (folder / 'a.gin').write_text("include './b.gin'\n")
  (folder / 'b.gin').write_text(f"include '{folder}/a.gin'\n")
  for _ in range(2):  # nothing is left open
    told = refused(gin_files.parse, ['a.gin'], [])
    assert told == 'a.gin: includes itself by way of ./b.gin.'
  (folder / 'b.gin').write_text('')
  (folder / 'twice.gin').write_text("include 'a.gin'\ninclude 'b.gin'\n")
  gin_files.parse(['twice.gin', 'twice.gin'], [])


def test_a_message_of_gin_is_cut(folder):
  (folder / '0.gin').write_text(f'import {"a." * 900}a\n')
  assert refused(gin_files.parse, ['0.gin'], []).endswith(' ….')


@pytest.mark.parametrize(
  'line, expected',
  [
    ("include f'x.gin'", "expected include 'FILE'"),
    ('A = hello', 'expected a plain value, @reference or %MACRO'),
  ],
)
@pytest.mark.parametrize('above', ['', '# of step_audio_jax\n'])
def test_what_is_no_literal_is_told(folder, line, expected, above):
  (folder / 'mine.gin').write_text(f'{above}{line}\n')
  number = 2 if above else 1
  assert refused(gin_files.parse, ['mine.gin'], []) == (
    f'mine.gin: not gin syntax in line {number}: {line}, {expected}.'
  )


@pytest.mark.parametrize('text', ['A = 1\nB = %A\n', '# step_audio_jax\n'])
def test_a_mark_of_the_byte_order_is_no_text(folder, text):
  (folder / 'mine.gin').write_text(text, 'utf-8-sig')
  gin_files.parse(['mine.gin'], [], lint=False)
  gin_files.bindings('\ufeff' + text)


def test_a_definition_after_the_mark_is_found(folder):
  (folder / 'mine.gin').write_text('LOST = 1\n', 'utf-8-sig')
  (folder / 'top.gin').write_text("include 'mine.gin'\n")
  told = refused(gin_files.parse, ['top.gin'], [])
  assert told == 'mine.gin: nothing reads the macro LOST.'
