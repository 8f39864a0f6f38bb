"""The shape of the house: who may import whom, and what an import costs."""

import ast
import json
import pathlib
import pkgutil
import subprocess
import sys
import time

import pytest

import data_pipelines
import step_audio_jax
import tpu_launch

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = (step_audio_jax, data_pipelines, tpu_launch)

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


def imports(path):
  """(module, at the top of the file) for every import of a file."""
  tree = ast.parse((ROOT / path).read_text(encoding='utf-8'))
  top = set(map(id, tree.body))
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      for alias in node.names:
        yield alias.name, id(node) in top
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{path}: relative import'
      for alias in node.names:
        yield f'{node.module}.{alias.name}', id(node) in top


def is_under(module, prefix):
  return module == prefix or module.startswith(f'{prefix}.')


@pytest.mark.parametrize('path', SOURCES)
def test_arrows(path):
  for module, at_top in imports(path):
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
def test_files_are_small_and_say_what_they_are(path):
  text = (ROOT / path).read_text(encoding='utf-8')
  assert text.count('\n') <= 600
  assert ast.get_docstring(ast.parse(text)), f'{path} has no docstring'


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
