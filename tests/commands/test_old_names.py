"""Old names of modules: one sentence to a user, nothing to a run's own text."""

import importlib
import os
import sys

import gin
import pytest

from data_pipelines import __main__ as data_doors
from step_audio_jax import __main__ as doors
from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.commands import gin_files
from step_audio_jax.commands import old_names
from step_audio_jax.decoder.flow import feed as flow_feed
from step_audio_jax.decoder.vocoder import feed as wave_feed
from step_audio_jax.models.language import transformer
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.text import vocabularies

DYNAMIC = 'from __gin__ import dynamic_registration\n'

# Lines after the first → line that is told, old name, what is to be written.
OLD = {
  'moved': (
    'from step_audio_jax.models import transformer\n'
    'transformer.TransformerConfig.width = 8',
    (2, 'step_audio_jax.models.transformer'),
    '"from step_audio_jax.models.language import transformer"',
  ),
  'renamed': (
    '\nfrom step_audio_jax.decoder import wave_feed\n'
    'wave_feed.WaveFeed.batch_size = 8',
    (3, 'step_audio_jax.decoder.wave_feed'),
    '"from step_audio_jax.decoder.vocoder import feed as wave_feed"',
  ),
  'alias': (
    'from step_audio_jax.decoder import wave_feed as waves',
    (2, 'step_audio_jax.decoder.wave_feed'),
    '"from step_audio_jax.decoder.vocoder import feed as waves"',
  ),
  'plain': (
    'import step_audio_jax.decoder.flow_feed\n'
    'step_audio_jax.decoder.flow_feed.FlowFeed.batch_size = 8',
    (2, 'step_audio_jax.decoder.flow_feed'),
    '"import step_audio_jax.decoder.flow.feed"',
  ),
  'package': (
    'from step_audio_jax.training import optimizers\n'
    'from step_audio_jax.training import objectives  # a package today\n'
    'T = @objectives.NextToken()',
    (3, 'step_audio_jax.training.objectives'),
    '"from step_audio_jax.training.objectives import objectives"',
  ),
  'package, in a scope and a block': (
    'from step_audio_jax.decoder import flow\nmine/flow.Flow:\n  width = 1',
    (2, 'step_audio_jax.decoder.flow'),
    '"from step_audio_jax.decoder.flow import offline as flow"',
  ),
  'plain package': (
    'import step_audio_jax.models.flow\n'
    'step_audio_jax.models.flow.FlowConfig.x = 1',
    (3, 'step_audio_jax.models.flow'),
    '"import step_audio_jax.models.flow.flow" and '
    '"step_audio_jax.models.flow.flow"',
  ),
  'function': (
    'from step_audio_jax import vocabulary\n'
    'VOCABULARY = @vocabulary.load()\n'
    "vocabulary.load.text_model = 'text.model'",
    (3, 'step_audio_jax.vocabulary.load'),
    '"from step_audio_jax.tokenizers.text import vocabularies" and '
    '"vocabularies.load"',
  ),
  'binding alone': (
    'from step_audio_jax.decoder.vocoder import feed\n'
    'wave_feed.WaveFeed.batch_size = 8',
    (3, 'step_audio_jax.decoder.wave_feed'),
    '"feed.WaveFeed.batch_size"',
  ),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """A working directory that Python imports from, as `python -m` has it."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', [str(tmp_path), *sys.path])
  known = set(sys.modules)
  yield tmp_path
  for name in set(sys.modules) - known:
    if str(tmp_path) in str(getattr(sys.modules[name], '__file__', '')):
      del sys.modules[name]


def refused(files, bindings=()):
  with pytest.raises(errors.UserError) as info:
    gin_files.parse(files, bindings)
  assert '\n' not in str(info.value)
  return str(info.value)


@pytest.mark.parametrize('text, place, write', OLD.values(), ids=OLD.keys())
@pytest.mark.parametrize('how', ['file', 'include', 'include of an include'])
def test_a_gin_file_is_told_what_to_write(folder, text, place, write, how):
  (folder / 'mine.gin').write_text(DYNAMIC + text + '\n')
  (folder / 'above.gin').write_text("include 'mine.gin'\n")
  (folder / 'top.gin').write_text("include 'above.gin'\n")
  names = {'file': 'mine.gin', 'include': 'above.gin'}
  told = refused([names.get(how, 'top.gin')])
  line, old = place
  assert told.startswith(f'mine.gin:{line}: {old} is now ')
  assert told.endswith(f'; write {write}.')


@pytest.mark.parametrize(
  'binding, old, write',
  [
    (
      'wave_feed.WaveFeed.batch_size = 8',
      'step_audio_jax.decoder.wave_feed',
      'feed.WaveFeed.batch_size',
    ),
    (
      'scope/decoder.wave_feed.WaveFeed.batch_size = 8',
      'step_audio_jax.decoder.wave_feed',
      'feed.WaveFeed.batch_size',
    ),
    (
      'step_audio_jax.models.transformer.TransformerConfig.width = 8',
      'step_audio_jax.models.transformer',
      'transformer.TransformerConfig.width',
    ),
    (
      'FEED = @flow_feed.FlowFeed()',
      'step_audio_jax.decoder.flow_feed',
      'feed.FlowFeed',
    ),
    (
      "vocabulary.load.text_model = 'text.model'",
      'step_audio_jax.vocabulary.load',
      'vocabularies.load.text_model',
    ),
    (
      'import step_audio_jax.models.transformer',
      'step_audio_jax.models.transformer',
      'import step_audio_jax.models.language.transformer',
    ),
  ],
)
def test_a_flag_is_told_what_to_write(binding, old, write):
  told = refused([], [binding])
  flag = '--gin_bindings' if '=' not in binding else '--gin.'
  assert told.startswith(flag) and f': {old} is now ' in told
  assert told.endswith(f'; write "{write}".')


@pytest.mark.parametrize(
  'binding',
  ['nothing.WaveFeed.x = 1', 'wave_feed.Nothing.x = 1', 'vision.Nothing.x = 1'],
)
def test_what_never_was_is_no_old_name(binding):
  assert ' is now ' not in refused([], [binding])


@pytest.mark.parametrize(
  'text',
  [
    'from step_audio_jax.models.language import transformer\n'
    'transformer.TransformerConfig.width = 8',
    # A package for its modules, and one for nothing.
    'import step_audio_jax.decoder.flow.feed\n'
    'from step_audio_jax.decoder import flow\n'
    'from step_audio_jax.training import objectives\n'
    'flow.feed.FlowFeed.batch_size = 8',
    # No names of modules.
    'from step_audio_jax.models.language import transformer\n'
    '# from step_audio_jax.models import transformer\n'
    "transformer.TransformerConfig.dtype = 'step_audio_jax.files.x'",
  ],
)
def test_new_names_are_no_old_ones(folder, text):
  (folder / 'mine.gin').write_text(DYNAMIC + text + '\n')
  gin_files.parse(['mine.gin'], [])


PYTHON = {
  'imported': ('from data_pipelines import corpora\n', 1, 'corpora'),
  'as module': ('\nimport data_pipelines.corpora as mine\n', 2, 'corpora'),
  'of a package': ('from data_pipelines.rows import Rows\n', 1, 'rows.Rows'),
  'package': (
    'from data_pipelines import rows\nMINE = rows.Rows\n', 1, 'rows',
  ),
  'in a function': (
    'def mine():\n  from data_pipelines import rows\n  return rows.Rows\n',
    2,
    'rows',
  ),
  'in another module': ('import theirs\n', 1, 'records_of'),
}  # fmt: skip


@pytest.mark.parametrize('text, line, old', PYTHON.values(), ids=PYTHON.keys())
@pytest.mark.parametrize('how', ['flag', 'gin', 'import'])
def test_a_python_module_is_told_what_to_write(
  folder, capsys, text, line, old, how
):
  (folder / 'my_corpora.py').write_text(text)
  if old == 'records_of':
    (folder / 'theirs.py').write_text('from data_pipelines import encoding\n')
    old = 'encoding'
  argv = ['data_pipelines', 'build', '--output=rows']
  if how == 'flag':
    argv.append('--module=my_corpora')
  elif how == 'gin':
    argv += [
      '--gin_file=gin/pretrain/rows.gin',
      "--gin.MODULES=['my_corpora']",
      '--gin.LENGTH=32',
    ]
  else:
    (folder / 'mine.gin').write_text(f'{DYNAMIC}import my_corpora\n')
    argv.append('--gin_file=mine.gin')
  assert cli.dispatch('data_pipelines', data_doors.DOORS, argv) == 2
  (told,) = capsys.readouterr().err.strip().splitlines()
  name = 'theirs' if old == 'encoding' else 'my_corpora'
  place = f'{name}.py:{line}: data_pipelines.{old} is now data_pipelines.'
  assert told.startswith('error: ') and place in told
  assert '; write "' in told


NEW_PYTHON = {
  'fallback': (
    'try:\n  from data_pipelines.tasks import corpora\n'
    'except ImportError:\n  from data_pipelines import corpora\n'
  ),
  'fallback of a name': (
    'try:\n  from data_pipelines.tasks.corpora import add_corpus\n'
    'except (AttributeError, ModuleNotFoundError):\n'
    '  from data_pipelines.corpora import add_corpus\n'
  ),
  'fallback, a package today': (
    'try:\n  from data_pipelines.rows import folders as rows\nexcept:\n'
    '  from data_pipelines import rows\n  rows.Rows\nrows.Rows\n'
  ),
  'the old one first': (
    'try:\n  from data_pipelines import corpora\n'
    'except ImportError:\n  from data_pipelines.tasks import corpora\n'
  ),
  'variable': (
    'from data_pipelines import rows\n'
    'def f():\n  rows = []\n  def g():\n    rows.append(1)\n  g()\n'
  ),
  'parameter': 'from data_pipelines import rows\nf = lambda rows: rows.Rows\n',
  'others that bind': (
    'from data_pipelines import rows\n'
    'a = [rows.Rows for rows in ()]\n'
    'def f(x, *rows):\n  return rows.Rows\n'
    'def g(x):\n  with x as (y, rows):\n    rows.Rows\n'
    'def h(x):\n  try:\n    x()\n  except E as rows:\n    rows.Rows\n'
    'class A:\n  rows = 1\n  rows.Rows\n'
    'def i(x):\n  match x:\n    case {"a": rows}:\n      rows.Rows\n'
  ),
  'imported elsewhere': (
    'rows = []\ndef f():\n  from data_pipelines import rows\nrows.append\n'
  ),
}

OLD_PYTHON = {
  'no fallback': (
    'try:\n  import os\nexcept ImportError:\n'
    '  from data_pipelines import corpora\n',
    4,
  ),
  'another exception': (
    'try:\n  from data_pipelines.tasks import corpora\n'
    'except KeyError:\n  from data_pipelines import corpora\n',
    4,
  ),
  'a package first': (
    'try:\n  from data_pipelines import rows\nexcept ImportError:\n'
    '  from data_pipelines.rows import folders\nrows.Rows\n',
    2,
  ),
  'a variable of a class, in a function': (
    'from data_pipelines import rows\n'
    'class A:\n  rows = 1\n  def f(self):\n    rows.Rows\n',
    1,
  ),
  'a variable elsewhere': (
    'from data_pipelines import rows\ndef f():\n  rows = 1\nrows.Rows\n',
    1,
  ),
  'a default': (
    'from data_pipelines import rows\ndef f(rows=rows.Rows):\n  pass\n',
    1,
  ),
  'a global one': (
    'from data_pipelines import rows\n'
    'def f():\n  global rows\n  rows = rows.Rows\n',
    1,
  ),
}


@pytest.mark.parametrize('text', NEW_PYTHON.values(), ids=NEW_PYTHON.keys())
def test_python_that_works_today_is_accepted(text):
  assert not old_names.in_python(text).faults()


@pytest.mark.parametrize('text, line', OLD_PYTHON.values(), ids=OLD_PYTHON)
def test_python_that_fails_today_is_told(text, line):
  assert [number for number, _ in old_names.in_python(text).faults()] == [line]


def test_an_old_name_one_module_further_is_told(folder):
  (folder / 'mine').mkdir()
  (folder / 'mine' / 'helper.py').write_text(
    'from step_audio_jax.training import objectives\n'
    'def make():\n  return objectives.NextToken()\n'
  )
  (folder / 'mine' / 'top.py').write_text(
    'from mine import helper\ndef make():\n  return helper.make()\n'
    'def door(value):\n  return value\n'
  )
  (folder / 'mine.gin').write_text(
    f'{DYNAMIC}from mine import top\ntop.door.value = @top.make()\n'
  )

  door = importlib.import_module('mine.top').door
  with pytest.raises(errors.UserError) as info:
    gin_files.configure(['mine.gin'], [], door)()
  assert str(info.value).startswith(
    f'{folder}/mine/helper.py:1: step_audio_jax.training.objectives is now '
  )


def test_an_old_name_after_the_flag_is_told(folder, capsys):
  argv = ['data_pipelines', 'build', '--output=rows']
  argv.append('--module=data_pipelines.corpora')
  assert cli.dispatch('data_pipelines', data_doors.DOORS, argv) == 2
  told = capsys.readouterr().err
  assert 'data_pipelines.corpora is now data_pipelines.tasks.corpora' in told


def test_a_door_answers_with_one_sentence(folder, capsys):
  text, (line, _), write = OLD['package']
  (folder / 'mine.gin').write_text(DYNAMIC + text + '\n')
  argv = ['step_audio_jax', 'train', '--gin_file=mine.gin']
  assert cli.dispatch('step_audio_jax', doors.DOORS, argv) == 2
  (told,) = capsys.readouterr().err.strip().splitlines()
  assert told.startswith(f'error: mine.gin:{line}: ') and write in told


# As a run wrote it, with every kind of import.
WRITTEN = """from __gin__ import dynamic_registration
import data_pipelines.corpora as theirs
import step_audio_jax.decoder.wave_feed
import step_audio_jax.models.flow
from step_audio_jax.decoder import flow_feed as feed2
from step_audio_jax.models import transformer
from step_audio_jax.training import objectives
from step_audio_jax import vocabulary

# Macros:
# ==============================================================================
VOCABULARY = @vocabulary.load()

# Parameters for feed2.FlowFeed:
# ==============================================================================
feed2.FlowFeed.batch_size = 8
step_audio_jax.decoder.wave_feed.WaveFeed.batch_size = 7
step_audio_jax.models.flow.FlowConfig.token_rate = 6
objectives.NextToken.vocabulary = %VOCABULARY
a/transformer.TransformerConfig.dtype = 'transformer.TransformerConfig'
vocabulary.load.text_model = \\
    'step_audio_jax.vocabulary.load'
"""


def test_what_a_run_wrote_is_read_as_if_written_today():
  text = old_names.translated(WRITTEN)
  assert not old_names.in_gin(text).faults()
  found = gin_files.bindings(WRITTEN)
  assert found['', flow_feed.FlowFeed, 'batch_size'] == '8'
  assert found['', wave_feed.WaveFeed, 'batch_size'] == '7'
  dtype = found['a', transformer.TransformerConfig, 'dtype']
  assert dtype == "'transformer.TransformerConfig'"  # a string is no name
  model = found['', vocabularies.load, 'text_model']
  assert model == "'step_audio_jax.vocabulary.load'"
  assert old_names.translated(text) == text


@pytest.mark.parametrize('name', ['config.gin', 'operative_config.gin'])
def test_a_run_s_own_text_is_a_gin_file(folder, name):
  (folder / 'run' / 'checkpoints').mkdir(parents=True)
  (folder / 'run' / name).write_text(WRITTEN)
  (folder / 'mine.gin').write_text(f"include 'run/{name}'\n")
  gin_files.parse([f'run/{name}'], [])
  assert ' import feed as feed2' in gin_files.bound_text()
  before = gin_files.bindings()
  gin_files.parse(['mine.gin'], [])
  assert gin_files.bindings() == before
  # A copy is its owner's.
  os.rename(f'run/{name}', 'copy.gin')
  assert refused(['copy.gin']).startswith('copy.gin:2: ')


@pytest.mark.parametrize('mark', ['\f', '\x1c', '\u2028', '\x85', '\v'])
def test_a_comment_moves_no_name(mark):
  lines = f'# by {mark} hand\n'
  assert old_names.translated(lines + WRITTEN) == (
    lines + old_names.translated(WRITTEN)
  )


@pytest.mark.parametrize(
  'line, told',
  [
    ('A = (', 'in line 4: C = 1'),
    ('A = """', 'EOF in multi-line string'),
    ('A = 1 2', 'Expected newline'),
    ('  A = 1\n B = 2', 'unindent does not match'),
  ],
)
def test_a_fault_of_a_run_s_own_text_is_what_is_told(folder, line, told):
  (folder / 'run' / 'checkpoints').mkdir(parents=True)
  text = f'{DYNAMIC}import step_audio_jax.decoder.wave_feed\n{line}\nC = 1\n'
  (folder / 'run' / 'config.gin').write_text(text)
  said = refused(['run/config.gin'])
  assert said.startswith('run/config.gin: not gin syntax') and told in said
  assert ' is now ' not in said
  with pytest.raises(errors.UserError, match='not gin syntax'):
    gin_files.bindings(text, 'run/config.gin')


@pytest.mark.parametrize('text', ['a = (', 'x = $', '  \n x', '"""', '\\'])
def test_no_gin_text_has_no_names(text):
  assert old_names.translated(text) == text
  assert not old_names.in_python(text + '(((').imports


def test_gin_shows_its_own_errors_as_before(folder):
  (folder / 'mine.gin').write_text(f'{DYNAMIC}import nothing_of_the_kind\n')
  told = refused(['mine.gin'])
  assert told.startswith("mine.gin: No module named 'nothing_of_the_kind'")
  assert gin.config._FILE_READERS == [(old_names.open_gin, files.is_file)]
