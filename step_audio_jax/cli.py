"""The doors: absl flags and gin files in, one result out.

Every command of the project is a `Door`: a summary, its own flags and a main
function. The shared part lives here: `--gin_file`, `--gin.NAME=value`,
`--dry_run`, `--json`, complete `--help`, and exit status 2 with one sentence
for bad input.

Gin is met only here. Library code has no gin decorators: gin files import the
modules they configure (`from __gin__ import dynamic_registration`), and what
comes out of gin is frozen dataclasses.
"""

import dataclasses
import importlib
import json
import os
import pathlib
import sys
from typing import Any, Callable, Mapping, Sequence

from absl import flags
from absl import logging
import gin

from step_audio_jax import errors

UserError = errors.UserError


@dataclasses.dataclass(frozen=True)
class Door:
  """One command.

  Attributes:
    summary: What it does, with an example; printed by `--help`.
    main: Called with the parsed flags; returns a JSON-able dict or None.
    define: Adds the door's own flags to a `FlagValues`.
    uses_gin: Whether the door reads gin files.
  """

  summary: str
  main: Callable[[flags.FlagValues], Mapping[str, Any] | None]
  define: Callable[[flags.FlagValues], None] = lambda fv: None
  uses_gin: bool = True


def dispatch(
  program: str, doors: Mapping[str, tuple[str, str]], argv: Sequence[str]
) -> int:
  """Runs `program DOOR …`; `doors` maps a name to (module, one-line help).

  The module is imported only when its door is opened and holds it as `DOOR`.
  """
  if len(argv) < 2 or argv[1] in ('-h', '--help', 'help'):
    print(f'usage: python -m {program} DOOR [flags]\n\ndoors:')
    for name, (_, summary) in doors.items():
      print(f'  {name:<12}{summary}')
    print(f'\n`python -m {program} DOOR --help` lists the flags of a door.')
    return 0 if len(argv) > 1 else 2
  name = argv[1]
  if name not in doors:
    print(
      f'error: {program} has no door {name!r}; it has {", ".join(doors)}.',
      file=sys.stderr,
    )
    return 2
  door = importlib.import_module(doors[name][0]).DOOR
  return run(f'python -m {program} {name}', door, argv[2:])


def parse(
  command: str, door: Door, argv: Sequence[str]
) -> flags.FlagValues | None:
  """Parses a door's flags; None when `--help` was asked for (and printed)."""
  fv = flags.FlagValues()
  flags.DEFINE_bool('help', False, 'Print this help.', flag_values=fv)
  flags.DEFINE_bool(
    'json', False, 'Print the result as one JSON line, last.', flag_values=fv
  )
  flags.DEFINE_bool(
    'dry_run', False, 'Say what would be done; change nothing.', flag_values=fv
  )
  if door.uses_gin:
    flags.DEFINE_multi_string(
      'gin_file',
      [],
      'A gin file; repeat it to layer files, later ones win.',
      flag_values=fv,
    )
    flags.DEFINE_multi_string(
      'gin_bindings',
      [],
      'One binding, as in a gin file; `--gin.NAME=value` is the short form.',
      flag_values=fv,
    )
  door.define(fv)
  try:
    rest = fv(['', *map(_rewrite_gin_flag, argv)])[1:]
  except flags.Error as error:
    raise UserError(f'{command}: {error}.') from error
  if fv.help:
    print(f'usage: {command} [flags]\n\n{door.summary.strip()}\n\nflags:')
    print(fv.get_help(prefix='  ', include_special_flags=False))
    return None
  if rest and not hasattr(fv, 'arguments'):
    raise UserError(f'{command}: unexpected argument {rest[0]!r}.')
  if rest:
    fv.arguments = rest
  return fv


def run(command: str, door: Door, argv: Sequence[str]) -> int:
  """Opens one door; returns the exit status."""
  logging.set_verbosity(logging.WARNING)
  try:
    fv = parse(command, door, argv)
    if fv is None:
      return 0
    result = door.main(fv)
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  if fv.json and result is not None:
    print(json.dumps(result, ensure_ascii=False, default=str), flush=True)
  return 0


def _rewrite_gin_flag(argument: str) -> str:
  """`--gin.NAME=value` → `--gin_bindings=NAME = value`, as t5x spells it."""
  if not argument.startswith(('--gin.', '-gin.')):
    return argument
  binding = argument.split('gin.', 1)[1]
  name, sign, value = binding.partition('=')
  if not sign:
    raise UserError(f'{argument}: expected --gin.NAME=value.')
  return f'--gin_bindings={name} = {value}'


def parse_gin(
  files: Sequence[str], bindings: Sequence[str], *, lint: bool = True
) -> None:
  """Parses gin files and bindings into gin's global state, then locks it.

  The repository's `gin/` folder and the working directory are searched for
  relative paths and includes.

  Raises:
    UserError: A file is missing, does not parse, names an unknown parameter,
      or (with `lint`) defines a macro that nothing reads, which is how gin
      shows a misspelt macro.
  """
  gin.clear_config()
  gin.add_config_file_search_path(str(pathlib.Path.cwd()))
  gin.add_config_file_search_path(str(pathlib.Path(__file__).parents[1]))
  for path in files:
    if not any(
      os.path.isfile(os.path.join(root, path))
      for root in ('', str(pathlib.Path(__file__).parents[1]))
    ):
      raise UserError(f'--gin_file={path}: no such file.')
  try:
    gin.parse_config_files_and_bindings(
      list(files), list(bindings), finalize_config=True
    )
  except Exception as error:  # gin raises many types, all of them bad input
    where = ', '.join(files) or '--gin bindings'
    text = ' '.join(str(error).split())
    raise UserError(f'{where}: {type(error).__name__}: {text}') from error
  if lint:
    unread = unread_macros()
    if unread:
      raise UserError(
        f'{", ".join(files) or "--gin bindings"}: nothing reads the macro '
        f'{", ".join(unread)}; known macros are {", ".join(sorted(macros()))}.'
      )


def macros() -> dict[str, Any]:
  """The macros that are defined now, by name."""
  return {
    scope: parameters['value']
    for (scope, selector), parameters in gin.config._CONFIG.items()
    if selector == 'gin.macro' and 'value' in parameters
  }


def unread_macros() -> list[str]:
  """Names of macros that are defined and referenced nowhere."""
  read = set()

  def visit(value):
    if isinstance(value, gin.config.ConfigurableReference):
      if value.selector == 'gin.macro' or value.selector == 'macro':
        read.update(value.scoped_selector.split('/')[:-1])
    elif isinstance(value, Mapping):
      for key, item in value.items():
        visit(key)
        visit(item)
    elif isinstance(value, (list, tuple)):
      for item in value:
        visit(item)

  for parameters in gin.config._CONFIG.values():
    visit(parameters)
  return sorted(set(macros()) - read)


def configure(fv: flags.FlagValues, function: Callable[..., Any]):
  """Parses the door's gin flags; returns `function` with them bound.

  Raises:
    UserError: As `parse_gin`, or a required macro has no value.
  """
  parse_gin(fv.gin_file, fv.gin_bindings)
  try:
    configurable = gin.get_configurable(function)
  except ValueError:
    configurable = gin.external_configurable(function)
    gin.parse_config(())

  def call(*args, **kwargs):
    try:
      return configurable(*args, **kwargs)
    except (RuntimeError, TypeError, ValueError) as error:
      if isinstance(error, UserError):
        raise
      text = str(error)
      # `%gin.REQUIRED` and a missing argument both surface while gin resolves
      # the call; anything else is a fault of the program and keeps its trace.
      if 'gin.REQUIRED' in text or 'Required bindings' in text:
        raise UserError(
          f'{", ".join(fv.gin_file)}: {" ".join(text.split())}'
        ) from error
      raise

  return call


def config_text() -> str:
  """What was bound, as gin text: the saved `config.gin` of a run."""
  return gin.config_str(max_line_length=80)


def operative_text() -> str:
  """What was used, defaults filled in: the saved `operative_config.gin`."""
  return gin.operative_config_str(max_line_length=80)
