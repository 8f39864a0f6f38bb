"""What a Python text says by its imports, and what by names of its own.

A parameter, a variable or the target of a comprehension hides what was
imported by the same name outside: `documents.append(1)` speaks of a list where
the function has one.
"""

import ast
import contextlib
from typing import Iterator, NamedTuple

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class _Scope(NamedTuple):
  """Names of one scope.

  Attributes:
    imported: By its imports.
    own: All others that it binds.
    inner: Whether functions inside see them; not those of a class.
  """

  imported: set[str]
  own: set[str]
  inner: bool = True


def said(tree: ast.AST) -> list[ast.AST]:
  """Imports, and dotted names that no name of the text's own hides."""
  reader = _Reader()
  reader.visit(tree)
  return reader.found


def head(node: ast.expr) -> str:
  """The first word of a dotted name; empty for other expressions."""
  while isinstance(node, ast.Attribute):
    node = node.value
  return node.id if isinstance(node, ast.Name) else ''


class _Reader(ast.NodeVisitor):
  def __init__(self):
    self.found: list[ast.AST] = []
    self._scopes: list[_Scope] = []

  @contextlib.contextmanager
  def _inside(self, scope: _Scope) -> Iterator[None]:
    self._scopes.append(scope)
    yield
    self._scopes.pop()

  def _hidden(self, name: str) -> bool:
    for depth, scope in enumerate(reversed(self._scopes)):
      if depth and not scope.inner:
        continue
      if name in scope.imported or name in scope.own:
        return name not in scope.imported
    return False

  def visit(self, node: ast.AST) -> None:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
      self.found.append(node)
    elif isinstance(node, ast.Attribute) and not self._hidden(head(node)):
      self.found.append(node)
    if isinstance(node, (ast.Module, ast.ClassDef, *_FUNCTIONS)):
      self._visit_block(node)
    elif isinstance(node, _COMPREHENSIONS):
      own = set()
      for one in node.generators:
        own |= _stored(one.target)
      with self._inside(_Scope(set(), own)):
        self.generic_visit(node)
    else:
      self.generic_visit(node)

  def _visit_block(self, node) -> None:
    body = node.body if isinstance(node.body, list) else [node.body]
    # Decorators, defaults and annotations belong to what is around.
    for one in ast.iter_child_nodes(node):
      if one not in body:
        self.visit(one)
    scope = _scope(body, not isinstance(node, ast.ClassDef))
    if isinstance(node, _FUNCTIONS):
      scope.own.update(
        one.arg for one in ast.walk(node.args) if isinstance(one, ast.arg)
      )
    with self._inside(scope):
      for one in body:
        self.visit(one)


def _stored(node: ast.AST) -> set[str]:
  return {
    one.id
    for one in ast.walk(node)
    if isinstance(one, ast.Name) and not isinstance(one.ctx, ast.Load)
  }


def _scope(body: list[ast.AST], inner: bool) -> _Scope:
  """The names that statements bind, those of functions inside apart."""
  imported: set[str] = set()
  own: set[str] = set()
  foreign: set[str] = set()
  left = list(body)
  while left:
    node = left.pop()
    if isinstance(node, (ast.Import, ast.ImportFrom)):
      imported.update(
        one.asname or one.name.split('.')[0] for one in node.names
      )
    elif isinstance(node, (ast.Global, ast.Nonlocal)):
      foreign.update(node.names)
    elif isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
      own.add(getattr(node, 'name', ''))
      continue
    elif isinstance(node, _COMPREHENSIONS):
      for one in ast.walk(node):
        if isinstance(one, ast.NamedExpr):
          own |= _stored(one.target)
      continue
    elif isinstance(node, ast.Name):
      own |= _stored(node)
    else:
      # An exception or a pattern binds a name without a node of its own.
      named = getattr(node, 'name', None), getattr(node, 'rest', None)
      own.update(one for one in named if isinstance(one, str))
    left.extend(ast.iter_child_nodes(node))
  return _Scope(imported - foreign, own - foreign, inner)
