r"""Runs that lie in a bucket: checkpoints, faults and kills, two at once.

    python benchmarks/buckets/runs.py --part=checkpoint
    python benchmarks/buckets/runs.py --part=storm --kills=20 --chance=0.05
    python benchmarks/buckets/runs.py --part=twins

`checkpoint` saves and restores a state of 1 GB in an emulator of Google Cloud
Storage through `training/checkpoints`, and by Orbax's own manager by hand; they
take turns, and the ratio of the medians counts. `storm` trains a small model
once in peace on this disk, and once with everything in a bucket whose server
fails at random, while the process is killed at random moments and the same
command started again: parameters and log lines have to be equal to the bit, and
nothing may be left over that a sweep does not name. `twins` starts two
processes on one run directory at once. Needs the `test` extra. Prints one JSON
line.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

# Run as a script, the folder of the script is all that is looked in; here it
# has a `google.py`.
sys.path[0] = str(pathlib.Path(__file__).parents[2])

from benchmarks.buckets import faults  # noqa: E402
from benchmarks.buckets import rules  # noqa: E402
from benchmarks.buckets import servers  # noqa: E402
from step_audio_jax.storage import files  # noqa: E402

MUST = {
  'checkpoint': 'both ratios <= 1.3',
  'storm': 'bit-equal, no strays',
  'twins': 'one runs, the other names it',
}
BUCKET = 'runs'
_GIN = """
from __gin__ import dynamic_registration
from step_audio_jax import vocabulary
from step_audio_jax.models.language import speech_text
from step_audio_jax.models.language import transformer
from step_audio_jax.training.feeds import feed
from step_audio_jax.training import loop
from step_audio_jax.training.objectives import objectives
from step_audio_jax.training import optimizers
from step_audio_jax.training import run
ROWS = %gin.REQUIRED
RUN_DIR = %gin.REQUIRED
transformer.TransformerConfig:
  vocab_size = 70656
  width = 16
  layers = 1
  heads = 2
  kv_heads = 1
  mlp_width = 16
speech_text.SpeechTextConfig.transformer = @transformer.TransformerConfig()
speech_text.SpeechTextModel.config = @speech_text.SpeechTextConfig()
objectives.NextToken:
  model = @speech_text.SpeechTextModel()
  vocabulary = @vocabulary.Vocabulary()
feed.RowFeed:
  rows = %ROWS
  ratios = {'continuation': 2, 'text': 1}
  batch_size = 3
optimizers.OptimizerConfig.learning_rate = 0.01
loop.LoopConfig:
  steps = STEPS
  log_every = 1
  checkpoint_every = 5
run.train:
  run_dir = %RUN_DIR
  objective = @objectives.NextToken()
  feed = @feed.RowFeed()
  optimizer = @optimizers.OptimizerConfig()
  config = @loop.LoopConfig()
"""


def command(gin: pathlib.Path, rows: str, run: str) -> list[str]:
  """The command that makes, or continues, a run."""
  return [
    *(sys.executable, '-m', 'step_audio_jax', 'train', f'--gin_file={gin}'),
    *(f'--gin.ROWS="{rows}"', f'--gin.RUN_DIR="{run}"'),
  ]


def prepare(folder: pathlib.Path, steps: int) -> pathlib.Path:
  """Rows and a gin file; returns the file."""
  from benchmarks.pipelines import material

  material.write_rows(folder / 'rows', 60, 64)
  path = folder / 'tiny.gin'
  path.write_text(_GIN.replace('STEPS', str(steps)))
  return path


def upload(folder: pathlib.Path, target: str) -> None:
  """Copies a folder into a bucket."""
  for path in files.list_files(folder):
    files.put(path, files.path(f'{target}/{path.relative_to(folder)}'))


def log_lines(run) -> list[dict]:
  """The log lines, without what a clock and a store say."""
  text = files.read_text(files.path(run) / 'metrics.jsonl')
  return [
    {k: v for k, v in line.items() if not k.startswith(('through', 'store'))}
    for line in map(json.loads, text.splitlines())
  ]


def same_parameters(one, two) -> bool:
  """Whether the newest checkpoints of two runs are equal to the bit."""
  from step_audio_jax.training.checkpoints import checkpoints
  from step_audio_jax.training.transfer import transfer

  left, right = (
    transfer.flatten(checkpoints.load_variables(run)[0]) for run in (one, two)
  )
  return left.keys() == right.keys() and all(
    np.array_equal(left[key], right[key]) for key in left
  )


def storm(arguments, folder: pathlib.Path) -> dict:
  """A run in a bad bucket that is killed, beside one in peace."""
  gin = prepare(folder, arguments.steps)
  calm, run = folder / 'calm', f'gs://{BUCKET}/killed'
  environment = {
    **os.environ,
    'JAX_COMPILATION_CACHE_DIR': str(folder / 'compiled'),
  }
  subprocess.run(
    command(gin, str(folder / 'rows'), str(calm)), env=environment, check=True
  )
  dice = random.Random(arguments.seed)
  with servers.gcs([BUCKET]) as server, faults.front(server) as front:
    os.environ.update(front.environment)
    environment.update(front.environment)
    upload(folder / 'rows', f'gs://{BUCKET}/rows')
    front.set(
      rules=rules.storm(arguments.chance), seed=arguments.seed, forget=True
    )
    argv, kills, lives = command(gin, f'gs://{BUCKET}/rows', run), 0, 0
    begin, statuses = time.monotonic(), []
    while True:
      lives += 1
      process = subprocess.Popen(argv, env=environment)
      if kills < arguments.kills:
        try:
          process.wait(dice.uniform(3, arguments.longest))
        except subprocess.TimeoutExpired:
          process.kill()
          process.wait()
          kills += 1
          continue
      status = process.wait()
      statuses.append(status)
      if status == 0 or len(statuses) > 5:
        break
    struck = sum(1 for asked in front.asked if asked.fault)
    front.set(rules=[])
    left = [str(path) for path in files.list_files(files.path(run))]
    strays = [
      path
      for path in left
      if path.endswith(('.tmp', '.lock')) or '.tmp/' in path
    ]
    return {
      'steps': arguments.steps,
      'kills': kills,
      'lives': lives,
      'faults': struck,
      'requests': front.count(),
      'last_status': statuses[-1],
      'parameters_bit_equal': same_parameters(calm, run),
      'log_bit_equal': log_lines(calm) == log_lines(run),
      'objects': len(left),
      'strays': strays,
      'seconds': round(time.monotonic() - begin, 1),
    }


def twins(arguments, folder: pathlib.Path) -> dict:
  """Two processes on one run directory at once."""
  gin = prepare(folder, arguments.steps)
  found = []
  with servers.gcs([BUCKET]) as server:
    os.environ.update(server.environment)
    upload(folder / 'rows', f'gs://{BUCKET}/rows')
    for trial in range(arguments.trials):
      argv = command(gin, f'gs://{BUCKET}/rows', f'gs://{BUCKET}/run{trial}')
      both = [
        subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
      ]
      told = [process.communicate()[1] for process in both]
      ends = [process.returncode for process in both]
      sentence = next(
        (t.strip().splitlines()[-1] for t, end in zip(told, ends) if end), ''
      )
      found.append({'ends': sorted(ends), 'told': sentence})
  return {
    'trials': len(found),
    'one_ran': sum(one['ends'] == [0, 2] for one in found),
    'named': sum('another process is writing' in one['told'] for one in found),
    'found': found,
  }


def checkpoint(arguments, folder: pathlib.Path) -> dict:
  """Our save and restore of a state, and Orbax's by hand."""
  del folder
  import jax
  import jax.numpy as jnp
  import orbax.checkpoint as ocp

  from step_audio_jax.training.checkpoints import checkpoints
  from step_audio_jax.training.checkpoints import remote

  size = int(arguments.gigabytes * 1e9 / 4 / 16)
  state = {
    f'w{k}': jnp.asarray(np.random.default_rng(k).normal(size=size), 'float32')
    for k in range(16)
  }
  empty = jax.tree.map(jnp.zeros_like, state)
  seconds: dict[str, list[float]] = {}

  def timed(name, function):
    begin = time.monotonic()
    out = function()
    seconds.setdefault(name, []).append(time.monotonic() - begin)
    return out

  def ours(run):
    store = checkpoints.Checkpoints(run)

    def save():
      store.save(1, {'params': state}, None, {'row': 0})
      store.check()
      store._manager.wait_until_finished()

    timed('save', save)
    out = timed('restore', lambda: store.restore({'params': empty}, None))
    store.close()
    assert all(np.array_equal(out[1]['params'][k], state[k]) for k in state)

  def by_hand(run):
    manager = ocp.CheckpointManager(remote.for_orbax(f'{run}/checkpoints'))

    def save():
      manager.save(
        1,
        args=ocp.args.Composite(
          variables=ocp.args.StandardSave({'params': state}),
          data=ocp.args.JsonSave({'row': 0}),
        ),
      )
      manager.wait_until_finished()

    def restore():
      return manager.restore(
        1,
        args=ocp.args.Composite(
          variables=ocp.args.StandardRestore({'params': empty}),
          data=ocp.args.JsonRestore(),
        ),
      )

    timed('save_by_hand', save)
    timed('restore_by_hand', restore)
    manager.close()

  with servers.gcs([BUCKET]) as server:
    os.environ.update(server.environment)
    for trial in range(arguments.trials):
      both = [('ours', ours), ('hand', by_hand)]
      for name, work in both[:: 1 if trial % 2 else -1]:
        run = f'gs://{BUCKET}/{name}{trial}'
        work(run)
        files.remove_tree(files.path(run))
  medians = {k: statistics.median(v) for k, v in seconds.items()}
  return {
    'gigabytes': arguments.gigabytes,
    'seconds': {k: [round(x, 2) for x in v] for k, v in seconds.items()},
    'save_ratio': round(medians['save'] / medians['save_by_hand'], 3),
    'restore_ratio': round(medians['restore'] / medians['restore_by_hand'], 3),
  }


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parts = {'checkpoint': checkpoint, 'storm': storm, 'twins': twins}
  parser.add_argument('--part', choices=parts, required=True)
  parser.add_argument('--steps', type=int, default=200)
  parser.add_argument('--kills', type=int, default=20)
  parser.add_argument('--chance', type=float, default=0.05, help='Of a fault.')
  parser.add_argument(
    '--longest', type=float, default=25.0, help='Life before a kill, seconds.'
  )
  parser.add_argument('--trials', type=int, default=4)
  parser.add_argument('--gigabytes', type=float, default=1.0)
  parser.add_argument('--seed', type=int, default=0)
  arguments = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    found = parts[arguments.part](arguments, pathlib.Path(folder))
  told = {'benchmark': 'bucket_runs', 'part': arguments.part, **found}
  print(json.dumps({**told, 'must': MUST[arguments.part]}))


if __name__ == '__main__':
  main()
