"""Two programs side by side: one child process each, asked in turn.

Each side runs in a process of its own (its own threads and memory), on the
same cores, and answers one request at a time, so that the two never compute at
once. Requests and answers are one line of JSON. The ratio of each round pairs
two neighbours in time; the median of the ratios is the result, its quartiles
and extremes the spread.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from typing import Any, Callable, Mapping, Sequence

_MARK = '@@'
SIDES = ('ours', 'peer')
PEER = ('torch', 'transformers')


def has_peer(modules: Sequence[str] = PEER) -> bool:
  """Whether the modules of the peer are installed."""
  return all(importlib.util.find_spec(module) for module in modules)


def parser(doc: str) -> argparse.ArgumentParser:
  """Flags that every comparison has."""
  found = argparse.ArgumentParser(
    description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  found.add_argument(
    '--threads', type=int, default=2, help='cores and threads of both sides'
  )
  found.add_argument(
    '--rounds', type=int, default=9, help='measured pairs, after two unmeasured'
  )
  found.add_argument(
    '--tiny', action='store_true', help='a toy size: tries the logic only'
  )
  found.add_argument(
    '--no_peer', action='store_true', help='our side only, no torch needed'
  )
  found.add_argument('--side', choices=SIDES, help=argparse.SUPPRESS)
  found.add_argument('--folder', type=pathlib.Path, help=argparse.SUPPRESS)
  return found


class Worker:
  """A child process of this very script that plays one side."""

  def __init__(
    self,
    side: str,
    arguments: list[str],
    threads: int,
    environment: Mapping[str, str],
  ):
    cores = sorted(os.sched_getaffinity(0))[:threads]
    self._side = side
    self._process = subprocess.Popen(
      [sys.executable, sys.argv[0], *arguments, f'--side={side}'],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      # What malloc gives is huge pages where it can be, for both sides.
      env={
        'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1',
        'JAX_PLATFORMS': 'cpu',
        'OMP_NUM_THREADS': str(len(cores)),
        'PROGRESS': '0',
        **os.environ,
        **environment,
      },
      preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )

  def ask(self, what: str, **keywords: Any) -> Any:
    """One request; its answer."""
    print(json.dumps([what, keywords]), file=self._process.stdin, flush=True)
    for line in self._process.stdout:
      if line.startswith(_MARK):
        return json.loads(line[len(_MARK) :])
      print(line, end='', file=sys.stderr)
    raise SystemExit(f'{self._side}: ended with {self._process.wait()}.')

  def close(self) -> None:
    self._process.stdin.close()
    self._process.wait()


def sides(
  arguments: argparse.Namespace, modules: Sequence[str] = PEER
) -> tuple[str, ...]:
  """Both sides; ours alone without the peer's modules, or with --no_peer."""
  if arguments.no_peer:
    return SIDES[:1]
  if not has_peer(modules):
    print(
      f'{" or ".join(modules)} is not installed (requirements/parity.txt): our '
      'side alone is measured.',
      file=sys.stderr,
    )
    return SIDES[:1]
  return SIDES


def starter(
  arguments: argparse.Namespace,
  folder: pathlib.Path,
  environment: Mapping[str, str] | None = None,
  flags: Sequence[str] = (),
) -> Callable[[str], Worker]:
  """A function side → its worker, ready; flags come behind the command's."""
  flags = [*sys.argv[1:], f'--folder={folder}', *flags]

  def start(side: str) -> Worker:
    worker = Worker(side, flags, arguments.threads, environment or {})
    worker.ask('ready')
    return worker

  return start


def workers(
  arguments: argparse.Namespace, folder: pathlib.Path
) -> dict[str, Worker]:
  """All sides, ours first: it writes the weights that the peer reads."""
  start = starter(arguments, folder)
  return {side: start(side) for side in sides(arguments)}


def serve(handlers: Mapping[str, Callable[..., Any]]) -> None:
  """The child's side: answers requests until there are no more."""
  handlers = {'ready': lambda: True, **handlers}
  for line in sys.stdin:
    what, keywords = json.loads(line)
    print(_MARK + json.dumps(handlers[what](**keywords)), flush=True)


def timed(function: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
  """A handler that answers what `function` gives, with wall and CPU seconds."""

  def handler(**keywords):
    wall, cpu = time.perf_counter(), time.process_time()
    value = function(**keywords)
    return {
      'seconds': time.perf_counter() - wall,
      'cpu_seconds': time.process_time() - cpu,
      'value': value,
    }

  return handler


def interleaved(
  workers: Mapping[str, Worker], what: str, rounds: int, warm: int = 2
) -> dict[str, list[dict[str, Any]]]:
  """A B A B …: the answers of each side; the first `warm` rounds apart.

  Returns:
    Side → answers, those of the unmeasured rounds first.
  """
  answers = {side: [] for side in workers}
  for number in range(warm + rounds):
    for side, worker in workers.items():
      answers[side].append(worker.ask(what, number=number))
  return answers


def spread(values: list[float]) -> dict[str, float]:
  """Median, quartiles and extremes."""
  ordered = sorted(values)
  quarters = (
    statistics.quantiles(ordered, n=4, method='inclusive')
    if len(ordered) > 1
    else ordered * 3
  )
  names = ('min', 'lower_quartile', 'median', 'upper_quartile', 'max')
  found = (ordered[0], *quarters, ordered[-1])
  return {name: round(value, 4) for name, value in zip(names, found)}


def compared(
  answers: Mapping[str, list[dict[str, Any]]], warm: int = 2
) -> dict[str, Any]:
  """Seconds of each side and, with a peer, how many times faster we are."""
  found: dict[str, Any] = {}
  for key in ('seconds', 'cpu_seconds'):
    for side, given in answers.items():
      found[f'{side}_{key}'] = spread([a[key] for a in given[warm:]])
  if 'peer' in answers:
    found['ratio'] = spread(
      [
        theirs['seconds'] / ours['seconds']
        for ours, theirs in zip(answers['ours'], answers['peer'])
      ][warm:]
    )
  return found


def machine(threads: int) -> dict[str, Any]:
  """What the figures were measured on, and how busy it was."""
  model = platform.processor()
  for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines():
    if line.startswith('model name'):
      model = line.partition(':')[2].strip()
      break
  return {
    'cpu': model,
    'cores': os.cpu_count(),
    'threads': threads,
    'load_average': round(os.getloadavg()[0], 2),
    'python': platform.python_version(),
  }


def versions(modules: Sequence[str] = PEER) -> dict[str, str]:
  """Of what is compared."""
  from importlib import metadata

  found = {}
  for name in ('jax', *modules):
    try:
      found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      pass
  return found
