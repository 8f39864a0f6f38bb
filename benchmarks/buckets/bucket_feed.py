"""Training rows where every request takes 20 ms, beside rows on this disk.

    python benchmarks/buckets/bucket_feed.py
    python benchmarks/buckets/bucket_feed.py --batch=32 --slow_percent=1
    python benchmarks/buckets/bucket_feed.py --server=gcs

The same rows of 8192 are fed by local files and by a store that is made up: it
waits so long (ten times as long where a request is slow), then gives the bytes
asked for; with `--server` it is a server of the real protocol behind a proxy
that waits, and the client is the real one. Both are read by one process as the
training loop does it, `training/placement.py::read_ahead`; they take turns.
Tokens a second, CPU time a row (of this process; that of a real client is in it
with `--server` alone), the most requests in flight, and how long a step waits
for its batch when it computes as long as 2 million tokens a second leave it.
Twenty batches of both are compared, bit for bit. The first batch at step 10
million is counted in requests. Needs the `data` extra. Prints one JSON line.
"""

import argparse
from concurrent import futures
import contextlib
import json
import os
import pathlib
import random
import statistics
import sys
import tempfile
import threading
import time

import numpy as np

# Run as a script, its folder would be looked in first, where a `google` lies.
sys.path[0] = str(pathlib.Path(__file__).parents[2])

from benchmarks import side_by_side  # noqa: E402
from benchmarks.buckets import faults  # noqa: E402
from benchmarks.buckets import servers  # noqa: E402
from benchmarks.pipelines import material  # noqa: E402
from step_audio_jax.storage import array_records  # noqa: E402
from step_audio_jax.storage import files  # noqa: E402
from step_audio_jax.training import placement  # noqa: E402
from step_audio_jax.training.feeds import feed as feed_lib  # noqa: E402

MUST = {'tokens_per_second': 2e6, 'requests_at_step_10m': 'one a row'}
LATE = 10_000_000


class Store:
  """Files as objects of a store that is far away.

  Attributes:
    requests: How many there were.
    most: How many were in flight at once, at most.
  """

  def __init__(self, seconds: float, slow: float = 0.0):
    self.requests = self.most = self._now = 0
    self._seconds, self._slow = seconds, slow
    self._dice, self._lock = random.Random(0), threading.Lock()
    self.threads = futures.ThreadPoolExecutor(64)

  def open(self, path: pathlib.Path) -> 'Object':
    return Object(self, path)

  def wait(self) -> None:
    with self._lock:
      self.requests += 1
      self._now += 1
      self.most = max(self.most, self._now)
      slow = self._dice.random() < self._slow
    time.sleep(self._seconds * (10 if slow else 1))
    with self._lock:
      self._now -= 1


class Object:
  """One of them; see `ranged.array_record.Source`."""

  def __init__(self, store: Store, path: pathlib.Path):
    self._store = store
    self._file = os.open(path, os.O_RDONLY)
    self.size = os.fstat(self._file).st_size

  def read(self, begin: int, end: int) -> bytes:
    self._store.wait()
    return os.pread(self._file, end - begin, begin)

  def read_many(self, spans) -> list[bytes]:
    if len(spans) == 1:
      return [self.read(*spans[0])]
    return list(self._store.threads.map(self.read, *zip(*spans)))


class Server:
  """A real server with the rows in a bucket; counts as `Store` does."""

  def __init__(self, front: faults.Front, bucket: str):
    self.bucket, self._front = bucket, front

  @property
  def requests(self) -> int:
    return self._front.count()

  @property
  def most(self) -> int:
    return self._front.most_under_way


@contextlib.contextmanager
def served(kind: str, folder: pathlib.Path, seconds: float):
  """A server that has what lies in `folder`, and answers late."""
  start = {'gcs': servers.gcs, 's3': servers.s3}[kind]
  with start(['rows']) as server, faults.front(server) as front:
    os.environ.update(front.environment)
    bucket = f'{"gs" if kind == "gcs" else kind}://rows'
    for path in files.list_files(folder):
      target = files.path(f'{bucket}/{path.relative_to(folder)}')
      files.write_bytes(target, path.read_bytes())
    front.set(delay=seconds, forget=True)
    yield Server(front, bucket)


def make_feed(folder: pathlib.Path, batch: int, store=None):
  """A feed of the rows in `folder`, as objects of a store if there is one."""
  if isinstance(store, Server):
    folder, store = store.bucket, None
  made = feed_lib.RowFeed(
    rows=str(folder), ratios={'continuation': 2, 'text': 1}, batch_size=batch
  )
  if store:
    for source in made.sources:
      shards = sorted(files.glob(source.folder, '*.array_record'))
      source.records = array_records.open_records(shards, store.open)
  return made


def speed(stream, first: int, steps: int) -> dict[str, float]:
  """Of batches that are taken as fast as they come."""
  batches = placement.read_ahead(
    stream.batch, range(first, first + steps), stream.read_ahead
  )
  wall, cpu = time.perf_counter(), time.process_time()
  rows = sum(len(batch['tokens']) for batch in batches)
  wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
  return {
    'tokens_per_second': rows * stream.length / wall,
    'cpu_ms_per_row': 1e3 * cpu / rows,
  }


def waits(stream, first: int, steps: int, seconds: float) -> list[float]:
  """How long each step waits for its batch, where it then takes `seconds`."""
  batches = placement.read_ahead(
    stream.batch, range(first, first + steps), stream.read_ahead
  )
  found = []
  for _ in range(steps):
    begin = time.perf_counter()
    next(batches)
    found.append(time.perf_counter() - begin)
    time.sleep(seconds)
  return found


def same(one, other) -> bool:
  """Whether two batches are equal to the bit."""
  return one.keys() == other.keys() and all(
    array.dtype == other[name].dtype and np.array_equal(array, other[name])
    for name, array in one.items()
  )


def measure(arguments, folder: pathlib.Path, store: Store | Server) -> dict:
  batch, steps = arguments.batch, arguments.steps
  begin = time.perf_counter()
  sides = {
    'local': make_feed(folder, batch),
    'far': make_feed(folder, batch, store),
  }
  opening, before = time.perf_counter() - begin, store.requests
  late = sides['far'].batch(LATE)
  at_late = store.requests - before
  equal = same(late, sides['local'].batch(LATE)) and all(
    same(sides['far'].batch(step), sides['local'].batch(step))
    for step in range(20)
  )
  told = {name: [] for name in sides}
  for number in range(arguments.rounds):
    for name, stream in sides.items():
      told[name].append(speed(stream, number * steps, steps))
  computes = batch * sides['far'].length / MUST['tokens_per_second']
  waited = {
    name: waits(stream, 0, steps, computes)[10:]
    for name, stream in sides.items()
  }
  result = {
    name: {
      key: round(statistics.median(one[key] for one in given), 3)
      for key in given[0]
    }
    for name, given in told.items()
  }
  for name, seconds in waited.items():
    result[name] |= {
      'wait_ms': round(1e3 * statistics.median(seconds), 3),
      'longest_wait_ms': round(1e3 * max(seconds), 3),
    }
  shards = len(list(files.glob(folder, '**/*.array_record')))
  rows = sum(map(len, sides['far'].sources))
  stored = sum(map(files.size, files.glob(folder, '**/*.array_record')))
  return result | {
    'server': arguments.server,
    'rows_per_batch': batch,
    'row_length': sides['far'].length,
    'latency_ms': arguments.latency_ms,
    'slow_percent': arguments.slow_percent,
    'kilobytes_per_row': round(stored / rows / 1e3, 1),
    'shards': shards,
    'opening_seconds': round(opening, 3),
    'requests_to_open': before,
    'requests_at_step_10m': at_late,
    'most_in_flight': store.most,
    'bit_equal': equal,
  }


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--batch', type=int, default=8, help='rows of a batch')
  parser.add_argument('--steps', type=int, default=200, help='of each round')
  parser.add_argument('--rounds', type=int, default=3, help='of both')
  parser.add_argument('--latency_ms', type=float, default=20.0)
  parser.add_argument(
    '--server', choices=('gcs', 's3'), help='a real one, in place of none'
  )
  parser.add_argument(
    '--slow_percent', type=float, default=0.0, help='of the requests'
  )
  parser.add_argument('--rows', type=int, default=400, help='of each task')
  parser.add_argument('--tiny', action='store_true', help='tries the logic')
  arguments = parser.parse_args()
  length = material.LENGTH
  if arguments.tiny:
    arguments.rows, arguments.steps, length = 20, 12, 512
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    material.write_rows(folder, arguments.rows, length)
    seconds, slow = arguments.latency_ms / 1e3, arguments.slow_percent / 100
    with (
      served(arguments.server, folder, seconds)
      if arguments.server
      else contextlib.nullcontext(Store(seconds, slow))
    ) as store:
      result = measure(arguments, folder, store)
  result |= {
    'must': MUST,
    'met': (
      result['far']['tokens_per_second'] >= MUST['tokens_per_second']
      and result['requests_at_step_10m'] <= arguments.batch
      and result['bit_equal']
    ),
    'machine': side_by_side.machine(1),
  }
  print(json.dumps({'benchmark': 'bucket_feed'} | result))


if __name__ == '__main__':
  main()
