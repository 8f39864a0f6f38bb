"""Old names of modules in gin files and Python files: told, or read as new.

A user's file with an old name is refused in one sentence that says what to
write. A run's own `config.gin`, which nobody wrote by hand, is read as if it
had been written today. Names are taken from the text, not from what fails: an
old name that is a package today imports well, and fails somewhere else.
"""

import ast
import importlib
import io
import re
import sys
import tokenize
import traceback
from typing import IO, ClassVar, Iterable, Iterator, NamedTuple

from step_audio_jax import errors
from step_audio_jax.commands import moved
from step_audio_jax.commands import scopes
from step_audio_jax.storage import files

_IMPORT = re.compile(r'(?:from ([\w.]+) )?import ([\w.]+)(?: as (\w+))?')
_PACKAGES = ('step_audio_jax', 'data_pipelines', 'tpu_launch')
_OWN = ('config.gin', 'operative_config.gin')  # what a run writes
_BESIDE = ('config.json', 'resume.json', 'checkpoints')  # and what with them
_CAUGHT = {'ImportError', 'ModuleNotFoundError', 'Exception', 'BaseException'}
_SKIPPED = (tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT)


def _statement(module: str, name: str) -> str:
  folder, _, last = module.rpartition('.')
  written = f'from {folder} import {last}'
  return written if last == name else f'{written} as {name}'


def _new(old: str) -> str:
  """What an old name of a module is today, also of one that is a package."""
  return moved.new_name(old) or moved.place(old)


def _sentence(old: str, new: str, write: str) -> str:
  return f'{old} is now {new}; write "{write}".'


class Import(NamedTuple):
  """`from a.b import c as name`, or `import a.b.c`, which binds `a`.

  Attributes:
    line: Where, from 1.
    module: What is imported, dotted.
    name: What it is called from there on.
    path: What `name` stands for.
    plain: Whether it is `import` without `from`.
    span: Where it begins and ends in the text.
  """

  line: int
  module: str
  name: str
  path: str
  plain: bool
  span: tuple[int, int] = (0, 0)

  def renamed(self, new: str) -> str:
    """The statement to write in its place."""
    if self.plain and self.name == self.module.split('.')[0]:
      return f'import {new}'
    return _statement(new, self.name)


class Use(NamedTuple):
  """A dotted name, as `name.Class.parameter`.

  Attributes:
    line: Where, from 1.
    words: The name.
    span: Where it begins and ends in the text.
  """

  line: int
  words: str
  span: tuple[int, int] = (0, 0)


class Names(NamedTuple):
  """What a text says of modules.

  Attributes:
    imports: In the order of the text.
    uses: Those too.
  """

  imports: list[Import]
  uses: list[Use]

  def resolved(self) -> Iterator[tuple[Use, Import, str]]:
    """The names that an import gives, dotted from their package on."""
    bound = {one.name: one for one in self.imports}
    for use in self.uses:
      head, _, rest = use.words.partition('.')
      if head in bound:
        yield use, bound[head], f'{bound[head].path}.{rest}'

  def moved(self) -> set[Import]:
    """The imports of modules that are elsewhere."""
    found = {one for one in self.imports if moved.entry(one.module)}
    for _, one, name in self.resolved():
      if one.path == one.module == moved.entry(name):
        found.add(one)  # a package today
    return found

  def faults(self) -> list[tuple[int, str]]:
    """(line, what to say) of every old name, in order."""
    modules = self.moved()
    found = []
    for one in modules:
      new = _new(one.module)
      found.append((one.line, _sentence(one.module, new, one.renamed(new))))
    for use, one, name in self.resolved():
      old = moved.entry(name)
      if old and one not in modules:
        new = moved.place(old)
        module, rest = moved.split(new)
        last = module.rpartition('.')[2]
        if one.plain:
          write = f'import {module}" and "{new}'
        else:
          write = f'{_statement(module, last)}" and "{last}.{rest}'
        found.append((use.line, _sentence(old, new, write)))
    return sorted(found)


def in_gin(text: str) -> Names:
  """What a gin text says of modules, up to where it is no gin text."""
  names = Names([], [])
  starts = [0]
  for line in text.split('\n'):  # as `tokenize` counts, not as `splitlines`
    starts.append(starts[-1] + len(line) + 1)
  for statement in _statements(text):
    first, last = statement[0], statement[-1]
    span = (
      starts[first.start[0] - 1] + first.start[1],
      starts[last.end[0] - 1] + last.end[1],
    )
    words = ' '.join(t.string for t in statement).replace(' . ', '.')
    if found := _IMPORT.fullmatch(words):
      folder, module, alias = found.groups()
      whole = f'{folder}.{module}' if folder else module
      name = alias or (module if folder else module.split('.')[0])
      path = whole if folder or alias else name
      names.imports.append(
        Import(first.start[0], whole, name, path, not folder, span)
      )
    elif first.string != 'include':
      names.uses.extend(_uses(statement, starts))
  return names


def _statements(text: str) -> Iterator[list[tokenize.TokenInfo]]:
  statement: list[tokenize.TokenInfo] = []
  try:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
      if token.type in (tokenize.NEWLINE, tokenize.ENDMARKER):
        if statement:
          yield statement
        statement = []
      elif token.type not in _SKIPPED:
        statement.append(token)
  except (tokenize.TokenError, SyntaxError):
    # Gin says it, when it comes there: what is before must not stop it.
    if statement:
      yield statement


def _uses(statement, starts) -> Iterator[Use]:
  """Dotted names; scopes (`scope/`) and macros (`%NAME`) are none."""
  position = 0
  while position < len(statement):
    first = position
    if statement[first].type == tokenize.NAME:
      while (
        position + 2 < len(statement)
        and statement[position + 1].string == '.'
        and statement[position + 2].type == tokenize.NAME
      ):
        position += 2
      if position > first:
        begin, end = statement[first].start, statement[position].end
        yield Use(
          begin[0],
          ''.join(token.string for token in statement[first : position + 1]),
          (starts[begin[0] - 1] + begin[1], starts[end[0] - 1] + end[1]),
        )
    position += 1


def in_python(text: str) -> Names:
  """What a Python text says of modules; nothing where it is none."""
  names = Names([], [])
  try:
    tree = ast.parse(text)
  except (SyntaxError, ValueError):
    return names
  fallbacks = _fallbacks(tree)
  for node in scopes.said(tree):
    if node in fallbacks:
      continue
    if isinstance(node, ast.Attribute):
      if words := _dotted(node):
        names.uses.append(Use(node.lineno, words))
      continue
    for whole, alias in _imported(node):
      plain = isinstance(node, ast.Import)
      last = whole.split('.')[0 if plain else -1]
      path = last if plain and not alias else whole
      names.imports.append(
        Import(node.lineno, whole, alias or last, path, plain)
      )
  return names


def _imported(node: ast.AST) -> Iterator[tuple[str, str | None]]:
  """(dotted name, alias) of what a statement imports from elsewhere."""
  if isinstance(node, ast.Import):
    yield from ((one.name, one.asname) for one in node.names)
  elif isinstance(node, ast.ImportFrom) and not node.level:
    for one in node.names:
      yield f'{node.module}.{one.name}', one.asname


def _fallbacks(tree: ast.AST) -> set[ast.AST]:
  """Old names beside `except ImportError` whose new ones are tried there too.

  Before the handler they do no harm either, unless they are packages today:
  such a one imports well, and the handler is not reached.
  """
  found: set[ast.AST] = set()
  for node in ast.walk(tree):
    if not isinstance(node, ast.Try):
      continue
    tried = [inner for one in node.body for inner in ast.walk(one)]
    for handler in node.handlers:
      if handler.type is not None and not _CAUGHT.intersection(
        scopes.head(one) for one in ast.walk(handler.type)
      ):
        continue
      instead = list(ast.walk(handler))
      if any(_is_new(name, tried) for name in _imports(instead)):
        found.update(instead)
      found.update(
        one
        for one in tried
        if any(
          moved.entry(name) and _is_new(name, instead)
          for name in _imports([one])
        )
      )
  return found


def _imports(nodes: Iterable[ast.AST]) -> list[str]:
  return [name for one in nodes for name, _ in _imported(one)]


def _is_new(old: str, nodes: Iterable[ast.AST]) -> bool:
  """Whether an old name is imported here by its new one."""
  known = old in moved.table()
  new = moved.place(old) if known else moved.new_name(old)
  return new is not None and any(
    f'{one}.'.startswith(f'{new}.') or f'{new}.'.startswith(f'{one}.')
    for one in _imports(nodes)
  )


def _dotted(node: ast.expr) -> str:
  if isinstance(node, ast.Attribute):
    inner = _dotted(node.value)
    return f'{inner}.{node.attr}' if inner else ''
  return node.id if isinstance(node, ast.Name) else ''


def translated(text: str) -> str:
  """A gin text with today's names; what it calls modules stays."""
  names, edits = in_gin(text), set()
  modules = names.moved()
  for one in modules:
    edits.add((one.span, one.renamed(_new(one.module))))
  for use, one, name in names.resolved():
    new = moved.new_name(name)
    if new is None:
      continue
    # What the name of the import stands for from now on.
    place = one.path
    if one in modules and one.path == one.module:
      place = _new(one.module)
    inside = new.startswith(f'{place}.')
    edits.add((use.span, one.name + new[len(place) :] if inside else new))
    if not inside or (one.path != one.module and one not in modules):
      end = (one.span[1], one.span[1])
      edits.add((end, f'\nimport {moved.split(new)[0]}'))
  for (begin, end), words in sorted(edits, reverse=True):
    text = text[:begin] + words + text[end:]
  return text


class _Text(io.StringIO):
  """A file that was read, by the name that gin shows.

  Gin holds it open while it reads what it includes.
  """

  held: ClassVar[list['_Text']] = []

  def __init__(self, text: str, name: str):
    super().__init__(text)
    self.name = name
    self.held.append(self)

  def close(self):
    if self in self.held:
      self.held.remove(self)
    super().close()


def open_gin(path: str) -> IO[str]:
  """Opens a gin file for gin: a user's without old names, a run's in new ones.

  Raises:
    UserError: It is a user's and has old names, or includes itself.
  """
  names = [one.name for one in _Text.held]
  for place, name in enumerate(names):
    if files.is_file(name) and files.resolve(name) == files.resolve(path):
      by = ', '.join(names[place + 1 :])
      raise errors.UserError(
        f'{name}: includes itself{f" by way of {by}" if by else ""}.'
      )
  text = files.read_text(path, 'utf-8-sig')
  if not any(package in text for package in _PACKAGES):
    return _Text(text, path)
  if is_own(path):
    return _Text(translated(text), path)
  check(in_gin(text), path)
  return _Text(text, path)


def is_own(path: str) -> bool:
  """Whether a gin file is what a run wrote, in its folder."""
  file = files.path(path)
  return file.name in _OWN and any(
    files.exists(file.parent / name) for name in _BESIDE
  )


def check(names: Names, where: str) -> None:
  """Refuses old names.

  Args:
    names: Of a text.
    where: The file, for the message.

  Raises:
    UserError: There is one; the first is told.
  """
  for line, told in names.faults():
    raise errors.UserError(f'{where}:{line}: {told}')


def check_modules(
  modules: Iterable[str], error: BaseException | None = None
) -> None:
  """Refuses old names in Python modules of a user.

  Args:
    modules: Dotted names; those that are imported, and not the project's, are
      looked at.
    error: What an import raised; the files that it came through are looked at.

  Raises:
    UserError: There is one.
  """
  theirs = [one for one in modules if one.split('.')[0] not in _PACKAGES]
  paths = [getattr(sys.modules.get(one), '__file__', None) for one in theirs]
  frames = traceback.extract_tb(error.__traceback__) if error else []
  for path in (*paths, *(frame.filename for frame in reversed(frames))):
    if path and path.endswith('.py') and files.is_file(path):
      with tokenize.open(path) as handle:
        text = handle.read()
      if any(package in text for package in _PACKAGES):
        check(in_python(text), path)


def advice(line: str) -> str | None:
  """What to say of a line that gin refused, of a file or of the command line.

  There modules may be called by the ends of their names: `feed.WaveFeed.x`.
  """
  names = in_gin(line)
  for _, told in names.faults():
    return told
  for use in names.uses:
    parts = use.words.split('.')
    for old in moved.table():
      for count in range(1, len(parts)):
        if not f'.{old}'.endswith('.' + '.'.join(parts[:count])):
          continue
        new = moved.new_name('.'.join([old, *parts[count:]]))
        module, rest = moved.split(new) if new else ('', '')
        write = f'{module.rpartition(".")[2]}.{rest}'
        if rest and write != use.words and _has(module, rest.split('.')[0]):
          return _sentence(old, moved.place(old), write)
  return None


def _has(module: str, name: str) -> bool:
  return hasattr(importlib.import_module(module), name)
