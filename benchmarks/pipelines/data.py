"""What the data side promises, measured: shares, padding, feed, build.

    python benchmarks/pipelines/data.py
    python benchmarks/pipelines/data.py --only=padding,feed

    shares    realised share of every source against the requested one, over
              all prefixes of each stage's schedule, of ratios drawn at random,
              and of a curriculum; and whether the feed's batches follow it
    padding   rows of 8192 from lengths uniform in 50..8192 (whole, or cut at
              groups as pretraining does) and from short utterances (whole),
              beside SeqIO's own packer on the same lengths
    feed      tokens a second from built rows, one core; bytes of state; the
              first batch of a feed at step 10 million against one at step 0
    build     `build` from cached codes, one core, once SeqIO is imported:
              tokens a second (those in rows, padding apart) and largest memory
              for a corpus and one four times as large
    packed    loss and gradients of packed ragged documents against each alone
    hosts     global batches put together from those of 1, 2, 4 and 8 hosts,
              a process each

Needs the `data` extra. Each part runs in a process of its own; prints one JSON
line with what must hold and whether it does. `--tiny` tries the logic only:
there SeqIO's packer is left out.
"""

import argparse
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import numpy as np

# Run as a script, the folder of the script is all that is looked in.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks import side_by_side  # noqa: E402

LENGTH = 8192
HOSTS = (1, 2, 4, 8)


def one_core() -> None:
  """This process and its threads stay on one core."""
  os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def peak_megabytes() -> float:
  """Largest resident set of this process; getrusage counts its parent's."""
  status = pathlib.Path('/proc/self/status').read_text()
  return int(re.search(r'VmHWM:\s+(\d+) kB', status)[1]) / 1024


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
    write_rows(pathlib.Path(folder), 3, 64, order.names)
    mixture = [
      (phase.start, dict(zip(order.names, phase.shares)))
      for phase in order.phases
    ]
    stream = feed_lib.RowFeed(rows=folder, ratios=mixture, batch_size=1)
    drawn = [stream.batch(step)['source'][0] for step in range(rows)]
  return bool(np.array_equal(drawn, order.sources(0, rows)))


def documents(sizes, cut):
  """Documents of so many random ids; `cut` is `Document.cut`."""
  from step_audio_jax import documents as documents_lib

  rng = np.random.default_rng(0)
  for number, size in enumerate(sizes.tolist()):
    yield documents_lib.Document(
      str(number),
      rng.integers(100, 70_000, size, dtype=np.int32),
      np.ones(size, np.float32),
      header=2 if cut else 0,
      cut=cut,
    )


def padding(tiny: bool) -> dict:
  from data_pipelines.rows import packing

  rng = np.random.default_rng(0)
  count = 300 if tiny else 6000
  # Speech of 1 to 12 s with its transcript and markers, in groups of 120 ms.
  groups = rng.integers(9, 100, 10 * count)
  uniform = rng.integers(50, LENGTH + 1, count)
  cases = {
    'pretraining': (uniform, 5, 0.02),
    'pretraining_whole': (uniform, 0, 0.02),
    'sft': (5 * groups + rng.integers(10, 60, 10 * count), 0, 0.05),
  }
  result = {'length': LENGTH}
  met = True
  known = {}  # lengths → SeqIO's figure
  for name, (sizes, cut, most) in cases.items():
    made = list(documents(sizes, cut))
    begin = time.perf_counter()
    rows = real = 0
    for row in packing.pack(made, LENGTH):
      rows += 1
      real += int((row.segment_ids > 0).sum())
    seconds = time.perf_counter() - begin
    ours = 1 - real / (rows * LENGTH)
    # Pieces repeat their header; nothing is lost.
    kept = real >= sizes.sum() if cut else real == sizes.sum()
    if not tiny and id(sizes) not in known:
      known[id(sizes)] = round(_seqio_padding(sizes), 5)
    result[name] = {
      'documents': len(sizes),
      'padding': round(ours, 5),
      'seqio_padding': known.get(id(sizes)),
      'tokens_per_second': round(real / seconds),
      'must': most,
      'met': bool(kept and ours <= most),
    }
    met &= result[name]['met']
  return {**result, 'met': met}


def _seqio_padding(sizes) -> float:
  """Share of padding that `seqio.trim_and_pack_dataset` leaves."""
  import seqio
  import tensorflow as tf

  tf.config.set_visible_devices([], 'GPU')
  data = tf.data.Dataset.from_generator(
    lambda: ({'targets': np.ones(size, np.int32)} for size in sizes.tolist()),
    output_signature={'targets': tf.TensorSpec([None], tf.int32)},
  )
  packed = seqio.trim_and_pack_dataset(data, {'targets': LENGTH})
  rows = real = 0
  for row in packed.as_numpy_iterator():
    rows += 1
    real += int((row['targets_segment_ids'] > 0).sum())
  return 1 - real / (rows * LENGTH)


def write_rows(
  folder: pathlib.Path, rows: int, length: int, tasks=('continuation', 'text')
) -> None:
  """Rows of several documents for each task."""
  from data_pipelines.rows import folders as rows_lib
  from data_pipelines.rows import packing
  from step_audio_jax import vocabulary

  rng = np.random.default_rng(0)
  for task in tasks:
    sizes = rng.integers(length // 8, length // 2, 4 * rows)
    packed = packing.pack(documents(sizes, 5), length)
    rows_lib.write(
      folder / task / 'train',
      (row for _, row in zip(range(rows), packed)),
      table=vocabulary.Vocabulary(),
      length=length,
      about={'task': task, 'split': 'train', 'dropped': 0},
      quarantine=[],
      image_shape=(),
    )


def _feed(folder, batch_size, seed=0):
  from step_audio_jax.training.feeds import feed

  return feed.RowFeed(
    rows=str(folder),
    ratios={'continuation': 2, 'text': 1},
    batch_size=batch_size,
    seed=seed,
  )


def feed(tiny: bool) -> dict:
  one_core()
  length = 512 if tiny else LENGTH
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    write_rows(folder, 20 if tiny else 400, length)
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


def make_corpus(folder: pathlib.Path, utterances: int) -> None:
  """Manifest, codes and a text model, as `ingest` and `tokenize` leave them."""
  from data_pipelines import records
  from data_pipelines.tasks import vocabulary as vocabulary_door
  from step_audio_jax.corpus import manifest
  from step_audio_jax.storage import files

  rng = np.random.default_rng(0)
  words = ('every', 'cat', 'hears', 'a', 'small', 'dog', 'sing', 'softly')
  groups = rng.integers(8, 140, utterances)  # 1 to 17 s

  def lines():
    for k, count in enumerate(groups.tolist()):
      said = ' '.join(words[i] for i in rng.integers(0, 8, count // 3 + 1))
      yield manifest.Utterance(
        id=f'u{k:07d}',
        text=said,
        audio=f'wav/{k}.flac',
        duration=0.12 * count,
        sample_rate=16000,
        speaker=f's{k // 50}',
      )

  manifest.write(folder / 'speech', lines())

  def packed(some):
    for k in some:
      count = int(groups[k])
      yield records.pack(
        {
          'linguistic': rng.integers(0, 1024, 2 * count).astype(np.uint16),
          'semantic': rng.integers(0, 4096, 3 * count).astype(np.uint16),
        },
        {'id': f'u{k:07d}'},
      )

  (folder / 'codes').mkdir()
  shards = -(-utterances // 500)
  for shard in range(shards):
    name = records.shard_name(manifest.CODES_STEM, shard, shards)
    some = range(500 * shard, min(500 * (shard + 1), utterances))
    records.write_shard(folder / 'codes' / name, packed(some))
  files.write_json(
    folder / 'codes' / 'stats.json', {'digest': 'made', 'kept': utterances}
  )
  (folder / 'text.model').write_bytes(vocabulary_door.train([' '.join(words)]))


def build(tiny: bool) -> dict:
  sizes = (50, 200) if tiny else (10_000, 40_000)
  found = []
  for utterances in sizes:
    with tempfile.TemporaryDirectory() as folder:
      make_corpus(pathlib.Path(folder), utterances)
      found.append(_child('build_one', tiny, folder))
  small, large = found
  told = large['tasks']
  tasks = {name: round(n / wall) for name, (n, wall, _) in told.items()}
  tokens, wall, cpu = map(sum, zip(*told.values()))
  growth = large['peak_megabytes'] / small['peak_megabytes']
  return {
    'utterances': sizes,
    'tokens': tokens,
    'tokens_per_second': round(tokens / wall),
    'tokens_per_cpu_second': round(tokens / cpu),
    'tokens_per_second_by_task': tasks,
    'megabytes_of_imports': [round(one['megabytes_before']) for one in found],
    'peak_megabytes': [round(one['peak_megabytes']) for one in found],
    'memory_growth': round(growth, 3),
    'must': {'tokens_per_second': 1e6, 'memory_growth': 1.1},
    'met': min(tasks.values()) >= 1e6 and growth <= 1.1,
  }


def build_one(tiny: bool, folder: str) -> dict:
  """Builds the tasks of one corpus in this process."""
  one_core()
  from data_pipelines.rows import build as build_lib
  from data_pipelines.tasks import corpora  # noqa: F401, takes seconds: TensorFlow
  from data_pipelines.tasks import definitions

  root = pathlib.Path(folder)
  tasks = {
    one.name: one
    for one in definitions.speech(
      'bench', root / 'speech', root / 'codes', root / 'text.model'
    )
  }
  settings = build_lib.Settings(1024 if tiny else LENGTH)
  told, before = {}, peak_megabytes()
  for name in ('continuation', 'interleaved', 'asr', 'tts'):
    task = {f'bench_{name}': tasks[f'bench_{name}']}
    begin = time.perf_counter(), time.process_time()
    made = build_lib.build(task, ['train'], root / 'rows', settings)
    seconds = time.perf_counter() - begin[0], time.process_time() - begin[1]
    stats = made[f'bench_{name}/train']
    told[name] = round(stats['tokens'] * (1 - stats['padding'])), *seconds
  return {
    'tasks': told,
    'megabytes_before': before,
    'peak_megabytes': peak_megabytes(),
  }


def packed(tiny: bool) -> dict:
  import jax
  import jax.numpy as jnp

  from data_pipelines.rows import packing
  from step_audio_jax import documents as documents_lib
  from step_audio_jax import vocabulary as vocabulary_lib
  from step_audio_jax.models.language import speech_text
  from step_audio_jax.models.language import transformer
  from step_audio_jax.training.feeds import feed as feed_lib
  from step_audio_jax.training.objectives import objectives

  rng = np.random.default_rng(0)
  table = vocabulary_lib.Vocabulary(80, 160, 40, 40)
  worst = {}
  for position in ('sqrt_alibi', 'rope'):
    objective = objectives.NextToken(
      speech_text.SpeechTextModel(
        speech_text.SpeechTextConfig(
          transformer.TransformerConfig(
            vocab_size=160, width=48, layers=2, heads=4, kv_heads=2,
            mlp_width=96, position=position,
          )
        )
      ),
      table,
    )  # fmt: skip
    sizes = rng.integers(1, 90, 12 if tiny else 40)
    made = [
      documents_lib.Document(
        str(k),
        rng.integers(70, 160, size).astype(np.int32),
        rng.uniform(0, 2, size).astype(np.float32),
      )
      for k, size in enumerate(sizes.tolist())
    ]

    def batch(rows):
      fields = ('tokens', 'segment_ids', 'loss_weights')
      value = {f: np.stack([getattr(r, f) for r in rows]) for f in fields}
      value['positions'] = feed_lib.positions(value['segment_ids'])
      return value | {'source': np.zeros(len(rows), np.int32)}

    length = 128
    together = batch(list(packing.pack(made, length)))
    alone = batch([packing.make_row([one], length) for one in made])
    from flax import linen as nn

    variables = nn.unbox(jax.jit(objective.init)(jax.random.key(0), together))

    def loss(params, rows, objective=objective, rest=variables):
      total, weight, _, _ = objective.loss(
        {**rest, 'params': params}, rows, jax.random.key(1)
      )
      return total / weight

    grad = jax.jit(jax.value_and_grad(loss))
    one, one_grads = grad(variables['params'], together)
    two, two_grads = grad(variables['params'], alone)
    difference = jax.tree.map(
      lambda a, b: float(jnp.max(jnp.abs(a - b))), one_grads, two_grads
    )
    worst[position] = {
      'rows': [len(together['tokens']), len(alone['tokens'])],
      'loss': float(abs(one - two)),
      'gradients': max(jax.tree.leaves(difference)),
      'largest_gradient': max(
        float(jnp.max(jnp.abs(g))) for g in jax.tree.leaves(two_grads)
      ),
    }
  most = max(max(w['loss'], w['gradients']) for w in worst.values())
  return {**worst, 'must': 1e-5, 'met': most <= 1e-5}


def hosts(tiny: bool) -> dict:
  steps = (0, 1, 7, 100_003)
  batch_size = 16
  with tempfile.TemporaryDirectory() as folder:
    write_rows(pathlib.Path(folder), 40, 256)
    whole = _feed(folder, batch_size)
    expected = [_digests(whole, step, 0, batch_size) for step in steps]
    found = {}
    for count in HOSTS[:2] if tiny else HOSTS:
      share = batch_size // count
      spans = [(host * share, host * share + share) for host in range(count)]
      told = [
        _child('one_host', tiny, folder, json.dumps([batch_size, steps, *span]))
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


PARTS = {
  'shares': shares,
  'padding': padding,
  'feed': feed,
  'build': build,
  'packed': packed,
  'hosts': hosts,
}


CHILDREN = {'build_one': build_one, 'one_host': one_host}


def _child(part: str, tiny: bool, *told: str):
  """What a part says, from a process of its own."""
  command = [sys.executable, __file__, f'--child={part}', *told]
  done = subprocess.run(
    command + ['--tiny'] * tiny,
    env={**os.environ, 'PROGRESS': '0', 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
  )
  if done.returncode:
    raise SystemExit(f'{part}: {done.stderr[-3000:]}')
  return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--only', default=','.join(PARTS), help='parts to run')
  parser.add_argument('--tiny', action='store_true', help='tries the logic')
  parser.add_argument('--child', help=argparse.SUPPRESS)
  parser.add_argument('told', nargs='*', help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.child:
    known = PARTS | CHILDREN
    print(json.dumps(known[arguments.child](arguments.tiny, *arguments.told)))
    return
  wanted = arguments.only.split(',')
  unknown = sorted(set(wanted) - set(PARTS))
  if unknown:
    raise SystemExit(
      f'--only: found {unknown[0]!r}, expected some of {", ".join(PARTS)}.'
    )
  result = {'benchmark': 'data'}
  for part in wanted:
    begin = time.perf_counter()
    result[part] = _child(part, arguments.tiny)
    result[part]['seconds'] = round(time.perf_counter() - begin, 1)
  result['met'] = all(result[part]['met'] for part in wanted)
  result['machine'] = side_by_side.machine(1)
  print(json.dumps(result))


if __name__ == '__main__':
  main()
