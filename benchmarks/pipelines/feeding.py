"""The feed of built rows: its speed, its state, its order, its hosts."""

import hashlib
import json
import pathlib
import tempfile
import time

import numpy as np

from benchmarks.pipelines import material
from benchmarks.pipelines import processes

HOSTS = (1, 2, 4, 8)


def shares(tiny: bool) -> dict:
  from step_audio_jax.corpus import schedule
  from step_audio_jax.corpus import stages

  rng = np.random.default_rng(0)
  rows = 1000 if tiny else 10_000
  mixtures = {stage: table for stage, table in stages.STAGES.items()}
  for number in range(3 if tiny else 30):
    count = int(rng.integers(2, 9))
    mixtures[f'random {number}'] = {
      f's{k}': int(w) for k, w in enumerate(rng.integers(1, 40, count))
    }
  worst_rows = worst_share = 0.0
  for mixture in mixtures.values():
    order = schedule.Schedule(mixture)
    drawn = order.sources(0, rows)
    worst_rows = max(worst_rows, schedule.prefix_error(drawn, order.shares))
    found = np.bincount(drawn, minlength=len(order.names)) / rows
    wanted = np.array([float(share) for share in order.shares])
    worst_share = max(worst_share, float(np.abs(found - wanted).max()))
  changing = schedule.create(
    [(0, stages.STAGES['stage1']), (rows // 3, stages.STAGES['stage3'])]
  )
  drawn = changing.sources(0, rows)
  edges = [phase.start for phase in changing.phases] + [rows]
  curriculum = max(
    schedule.prefix_error(drawn[a:b], phase.shares)
    for phase, a, b in zip(changing.phases, edges, edges[1:])
  )
  follows = feed_follows(changing, rows)
  return {
    'rows': rows,
    'mixtures': len(mixtures),
    'worst_prefix_error_rows': round(worst_rows, 4),
    'worst_share_error': round(worst_share, 6),
    'curriculum_prefix_error_rows': round(curriculum, 4),
    'feed_follows': follows,
    'must': {'prefix_error_rows': 1, 'share_error': 1e-3},
    'met': max(worst_rows, curriculum) < 1 and worst_share <= 1e-3 and follows,
  }


def feed_follows(order, rows: int) -> bool:
  """Whether the batches of a feed have the sources that a schedule says."""
  from step_audio_jax.training.feeds import feed as feed_lib

  with tempfile.TemporaryDirectory() as folder:
    material.write_rows(pathlib.Path(folder), 3, 64, order.names)
    mixture = [
      (phase.start, dict(zip(order.names, phase.shares)))
      for phase in order.phases
    ]
    stream = feed_lib.RowFeed(rows=folder, ratios=mixture, batch_size=1)
    drawn = [stream.batch(step)['source'][0] for step in range(rows)]
  return bool(np.array_equal(drawn, order.sources(0, rows)))


def _feed(folder, batch_size, seed=0):
  from step_audio_jax.training.feeds import feed

  return feed.RowFeed(
    rows=str(folder),
    ratios={'continuation': 2, 'text': 1},
    batch_size=batch_size,
    seed=seed,
  )


def feed(tiny: bool) -> dict:
  processes.one_core()
  length = 512 if tiny else material.LENGTH
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    material.write_rows(folder, 20 if tiny else 400, length)
    stream, batch = _feed(folder, 8), 8
    for step in range(3):
      stream.batch(step)
    steps = 10 if tiny else 300
    begin = time.perf_counter()
    for step in range(steps):
      stream.batch(step)
    speed = steps * batch * length / (time.perf_counter() - begin)
    late = 10_000_000
    times = {0: [], late: []}
    for number in range(5 if tiny else 40):
      for first in times:
        again = _feed(folder, 8)  # a process that resumes
        begin = time.perf_counter()
        again.batch(first + number)
        times[first].append(time.perf_counter() - begin)
  resumed = float(np.median(times[late]) / np.median(times[0]))
  # What a checkpoint holds of the feed; see `training.loop`.
  state = len(json.dumps({'row': late * batch}))
  return {
    'row_length': length,
    'tokens_per_second': round(speed),
    'state_bytes': state,
    'first_batch_at_step_10m_to_step_0': round(resumed, 3),
    'must': {'tokens_per_second': 5e6, 'state_bytes': 1000, 'resume': 'O(1)'},
    'met': speed >= 5e6 and state < 1000 and resumed < 2,
  }


def hosts(tiny: bool) -> dict:
  steps = (0, 1, 7, 100_003)
  batch_size = 16
  with tempfile.TemporaryDirectory() as folder:
    material.write_rows(pathlib.Path(folder), 40, 256)
    whole = _feed(folder, batch_size)
    expected = [_digests(whole, step, 0, batch_size) for step in steps]
    found = {}
    for count in HOSTS[:2] if tiny else HOSTS:
      share = batch_size // count
      spans = [(host * share, host * share + share) for host in range(count)]
      told = [
        processes.run_part(
          'one_host', tiny, folder, json.dumps([batch_size, steps, *span])
        )
        for span in spans
      ]
      # Host by host, each with its digests by step → by step.
      found[count] = [sum(parts, []) for parts in zip(*told)]
  equal = {count: told == expected for count, told in found.items()}
  rows = {digest for batch in expected for digest in batch}
  return {
    'distinct_rows': len(rows),
    'identical': equal,
    'must': True,
    'met': all(equal.values()),
  }


def one_host(tiny: bool, folder: str, told: str) -> list:
  """Digests of the rows of one host, for each step."""
  del tiny
  batch_size, steps, start, stop = json.loads(told)
  stream = _feed(folder, batch_size)
  return [_digests(stream, step, start, stop) for step in steps]


def _digests(stream, step: int, start: int, stop: int) -> list[str]:
  """Of each row of a part of a global batch, all its arrays."""
  batch = stream.batch(step, start, stop)
  return [
    hashlib.sha256(
      b''.join(batch[name][row].tobytes() for name in sorted(batch))
    ).hexdigest()
    for row in range(stop - start)
  ]
