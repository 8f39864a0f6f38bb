"""A job of `make` that is killed again and again, beside one that is not."""

import hashlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
from typing import Any, Callable, Mapping, Sequence

import psutil

from benchmarks.making import independent

RECIPE = """
from __gin__ import dynamic_registration
from data_pipelines.factory.gates import line
from data_pipelines.factory.gates import sound
from data_pipelines.factory.gates import speech
from data_pipelines.factory.making import items
from step_audio_jax.audio.augmentation import chain
from step_audio_jax.audio.augmentation import levels
from step_audio_jax.audio.augmentation import noise
from step_audio_jax.audio.augmentation import rooms

items.Recipe.chain = @chain.Chain()
items.Recipe.gates = @line.Gates()
chain.Chain.steps = (@tail/chain.Step(), @noisy/chain.Step(), @end/chain.Step())
tail/chain.Step.operation = @rooms.Tail()
tail/chain.Step.probability = 0.5
noisy/chain.Step.operation = @noise.Noise()
noisy/chain.Step.probability = 0.5
end/chain.Step.operation = @levels.Ceiling()
line.Gates.gates = (
  @sound.Duration(), @sound.Clipping(), @speech.SpeakingRate())
sound.Duration.least = 0.9
"""
# Who is killed: the door with its workers, the door alone (its workers go on
# for a while, beside the next), a worker alone.
ALL, DOOR, WORKER = 'all', 'door', 'worker'
_WHO = (ALL, DOOR, WORKER)
_PATIENCE_SECONDS = 600


def command(
  output: pathlib.Path, source: pathlib.Path, flags: Sequence[str]
) -> list[str]:
  """The door that makes `output` of what lies in `source`."""
  door = [sys.executable, '-m', 'data_pipelines', 'make', '--json']
  return [
    *(*door, f'--texts={source}/texts', f'--held_out={source}/tests'),
    *(f'--gin_file={source}/recipe.gin', f'--output={output}', *flags),
  ]


def run(argv: Sequence[str]) -> dict[str, Any]:
  """What a door says that nobody kills.

  Raises:
    SystemExit: It fails.
  """
  done = subprocess.run(argv, capture_output=True, text=True)
  if done.returncode:
    raise SystemExit(f'make failed: {done.stderr[-2000:]}')
  return json.loads(done.stdout.splitlines()[-1])


def recordings(output: pathlib.Path) -> int:
  """How many are there, half-written ones aside."""
  return sum(1 for _ in output.glob('wav/[0-9]*.wav'))


def is_ending(output: pathlib.Path) -> bool:
  """Whether the manifest is being written."""
  return any(output.glob('.provenance-*'))


def strike(
  argv: Sequence[str], when: Callable[[], bool], who: str, patience: float
) -> dict[str, Any] | None:
  """Starts a door and kills it; None if it had ended before.

  Args:
    argv: The door.
    when: Whether the time has come.
    who: One of `ALL`, `DOOR`, `WORKER`.
    patience: Seconds that it may take to end.
  """
  process = subprocess.Popen(
    argv,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,
  )
  victims: list[int] = []
  while process.poll() is None:
    if when():
      victims = _workers(process.pid) if who == WORKER else [process.pid]
      if victims:
        break
    time.sleep(0.001)
  if process.poll() is not None:
    if process.returncode:
      raise SystemExit(f'make failed: {process.stderr.read()[-2000:]}')
    return None
  if who == ALL:
    os.killpg(process.pid, signal.SIGKILL)
  else:
    os.kill(victims[-1], signal.SIGKILL)
  begin = time.monotonic()
  status = process.wait(patience)
  said = '' if who == DOOR else process.stderr.read()
  process.stderr.close()
  return {
    'who': who,
    'status': status,
    'said': [x for x in said.splitlines() if x.startswith('error')],
    'tracebacks': said.count('Traceback'),
    'seconds': round(time.monotonic() - begin, 2),
  }


def _workers(door: int) -> list[int]:
  """Processes that work for a door, by how Python starts them."""
  found = []
  try:
    for process in psutil.Process(door).children(recursive=True):
      if 'spawn_main' in ' '.join(process.cmdline()):
        found.append(process.pid)
  except psutil.Error:  # they end meanwhile
    pass
  return found


def contents(output: pathlib.Path) -> dict[str, str]:
  """Name → digest of all files of a corpus."""
  return {
    path.relative_to(output).as_posix(): hashlib.sha256(
      path.read_bytes()
    ).hexdigest()
    for path in sorted(output.rglob('*'))
    if path.is_file()
  }


def compare(
  folder: pathlib.Path, kills: int, flags: Sequence[str], seed: int = 0
) -> dict[str, Any]:
  """Makes what lies in `folder` twice: in peace, and killed.

  Args:
    folder: `texts`, `tests` and `recipe.gin`; `calm` and `killed` are made.
    kills: How often; the last while the manifest is written.
    flags: Of the door, for both.
    seed: Of the places.

  Returns:
    What `python benchmarks/making/measure.py` says of it.
  """
  rng = random.Random(seed)
  calm, killed = folder / 'calm', folder / 'killed'
  told = run(command(calm, folder, flags))
  total = recordings(calm)
  places = sorted(rng.randrange(1, int(0.9 * total)) for _ in range(kills - 1))
  argv = command(killed, folder, flags)
  ends = []
  for number, place in enumerate(places):
    found = strike(
      argv,
      lambda place=place: recordings(killed) >= place,
      _WHO[number % len(_WHO)],
      _PATIENCE_SECONDS,
    )
    if found:
      ends.append({'recordings': recordings(killed), **found})
  found = strike(argv, lambda: is_ending(killed), ALL, _PATIENCE_SECONDS)
  if found:
    ends.append({'recordings': 'all, while the manifest was written', **found})
  again = run(argv)
  left, right = contents(calm), contents(killed)
  made, tests = independent.lines(killed), independent.lines(folder / 'tests')
  text = (killed / 'quarantine.jsonl').read_text(encoding='utf-8')
  refused = [json.loads(line) for line in text.splitlines()]
  return {
    'kept': told['kept'],
    'rejected': told['rejected'],
    'gates': told['gates'],
    'kills': ends,
    'files': len(left),
    'same_bytes': left == right,
    'same_answer': told == again,
    'files_that_differ': _differing(left, right)[:5],
    **independent.twice(killed),
    'planted_kept': _planted(made),
    'planted_refused': _planted(
      one for one in refused if one['gate'] == 'leak'
    ),
    'leaks': independent.leaks(made, tests),
  }


def _differing(left: Mapping, right: Mapping) -> list[str]:
  names = sorted({*left, *right})
  return [name for name in names if left.get(name) != right.get(name)]


def _planted(found) -> int:
  return sum(one['id'].startswith('planted-') for one in found)
