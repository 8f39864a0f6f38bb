r"""A sweep that is killed again and again, beside one that is not.

    python benchmarks/evaluation/kills.py --kills=20

Makes a tiny run, a corpus and rows, and scores all checkpoints in peace, then
once more with a SIGKILL at a random moment and the same call again, until so
many kills have met a sweep at work. Each sweep is a child process that is
forked when everything is imported, so that kills meet the sweep and not the
imports; where a sweep is through before its kill, what it scored goes and it
begins anew. Prints one JSON line: whether the summaries are equal to the byte,
parts and chunks of answers that were scored twice, and rows that a file has
twice.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
from typing import Any

# Run as a script, the folder of the script is all that is looked in.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks.evaluation import material  # noqa: E402
from step_audio_jax.evaluation import evaluate as evaluate_lib  # noqa: E402
from step_audio_jax.evaluation.benchmarks import asking  # noqa: E402
from step_audio_jax.evaluation.benchmarks import journal  # noqa: E402
from step_audio_jax.evaluation.memory import parts as parts_lib  # noqa: E402

_SAME = ('summary.json', 'table.md', 'table.tex', 'index.html')


def _tell(path: pathlib.Path) -> None:
  """Writes a line for all that is kept from now on in this process.

  A line is written behind what it tells of: one may be missing, but what has
  two was scored twice.
  """
  save, keep = parts_lib.Store.save, journal.Journal._keep

  def line(*words) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f'{" ".join(map(str, words))}\n'.encode())
    os.close(handle)

  def saved(self, step, part, model, *args, **kwargs):
    found = save(self, step, part, model, *args, **kwargs)
    line('part', step, part.task, part.condition, model)
    return found

  def kept(self, place, ids, answers):
    keep(self, place, ids, answers)
    line('answers', self._folder.name, place)

  parts_lib.Store.save, journal.Journal._keep = saved, kept


def start(given: dict[str, Any], log: pathlib.Path) -> int:
  """A sweep in a process of its own; its id."""
  child = os.fork()
  if child:
    return child
  status = 1
  try:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    _tell(log)
    evaluate_lib.evaluate(
      steps='all',
      benchmarks=(material.Guess('guess', ''),),
      asking=asking.Asking(batch_size=8),
      **given,
    )
    status = 0
  finally:
    os._exit(status)


def told(folder: pathlib.Path) -> dict[str, bytes]:
  """What a reader sees of a sweep."""
  return {name: (folder / name).read_bytes() for name in _SAME}


def doubles(lines: list[str]) -> list[str]:
  """Lines that are there more than once."""
  return [line for line, n in collections.Counter(lines).items() if n > 1]


def rows_twice(folder: pathlib.Path) -> list[str]:
  """Rows that are in their file more than once."""
  found = []
  for path in sorted((folder / 'rows').rglob('*.jsonl')):
    ids = [json.loads(line)['id'] for line in path.read_text().splitlines()]
    found += [f'{path.relative_to(folder)}: {one}' for one in doubles(ids)]
  return found


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--kills', type=int, default=20)
  parser.add_argument('--steps', type=int, default=6)
  parser.add_argument('--utterances', type=int, default=48)
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  os.environ['PROGRESS'] = '0'
  draw = random.Random(args.seed)
  with tempfile.TemporaryDirectory() as temporary:
    root = pathlib.Path(temporary)
    # What one process compiled is there for the next, as in any real use.
    os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(root / 'cache'))
    os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
    maker = os.fork()  # the parent must not have started jax when it forks
    if not maker:
      status = 1
      try:
        given = material.make(root / 'made', args.steps, args.utterances)
        (root / 'given.json').write_text(json.dumps(given))
        status = 0
      finally:
        os._exit(status)
    assert os.waitpid(maker, 0)[1] == 0, 'the material could not be made'
    given = json.loads((root / 'given.json').read_text())
    folder = pathlib.Path(given['checkpoints']) / 'evaluation'
    for _ in range(2):  # the first one compiles
      shutil.rmtree(folder, ignore_errors=True)
      begin = time.monotonic()
      assert os.waitpid(start(given, root / 'calm'), 0)[1] == 0
      whole = time.monotonic() - begin
    calm = told(folder)
    shutil.rmtree(folder)
    kills, early, sweeps, twice = 0, 0, 0, []
    log = root / 'killed'
    while True:
      child = start(given, log)
      time.sleep(draw.random() * whole if kills < args.kills else 0)
      if kills < args.kills:
        os.kill(child, signal.SIGKILL)
      status = os.waitpid(child, 0)[1]
      if os.WIFSIGNALED(status):
        kills += 1
        early += not folder.exists()
        print(f'kill {kills}', file=sys.stderr, flush=True)
        continue
      assert status == 0, 'a sweep fails'
      sweeps += 1
      assert told(folder) == calm, 'the outputs differ'
      twice += doubles(log.read_text().splitlines()) + rows_twice(folder)
      if kills >= args.kills:
        break
      shutil.rmtree(folder)
      log.unlink()
  print(
    json.dumps(
      {
        'kills': kills,
        'before_anything_was_kept': early,
        'sweeps_that_came_through': sweeps,
        'seconds_in_peace': round(whole, 1),
        'same_bytes': list(_SAME),
        'scored_twice': twice,
        'ok': not twice,
      }
    )
  )


if __name__ == '__main__':
  main()
