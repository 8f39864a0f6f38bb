"""The doors: flags, help, gin bindings, exit statuses."""

import dataclasses
import json
import pathlib
import subprocess
import sys
import types

from absl import flags
import pytest

from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.commands import gin_files


@dataclasses.dataclass(frozen=True)
class Config:
  steps: int
  rate: float = 0.1
  name: str = 'a'

  def __post_init__(self):
    if self.rate < 0:
      raise errors.UserError(f'Config.rate is {self.rate}, expected >= 0.')


def train(config, *, extra=None):
  return {'config': dataclasses.asdict(config), 'extra': extra}


def broken(config):
  raise TypeError('a fault of the program')


def _define(fv):
  flags.DEFINE_string('out', None, 'Where to.', flag_values=fv, required=True)
  flags.DEFINE_enum('how', 'fast', ['fast', 'slow'], 'Pace.', flag_values=fv)
  flags.DEFINE_multi_string('arguments', [], 'Wav files.', flag_values=fv)


PLAIN = cli.Door(
  summary='Does it.',
  main=lambda fv: {
    'out': fv.out,
    'arguments': list(fv.arguments),
    'dry_run': fv.dry_run,
  },
  define=_define,
  uses_gin=False,
)
GIN = cli.Door(
  summary='Trains.', main=lambda fv: cli.configure(fv, train)(), define=_define
)

BASE = """
from __gin__ import dynamic_registration
import doors_for_tests as lib

STEPS = %gin.REQUIRED
RATE = 0.5

lib.Config:
  steps = %STEPS
  rate = %RATE
lib.train.config = @lib.Config()
lib.broken.config = 1
"""


@pytest.fixture
def gin_dir(tmp_path, monkeypatch):
  module = types.ModuleType('doors_for_tests')
  module.Config, module.train, module.broken = Config, train, broken
  monkeypatch.setitem(sys.modules, 'doors_for_tests', module)
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'base.gin').write_text(BASE)
  (tmp_path / 'run.gin').write_text("include 'base.gin'\nSTEPS = 3\n")
  yield tmp_path
  gin_files.parse([], [])  # or the next run of this process tells of it


def call(door, *argv):
  return cli.run('prog door', door, list(argv))


def error_of(capsys, door, *argv):
  """The one sentence that a bad call prints."""
  assert call(door, *argv) == 2
  out, err = capsys.readouterr()
  assert out == ''
  assert err.startswith('error: ')
  assert err.count('\n') == 1 and err.endswith('.\n')
  return err


def result_of(capsys, door, *argv):
  assert call(door, *argv, '--json') == 0
  return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_words_and_flags_mix(capsys):
  found = result_of(capsys, PLAIN, 'a.wav', '--out=x', 'b.wav', '--dry_run')
  assert found == {
    'out': 'x',
    'arguments': ['a.wav', 'b.wav'],
    'dry_run': True,
  }


def test_words_after_double_dash_are_kept_verbatim():
  fv = cli.parse('prog', PLAIN, ['--out=x', '--', '--gin.A=1', '--help'])
  assert fv.arguments == ['--gin.A=1', '--help']


def test_words_refused_where_none_are_taken(capsys):
  door = cli.Door(summary='', main=lambda fv: None)
  assert "unexpected argument 'x.wav'" in error_of(capsys, door, 'x.wav')


@pytest.mark.parametrize(
  ('argv', 'told'),
  [
    (['--out=x', '--outt=y'], "Unknown command line flag 'outt'"),
    (['--out=x', '--how=best'], '--how=best: value should be one of <fast|s'),
    (['--out=x', '--json=perhaps'], '--json=perhaps'),
    ([], '--out must have a value'),
  ],
)
def test_bad_flags(capsys, argv, told):
  assert told in error_of(capsys, PLAIN, *argv)


def test_flags_that_are_missing_are_told_in_one_line(capsys):
  def define(fv):
    for name in ('one', 'two'):
      flags.DEFINE_string(name, None, '', flag_values=fv)
    flags.mark_flags_as_required(['one', 'two'], flag_values=fv)

  door = cli.Door(summary='', main=lambda fv: None, define=define)
  assert cli.run('door', door, []) == 2
  error = capsys.readouterr().err
  assert '--one' in error and '--two' in error and error.count('\n') == 1


def test_help_lists_every_flag_even_when_required_ones_are_missing(capsys):
  assert call(GIN, '--help') == 0
  out = capsys.readouterr().out
  for flag in (
    '--arguments',
    '--[no]dry_run',
    '--gin_bindings',
    '--gin_file',
    '--[no]help',
    '--how',
    '--[no]json',
    '--out',
  ):
    assert f'\n  {flag}\n' in out
  assert 'Trains.' in out
  assert '<fast|slow>: Pace. Default: fast.' in out
  assert 'Where to. Required.' in out
  assert 'Wav files. May be repeated.\n' in out


def test_help_lists_the_macros_of_a_gin_file(capsys, gin_dir):
  assert call(GIN, '--help', '--gin_file=run.gin') == 0
  out = capsys.readouterr().out
  assert '  STEPS = 3\n' in out and '  RATE = 0.5\n' in out


def test_json_comes_last_and_is_there_without_a_result(capsys):
  def main(fv):
    print('working')

  assert call(cli.Door(summary='', main=main), '--json') == 0
  assert capsys.readouterr().out == 'working\n{}\n'


def test_an_interrupt_is_no_traceback(capsys):
  def main(fv):
    raise KeyboardInterrupt

  assert call(cli.Door(summary='', main=main)) == 130
  assert 'interrupted' in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_traceback():
  done = subprocess.run(
    f'{sys.executable} -m tpu_launch run --help | true; '
    'echo ${PIPESTATUS[0]}',
    shell=True,
    executable='/bin/bash',
    cwd=pathlib.Path(cli.__file__).parents[2],
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stderr == ''
  assert done.stdout in ('0\n', '1\n')  # 0 if it was written before


def test_faults_of_the_program_keep_their_trace():
  def main(fv):
    raise ValueError('not the user')

  with pytest.raises(ValueError, match='not the user'):
    call(cli.Door(summary='', main=main))


@pytest.mark.parametrize(
  ('binding', 'place', 'value'),
  [
    ('--gin.RATE=2.5', 'rate', 2.5),
    ('--gin.Config.name="a = \'b\' # c"', 'name', "a = 'b' # c"),
    ('--gin_bindings=STEPS = 7', 'steps', 7),
    ('--gin.Config.rate=%STEPS', 'rate', 3),
  ],
)
def test_bindings_win_over_files(capsys, gin_dir, binding, place, value):
  extra = ('--gin.lib.train.extra=%RATE',) if 'Config.rate' in binding else ()
  found = result_of(
    capsys, GIN, '--out=x', '--gin_file=run.gin', binding, *extra
  )
  assert found['config'][place] == value


def test_lists_dicts_and_macros_in_a_binding(capsys, gin_dir):
  found = result_of(
    capsys,
    GIN,
    '--out=x',
    '--gin_file=run.gin',
    '--gin.lib.train.extra=[1, "x, y", {"a": %RATE, "b": (None, True)}]',
  )
  assert found['extra'] == [1, 'x, y', {'a': 0.5, 'b': [None, True]}]


def test_later_files_win(capsys, gin_dir):
  (gin_dir / 'more.gin').write_text('RATE = 9\n')
  found = result_of(
    capsys, GIN, '--out=x', '--gin_file=run.gin', '--gin_file=more.gin'
  )
  assert found['config'] == {'steps': 3, 'rate': 9, 'name': 'a'}


@pytest.mark.parametrize(
  ('argv', 'told'),
  [
    (
      ['--gin_file=base.gin'],
      'base.gin: the macro STEPS is required and has no value',
    ),
    (
      ['--gin_file=run.gin', '--gin.RTE=1'],
      '--gin.RTE=1: nothing reads the macro RTE, did you mean RATE.',
    ),
    (
      ['--gin_file=run.gin', '--gin.Config.rte=1'],
      "--gin.Config.rte=1: Configurable 'Config' doesn't have a parameter",
    ),
    (
      ['--gin_file=run.gin', '--gin.Cnfig.rate=1'],
      "No configurable matching 'Cnfig'",
    ),
    (
      ['--gin_file=run.gin', '--gin.lib.train.extra=%RTE'],
      'the macro RTE is read but defined nowhere, did you mean RATE.',
    ),
    (
      ['--gin_file=run.gin', '--gin.Config.name=runs/x'],
      'a string needs its own quotes: \'--gin.Config.name="runs/x"\'',
    ),
    (['--gin_file=run.gin', '--gin.RATE'], 'expected --gin.NAME=value'),
    (['--gin_file=run.gin', '--gin.RATE=[1,'], '--gin.RATE=[1,: not gin'),
    (['--gin_file=none.gin'], '--gin_file=none.gin: no such file.'),
    ([], "train needs a value for 'config'."),
    (['--gin_file=run.gin', '--gin.RATE=-1'], 'Config.rate is -1, expected'),
  ],
)
def test_bad_gin_is_one_sentence(capsys, gin_dir, argv, told):
  assert told in error_of(capsys, GIN, '--out=x', *argv)


@pytest.mark.parametrize(
  ('text', 'told'),
  [
    ("include 'gone.gin'\n", 'bad.gin: Unable to open file: gone.gin'),
    ('A = 1\nB = )\n', 'bad.gin: not gin syntax in line 2: B = )'),
    ("include 'run.gin'\nRTE = 1\n", 'bad.gin: nothing reads the macro RTE'),
    (
      'from __gin__ import dynamic_registration\nimport no_such_lib\n',
      "bad.gin: No module named 'no_such_lib'",
    ),
    (
      'from __gin__ import dynamic_registration\n'
      'import doors_for_tests as lib\n'
      'lib.train.config = @lib.Config()\n',
      "bad.gin: Config needs a value for 'steps'.",
    ),
  ],
)
def test_bad_gin_files_name_the_file(capsys, gin_dir, text, told):
  (gin_dir / 'bad.gin').write_text(text)
  assert told in error_of(capsys, GIN, '--out=x', '--gin_file=bad.gin')


def test_a_type_error_inside_the_function_is_no_bad_input(gin_dir):
  function = gin_files.configure(['run.gin'], [], broken)
  with pytest.raises(TypeError, match='a fault of the program'):
    function()


def test_bound_and_operative_text_parse_back(capsys, gin_dir):
  result_of(capsys, GIN, '--out=x', '--gin_file=run.gin')
  operative, bound = cli.operative_text(), cli.config_text()
  assert "lib.Config.name = 'a'" in operative
  assert 'name' not in bound and 'STEPS = 3' in bound
  (gin_dir / 'again.gin').write_text(bound)
  found = result_of(capsys, GIN, '--out=x', '--gin_file=again.gin')
  assert found['config'] == {'steps': 3, 'rate': 0.5, 'name': 'a'}


def test_gin_arguments_are_what_was_given():
  given = ['--gin_file=a.gin', '--gin.X="b c"', '--gin.Y.z=%X']
  fv = cli.parse('prog', GIN, ['--out=x', *given])
  assert cli.gin_arguments(fv) == given


def dispatch(*argv):
  doors = {
    'here': ('doors_to_dispatch', 'One line.'),
    'extra': ('doors_without_extra', 'Another.'),
  }
  return cli.dispatch('prog', doors, ['prog', *argv])


def test_dispatch(capsys, monkeypatch, tmp_path):
  module = types.ModuleType('doors_to_dispatch')
  module.DOOR = PLAIN
  monkeypatch.setitem(sys.modules, 'doors_to_dispatch', module)
  (tmp_path / 'doors_without_extra.py').write_text('import no_such_extra\n')
  monkeypatch.syspath_prepend(tmp_path)

  assert dispatch('--help') == 0
  assert 'here' in (out := capsys.readouterr().out) and 'One line.' in out
  assert dispatch() == 2
  capsys.readouterr()
  assert dispatch('nowhere') == 2
  assert 'it has here, extra.' in capsys.readouterr().err
  assert dispatch('extra') == 2
  assert "needs the package 'no_such_extra'" in capsys.readouterr().err
  assert dispatch('here', '--out=x', '--json') == 0
  assert json.loads(capsys.readouterr().out)['out'] == 'x'
