"""Every door is there and explains itself."""

import importlib
import importlib.util

import pytest

from data_pipelines import __main__ as data
from step_audio_jax import __main__ as library
from step_audio_jax.commands import cli
from tpu_launch import __main__ as launch

PROGRAMS = {
  'step_audio_jax': library.DOORS,
  'data_pipelines': data.DOORS,
  'tpu_launch': launch.DOORS,
}
ALL = [(program, name) for program, doors in PROGRAMS.items() for name in doors]


@pytest.mark.parametrize(('program', 'name'), ALL)
def test_the_module_of_a_door_exists(program, name):
  module, summary = PROGRAMS[program][name]
  assert importlib.util.find_spec(module)
  assert summary and len(summary) < 80


@pytest.mark.parametrize(
  ('program', 'name'), [pair for pair in ALL if pair[0] != 'data_pipelines']
)
def test_help_of_a_door(capsys, program, name):
  assert (
    cli.dispatch(program, PROGRAMS[program], [program, name, '--help']) == 0
  )
  out = capsys.readouterr().out
  assert out.startswith(f'usage: python -m {program} {name} [flags]')
  for flag in ('--[no]dry_run', '--[no]help', '--[no]json'):
    assert f'\n  {flag}\n' in out
  door = importlib.import_module(PROGRAMS[program][name][0]).DOOR
  assert door.summary.strip() in out
  assert f'python -m {program} {name}' in door.summary


@pytest.mark.parametrize('program', PROGRAMS)
def test_the_list_of_doors(capsys, program):
  assert cli.dispatch(program, PROGRAMS[program], [program, '--help']) == 0
  out = capsys.readouterr().out
  for name, (_, summary) in PROGRAMS[program].items():
    assert f'  {name} ' in out and summary in out
