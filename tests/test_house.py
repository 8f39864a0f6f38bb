"""The shape of the house: who may import whom, and what an import costs."""

import ast
import functools
import json
import pathlib
import pkgutil
import subprocess
import sys
import time

import pytest

import data_pipelines
import step_audio_jax
from tests import house
import tpu_launch

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = (step_audio_jax, data_pipelines, tpu_launch)
# What has floors; tests may import anything.
BUILT = ('benchmarks', 'data_pipelines', 'step_audio_jax', 'tpu_launch')

# From the ground up. A folder belongs to the nearest wing above it, and a wing
# imports only from floors below its own. docs/architecture.md draws them.
FLOORS = (
  ('step_audio_jax', 'step_audio_jax/kernels'),
  (
    'step_audio_jax/storage',
    'step_audio_jax/parallel',
    'step_audio_jax/styles',
  ),
  (
    'step_audio_jax/chats',
    'step_audio_jax/audio',
    'step_audio_jax/commands',
    'step_audio_jax/endpoints',
    'step_audio_jax/tokenizers/text',
  ),
  ('step_audio_jax/models', 'step_audio_jax/corpus'),
  (
    'step_audio_jax/tokenizers/speech',
    'step_audio_jax/training',
    'data_pipelines',
    'tpu_launch',
  ),
  (
    'step_audio_jax/tokenizers',
    'step_audio_jax/generation',
    'step_audio_jax/plan',
    'data_pipelines/readers',
  ),
  (
    'step_audio_jax/decoder',
    'data_pipelines/ingestion',
    'data_pipelines/codes',
  ),
  (
    'step_audio_jax/dialogue',
    'step_audio_jax/evaluation',
    'step_audio_jax/interop',
    'data_pipelines/documents',
  ),
  (
    'step_audio_jax/alignment',
    'step_audio_jax/serving',
    'data_pipelines/benchmarks',
  ),
  ('data_pipelines/interleaving', 'data_pipelines/synthesis'),
  ('data_pipelines/tasks', 'data_pipelines/factory'),
  ('data_pipelines/rows',),
  ('data_pipelines/inspection', 'benchmarks'),
)
LONGEST, MEDIAN = 500, 170  # lines
PAGES = (
  'README.md',
  'CONTRIBUTING.md',
  *sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / 'docs').glob('*.md')),
)

# Slow, large or optional: only inside functions, and only where needed.
HEAVY = (
  'apache_beam',
  'seqio',
  'tensorflow',
  'tensorflow_datasets',
  'torch',
  'transformers',
)
ABOVE = (
  'step_audio_jax.alignment',
  'step_audio_jax.dialogue',
  'step_audio_jax.evaluation',
  'step_audio_jax.generation',
  'step_audio_jax.serving',
  'step_audio_jax.training',
)
# Folder → what nothing in it imports.
FORBIDDEN = {
  'step_audio_jax': ('benchmarks', 'data_pipelines', 'tests', 'tpu_launch'),
  'step_audio_jax/audio': (*ABOVE, 'step_audio_jax.models'),
  'step_audio_jax/models': (*ABOVE, 'step_audio_jax.tokenizers'),
  'step_audio_jax/kernels': (*ABOVE, 'step_audio_jax.models'),
  'step_audio_jax/training': (
    'step_audio_jax.evaluation',
    'step_audio_jax.models',
    'step_audio_jax.serving',
  ),
  'data_pipelines': ('benchmarks', 'tests', 'tpu_launch'),
  'tpu_launch': ('benchmarks', 'data_pipelines', 'tests'),
}
SOURCES = sorted(
  path.relative_to(ROOT).as_posix()
  for package in PACKAGES
  for path in pathlib.Path(package.__file__).parent.rglob('*.py')
)


@functools.cache
def built():
  return house.folder_graph(ROOT, *BUILT)


def is_under(module, prefix):
  return module == prefix or module.startswith(f'{prefix}.')


@pytest.mark.parametrize('path', SOURCES)
def test_arrows(path):
  for module, at_top in house.imports(ROOT / path):
    for folder, prefixes in FORBIDDEN.items():
      if path.startswith(f'{folder}/'):
        bad = [p for p in prefixes if is_under(module, p)]
        assert not bad, f'{path} imports {module}'
    if not path.startswith('data_pipelines/') and at_top:
      bad = [p for p in HEAVY if is_under(module, p)]
      assert not bad, f'{path} imports {module} at its top'
    if is_under(module, 'gin'):
      assert path == 'step_audio_jax/commands/gin_files.py', (
        f'{path} imports gin'
      )


@pytest.mark.parametrize('path', SOURCES)
def test_files_say_what_they_are(path):
  text = (ROOT / path).read_text(encoding='utf-8')
  assert ast.get_docstring(ast.parse(text)), f'{path} has no docstring'


def test_folders_have_no_circle():
  graph = built()
  assert 'step_audio_jax/training/feeds' in graph
  assert not house.circle(graph)


def test_no_arrow_runs_up():
  assert not house.climbing(built(), FLOORS)


def test_the_picture_shows_the_house():
  page = (ROOT / 'docs' / 'architecture.md').read_text(encoding='utf-8')
  floors, arrows = house.drawn(page)
  assert floors == [list(floor) for floor in FLOORS]
  graph = house.wings_graph(built(), FLOORS)
  assert arrows == house.reduced(graph)


@pytest.mark.parametrize('page', PAGES)
def test_pages_name_what_is_there(page):
  text = (ROOT / page).read_text(encoding='utf-8')
  assert not house.lost_names(ROOT, text)


def test_nothing_names_a_module_that_is_gone():
  sources = [p.as_posix() for p in house.files_of(ROOT, *BUILT)]
  known = house.modules_of(ROOT, *BUILT)
  lost = {}
  for path in (*PAGES, *sources):
    text = (ROOT / path).read_text(encoding='utf-8')
    if names := house.lost_modules(known, text):
      lost[path] = names
  assert not lost


def test_folders_and_files_are_small():
  assert not house.crowded(ROOT, *BUILT, 'tests')
  assert not house.namesakes(ROOT, *BUILT, 'tests')
  assert not house.long_files(
    ROOT, *BUILT, 'tests', most=LONGEST, median=MEDIAN
  )


@pytest.fixture
def bad(tmp_path):
  """Writes the files of a house that is badly built."""

  def write(**contents):
    for name, text in contents.items():
      path = tmp_path / f'{name.replace("__", "/")}.py'
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_text(text, encoding='utf-8')
    return tmp_path

  return write


def test_a_circle_is_found_and_told(bad):
  root = bad(
    a__x='from b import y\n',
    b__y='def f():\n  from c.d import z\n',
    c__d__z='import a.other\n',
    a__other='',
    e__top='from a.x import something\n',
  )
  told = house.circle(house.folder_graph(root, 'e', 'a', 'b', 'c'))
  assert told == [
    'a.x imports b.y',
    'b.y imports c.d.z',
    'c.d.z imports a.other',
  ]
  (root / 'c' / 'd' / 'z.py').write_text('import d.elsewhere\n')
  assert not house.circle(house.folder_graph(root, 'e', 'a', 'b', 'c'))


def test_doors_and_descriptions_stand_apart(bad):
  root = bad(a__x='from b import y\n', b__y='')
  (root / 'b' / '__main__.py').write_text('from a import x\n')
  (root / 'b' / '__init__.py').write_text('from a import x\n')
  assert not house.circle(house.folder_graph(root, 'a', 'b'))


def test_an_arrow_that_runs_up_or_sideways_is_found(bad):
  root = bad(
    a__x='', b__y='from a import x\nfrom c import z\n', b__in__w='', c__z=''
  )
  graph = house.folder_graph(root, 'a', 'b', 'c')
  assert not house.climbing(graph, [['a', 'c'], ['b']])
  (up,) = house.climbing(graph, [['a'], ['b'], ['c']])
  assert up == 'b (floor 1) stands on c (floor 2): b.y imports c.z'
  (sideways,) = house.climbing(graph, [['a'], ['b', 'c']])
  assert 'stands on c (floor 1)' in sideways
  with pytest.raises(AssertionError, match='c stands on no floor'):
    house.climbing(graph, [['a'], ['b']])


def test_a_picture_is_read_and_long_ways_imply_arrows():
  text = """
```mermaid
flowchart TB
  subgraph ground
    a/x
  end
  subgraph first
    b --> a/x
    c --> b & a/x
  end
```
"""
  floors, arrows = house.drawn(text)
  assert floors == [['a/x'], ['b', 'c']]
  assert arrows == {'a/x': set(), 'b': {'a/x'}, 'c': {'a/x', 'b'}}
  assert house.reduced(arrows)['c'] == {'b'}


def test_crowds_and_namesakes_are_found(bad):
  root = bad(**{f'a__b__{name}': '' for name in 'vwxyz'})
  assert house.crowded(root, 'a', most=4) == ['a/b: 5 files, at most 4']
  assert not house.crowded(root, 'a', most=5)
  bad(a__row_x='', a__row_y='', a__rows='', a__test_fbank='', a__fbank_z='')
  assert not house.namesakes(root, 'a')
  bad(a__row='', a__test_fbank_w='')
  assert house.namesakes(root, 'a') == [
    'a: fbank_z.py, test_fbank.py, test_fbank_w.py',
    'a: row.py, row_x.py, row_y.py',
  ]


def test_long_files_are_found(bad):
  root = bad(a__x='\n' * 5, a__y='\n' * 3, a__z='\n')
  assert not house.long_files(root, 'a', most=5, median=3)
  assert house.long_files(root, 'a', most=4, median=2) == [
    'a/x.py: 5 lines, at most 4',
    'the median is 3 lines, at most 2',
  ]


def test_lost_names_are_found(bad):
  root = bad(a__x='LIMIT = 3\nclass C:\n  def f(self): pass\ndef g(): pass\n')
  there = '`a/x.py` `a/` `a/*.py` `a/x.py::g` `a/x.py::C.f` `a/x.py::LIMIT`'
  there += ' `x.py` and `::C`'
  theirs = '`1/2` of `RUN/x.py`, `--z=a/y.py`, `codes/usage`, `/v1/x`'
  assert not house.lost_names(root, f'{there}, {theirs}')
  lost = ['a/y.py', 'y.py', 'docs/', 'b/*.py', 'a/x.py::C.g', '::f', 'b::g']
  text = ' '.join(f'`{name}`' for name in lost)
  assert house.lost_names(root, text) == lost


def test_lost_modules_are_found(bad):
  root = bad(a__b__x='class C:\n  size = 3\n', a__b__other='')
  (root / 'a' / 'b' / '__init__.py').write_text('')
  there = '`a.b`, `b.x`, `a.b.x.C`, `b.x.C.size`, `b.json`, `other.x`'
  known = house.modules_of(root, 'a')
  assert not house.lost_modules(known, there)
  lost = ['b.y', 'a.x', 'b.x.D', 'a.b.x.C.length']
  text = ' '.join(f'`{name}`' for name in lost)
  assert house.lost_modules(known, text) == lost


def test_the_name_gin_stays_free():
  # Our folder gin/ would hide the library of that name if it were a package.
  assert not list((ROOT / 'gin').rglob('*.py'))


def in_a_fresh_process(code):
  """The JSON that `code` prints last, in a Python that has loaded nothing."""
  done = subprocess.run(
    [sys.executable, '-c', code],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout.splitlines()[-1])


def test_import_is_fast_and_light():
  seconds = []
  for _ in range(3):
    began = time.monotonic()
    loaded = in_a_fresh_process(
      'import sys, json, step_audio_jax; print(json.dumps(list(sys.modules)))'
    )
    seconds.append(time.monotonic() - began)
    if seconds[-1] < 2:
      break
  assert min(seconds) < 2
  assert not {'jax', 'numpy', *HEAVY} & set(loaded)


def test_no_module_loads_anything_heavy():
  names = [
    module.name
    for module in pkgutil.walk_packages(
      step_audio_jax.__path__, 'step_audio_jax.'
    )
    if not module.name.endswith('__main__')
  ]
  assert 'step_audio_jax.training.run' in names
  loaded = in_a_fresh_process(
    'import importlib, json, sys\n'
    f'for name in {names!r}:\n'
    '  importlib.import_module(name)\n'
    'print(json.dumps(list(sys.modules)))'
  )
  assert set(names) <= set(loaded)
  assert not set(HEAVY) & set(loaded)
