"""What the house is like: its folders, the arrows between them, their sizes.

Each checker takes a root and gives what is wrong there, nothing if nothing is,
so that it can be tried on a house that is badly built.

A folder's own modules are one node, written as its path; its `__init__` and
`__main__`, which only say what it is and which doors it has, stand apart.
Folder a has an arrow to folder b where a module of a imports one of b, at its
top or inside a function.
"""

import ast
import collections
import functools
import pathlib
import re
import statistics
from typing import Iterator, Mapping, NamedTuple, Sequence

LIBRARY = 'step_audio_jax'
# The folders that a path of ours begins with.
HOUSE = (
  'benchmarks',
  'data_pipelines',
  'docs',
  'gin',
  'requirements',
  'step_audio_jax',
  'tests',
  'tpu_launch',
)
# Names of files, not of modules: `tokenizer.json`.
_ENDINGS = frozenset('html json jsonl model npy onnx pt py safetensors'.split())
APART = ('__init__', '__main__')

Graph = Mapping[str, Mapping[str, str]]
Floors = Sequence[Sequence[str]]


class Modules(NamedTuple):
  """The names of all folders, and the modules by every end of their names."""

  folders: set[str]
  paths: Mapping[str, Sequence[pathlib.Path]]


def files_of(root: pathlib.Path, *tops: str) -> list[pathlib.Path]:
  """The Python files below `root`'s folders `tops`."""
  return sorted(path for top in tops for path in (root / top).rglob('*.py'))


def imports(path: pathlib.Path) -> Iterator[tuple[str, bool]]:
  """(module or name, at the top of the file) for every import of a file."""
  tree = ast.parse(path.read_text(encoding='utf-8'))
  top = set(map(id, tree.body))
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      for alias in node.names:
        yield alias.name, id(node) in top
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{path}: relative import'
      for alias in node.names:
        yield f'{node.module}.{alias.name}', id(node) in top


def folder_graph(root: pathlib.Path, *tops: str) -> Graph:
  """Folder → folder → one import that makes the arrow, for messages."""
  modules = {
    '.'.join(path.relative_to(root).with_suffix('').parts): path
    for path in files_of(root, *tops)
    if path.stem not in APART
  }
  graph = {_folder_of(module): {} for module in modules}
  for module, path in modules.items():
    for name, _ in imports(path):
      # Either a module or something in one.
      target = name if name in modules else name.rpartition('.')[0]
      if target in modules and _folder_of(target) != _folder_of(module):
        arrows = graph[_folder_of(module)]
        arrows.setdefault(_folder_of(target), f'{module} imports {target}')
  return graph


def _folder_of(module: str) -> str:
  return module.rpartition('.')[0].replace('.', '/')


def circle(graph: Graph) -> list[str]:
  """The imports of one circle of folders, or nothing."""
  finished, path = set(), []

  def walk(folder) -> list[str]:
    if folder in path:
      ring = [*path[path.index(folder) :], folder]
      return [graph[a][b] for a, b in zip(ring, ring[1:], strict=False)]
    if folder in finished:
      return []
    path.append(folder)
    for target in graph.get(folder, ()):
      if found := walk(target):
        return found
    finished.add(path.pop())
    return []

  for folder in graph:
    if found := walk(folder):
      return found
  return []


def wing_of(folder: str, floors: Floors) -> str | None:
  """The wing that a folder belongs to: the nearest folder above that is one."""
  wings = {wing for floor in floors for wing in floor}
  while folder and folder not in wings:
    folder = folder.rpartition('/')[0]
  return folder or None


def wings_graph(graph: Graph, floors: Floors) -> Graph:
  """The graph of folders, with each wing as one node.

  Raises:
    AssertionError: A folder is part of no wing.
  """
  joined = {wing: {} for floor in floors for wing in floor}
  for folder, arrows in graph.items():
    wing = wing_of(folder, floors)
    assert wing, f'{folder} stands on no floor'
    for target, why in arrows.items():
      if wing_of(target, floors) != wing:
        joined[wing].setdefault(wing_of(target, floors), why)
  return joined


def climbing(graph: Graph, floors: Floors) -> list[str]:
  """Imports of a wing from one that is not on a floor below."""
  height = {wing: n for n, floor in enumerate(floors) for wing in floor}
  return [
    f'{wing} (floor {height[wing]}) stands on {target} '
    f'(floor {height[target]}): {why}'
    for wing, arrows in wings_graph(graph, floors).items()
    for target, why in arrows.items()
    if height[target] >= height[wing]
  ]


def reduced(graph: Graph) -> dict[str, set[str]]:
  """The arrows that no longer way round implies; the graph has no circle."""
  below: dict[str, set[str]] = {}

  def reach(node) -> set[str]:
    if node not in below:
      found = set(graph.get(node, ()))
      below[node] = found.union(*map(reach, found))
    return below[node]

  return {
    node: {
      target
      for target in arrows
      if not any(target in reach(other) for other in arrows)
    }
    for node, arrows in graph.items()
  }


def drawn(text: str) -> tuple[list[list[str]], dict[str, set[str]]]:
  """The floors and the arrows of the first Mermaid picture of a page."""
  picture = re.search(r'^```mermaid\n(.*?)^```', text, re.M | re.S)
  assert picture, 'no Mermaid picture'
  floors, arrows = [], {}
  for line in picture[1].splitlines():
    words = line.split()
    if words[:1] == ['subgraph']:
      floors.append([])
    elif floors and words and words[0] not in ('end', 'flowchart'):
      wing, _, targets = line.partition('-->')
      floors[-1].append(wing.strip())
      arrows[wing.strip()] = set(targets.replace('&', ' ').split())
  return floors, arrows


def crowded(root: pathlib.Path, *tops: str, most: int = 14) -> list[str]:
  """Folders with more than `most` Python files of their own."""
  counts = collections.Counter(p.parent for p in files_of(root, *tops))
  return [
    f'{folder.relative_to(root).as_posix()}: {count} files, at most {most}'
    for folder, count in sorted(counts.items())
    if count > most
  ]


def namesakes(root: pathlib.Path, *tops: str, most: int = 2) -> list[str]:
  """Siblings of whom more than `most` begin with the same word.

  They want a folder of that name. A test's word is the one behind `test_`.
  """
  siblings = collections.defaultdict(list)
  for path in files_of(root, *tops):
    if path.stem not in APART:
      word = path.stem.removeprefix('test_').partition('_')[0]
      siblings[path.parent, word].append(path.name)
  return [
    f'{folder.relative_to(root).as_posix()}: {", ".join(names)}'
    for (folder, _), names in sorted(siblings.items())
    if len(names) > most
  ]


def long_files(
  root: pathlib.Path, *tops: str, most: int, median: int
) -> list[str]:
  """Files of more than `most` lines, and a median above `median`."""
  lines = {
    path.relative_to(root).as_posix(): path.read_text('utf-8').count('\n')
    for path in files_of(root, *tops)
  }
  found = [
    f'{path}: {count} lines, at most {most}'
    for path, count in lines.items()
    if count > most
  ]
  middle = statistics.median(lines.values())
  if middle > median:
    found.append(f'the median is {middle:g} lines, at most {median}')
  return found


def lost_names(root: pathlib.Path, text: str) -> list[str]:
  """What a page names in code and the house does not have.

  A path begins in `root` or in the library, where `*` stands for any name and
  what is in capitals is the reader's to fill in. Behind `::` stands a name that
  is defined at the top of that file, or `Class.name`; with no path before it,
  it is the file's that was named last.
  """
  found, last = [], ''
  for word in _code_words(text):
    path, _, name = word.partition('::')
    path = path or last
    if not name and not _is_ours(root, path):
      continue
    there = _there(root, path)
    if not there or (name and name not in _defined(there[0])):
      found.append(word)
    if name or path.endswith('.py'):
      last = path
  return found


def _there(root: pathlib.Path, path: str) -> list[pathlib.Path]:
  patterns = [path.rstrip('/'), f'{LIBRARY}/{path.rstrip("/")}']
  if '/' not in path:
    # Not below folders that are hidden: a .venv is larger than the house.
    tops = sorted(p.name for p in root.iterdir() if p.is_dir())
    patterns += [f'{p}/**/{path}' for p in tops if not p.startswith('.')]
  return next(filter(None, (sorted(root.glob(p)) for p in patterns)), [])


def _is_ours(root: pathlib.Path, path: str) -> bool:
  if not re.fullmatch(r'[\w.*/-]+', path) or re.search('[A-Z]{2}.*/', path):
    return False
  first, slash, _ = path.partition('/')
  if path.endswith('.py') or first in HOUSE:
    return True
  # `/v1/models` is a place on a server.
  return bool(first and slash) and (root / LIBRARY / first).is_dir()


def modules_of(root: pathlib.Path, *tops: str) -> Modules:
  """What dotted names may be made of: see `Modules`."""
  folders, modules = set(), collections.defaultdict(list)
  for path in files_of(root, *tops):
    parts = path.relative_to(root).with_suffix('').parts
    folders.update(parts[:-1])
    parts = parts[:-1] if parts[-1] == '__init__' else parts
    for k in range(len(parts)):
      modules['.'.join(parts[k:])].append(path)
  return Modules(folders, modules)


def lost_modules(known: Modules, text: str) -> list[str]:
  """Dotted names in code, `wing.module.Name`, that the house does not have.

  They may begin at any of its folders, as in `feeds.feed.RowFeed`.
  """

  def is_there(parts) -> bool:
    for k in range(len(parts), 0, -1):
      for path in known.paths.get('.'.join(parts[:k]), ()):
        if k == len(parts) or '.'.join(parts[k:]) in _defined(path):
          return True
    return False

  found = []
  for word in re.findall(r'`([a-z_]\w*(?:\.\w+)+)`', text):
    parts = word.split('.')
    if parts[0] in known.folders and parts[-1] not in _ENDINGS:
      if not is_there(parts):
        found.append(word)
  return found


def _code_words(text: str) -> Iterator[str]:
  prose = re.sub(r'^```.*?^```', '', text, flags=re.M | re.S)
  for code in re.findall(r'`([^`\n]+)`', prose):
    yield from code.split()


@functools.cache
def _defined(path: pathlib.Path) -> set[str]:
  """Names defined at the top of a file and, dotted, in its classes."""
  names = set()

  def add(body, prefix=''):
    for node in body:
      if isinstance(node, ast.ClassDef):
        add(node.body, f'{prefix}{node.name}.')
      if isinstance(node, ast.ClassDef | ast.FunctionDef):
        names.add(f'{prefix}{node.name}')
      elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = getattr(node, 'targets', None) or [node.target]
        names.update(f'{prefix}{t.id}' for t in targets if hasattr(t, 'id'))

  add(ast.parse(path.read_text(encoding='utf-8')).body)
  return names
