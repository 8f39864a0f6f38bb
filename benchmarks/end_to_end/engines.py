"""`tokenize` and `build` on every engine that runs here: the same bytes.

    python benchmarks/end_to_end/engines.py
    python benchmarks/end_to_end/engines.py --tokenizer=runs/mine/tokenizer
    python benchmarks/end_to_end/engines.py --server=gcs

Makes short utterances, of which some are no audio, and takes them through both
doors, each a process of its own as a user starts it: here, with DirectRunner,
with Dask and 1, 2 and 4 worker processes, and with Dask while one of two
workers is killed as soon as a third of the shards, or of the parts, stand.
Prints one JSON line: whether every output file is the same, byte for byte, but
for what a clock says in stats and receipts, whether all counts add up, and how
long each took. Imports and compilation are in the seconds. With `--server`
everything that is read and written lies in a bucket of a server that is
started here.
"""

import argparse
import contextlib
import fnmatch
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

# Run as a script, the folder of the script is all that is looked in.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

import numpy as np  # noqa: E402
import psutil  # noqa: E402
import soundfile  # noqa: E402

from benchmarks import side_by_side  # noqa: E402
from benchmarks.buckets import servers  # noqa: E402
from data_pipelines.tasks import vocabulary  # noqa: E402
from step_audio_jax.corpus import manifest  # noqa: E402
from step_audio_jax.storage import files  # noqa: E402

ROOT = pathlib.Path(__file__).parents[2]
RATE = 16000
WORDS = ('every', 'cat', 'hears', 'a', 'small', 'dog', 'sing', 'softly')
BROKEN = 401  # every so many-th recording is no audio
WAYS = {
  'here': [],
  'direct': ['--runner=DirectRunner'],
  'dask_1': ['--runner=DaskRunner', '--beam_option=--dask_workers=1'],
  'dask_2': ['--runner=DaskRunner', '--beam_option=--dask_workers=2'],
  'dask_4': ['--runner=DaskRunner', '--beam_option=--dask_workers=4'],
  'dask_2_killed': ['--runner=DaskRunner', '--beam_option=--dask_workers=2'],
}
KILLED = 'dask_2_killed'
CLOCK = ('worker_seconds', 'real_time_factor', 'seconds_spent')


def make_corpus(folder: pathlib.Path, count: int) -> None:
  """Noise of a third to one second with words; `text.model`."""
  rng = np.random.default_rng(0)
  (folder / 'wav').mkdir(parents=True)
  utterances = []
  for k in range(count):
    size = int(rng.integers(RATE // 3, RATE))
    path = folder / 'wav' / f'{k}.wav'
    if k % BROKEN == BROKEN - 1:
      path.write_bytes(b'no audio')
    else:
      soundfile.write(path, rng.normal(0, 0.1, size), RATE)
    utterances.append(
      manifest.Utterance(
        id=f'u{k:05d}',
        text=' '.join(WORDS[i] for i in rng.integers(0, 8, 3)),
        audio=f'wav/{k}.wav',
        duration=size / RATE,
        sample_rate=RATE,
        speaker=f's{k // 50}',
      )
    )
  manifest.write(folder, utterances)
  (folder / 'text.model').write_bytes(vocabulary.train([' '.join(WORDS)]))


def commands(corpus, output, tokenizer, settings, flags):
  """Door → its command, and the pattern of what it has finished."""
  door = [sys.executable, '-m', 'data_pipelines']
  return {
    'tokenize': (
      [
        *(*door, 'tokenize', '--json', f'--corpus={corpus}'),
        *(f'--tokenizer={tokenizer}', f'--output={output}/codes'),
        *(f'--shard_size={settings.shard_size}', *flags),
      ],
      'codes/codes-*.json',
    ),
    'build': (
      [
        *(*door, 'build', '--json', f'--speech={corpus}', '--name=engines'),
        *(f'--codes={output}/codes', f'--text_model={corpus}/text.model'),
        *('--tasks=engines_asr,engines_tts', '--length=512'),
        *(f'--parts={settings.parts}', f'--output={output}/rows', *flags),
      ],
      'rows/*/.*.parts/*/stats.json',
    ),
  }


def run(command, output, pattern, kill_at):
  """(what the door said, seconds, whether a worker was killed)."""
  begin, killed = time.perf_counter(), False
  with tempfile.TemporaryFile('w+') as told:
    process = subprocess.Popen(
      command,
      cwd=ROOT,
      stdout=told,
      stderr=subprocess.STDOUT,
      env={**os.environ, 'PROGRESS': '0', 'JAX_PLATFORMS': 'cpu'},
    )
    while process.poll() is None:
      time.sleep(0.02)
      stand = finished(output, pattern) if kill_at and not killed else 0
      if kill_at and stand >= kill_at and not killed:
        killed = kill_worker(process.pid)
    told.seek(0)
    text = told.read()
  if process.returncode:
    raise SystemExit(f'{" ".join(command)}: {text[-3000:]}')
  said = json.loads(text.splitlines()[-1])
  return said, time.perf_counter() - begin, killed


def finished(output: files.AnyPath, pattern: str) -> int:
  """How many files there are whose names are of a pattern."""
  if isinstance(output, pathlib.Path):
    return len(list(output.glob(pattern)))
  return len(fnmatch.filter(files.entries(output), pattern))


def kill_worker(pid: int) -> bool:
  """Kills one of the worker processes below a door."""
  for child in psutil.Process(pid).children(recursive=True):
    if 'spawn_main' in ' '.join(child.cmdline()):
      child.send_signal(signal.SIGKILL)
      return True
  return False


def digests(folder: files.AnyPath) -> dict[str, str]:
  """File → digest of its bytes, or of its JSON without what a clock says."""
  found = {}
  for path in sorted(files.list_files(folder)):
    raw = files.read_bytes(path)
    if path.suffix == '.json':
      raw = json.dumps(timeless(json.loads(raw)), sort_keys=True).encode()
    found[path.relative_to(folder).as_posix()] = hashlib.sha256(raw).hexdigest()
  return found


def timeless(told):
  if not isinstance(told, dict):
    return told
  return {k: timeless(v) for k, v in told.items() if k not in CLOCK}


def adds_up(said, count: int) -> bool:
  """Whether nothing was lost or counted twice."""
  codes, rows = said['tokenize'], said['build']
  return (
    codes['read'] == count == codes['kept'] + codes['quarantined']
    and codes['quarantined'] == count // BROKEN
    and all(
      task['documents'] + task['dropped'] == count for task in rows.values()
    )
  )


@contextlib.contextmanager
def in_bucket(kind: str, root: pathlib.Path, tokenizer: pathlib.Path):
  """(root, tokenizer) in a bucket of a server, with what lies in `root`."""
  start = {'gcs': servers.gcs, 's3': servers.s3}[kind]
  with start(['engines']) as server:
    os.environ.update(server.environment)
    os.environ['STEP_AUDIO_JAX_COPIES'] = str(root / 'copies')
    there = files.path(f'{"gs" if kind == "gcs" else kind}://engines')
    for source, name in (
      (root / 'speech', 'speech'),
      (tokenizer, 'tokenizer'),
    ):
      for path in files.list_files(source):
        files.put(path, there.joinpath(name, *path.relative_to(source).parts))
    yield there, there / 'tokenizer'


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument(
    '--tokenizer',
    default='runs/quickstart/tokenizer',
    help='folder of a tokenizer',
  )
  parser.add_argument('--utterances', type=int, default=2000)
  parser.add_argument('--shard_size', type=int, default=100)
  parser.add_argument('--parts', type=int, default=8)
  parser.add_argument('--ways', default=','.join(WAYS), help='some of them')
  parser.add_argument('--server', choices=('gcs', 's3'), help='of a bucket')
  settings = parser.parse_args()
  ways = settings.ways.split(',')
  found, times, added = {}, {}, {}
  with contextlib.ExitStack() as stack:
    root = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
    os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(root / 'cache'))
    make_corpus(root / 'speech', settings.utterances)
    tokenizer = pathlib.Path(settings.tokenizer).absolute()
    if settings.server:
      root, tokenizer = stack.enter_context(
        in_bucket(settings.server, root, tokenizer)
      )
    for way in ways:
      # The same paths, which some files hold.
      output, said, times[way] = root / 'made', {}, {}
      files.make_folder(output)
      made = commands(root / 'speech', output, tokenizer, settings, WAYS[way])
      for door, (command, pattern) in made.items():
        tasks = settings.utterances // settings.shard_size
        if door == 'build':
          tasks = 2 * settings.parts
        kill_at = max(tasks // 3, 1) if way == KILLED else 0
        said[door], seconds, killed = run(command, output, pattern, kill_at)
        times[way][door] = round(seconds, 1)
        if way == KILLED and not killed:
          raise SystemExit(f'{door}: no worker was there to be killed.')
      found[way] = digests(output)
      added[way] = adds_up(said, settings.utterances)
      files.remove_tree(output)
      print(f'{way}: {times[way]}', file=sys.stderr, flush=True)
  first = found[ways[0]]
  other = {
    way: sorted(
      name for name in {*first, *files} if first.get(name) != files.get(name)
    )
    for way, files in found.items()
  }
  together = hashlib.sha256(json.dumps(first, sort_keys=True).encode())
  result = {
    'benchmark': 'engines',
    'server': settings.server,
    'utterances': settings.utterances,
    'files': len(first),
    'sha256': together.hexdigest(),
    'different': {way: names for way, names in other.items() if names},
    'counts_add_up': added,
    'seconds': times,
    'met': not any(other.values()) and all(added.values()),
    'machine': side_by_side.machine(os.cpu_count()),
  }
  print(json.dumps(result))


if __name__ == '__main__':
  main()
