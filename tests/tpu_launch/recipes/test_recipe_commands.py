"""The commands of every recipe, read by the doors that they open."""

import json
import pathlib
import re

import pytest

from data_pipelines import __main__ as data_doors
from step_audio_jax import __main__ as library_doors
from step_audio_jax.commands import cli
from step_audio_jax.commands import gin_files
from tpu_launch.recipes import adapt_recipe
from tpu_launch.recipes import quickstart
from tpu_launch.recipes import sizing

ROOT = pathlib.Path(__file__).parents[3]
DOORS = {
  'step_audio_jax': library_doors.DOORS,
  'data_pipelines': data_doors.DOORS,
}
# Flags and macros that name what a command makes; all others read.
WRITES = ('--output=', '--export=', '--gin.RUN_DIR=', '--gin.OUTPUT=')
SMALL = sizing.Survey(
  train=40,
  seconds=60.0,
  longest=2.5,
  longest_text=40,
  held_out=('dev', 'test', 'test_unseen_voice'),
  speakers=1,
  voice=None,
)
LARGE = sizing.Survey(
  train=90_000,
  seconds=4e5,
  longest=19.0,
  longest_text=300,
  held_out=('dev', 'test'),
  speakers=700,
  voice='audio/a.wav',
)


def adapt(root, found):
  options = adapt_recipe.Options(source='S', output=root, base='B')
  first = next(adapt_recipe.commands(options))
  return [first, *adapt_recipe.after_ingest(options, found)]


RECIPES = {
  'quickstart': quickstart.commands,
  'adapt_small': lambda root: adapt(root, SMALL),
  'adapt_large': lambda root: adapt(root, LARGE),
}
COMMANDS = [
  pytest.param(command, id=f'{name}-{command.name}')
  for name, steps in RECIPES.items()
  for step in steps('R')
  for command in step
]
every_recipe = pytest.mark.parametrize('steps', RECIPES.values(), ids=RECIPES)


@pytest.mark.parametrize('command', COMMANDS)
def test_every_command_is_understood_by_its_door(command, monkeypatch):
  """Unknown flags, gin files that are not there, macros that nothing reads."""
  monkeypatch.chdir(ROOT)
  dash, program, name, *argv = command.words
  assert dash == '-m'
  module = DOORS[program][name][0]
  door = __import__(module, fromlist=['DOOR']).DOOR
  fv = cli.parse(name, door, argv)
  if door.uses_gin and fv.gin_file:
    gin_files.parse(fv.gin_file, fv.gin_bindings)
    assert gin_files.macros()


def paths(word):
  """Paths below R that a word names."""
  value = word.partition('=')[2]
  return re.findall(r'\bR(?:/[\w./]+)?', value)


@every_recipe
def test_what_a_command_reads_was_made_before(steps):
  """Also by none that runs beside it."""
  made = []
  for step in steps('R'):
    new = []
    for command in step:
      for word in command.words:
        if word.startswith(WRITES):
          new += paths(word)
        elif not word.startswith('--gin.TIMING='):  # written by the driver
          for path in paths(word):
            known = [m for m in made if path == m or path.startswith(f'{m}/')]
            assert known, f'{command.name} reads {path}'
    made += new


@every_recipe
def test_no_two_commands_write_one_place(steps):
  commands = [command for step in steps('R') for command in step]
  written = [
    path
    for command in commands
    if not command.name.startswith('report')
    for word in command.words
    if word.startswith(WRITES)
    for path in paths(word)
  ]
  assert len(set(written)) == len(written) > 8
  names = [command.name for command in commands]
  assert len(set(names)) == len(names)


@every_recipe
def test_the_root_may_hold_spaces_and_quotes(steps):
  for command in (c for step in steps('a b/"c"') for c in step):
    for word in command.words:
      value = word.partition('=')[2]
      if word.startswith('--gin.') and value != 'None':
        json.loads(value)
