"""Whatever a user names by a path goes through `storage.files`, nowhere else.

So that another store can stand behind a path, no other module opens, lists,
moves or removes files by itself.
"""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PACKAGES = ('step_audio_jax', 'data_pipelines', 'tpu_launch')
DOOR = 'step_audio_jax/storage/'
# The rooms behind the door.
ROOMS = ('claims', 'listing', 'moving', 'places', 'publishing')

MODULES = ('fcntl', 'glob', 'shutil', 'tempfile')
FUNCTIONS = {
  'io': ('open', 'FileIO'),
  'os': (
    *('access', 'chmod', 'link', 'listdir', 'lstat', 'makedirs', 'mkdir'),
    *('open', 'readlink', 'remove', 'removedirs', 'rename', 'renames'),
    *('replace', 'rmdir', 'scandir', 'stat', 'statvfs', 'symlink', 'truncate'),
    *('unlink', 'utime', 'walk', 'fwalk'),
  ),
  'os.path': (
    *('exists', 'getmtime', 'getsize', 'isdir', 'isfile', 'islink'),
    *('lexists', 'realpath', 'samefile'),
  ),
}
METHODS = (
  *('chmod', 'exists', 'glob', 'hardlink_to', 'is_dir', 'is_file'),
  *('is_symlink', 'iterdir', 'lstat', 'mkdir', 'read_bytes', 'read_text'),
  *('readlink', 'rename', 'resolve', 'rglob', 'rmdir', 'samefile', 'stat'),
  *('symlink_to', 'touch', 'unlink', 'walk', 'write_bytes', 'write_text'),
)
# They take open files, or look for a program.
NO_PATHS = ('shutil.copyfileobj', 'shutil.get_terminal_size', 'shutil.which')

# Libraries that take a name as well as an open file.
LIBRARIES = (
  *('ArrayRecordReader', 'ArrayRecordWriter', 'EventsWriter', 'FileReader'),
  *('Image.open', 'ParquetFile', 'ZipFile', 'load_file', 'np.fromfile'),
  *('np.load', 'np.memmap', 'np.save', 'np.savez', 'read_schema'),
  *('safe_open', 'save_file', 'SoundFile'),
)

# Place → why what it names is no path of a user.
EXCEPTIONS = {
  'step_audio_jax/commands/compiled.py: os.makedirs': (
    "a folder of this machine, for JAX's own cache of programs"
  ),
  'step_audio_jax/commands/compiled.py: os.stat': 'whose that folder is',
  'data_pipelines/notices.py: tempfile.TemporaryFile': (
    'holds what goes to standard error; nobody names it'
  ),
  'step_audio_jax/training/metrics.py: EventsWriter': (
    "TensorBoard's own writer, which opens its files by itself"
  ),
  'step_audio_jax/training/metrics.py: tempfile.TemporaryDirectory': (
    'where that writer writes what is uploaded to a bucket'
  ),
  'step_audio_jax/platforms.py: glob': 'the devices of the machine, in /dev',
  'step_audio_jax/interop/language/gguf_model.py: '
  'tempfile.TemporaryDirectory': (
    'holds the tokenizer of a file until it is imported'
  ),
  'step_audio_jax/serving/page/page.py: iterdir': (
    'files of the package, wherever it is installed'
  ),
  'step_audio_jax/serving/page/page.py: read_bytes': 'the same',
  'step_audio_jax/serving/sounds/encoding.py: SoundFile': (
    'writes into memory'
  ),
  'tpu_launch/recipes/adapt.py: tempfile.TemporaryDirectory': (
    'what a dry run makes, and removes'
  ),
}


def found(text):
  """(line, what) for every call that reaches for files by itself."""
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.ImportFrom) and node.module in FUNCTIONS:
      for alias in node.names:
        if alias.name in FUNCTIONS[node.module]:
          yield node.lineno, f'{node.module}.{alias.name}'
    if isinstance(node, ast.Call) and (name := _name(node)):
      if not _is_devnull(node):
        yield node.lineno, name


def named(text):
  """(line, what) for every library that opens what is no file of `files`."""
  for function in ast.walk(ast.parse(text)):
    if not isinstance(function, ast.FunctionDef):
      continue
    ours = {
      name.id
      for node in ast.walk(function)
      if isinstance(node, ast.withitem) and node.optional_vars is not None
      if 'files.' in ast.unparse(node.context_expr)
      for name in ast.walk(node.optional_vars)
      if isinstance(name, ast.Name)
    }
    for call in ast.walk(function):
      if isinstance(call, ast.Call) and call.args:
        what = ast.unparse(call.func)
        if any(f'.{what}'.endswith(f'.{name}') for name in LIBRARIES):
          names = {n.id for n in ast.walk(call.args[0]) if hasattr(n, 'id')}
          if not names & ours:
            yield call.lineno, what.split('.')[-1]


def _name(call):
  function = call.func
  if isinstance(function, ast.Name):
    return 'open' if function.id == 'open' else None
  if not isinstance(function, ast.Attribute):
    return None
  owner, name = ast.unparse(function.value), function.attr
  if owner in ('ast', 'files', 'files_lib'):
    return None
  whole = f'{owner}.{name}'
  if owner in MODULES:
    return None if whole in NO_PATHS else whole
  if owner in FUNCTIONS:
    return whole if name in FUNCTIONS[owner] else None
  if name in METHODS:
    return name
  if name == 'replace' and len(call.args) == 1 and not call.keywords:
    return name  # of texts it takes two
  if name == 'open' and _is_mode(call):
    return name  # of archives and images it takes a file
  return None


def _is_mode(call):
  """Whether a method `open` is called as that of a path."""
  if call.args:
    first = call.args[0]
    text = first.value if isinstance(first, ast.Constant) else None
    return isinstance(text, str) and not text.strip('rwxabt+')
  return all(k.arg in ('mode', 'buffering', 'encoding') for k in call.keywords)


def _is_devnull(call):
  return bool(call.args) and ast.unparse(call.args[0]) == 'os.devnull'


def sources():
  for package in PACKAGES:
    for path in sorted((ROOT / package).rglob('*.py')):
      name = path.relative_to(ROOT).as_posix()
      if not name.startswith(DOOR):
        yield name, path.read_text(encoding='utf-8')


@pytest.mark.parametrize(
  'text',
  [
    'open(path)',
    'io.open(path)',
    "path.open('rb')",
    'path.open()',
    "path.open(mode='w')",
    'os.replace(a, b)',
    'from os import replace',
    'os.path.isfile(a)',
    'os.scandir(a)',
    'with os.scandir(a) as b: pass',
    'shutil.rmtree(a)',
    'shutil.copy(a, b)',
    'tempfile.mkdtemp()',
    'tempfile.TemporaryDirectory(dir=a)',
    'glob.glob(a)',
    'fcntl.flock(a, fcntl.LOCK_EX)',
    'x = (a / b).exists()',
    'any(a.is_file() for a in b)',
    'list(a.iterdir())',
    "a.glob('*')",
    'a.replace(b)',
    'a.mkdir(exist_ok=True)',
    'a.unlink(missing_ok=True)',
    "a.read_text(encoding='utf-8')",
    'a.stat().st_size',
    'a.resolve()',
    'a(b).touch()',
  ],
)
def test_the_finder_finds(text):
  assert len(list(found(text))) == 1


@pytest.mark.parametrize(
  'text',
  [
    'files.glob(a, b)',
    'files.exists(a)',
    "text.replace('a', 'b')",
    'dataclasses.replace(a, b=1)',
    'gzip.open(handle)',
    "tarfile.open(fileobj=handle, mode='r|')",
    'archive.open(names[0])',
    "ts.open({'driver': 'zarr'}).result()",
    "open(os.devnull, 'w')",
    'os.open(os.devnull, os.O_RDWR)',
    'os.fstat(descriptor)',
    'os.fsync(handle.fileno())',
    'os.path.join(a, b)',
    "shutil.which('git')",
    'shutil.copyfileobj(a, b)',
    'jax.tree.map(f, a)',
  ],
)
def test_the_finder_leaves_the_rest(text):
  assert not list(found(text))


@pytest.mark.parametrize(
  ('text', 'count'),
  [
    ('np.load(path)', 1),
    ('zipfile.ZipFile(str(path))', 1),
    ('return array_record_module.ArrayRecordReader(str(path))', 1),
    ('with files.opened(path) as handle: np.load(handle)', 0),
    ('with files.opened(path) as handle: np.load(path)', 1),
    ('with files.as_local(path) as name: ArrayRecordReader(name)', 0),
    ('with a or files.open_read(b) as c, Image.open(c) as d: pass', 0),
    ('overload(path)', 0),
  ],
)
def test_the_finder_finds_libraries(text, count):
  assert len(list(named(f'def f():\n  {text}'))) == count


def test_nothing_else_opens_lists_moves_or_removes_files():
  places = [
    (name, line, what)
    for name, text in sources()
    for line, what in (*found(text), *named(text))
  ]
  wrong = [
    f'{name}:{line}: {what}'
    for name, line, what in places
    if f'{name}: {what}' not in EXCEPTIONS
  ]
  assert not wrong, '\n'.join(['use storage.files instead:', *wrong])
  # Reasons do not outlive what they are for.
  assert set(EXCEPTIONS) == {
    one for name, _, what in places if (one := f'{name}: {what}') in EXCEPTIONS
  }


def test_only_the_door_leads_into_the_rooms():
  for name, text in sources():
    for node in ast.walk(ast.parse(text)):
      if isinstance(node, ast.ImportFrom):
        if node.module == 'step_audio_jax.storage':
          taken = {alias.name for alias in node.names}
          assert not taken & set(ROOMS), f'{name}:{node.lineno}'
