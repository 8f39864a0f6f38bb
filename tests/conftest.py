"""Settings of the whole suite, made before anything imports jax.

They are environment variables, so that child processes (pytest-xdist workers,
the command-line doors, local multi-process runs) get the same ones.
"""

import atexit
import ctypes
import gc
import os
import shutil
import sys
import tempfile

import hypothesis
import psutil
import pytest

DEVICES = 8

if 'jax' in sys.modules:
  raise RuntimeError('jax was imported before tests/conftest.py set it up.')

os.environ['JAX_PLATFORMS'] = 'cpu'
# A silent (B, T) + (T,) has hidden many bugs: every broadcast is written out.
os.environ['JAX_NUMPY_RANK_PROMOTION'] = 'raise'
os.environ.setdefault('PROGRESS', '0')
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

# Compiling is most of the suite's time, and tiny models run fast anyway: LLVM
# leaves out its optimisations, and fusions are written by XLA's older emitters,
# which need a third of the time; XLA keeps its own optimisations.
# Those multiply and add in one instruction wherever two operations meet;
# without such instructions programs round alike, however operations are fused.
_XLA_FLAGS = {
  '--xla_force_host_platform_device_count': DEVICES,
  '--xla_backend_optimization_level': 0,
  '--xla_cpu_use_fusion_emitters': 'false',
  '--xla_cpu_max_isa': 'AVX',
}
_given = os.environ.get('XLA_FLAGS', '')
os.environ['XLA_FLAGS'] = ' '.join(
  [
    _given,
    *(f'{k}={v}' for k, v in _XLA_FLAGS.items() if k not in _given),
  ]
).strip()


def _share_compile_cache() -> None:
  """One compile cache for this run of the suite, removed at its end.

  The first process (pytest, or the controller of its workers) makes it; all
  others inherit its name. Set JAX_COMPILATION_CACHE_DIR to keep one.

  Small programs are in it, too: single operations are most of them, and one is
  read in a quarter of the time that it takes to compile.
  """
  if 'JAX_COMPILATION_CACHE_DIR' in os.environ:
    return
  folder = tempfile.mkdtemp(prefix='step_audio_jax_compile_cache_')
  os.environ['JAX_COMPILATION_CACHE_DIR'] = folder
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
  os.environ['JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES'] = '-1'
  owner = os.getpid()

  def remove():
    if os.getpid() == owner:
      shutil.rmtree(folder, ignore_errors=True)

  atexit.register(remove)


_share_compile_cache()

# Shared cores make single examples slow now and then: no deadlines. The same
# examples every time: a red suite can be repeated.
hypothesis.settings.register_profile(
  'suite', deadline=None, derandomize=True, print_blob=True
)
hypothesis.settings.load_profile('suite')


# These take longest. They are begun first: no worker is left with one of them
# when the others have nothing more to do.
_FIRST = (
  'tests/training/test_processes.py',
  'tests/data_pipelines/test_engines.py',
  'tests/benchmarks/test_benchmarks.py',
  'tests/training/test_loop.py',
  'tests/data_pipelines/factory/making/test_engines.py',
  'tests/training/objectives/test_lora.py',
)


def pytest_collection_modifyitems(config, items):
  """The files of `_FIRST` in front, all others as they are."""
  place = {config.rootpath / name: n for n, name in enumerate(_FIRST)}
  assert all(path.is_file() for path in place), _FIRST
  items.sort(key=lambda item: place.get(item.path, len(place)))


def pytest_collection_finish():
  """What importing has made is there for good: no collector looks at it again.

  With TensorFlow and JAX these are millions of objects, and Python would go
  through them all whenever tests have made some. Traced programs are many small
  objects, too, and stay: it looks at them less often.
  """
  gc.collect()
  gc.freeze()
  gc.set_threshold(20_000, 10, 10)


# Compiled programs stay in memory for good; a process that has met hundreds of
# models forgets them before the machine is full.
_MOST_BYTES = 4e9
_ROOM_BYTES = 1e9


@pytest.fixture(scope='session')
def most_bytes():
  """How large a process may grow: one number, which its modules change."""
  return [_MOST_BYTES]


@pytest.fixture(scope='module', autouse=True)
def forget_programs(most_bytes):
  """Drops jax's compiled programs behind a module, in a process grown large.

  A door tells malloc to keep what is freed. It has to be given back here: else
  the process stays large, and every later module compiles everything anew.
  """
  yield
  jax = sys.modules.get('jax')
  process = psutil.Process()
  if jax is not None and process.memory_info().rss > most_bytes[0]:
    jax.clear_caches()
    gc.collect()
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)  # glibc's alone
    if trim:
      trim(0)
    left = process.memory_info().rss
    most_bytes[0] = max(_MOST_BYTES, left + _ROOM_BYTES)


@pytest.fixture(scope='session')
def bucket_servers():
  """Servers of the stores' protocols, started when they are asked for."""
  from tests import stores

  with stores.Servers() as started:
    yield started


@pytest.fixture
def gs_folder(request, bucket_servers, monkeypatch):
  """A folder of a bucket that no other test uses."""
  from tests import stores

  name = f'{request.module.__name__}/{request.node.name.partition("[")[0]}'
  with stores.folder('gs', bucket_servers, name, monkeypatch) as folder:
    yield folder


@pytest.fixture
def s3_folder(request, bucket_servers, monkeypatch):
  """As `gs_folder`, of the other protocol."""
  from tests import stores

  name = f'{request.module.__name__}/{request.node.name.partition("[")[0]}'
  with stores.folder('s3', bucket_servers, name, monkeypatch) as folder:
    yield folder
