"""The doors: absl flags and gin files in, one result out.

Every command of the project is a `Door`: a summary, its own flags and a main
function. The shared part lives here: `--gin_file`, `--gin.NAME=value`,
`--dry_run`, `--json`, complete `--help`, and exit status 2 with one sentence
for bad input. What gin does with its flags is told in `gin_files`.
"""

import contextlib
import dataclasses
import importlib
import os
import re
import signal
import sys
import threading
from typing import Any, Callable, Collection, Iterator, Mapping, Sequence

from absl import flags
from absl import logging

from step_audio_jax import errors
from step_audio_jax.commands import console
from step_audio_jax.commands import gin_files
from step_audio_jax.storage import files

UserError = errors.UserError

# A module missing here is a fault; elsewhere it is an extra to install.
_OURS = ('step_audio_jax', 'data_pipelines', 'tpu_launch')
_OPTION = re.compile(r'-{0,2}\w+=(.*)', re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Door:
  """One command.

  Attributes:
    summary: What it does, with an example; printed by `--help`.
    main: Called with the parsed flags; returns a JSON-able dict or None.
    define: Adds the door's own flags to a `FlagValues`. A door that takes
      words besides flags (`tokenize a.wav b.wav`) defines them as a
      multi-string flag called `arguments`.
    uses_gin: Whether the door reads gin files.
    texts: Flags that hold text to say or options of others. In all the rest,
      save those called `url` or `…_url`, an address that is no place in a
      bucket is refused: no path of a user can forget to ask.
  """

  summary: str
  main: Callable[[flags.FlagValues], Mapping[str, Any] | None]
  define: Callable[[flags.FlagValues], None] = lambda fv: None
  uses_gin: bool = True
  texts: Collection[str] = ()


def dispatch(
  program: str, doors: Mapping[str, tuple[str, str]], argv: Sequence[str]
) -> int:
  """Runs `program DOOR …`; `doors` maps a name to (module, one-line help).

  The module is imported only when its door is opened and holds it as `DOOR`.
  """
  command = ' '.join([f'python -m {program}', *argv[1:2]])
  with _terminated_tidily():
    return console.call(command, lambda: _dispatch(program, doors, argv))


def _dispatch(program, doors, argv) -> int:
  if len(argv) < 2 or argv[1] in ('-h', '--help', 'help'):
    print(f'usage: python -m {program} DOOR [flags]\n\ndoors:')
    for name, (_, summary) in doors.items():
      print(f'  {name:<12}{summary}')
    print(f'\n`python -m {program} DOOR --help` lists the flags of a door.')
    return 0 if len(argv) > 1 else 2
  name = argv[1]
  if name not in doors:
    return _fail(f'{program} has no door {name!r}; it has {", ".join(doors)}.')
  command = f'python -m {program} {name}'
  try:
    door = importlib.import_module(doors[name][0]).DOOR
  except ModuleNotFoundError as error:
    if (error.name or '').partition('.')[0] in _OURS:
      raise
    return _fail(
      f'{command} needs the package {error.name!r}, which is not installed; '
      'setup.py says which extra brings it.'
    )
  return run(command, door, argv[2:])


def parse(
  command: str, door: Door, argv: Sequence[str]
) -> flags.FlagValues | None:
  """Parses a door's flags; None when `--help` was asked for (and printed).

  Flags and words may stand in any order; after `--` all are words.

  Raises:
    UserError: A flag is unknown or malformed, or a word is not expected.
  """
  fv = flags.FlagValues()
  fv.set_gnu_getopt(True)
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
      'A binding, written as in a gin file; --gin.NAME=value is the short '
      'form. A string needs its own quotes: --gin.NAME=\'"text"\'.',
      flag_values=fv,
    )
  door.define(fv)
  end = argv.index('--') if '--' in argv else len(argv)
  words = list(argv)
  # Before parsing: help must come even where required flags are missing.
  if not {'--help', '-help', '-h'}.isdisjoint(words[:end]):
    print(_help(command, door, fv, words[:end]))
    return None
  if door.uses_gin:
    words[:end] = map(_rewrite_gin_flag, words[:end])
  try:
    rest = fv(['', *words])[1:]
  except flags.Error as error:
    text = '; '.join(line.rstrip(' .?') for line in str(error).splitlines())
    raise UserError(f'{command}: {text}; see --help.') from error
  if rest and 'arguments' not in fv:
    raise UserError(f'{command}: unexpected argument {rest[0]!r}; see --help.')
  if rest:
    fv.arguments = [*(fv.arguments or ()), *rest]
  _check_addresses(fv, door.texts)
  return fv


def _check_addresses(fv: flags.FlagValues, texts: Collection[str]) -> None:
  for name in fv:
    if name in texts or name == 'gin_bindings' or name.endswith('url'):
      continue  # gin tells macros from parameters by itself
    value = fv[name].value
    for text in value if isinstance(value, list) else [value]:
      if isinstance(text, str):
        option = _OPTION.fullmatch(text)
        for part in (text, option[1]) if option else (text,):
          if files.address(part):
            files.path(part, '' if name == 'arguments' else f'--{name}')


def run(command: str, door: Door, argv: Sequence[str]) -> int:
  """Opens one door; returns the exit status.

  0 is success, 2 bad input (one sentence on stderr), 130 an interrupt.
  """
  return console.call(command, lambda: _run(command, door, argv))


def _run(command, door, argv) -> int:
  logging.set_verbosity(logging.ERROR)
  try:
    fv = parse(command, door, argv)
    if fv is None:
      return 0
    result = door.main(fv)
  except UserError as error:
    return _fail(str(error))
  except KeyboardInterrupt:
    print(f'\n{command}: interrupted.', file=sys.stderr)
    return 130
  except BrokenPipeError:
    raise
  except OSError as error:
    # The machine's word on a file, not a fault of the program.
    if error.errno is None:
      raise
    named = error.filename
    where = command if named is None else os.fsdecode(named)
    return _fail(f'{where}: {error.strerror}.')
  if fv.json:
    print(console.json_line(result or {}), flush=True)
  return 0


@contextlib.contextmanager
def _terminated_tidily() -> Iterator[None]:
  """SIGTERM as an exception: what is half-written is removed on the way out."""

  def leave(number, frame):
    del frame
    raise SystemExit(128 + number)

  if (
    threading.current_thread() is not threading.main_thread()
    or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
  ):
    yield  # somebody else's affair
    return
  signal.signal(signal.SIGTERM, leave)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def configure(fv: flags.FlagValues, function: Callable[..., Any]):
  """Parses the door's gin flags; returns `function` with them bound.

  Raises:
    UserError: The gin flags are wrong (see `gin_files.parse`). The returned
      function raises it where a parameter has no value.
  """
  return gin_files.configure(fv.gin_file, fv.gin_bindings, function)


def default_folder(
  flag: str, given: str | None, variable: str, default: str, door: str
) -> str:
  """A folder as it is named, else by the environment, else the quick start's.

  Args:
    flag: What names it on the command line.
    given: Its value.
    variable: Environment variable that names it.
    default: Where `make quickstart` makes one.
    door: Who asks, for the message.

  Raises:
    UserError: It is named nowhere and the default is not there.
  """
  found = given or os.environ.get(variable)
  if found:
    files.path(found, f'--{flag}' if given else f'${variable}')
    return found
  if not files.is_dir(default):
    raise UserError(
      f'{door}: no {flag}: expected --{flag}=FOLDER or ${variable}; '
      f'`make quickstart` trains one into {default}.'
    )
  return default


def gin_arguments(fv: flags.FlagValues) -> list[str]:
  """The gin flags as they were given, to hand them to another command."""
  arguments = [f'--gin_file={path}' for path in fv.gin_file]
  for binding in fv.gin_bindings:
    name, sign, value = binding.partition(' = ')
    arguments.append(
      f'--gin.{name}={value}' if sign else f'--gin_bindings={binding}'
    )
  return arguments


config_text = gin_files.bound_text
operative_text = gin_files.operative_text


def _fail(sentence: str) -> int:
  print(f'error: {sentence}', file=sys.stderr)
  return 2


def _help(command, door, fv, words) -> str:
  """Usage, summary, every flag with its default, macros of the gin files."""
  usage = f'usage: {command} [flags]'
  if door.uses_gin:
    usage += ' [--gin_file=FILE ...] [--gin.NAME=value ...]'
  if 'arguments' in fv:
    usage += ' [arguments]'
  lines = [usage, '', door.summary.strip(), '', 'flags:']
  for name in sorted(fv):
    flag = fv[name]
    lines.append(f'  --{"[no]" if flag.boolean else ""}{name}')
    text, repeated, _ = flag.help.partition(';\n    repeat this option')
    if repeated:
      text += ' May be repeated.'
    if any('must have a value' in v.message for v in flag.validators):
      text += ' Required.'
    elif flag.default not in (None, '', []) and not flag.boolean:
      text += f' Default: {flag.default_as_str[1:-1]}.'
    lines.append(flags.text_wrap(text, length=78, indent='      '))
  files = [
    word.partition('=')[2] for word in words if word.startswith('--gin_file=')
  ]
  if door.uses_gin and files:
    lines += ['', f'macros of {", ".join(files)} (--gin.NAME=value):']
    for name, value in gin_files.describe_macros(files).items():
      lines.append(f'  {name} = {value}')
  elif door.uses_gin:
    lines += ['', 'With --gin_file=FILE, --help lists the macros of the file.']
  return '\n'.join(lines)


def _rewrite_gin_flag(argument: str) -> str:
  """`--gin.NAME=value` → `--gin_bindings=NAME = value`, as t5x spells it."""
  if not argument.startswith(('--gin.', '-gin.')):
    return argument
  binding = argument.split('gin.', 1)[1]
  name, sign, value = binding.partition('=')
  if not sign or not name:
    raise UserError(f'{argument}: expected --gin.NAME=value.')
  return f'--gin_bindings={name} = {value}'
