"""Every door against paths that cannot be: one sentence, status 2, no trace.

Outputs are tried before any input is read, so inputs need not be there.
"""

import importlib
import os
import pathlib
import subprocess
import sys

from absl import flags
import pytest

from data_pipelines import __main__ as data_doors
from step_audio_jax import __main__ as doors
from step_audio_jax.commands import cli
from step_audio_jax.training import run as run_lib
from tpu_launch import __main__ as launch_doors

ROOT = pathlib.Path(cli.__file__).parents[2]
PROGRAMS = {
  'step_audio_jax': doors.DOORS,
  'data_pipelines': data_doors.DOORS,
  'tpu_launch': launch_doors.DOORS,
}
DOORS = [(p, name) for p, table in PROGRAMS.items() for name in table]
# Paths that are written: (door, what it needs besides, the flag).
FOLDERS = [
  ('data_pipelines', 'synthesize', [], '--output='),
  ('data_pipelines', 'ingest', ['--source=none'], '--output='),
  (
    'data_pipelines',
    'tokenize',
    ['--corpus=none', '--tokenizer=none'],
    '--output=',
  ),
  ('data_pipelines', 'build', ['--text=none'], '--output='),
  ('step_audio_jax', 'convert', ['--from=none'], '--to='),
  (
    'step_audio_jax',
    'judge',
    ['--run=none', '--corpus=none'],
    '--output=',
  ),
  (
    'step_audio_jax',
    'tokenize',
    ['--linguistic=none', '--semantic=none'],
    '--export=',
  ),
  ('step_audio_jax', 'speak', ['--flow=none', '--speaker=none'], '--export='),
  (
    'step_audio_jax',
    'report',
    ['--gin_file=gin/eval/report.gin', '--gin.RUNS=[]'],
    '--gin.OUTPUT=',
  ),
  (
    'step_audio_jax',
    'plan',
    ['--topology=v5e:2x2', '--search', '--gin_file=none'],
    '--cache=',
  ),
  ('tpu_launch', 'quickstart', [], '--output='),
  ('tpu_launch', 'adapt', ['--source=none'], '--output='),
  ('tpu_launch', 'up', ['--name=a'], '--state_dir='),
  ('tpu_launch', 'run', ['--name=a'], '--state_dir='),
]
FILES = [
  ('data_pipelines', 'vocabulary', ['--corpus=none'], '--output=', '.model'),
  (
    'step_audio_jax',
    'embed',
    ['--corpus=none', '--speaker=none'],
    '--output=',
    '.npz',
  ),
  ('step_audio_jax', 'speak', ['some text'], '--out=', '.wav'),
]


def opened(program, name):
  return importlib.import_module(PROGRAMS[program][name][0]).DOOR


def sentence(capsys, program, name, *argv):
  """What a door says of bad input; it says nothing else."""
  command = f'python -m {program} {name}'
  assert cli.run(command, opened(program, name), list(argv)) == 2
  out, err = capsys.readouterr()
  assert out == ''
  assert err.startswith('error: ') and err.endswith('.\n')
  assert err.count('\n') == 1
  return err


def tree(folder):
  return sorted(str(path) for path in folder.rglob('*'))


@pytest.fixture
def world(tmp_path, monkeypatch):
  """What can be in the way of an output, by its path."""
  monkeypatch.chdir(ROOT)
  (tmp_path / 'file').write_text('old')
  (tmp_path / 'folder').mkdir()
  (tmp_path / 'dangling').symlink_to(tmp_path / 'gone')
  before = tree(tmp_path)
  yield tmp_path
  assert tree(tmp_path) == before
  assert (tmp_path / 'file').read_text() == 'old'


@pytest.mark.parametrize(('program', 'name', 'more', 'flag'), FOLDERS)
def test_folders_that_cannot_be_written(
  capsys, world, program, name, more, flag
):
  for path, told in {
    f'{world}/file/x': 'file is a file, expected a folder',
    f'{world}/dangling/x': 'is a link to nothing, expected a folder',
    f'{world}/{"y" * 300}': 'File name too long',
    '/dev/null/x': '/dev/null is a device or pipe, expected a folder',
    '/proc/x': 'cannot be written',
    'hdfs://host/x': 'an address, expected a path',
    'gs:/bucket/x': 'found one slash behind gs:, expected gs://bucket/…',
    's3://': 'found no bucket, expected s3://bucket/…',
    '': 'found nothing, expected a path',
  }.items():
    value = f"'{path}'" if '.gin' in flag or 'gin.' in flag else path
    assert told in sentence(capsys, program, name, *more, flag + value)
  if flag != '--state_dir=':  # the folder of a job lies below it
    value = f"'{world}/file'" if 'gin.' in flag else f'{world}/file'
    assert 'found a file, expected a folder' in sentence(
      capsys, program, name, *more, flag + value
    )


@pytest.mark.parametrize(('program', 'name', 'more', 'flag', 'end'), FILES)
def test_files_that_cannot_be_written(
  capsys, world, program, name, more, flag, end
):
  for path, told in {
    f'{world}/file/x{end}': 'file is a file, expected a folder',
    f'{world}/dangling/x{end}': 'is a link to nothing, expected a folder',
    f'{world}/{"y" * 300}{end}': 'File name too long',
    f'/dev/null/x{end}': '/dev/null is a device or pipe, expected a folder',
    f'/proc/x{end}': 'cannot be written',
    f's3:/bucket/x{end}': 'found one slash behind s3:',
    f'file:/tmp/x{end}': 'an address, expected a path',
  }.items():
    assert told in sentence(capsys, program, name, *more, flag + path)


def test_a_run_directory_that_cannot_be_written(world, capsys):
  del capsys
  for path, told in {
    f'{world}/file': 'found a file, expected a folder',
    f'{world}/file/x': 'file is a file, expected a folder',
    'http://host/x': 'an address, expected a path',
  }.items():
    with pytest.raises(cli.UserError, match=told):
      run_lib.train(
        run_dir=path, objective=None, feed=None, optimizer=None, config=None
      )


@pytest.mark.parametrize(('program', 'name'), DOORS)
def test_no_flag_of_any_door_takes_a_bad_address(capsys, program, name):
  """No path can forget to ask: flags that take text are named one by one."""
  door = opened(program, name)
  fv = flags.FlagValues()
  door.define(fv)
  kinds = {flag: fv[flag].flag_type() for flag in fv}
  needed = {
    flag: f'--{flag}=x'
    for flag, kind in kinds.items()
    if 'enum' not in kind and ('string' in kind or 'list' in kind)
  }
  assert set(door.texts) <= set(needed)
  tried = [*needed, *(['gin_file'] if door.uses_gin else [])]
  for flag in tried:
    for value in (
      'gs:///x',
      's3:/bucket/x',
      'file:/x',
      'NAME=http://x',
    ):
      words = [word for other, word in needed.items() if other != flag]
      words.append(f'--{flag}={value}')
      if flag in door.texts:
        cli.parse('door', door, words)
        continue
      with pytest.raises(cli.UserError, match='slash|bucket/…'):
        cli.parse('door', door, words)
    for value in ('gs://bucket/x', 's3://bucket/x', 'file:///x'):
      words[-1] = f'--{flag}={value}'
      if 'bool' not in kinds.get(flag, ''):
        assert cli.parse('door', door, words)


def test_only_flags_of_text_are_excused():
  excused = {
    (name, flag) for p, name in DOORS for flag in opened(p, name).texts
  }
  assert excused == {
    ('chat', 'arguments'),
    ('chat', 'style'),
    ('chat', 'system'),
    ('serve', 'mind_url'),
    ('serve', 'origin'),
    ('complete', 'arguments'),
    ('complete', 'prompt'),
    ('complete', 'system'),
    ('judge', 'phrase'),
    ('listen', 'title'),
    ('listen', 'ab_text'),
    ('listen', 'mos_text'),
    ('speak', 'arguments'),
    ('speak', 'voice_text'),
    ('speak', 'system'),
    ('speak', 'style'),
    ('align', 'beam_option'),
    ('build', 'beam_option'),
    ('make', 'beam_option'),
    ('tokenize', 'beam_option'),
    # `run:/…` is no address; what is behind it is looked at as it is opened.
    ('make', 'voice'),
    ('quiz', 'voice'),
    ('synthesize', 'voice'),
    ('synthesize', 'optional_voice'),
  }


def test_a_null_character_is_no_path(capsys):
  told = sentence(
    capsys, 'data_pipelines', 'ingest', '--source=a\0', '--output=b'
  )
  assert 'a null character' in told


def test_an_error_of_the_machine_is_a_sentence(capsys):
  def main(fv):
    open(f'{os.devnull}/x')

  door = cli.Door(summary='', main=main)
  assert cli.run('door', door, []) == 2
  assert capsys.readouterr().err == 'error: /dev/null/x: Not a directory.\n'


def test_sigterm_lets_what_is_half_written_go(tmp_path):
  (tmp_path / 'slow_door.py').write_text(
    'import sys, time\n'
    'from step_audio_jax.commands import cli\n'
    'from step_audio_jax.storage import files\n'
    'def main(fv):\n'
    '  with files.atomic("x/out") as handle:\n'
    '    handle.write(b"half")\n'
    '    handle.flush()\n'
    '    print("ready", flush=True)\n'
    '    time.sleep(60)\n'
    'DOOR = cli.Door(summary="", main=main, uses_gin=False)\n'
    'if __name__ == "__main__":\n'
    '  sys.exit(cli.dispatch("p", {"d": ("slow_door", "")}, ["p", "d"]))\n'
  )
  with subprocess.Popen(
    [sys.executable, 'slow_door.py'],
    cwd=tmp_path,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    stdout=subprocess.PIPE,
  ) as process:
    assert process.stdout.readline() == b'ready\n'
    process.terminate()
  assert process.returncode == 128 + 15
  names = {path.name for path in tmp_path.iterdir()}
  assert names - {'__pycache__'} == {'slow_door.py'}
