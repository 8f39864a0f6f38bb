"""Gin, met only here: files and bindings in, a configured function out.

Library code has no gin decorators: gin files import the modules they configure
(`from __gin__ import dynamic_registration`), and what comes out of gin is
frozen dataclasses. What gin lets pass is refused here: a macro that nothing
reads (a misspelt name), a macro that is read and defined nowhere, a required
macro without a value.
"""

import contextlib
import difflib
import os
import pathlib
import re
import tokenize
from typing import Any, Callable, Collection, Iterator, Mapping, Sequence

import gin

from step_audio_jax import errors
from step_audio_jax.commands import gin_types
from step_audio_jax.commands import old_names
from step_audio_jax.commands import unreadable
from step_audio_jax.storage import files as files_lib

ROOT = pathlib.Path(__file__).parents[2]

# (scope, class or function, parameter).
Binding = tuple[str, Callable[..., Any], str]

_CALL = "\n  In call to configurable '"
# Where gin says that it was, after what it says.
_PLACE = re.compile(r'\n  In (?:file "(.*)",|bindings string) line (\d+)\n(.*)')
_LONGEST = 500  # characters of what gin says: it tells every include
_VALUE = ', expected a plain value, @reference or %MACRO'
_MISSING = re.compile(
  r'^([\w.]+)\(\) missing \d+ required [\w-]+ arguments?: (.+)'
)


def parse(
  files: Sequence[str],
  bindings: Sequence[str],
  *,
  function: Callable[..., Any] | None = None,
  lint: bool = True,
) -> None:
  """Parses gin files, then bindings, into gin's global state and locks it.

  Relative paths, also those of includes, are looked for in the working
  directory and then in the checkout.

  Args:
    files: Gin files; later ones win.
    bindings: Lines as in a gin file (`NAME = value`); they win over files.
    function: Registered beforehand, so that bindings may name it.
    lint: Whether to refuse macros that nothing reads or defines, and required
      ones without a value.

  Raises:
    UserError: A file is missing, does not parse, names something unknown, or
      (with `lint`) has a macro as above.
  """
  gin.clear_config()
  if str(ROOT) not in gin.config._LOCATION_PREFIXES:
    gin.add_config_file_search_path(str(ROOT))
    # Plain files only: gin's reader of package data logs every miss.
    gin.config._FILE_READERS[:] = [(old_names.open_gin, files_lib.is_file)]
  if function is not None:
    _register(function)
  for path in files:
    if _find(path) is None:
      raise errors.UserError(f'--gin_file={path}: no such file.')
  parsed = []
  for path in files:
    with _user_errors(path):
      parsed.append(gin.parse_config_file(path))
  old_names.check_modules(one.module for one in gin.config._IMPORTS)
  for binding in bindings:
    with _user_errors(_as_flag(binding), _quote_hint(binding), binding):
      gin.parse_config(binding)
  if lint:
    _lint(parsed, bindings)
    _check_values(parsed, bindings)
    with _user_errors(', '.join(files) or '--gin'):
      gin.finalize()
  else:
    gin.config._set_config_is_locked(True)


def configure(
  files: Sequence[str], bindings: Sequence[str], function: Callable[..., Any]
) -> Callable[..., Any]:
  """Parses and lints; returns `function` with its parameters bound.

  Raises:
    UserError: As `parse`; the returned function raises it too, when a
      parameter that it needs has no value.
  """
  parse(files, bindings, function=function)
  configurable = gin.get_configurable(function)

  def call(*args, **kwargs):
    with _values_told(files):
      return configurable(*args, **kwargs)

  return call


def arguments(
  files: Sequence[str], function: Callable[..., Any]
) -> dict[str, Any]:
  """What was bound to the parameters of a function, references resolved.

  For a door that does something else with the parts of a run than run it.

  Args:
    files: Those that were parsed; for sentences about missing values.
    function: May have no bindings.

  Raises:
    UserError: As the function that `configure` returns.
  """
  if gin.config._inverse_lookup(function) is None:
    return {}
  with _values_told(files):
    return dict(gin.get_bindings(function))


@contextlib.contextmanager
def _values_told(files: Sequence[str]) -> Iterator[None]:
  """Turns a parameter without a value, or an old name, into one sentence."""
  try:
    yield
  except errors.UserError as error:
    # Gin appends the chain of calls, with addresses of functions.
    raise errors.UserError(str(error).split(_CALL)[0]) from error
  except (AttributeError, ImportError) as error:
    old_names.check_modules((), error)
    raise
  except (RuntimeError, TypeError) as error:
    text = _missing_value(str(error))
    if text is None:
      raise
    where = f'{", ".join(files)}: ' if files else ''
    raise errors.UserError(where + text) from error
  except OSError as error:
    # Gin's stand-in for an exception knows neither number nor file.
    cause = error.__context__
    raise (cause if isinstance(cause, OSError) else error) from None


def macros() -> dict[str, Any]:
  """The macros that are defined now, by name."""
  return {
    scope: parameters['value']
    for (scope, selector), parameters in gin.config._CONFIG.items()
    if selector == 'gin.macro' and 'value' in parameters
  }


def read_macros() -> set[str]:
  """Names of the macros that some binding refers to."""
  return {
    '/'.join(reference.scopes)
    for reference in gin.config.iterate_references(gin.config._CONFIG)
    if reference.configurable.selector == 'gin.macro'
  }


def required_macros() -> list[str]:
  """Names of the macros that still wait for a value."""
  return sorted(
    name for name, value in macros().items() if repr(value) == '%gin.REQUIRED'
  )


def bound_text() -> str:
  """What was bound, as gin text: the saved `config.gin` of a run."""
  return gin.config_str(max_line_length=80)


def operative_text() -> str:
  """What was used, defaults filled in: the saved `operative_config.gin`."""
  return gin.operative_config_str(max_line_length=80)


def bindings(text: str = '', where: str = '') -> dict[Binding, str]:
  """What is bound, macros resolved, as text that can be compared.

  Args:
    text: Gin text of a run to look at in place of what was parsed, which
      stays; old names of modules in it are read as today's.
    where: What messages call it.

  Raises:
    UserError: The text does not parse any more.
  """
  if not text:
    return _bindings()
  with _state_kept(), _user_errors(where):
    gin.clear_config()
    gin.parse_config(old_names.translated(text.removeprefix('\ufeff')))
    return _bindings()


def _bindings() -> dict[Binding, str]:
  known, found = macros(), {}
  for (scope, selector), parameters in gin.config._CONFIG.items():
    if selector == 'gin.macro':
      continue
    owner = gin.config._REGISTRY[selector].wrapped
    for name, value in parameters.items():
      found[scope, owner, name] = value_text(value, known)
  return found


def value_text(value: Any, known: Mapping[str, Any] | None = None) -> str:
  """A value as text; lists and tuples, and spellings of a number, are alike."""
  known = known or {}
  if isinstance(value, gin.config.ConfigurableReference):
    scopes = '/'.join(value.scopes)
    if value.configurable.selector == 'gin.macro':
      return value_text(known.get(scopes), known)
    call = '()' if value.evaluate else ''
    scope = f'{scopes}/' if scopes else ''
    return f'@{scope}{value.configurable.wrapped.__name__}{call}'
  if isinstance(value, (list, tuple)):
    return f'[{", ".join(value_text(one, known) for one in value)}]'
  if isinstance(value, Mapping):
    pairs = (f'{k!r}: {value_text(one, known)}' for k, one in value.items())
    return f'{{{", ".join(pairs)}}}'
  return repr(value)


@contextlib.contextmanager
def _state_kept() -> Iterator[None]:
  """Puts back what gin knew before."""
  held = (
    gin.config._CONFIG,
    gin.config._OPERATIVE_CONFIG,
    gin.config._IMPORTS,
  )
  copies = [
    {key: dict(one) for key, one in held[0].items()},
    {key: dict(one) for key, one in held[1].items()},
    set(held[2]),
  ]
  try:
    with gin.unlock_config():
      yield
  finally:
    for one, copy in zip(held, copies):
      one.clear()
      one.update(copy)


def describe_macros(files: Sequence[str]) -> Mapping[str, str]:
  """The macros of gin files, as text, for `--help`."""
  parse(files, (), lint=False)
  return {name: repr(value) for name, value in sorted(macros().items())}


def _lint(parsed: Sequence[Any], bindings: Sequence[str]) -> None:
  """Refuses the macros that gin would pass over or tell badly."""
  defined, read = set(macros()), read_macros()
  for name in sorted(defined - read):
    where = _definition(re.escape(name), parsed, bindings)
    raise errors.UserError(
      f'{where}: nothing reads the macro {name}{_nearest(name, read)}.'
    )
  for name in sorted(read - defined):
    where = ', '.join(item.filename for item in parsed) or '--gin'
    raise errors.UserError(
      f'{where}: the macro {name} is read but defined nowhere'
      f'{_nearest(name, defined)}.'
    )
  for name in required_macros():
    where = _definition(re.escape(name), parsed, bindings)
    raise errors.UserError(
      f'{where}: the macro {name} is required and has no value; give it with '
      f'--gin.{name}=... or in a gin file.'
    )


def _check_values(parsed: Sequence[Any], bindings: Sequence[str]) -> None:
  """Refuses values that are not of the annotated type, and addresses.

  Lists become tuples where those are annotated: configurations are hashed.
  """
  for (scope, selector), parameters in list(gin.config._CONFIG.items()):
    if selector == 'gin.macro':
      continue
    function = gin.config._REGISTRY[selector].wrapped
    hints = gin_types.annotations(function)
    for name, value in list(parameters.items()):
      place, pattern = (scope, selector, name), rf'(?:[\w/.]+\.)?{name}'
      while _is_macro(value):
        macro = '/'.join(value.scopes)
        if macro not in macros():
          break
        place, pattern = (macro, 'gin.macro', 'value'), re.escape(macro)
        value = macros()[macro]
      if repr(value) == '%gin.REQUIRED':
        continue
      plain, hint = _plain(value), hints.get(name, Any)
      fault = _fault(plain, hint, name)
      if fault:
        where = _definition(pattern, parsed, bindings, line=True)
        raise errors.UserError(f'{where}: {function.__name__}.{name} {fault}.')
      fit = gin_types.with_tuples(value, hint)
      if fit is not value:
        gin.config._CONFIG[place[:2]][place[2]] = fit


def _fault(value: Any, hint: Any, name: str) -> str | None:
  """What is wrong with the value of a parameter; None if nothing is."""
  if not gin_types.matches(value, hint):
    text = repr(value)
    text = text if len(text) < 80 else f'{text[:76]} …'
    told = gin_types.describe(hint)
    if type(value) is float and value.is_integer() and 'integer' in told:
      told += f', {value:.0f}'
    elif isinstance(value, str) and gin_types.matches([value], hint):
      told += f', {text.join("[]")}'
    return f'is {text}, expected {told}'
  if not name.endswith('url'):
    for text in _strings(value):
      if fault := files_lib.address_fault(text):
        return f'is {text!r}: {fault}'
  return None


def _is_macro(value: Any) -> bool:
  return (
    isinstance(value, gin.config.ConfigurableReference)
    and value.configurable.selector == 'gin.macro'
  )


def _plain(value: Any) -> Any:
  """A value without macros; other references stand for what they give."""
  if _is_macro(value):
    name = '/'.join(value.scopes)
    known = macros()
    return _plain(known[name]) if name in known else gin_types.Reference(name)
  if isinstance(value, gin.config.ConfigurableReference):
    function = value.configurable.wrapped
    name = f'@{function.__name__}'
    if not value.evaluate:
      return gin_types.Reference(name, type(function))
    kind = gin_types.annotations(function).get('return')
    known = kind if isinstance(kind, type) else None
    return gin_types.Reference(f'{name}()', known)
  if isinstance(value, (tuple, list)):
    return type(value)(map(_plain, value))
  if isinstance(value, dict):
    return {key: _plain(one) for key, one in value.items()}
  return value


def _strings(value: Any) -> Iterator[str]:
  if isinstance(value, str):
    yield value
  elif isinstance(value, (tuple, list)):
    for one in value:
      yield from _strings(one)
  elif isinstance(value, dict):
    yield from _strings(list(value.values()))


def _definition(pattern, parsed, bindings, line=False) -> str:
  """The last place that defines a macro or a parameter: a flag or a file.

  Args:
    pattern: A regular expression of its name.
    parsed: What gin says of the files.
    bindings: Of the command line.
    line: Whether a file is told with the line, where there is only one.
  """
  pattern = re.compile(rf'^\s*{pattern}\s*=', re.MULTILINE)
  for binding in reversed(bindings):
    if pattern.match(binding):
      return _as_flag(binding)

  def inside(items):
    for item in reversed(items):
      path = _find(item.filename)
      text = files_lib.read_text(path, 'utf-8-sig') if path else ''
      found = list(pattern.finditer(text))
      if found and (not line or len(found) > 1):
        return item.filename
      if found:
        return f'{item.filename}:{text[: found[0].end()].count(chr(10)) + 1}'
      if found := inside(item.includes):
        return found
    return None

  return inside(parsed) or ', '.join(i.filename for i in parsed) or '--gin'


def _find(path: str) -> pathlib.Path | None:
  """The file that gin would open for `path`."""
  for folder in gin.config._LOCATION_PREFIXES:
    if files_lib.is_file(found := os.path.join(folder, path)):
      return files_lib.path(found)
  return None


def _nearest(name: str, names: Collection[str]) -> str:
  close = difflib.get_close_matches(name, sorted(names), n=1)
  if close:
    return f', did you mean {close[0]}'
  return f', known are {", ".join(sorted(names))}' if names else ''


def _register(function: Callable[..., Any]) -> None:
  """Makes `function` known to gin, unless it is."""
  if gin.config._inverse_lookup(function) is None:
    gin.external_configurable(function)


def _as_flag(binding: str) -> str:
  name, sign, value = binding.partition('=')
  if not sign:
    return f'--gin_bindings={binding}'
  return f'--gin.{name.strip()}={value.strip()}'


def _quote_hint(binding: str) -> str:
  """Says how to write a string, when the value is none of gin's."""
  name, sign, value = map(str.strip, binding.partition('='))
  if not sign or not value:
    return ', expected NAME=value'
  try:
    gin.config.parse_value(value)
  except SyntaxError:
    if '"' not in value and "'" not in value:
      return f', a string needs its own quotes: \'--gin.{name}="{value}"\''
  except Exception:  # an unknown reference; gin's own words say it
    pass
  return ''


@contextlib.contextmanager
def _user_errors(
  where: str, hint: str = '', binding: str = ''
) -> Iterator[None]:
  """Turns what gin raises, all of it bad input, into one sentence."""
  try:
    yield
  except errors.UserError as error:
    # Gin appends the lines that include the file.
    raise errors.UserError(_PLACE.split(str(error))[0]) from error
  except Exception as error:
    place = _PLACE.search(str(error))
    if told := unreadable.told(error):
      raise errors.UserError(told) from error
    _check_names(error, where, place, binding)
    text = ' '.join(str(error).split()).rstrip('.')
    if isinstance(error, SyntaxError):
      line = (error.text or '').strip()
      why = f' ({" ".join(error.msg.split())})'
      if 'malformed' in why:  # it shows the address of a syntax tree
        include = line.startswith('include')
        why = '' if hint else ", expected include 'FILE'" if include else _VALUE
      line = f' in line {error.lineno}: {line}' if line else ''
      text = f'not gin syntax{line}{why}'
    elif isinstance(error, tokenize.TokenError):
      text = f'not gin syntax ({error.args[0]})'
    if len(text) > _LONGEST:
      text = f'{text[:_LONGEST]} …'
    raise errors.UserError(f'{where}: {text}{hint}.') from error


def _check_names(error, where, place, binding) -> None:
  """Says that an old name of a module is what gin fails at, if it is."""
  old_names.check_modules((), error)
  file, number, line = place.groups() if place else ('', '', '')
  if told := old_names.advice(binding or line):
    where = f'{file}:{number}' if file else where
    raise errors.UserError(f'{where}: {told}') from error


def _missing_value(text: str) -> str | None:
  """The sentence for a parameter without a value; None for other faults."""
  if text.startswith('Required bindings for '):
    name, parameters = re.match(
      r'Required bindings for `(.+?)` not provided in config: \[(.*)\]', text
    ).groups()
    return f'{name} needs a value for {parameters}.'
  missing = _MISSING.match(text)
  if missing and _CALL in text:
    configurable = text.split(_CALL)[1].partition("'")[0]
    if configurable.split('.')[-1] in missing[1].split('.'):
      return f'{configurable} needs a value for {missing[2]}.'
  return None
