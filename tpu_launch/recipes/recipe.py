"""Recipes: public commands one after the other, echoed, timed, resumable.

Nothing is done here that a user could not do: every step is one public
command, printed before it runs. Two commands that need nothing of each other
run side by side, one on each half of the cores. A finished command is noted in
`timing.json` with its words, so the same recipe after a kill continues where
it stopped, and one that says something else runs again from there on; the
command that was killed continues by itself.
"""

import ctypes
import dataclasses
import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Iterable, Mapping, Sequence

import psutil

from step_audio_jax import errors
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

TIMING = 'timing.json'
_INCLUDE = re.compile(r"""^include\s+['"](.+?)['"]""", re.M)
_PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>


@dataclasses.dataclass(frozen=True)
class Command:
  """One public command.

  Attributes:
    name: What `timing.json` and the log file call it.
    words: Behind `python`.
  """

  name: str
  words: tuple[str, ...]

  def __str__(self) -> str:
    return shlex.join(('python', *self.words))

  def settings(self) -> str:
    """Digest of the gin files that it reads, with what they include."""
    contents: dict[str, str] = {}
    for word in self.words:
      name, _, path = word.partition('=')
      if name == '--gin_file':
        _add_gin(path, contents)
    return digests.of_value(contents)


def _add_gin(path: str, contents: dict[str, str]) -> None:
  if path in contents or not files.is_file(path):
    return  # who reads it says what is wrong
  text = files.read_text(path, errors='replace')
  contents[path] = text
  for included in _INCLUDE.findall(text):
    _add_gin(included, contents)


Steps = Iterable[Sequence[Command]]


def door(name: str, program: str, *words: str) -> Command:
  """A command of one of the packages: `door('x', 'tpu_launch', 'check')`."""
  return Command(name, ('-m', program, *words))


def macros(**values: Any) -> list[str]:
  """Gin macros as the doors take them."""
  return [
    f'--gin.{name}={value if value is None else json.dumps(value)}'
    for name, value in values.items()
  ]


def train(name: str, gin_file: str, **values: Any) -> Command:
  """A training run of a gin file with some of its macros."""
  return door(
    name,
    'step_audio_jax',
    'train',
    f'--gin_file={gin_file}',
    *macros(**values),
  )


class PeakMemory:
  """Highest resident memory of this process and all below it, bytes."""

  def __init__(self, seconds: float = 0.5):
    self.peak = 0
    self._seconds = seconds
    self._stop = threading.Event()
    self._thread = threading.Thread(target=self._watch, daemon=True)

  def __enter__(self):
    self._thread.start()
    return self

  def __exit__(self, *_):
    self._stop.set()
    self._thread.join()

  def _watch(self):
    me = psutil.Process()
    while not self._stop.wait(self._seconds):
      total = 0
      for process in [me, *me.children(recursive=True)]:
        try:
          total += process.memory_info().rss
        except psutil.Error:
          continue  # it ended between the listing and the reading
      self.peak = max(self.peak, total)


def environment(root: str) -> dict[str, str]:
  """Variables of every command: CPU, and one compile cache for all.

  Huge pages for malloc: XLA asks for its temporaries anew in every step, and
  touching them 4 kB at a time costs a third of a small step.
  """
  return {
    'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1',
    'JAX_PLATFORMS': 'cpu',
    'TF_CPP_MIN_LOG_LEVEL': '3',  # jaxlib's too
    'JAX_COMPILATION_CACHE_DIR': f'{os.path.abspath(root)}/compiled',
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.5',
    **os.environ,
  }


def run(commands: Sequence[Command], root: str) -> None:
  """Runs commands side by side; each gets an equal part of the cores.

  Raises:
    UserError: One of them failed; its last lines are shown.
  """
  cores = sorted(os.sched_getaffinity(0))
  share = max(1, len(cores) // len(commands))
  logs = pathlib.Path(root) / 'logs'
  files.make_folder(logs)
  running = []
  for i, command in enumerate(commands):
    print(f'\n$ {command}', flush=True)
    mine = cores[i * share : (i + 1) * share] or cores
    log = logs / f'{command.name.replace(" ", "-")}.log'
    alone = len(commands) == 1
    handle = None if alone else files.open_log(log, 'wb')
    running.append(
      (
        command,
        log,
        subprocess.Popen(
          [sys.executable, *command.words],
          env=environment(root),
          stdin=subprocess.DEVNULL,
          stdout=handle,
          stderr=None if alone else subprocess.STDOUT,
          preexec_fn=lambda mine=mine: _child(mine),
        ),
      )
    )
  if len(commands) > 1:
    print(f'(side by side; their output: {logs}/)', flush=True)
    _wait_showing(running)
  failed = None
  for command, log, process in running:
    if process.wait() and failed is None:
      failed = (command, log, process.returncode)
  if failed:
    command, log, status = failed
    tail = ''
    if len(commands) > 1:
      tail = ''.join(
        files.read_text(log, errors='replace').splitlines(True)[-15:]
      )
    raise errors.UserError(
      f'{tail}the command "{command.name}" ended with status {status}; '
      'mend what it says and start the same command again, it continues.'
    )


def _child(cores) -> None:
  """In a child, before its program: its cores, and to die with its parent.

  A command that outlived a killed quick start would be in the way of the one
  that continues it.
  """
  os.sched_setaffinity(0, cores)
  ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait_showing(running) -> None:
  """Shows the last line of every log now and then, until all have ended."""
  shown = time.monotonic()
  while any(process.poll() is None for _, _, process in running):
    if any(process.returncode for _, _, process in running):
      for _, _, process in running:
        process.terminate()
    time.sleep(0.2)
    if time.monotonic() - shown < 10:
      continue
    shown = time.monotonic()
    for command, log, _ in running:
      text = files.read_text(log, errors='replace').replace('\r', '\n')
      lines = [line for line in text.splitlines() if line.strip()]
      if lines:
        print(f'  {command.name}: {lines[-1][-110:]}', flush=True)


def follow(steps: Steps, root: str) -> dict[str, Any]:
  """Runs the commands that are not done yet.

  A command is done where `timing.json` has it, word for word and with the gin
  files it reads, and all before it are: what an earlier one makes anew, a later
  one reads again.

  Args:
    steps: Commands; those of one step run side by side. Each is asked for
      when those before it have ended, so that it may depend on them.
    root: Folder of everything that is made.

  Returns:
    What `timing.json` holds.

  Raises:
    UserError: A command failed.
  """
  path = files.check_writable(root, '--output', folder=True) / TIMING
  timing: dict[str, Any] = {'commands': [], 'peak_memory_bytes': 0}
  if files.is_file(path):
    timing = files.read_json(path)
  before, timing['commands'] = timing['commands'], []
  for commands in steps:
    told = before[: len(commands)]
    before = before[len(commands) :]
    if len(told) == len(commands) and all(map(_is_same, commands, told)):
      timing['commands'] += told
      for command in commands:
        print(f'\n$ {command}\n(done before)', flush=True)
      continue
    before = []
    started = time.monotonic()
    # The report is the last command and counts the time up to itself: no end
    # yet, and a beginning that leaves out the time between a kill and now.
    files.write_json(
      path,
      {
        **timing,
        'wall_seconds': None,
        'started': time.time() - _seconds(timing['commands']),
      },
    )
    with PeakMemory() as memory:
      run(commands, root)
    seconds = time.monotonic() - started
    timing['peak_memory_bytes'] = max(timing['peak_memory_bytes'], memory.peak)
    for command in commands:
      timing['commands'].append(
        {
          'name': command.name,
          'command': str(command),
          'settings': command.settings(),
          'seconds': round(seconds, 2),
          'together': len(commands),
        }
      )
    timing['wall_seconds'] = round(_seconds(timing['commands']), 1)
    files.write_json(path, timing)
  return timing


def _is_same(command: Command, told: Mapping[str, Any]) -> bool:
  """Whether what is noted as done is this command, and its gin files too."""
  return (command.name, str(command)) == (told['name'], told['command']) and (
    told.get('settings') in (None, command.settings())
  )


def _seconds(commands: Sequence[Mapping[str, Any]]) -> float:
  """Wall time of finished commands; those of one step shared theirs."""
  return sum(c['seconds'] / c['together'] for c in commands)


def show(steps: Steps) -> dict[str, Any]:
  """Prints the commands; what a recipe's door tells of a dry run."""
  lines = [str(command) for commands in steps for command in commands]
  print('\n'.join(lines))
  return {'dry_run': True, 'commands': lines}


def result(root: str, timing: Mapping[str, Any]) -> dict[str, Any]:
  """What a recipe's door tells: its report, its figures, its times."""
  facts = {'report': f'{root}/report.html', **timing}
  report = pathlib.Path(root) / 'report.json'
  if files.is_file(report):
    facts |= files.read_json(report)
  print(f'\nopen {root}/report.html')
  return facts


def check_in_checkout() -> None:
  """Refuses to start where the gin files are not.

  Raises:
    UserError: The working directory is no checkout.
  """
  if not files.is_dir('gin/quickstart'):
    raise errors.UserError(
      f'{os.getcwd()}: found no gin/quickstart folder; run this from the root '
      'of the checkout.'
    )
