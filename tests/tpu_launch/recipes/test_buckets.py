"""Recipes and jobs whose folders, gin files and values lie in buckets."""

import os
import pathlib

import pytest

from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.storage import files
from tests import stores
from tests.tpu_launch.recipes import test_adapt
from tests.tpu_launch.recipes import test_following
from tpu_launch import __main__ as launch
from tpu_launch.recipes import following
from tpu_launch.recipes import recipe

python, recordings = test_following.python, test_adapt.recordings
ROOT = pathlib.Path(__file__).parents[3]


def call(*argv):
  return cli.dispatch('tpu_launch', launch.DOORS, ['-', *map(str, argv)])


def test_a_recipe_keeps_its_record_and_its_logs_there(gs_folder, capfd):
  root = str(gs_folder)
  say = 'import time; time.sleep(0.1); print("said", flush=True); print("ü")'
  parts = [
    [python('one', say), python('two', say), python('three', say, 'one')],
    [python('four', 'raise SystemExit("no luck")'), python('five', say)],
  ]
  with pytest.raises(errors.UserError, match='no luck\nthe command "four"'):
    following.follow(parts, root)
  for name in ('one', 'two', 'four'):
    log = files.read_text(gs_folder / f'logs/{name}.log')
    assert log == ('no luck\n' if name == 'four' else 'said\nü\n')
  parts[1][0] = python('four', say)
  capfd.readouterr()
  timing = following.follow(parts, root)
  told = capfd.readouterr().out
  assert told.count('(done before)') == 3 and f'{root}/logs/four.log' in told
  assert timing == files.read_json(gs_folder / 'timing.json')
  assert [one['name'] for one in timing['commands']][:2] == ['one', 'two']


def test_what_must_be_local_is(gs_folder, monkeypatch):
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR', raising=False)
  cache = recipe.environment(str(gs_folder))['JAX_COMPILATION_CACHE_DIR']
  assert cache == f'{os.environ["STEP_AUDIO_JAX_COPIES"]}/compiled'


def test_commands_name_the_bucket(gs_folder, monkeypatch, capsys):
  monkeypatch.chdir(ROOT)
  assert call('quickstart', f'--output={gs_folder}/', '--dry_run') == 0
  out = capsys.readouterr().out
  assert f'--output={gs_folder}/data ' in out and f'{gs_folder}//' not in out
  assert f'\'--gin.RUN_DIR="{gs_folder}/sft"\'' in out
  assert not files.exists(gs_folder)
  assert call('quickstart', '--output=gs://no-such/x', '--dry_run') == 2
  assert 'gs://no-such: no such bucket.' in capsys.readouterr().err


def test_recordings_and_a_quick_start_there(
  recordings, tmp_path, gs_folder, monkeypatch, capsys
):
  monkeypatch.chdir(ROOT)
  base = test_adapt.base(tmp_path / 'base')
  for folder in base.iterdir():
    (folder / 'x').touch()
  stores.upload(base, gs_folder / 'base')
  flags = f'--base={gs_folder}/base', '--dry_run'
  assert call('adapt', f'--source={recordings}', '--output=x', *flags) == 2
  assert 'found no data/text.model' in capsys.readouterr().err
  files.write_bytes(gs_folder / 'base/data/text.model', b'x')
  there = stores.upload(recordings, gs_folder / 'recordings')
  for output in (there, there / 'x'):
    assert call('adapt', f'--source={there}', f'--output={output}', *flags) == 2
    assert 'lies in --source=' in capsys.readouterr().err


def test_jobs_hand_addresses_over_as_they_are(gs_folder, tmp_path, capsys):
  inner = gs_folder / 'more.gin'
  files.write_bytes(inner, b"TITLE = 'of a bucket'\n")
  outer = gs_folder / 'job run.gin'
  text = f"include 'gin/eval/report.gin'\ninclude '{inner}'\n"
  files.write_bytes(outer, text.encode())
  flags = [f'--gin_file={outer}', '--name=a', f'--state_dir={tmp_path}']
  flags += [
    '--gin.RUNS=["gs://bucket/my run"]',
    f'--gin.OUTPUT="{gs_folder}/o"',
  ]
  assert call('check', *flags) == 0, capsys.readouterr().err
  assert call('run', *flags, '--door=report', '--dry_run') == 0
  out = capsys.readouterr().out
  assert f"'--gin_file={outer}' '--gin.RUNS=[\"gs://bucket/my run\"]'" in out
  flags[0] = f'--gin_file={gs_folder}/none.gin'
  assert call('check', *flags) == 2
  assert f'{gs_folder}/none.gin: no such file' in capsys.readouterr().err
  assert call('check', '--name=a', f'--state_dir={gs_folder}') == 2
  assert 'found a bucket, expected a path on this machine' in (
    capsys.readouterr().err
  )
