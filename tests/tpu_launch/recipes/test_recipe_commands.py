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
from tpu_launch.recipes import real
from tpu_launch.recipes import sizing

ROOT = pathlib.Path(__file__).parents[3]
DOORS = {
  'step_audio_jax': library_doors.DOORS,
  'data_pipelines': data_doors.DOORS,
}
# Flags and macros that name what a command makes; all others read.
WRITES = (
  '--output=',
  '--export=',
  '--to=',
  '--gin.RUN_DIR=',
  '--gin.OUTPUT=',
)
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
  return [first, adapt_recipe.after_ingest(options, found)]


RECIPES = {
  'quickstart': quickstart.commands,
  'adapt_small': lambda root: adapt(root, SMALL),
  'adapt_large': lambda root: adapt(root, LARGE),
  'real_cpu': lambda root: real.commands(real.Options('M', root, ('V',))),
  'real_gpu': lambda root: real.commands(real.Options('M', root, device='gpu')),
}
COMMANDS = [
  pytest.param(command, id=f'{name}-{command.name}')
  for name, parts in RECIPES.items()
  for part in parts('R')
  for command in part
]
every_recipe = pytest.mark.parametrize('parts', RECIPES.values(), ids=RECIPES)


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


def makes(command):
  return [
    path
    for word in command.words
    if word.startswith(WRITES)
    for path in paths(word)
  ]


@every_recipe
def test_what_a_command_reads_is_made_by_what_it_needs(parts):
  """Parts before its own are needed, too."""
  made, before = {}, []
  for part in parts('R'):
    new = {}
    for command in part:
      known = [*before]
      for name in command.needs:  # each stands before it
        known += new[name] if name in new else made[name]
      for word in command.words:
        if word.startswith((*WRITES, '--gin.TIMING=')):  # the driver's
          continue
        for path in paths(word):
          assert any(path == m or path.startswith(f'{m}/') for m in known), (
            f'{command.name} reads {path}'
          )
      new[command.name] = known + makes(command)
    made |= new
    before = [path for known in made.values() for path in known]


@every_recipe
def test_no_two_commands_write_one_place(parts):
  commands = [command for part in parts('R') for command in part]
  written = [
    path
    for command in commands
    if not command.name.startswith('report')
    for path in makes(command)
  ]
  assert len(set(written)) == len(written) > 8
  names = [command.name for command in commands]
  assert len(set(names)) == len(names)


@every_recipe
def test_the_root_may_hold_spaces_and_quotes(parts):
  for command in (c for part in parts('a b/"c"') for c in part):
    for word in command.words:
      value = word.partition('=')[2]
      if word.startswith('--gin.') and value != 'None':
        json.loads(value)


@every_recipe
def test_the_report_needs_everything(parts):
  *before, last = parts('R')
  *others, report = last
  needed = set(report.needs)
  for command in reversed(others):
    if command.name in needed:
      needed |= set(command.needs)
  assert report.name == 'report'
  assert needed == {command.name for command in others}
  assert [c.trains for c in others] == [
    c.name.startswith('train ') for c in others
  ]
