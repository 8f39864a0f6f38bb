"""Follows a recipe: its commands echoed, side by side, timed, resumable.

Small models leave a second core half idle, two commands side by side leave
none. So the cores are cut into two lanes. The first command of the list whose
needs are met takes the first lane that is free; one that nothing could run
beside has all cores, unless it trains.

A finished command is noted in `timing.json` with its words, so the same recipe
after a kill continues where it stopped, and one that says something else runs
again, with all that needs it; the command that was killed continues by itself.
"""

import ctypes
import dataclasses
import os
import signal
import subprocess
import sys
import time
from typing import Any, Mapping, Sequence

from step_audio_jax import errors
from step_audio_jax.storage import files
from tpu_launch.recipes import recipe
from tpu_launch.recipes import record as record_lib

_LANES = 2
_SHOWN_EVERY = 10.0  # seconds
_PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>


def follow(parts: recipe.Parts, root: str) -> Mapping[str, Any]:
  """Runs the commands that are not done yet.

  A command is done where `timing.json` has it, word for word and with the gin
  files it reads, and all that it needs is: what an earlier one makes anew, a
  later one reads again.

  Args:
    parts: Commands; of those that could run, the one that a part has first
      does, and none comes before one that it needs. A part is asked for when
      all before it have ended, so that it may depend on what they made; each
      of its commands needs them all.
    root: Folder of everything that is made.

  Returns:
    What `timing.json` holds.

  Raises:
    UserError: A command failed.
  """
  path = files.check_writable(root, '--output', folder=True) / recipe.TIMING
  record = record_lib.Record(path)
  anew = False
  for commands in parts:
    todo = []
    for command in commands:
      if not anew and record.keeps(command):
        print(f'\n$ {command}\n(done before)', flush=True)
      else:
        todo.append(command)
    if todo:
      anew = True
      with record.running():
        run(todo, root, record)
  return record.close()


@dataclasses.dataclass
class _Running:
  """A command that was started.

  Attributes:
    command: It.
    process: Of the operating system.
    cores: What it may use.
    log: Where its output goes; None is the terminal.
    output: The log, open; in a bucket it grows in a file of this machine.
    started: When, by the monotonic clock.
  """

  command: recipe.Command
  process: subprocess.Popen
  cores: tuple[int, ...]
  log: files.AnyPath | None
  output: Any
  started: float

  def close(self) -> None:
    """The process has ended: all of its output is where others find it."""
    if self.output:
      self.output.close()


def run(
  commands: Sequence[recipe.Command], root: str, record: record_lib.Record
) -> None:
  """Runs commands in lanes and notes those that have ended.

  Raises:
    UserError: One of them failed; its last lines are shown, and those beside
      it are stopped.
  """
  waiting, running = list(commands), []
  cores = tuple(sorted(os.sched_getaffinity(0)))
  lanes = cut(cores)
  shown = time.monotonic()
  try:
    while waiting or running:
      ready = [
        command
        for command in waiting
        if all(map(record.is_done, command.needs))
      ]
      if not ready and not running:
        raise ValueError(f'{waiting[0].name} needs what no command makes')
      alone = not running and len(ready) == 1
      free = [lane for lane in lanes if lane not in [r.cores for r in running]]
      if alone and not ready[0].trains:
        free = [cores]
      elif any(r.cores == cores for r in running):
        free = []
      for command, lane in zip(ready, free):
        waiting.remove(command)
        running.append(_start(command, root, lane, alone))
      time.sleep(0.05)
      for one in [one for one in running if one.process.poll() is not None]:
        running.remove(one)
        one.close()
        if one.process.returncode:
          raise _failure(one)
        record.add(one.command, time.monotonic() - one.started)
      if time.monotonic() - shown > _SHOWN_EVERY:
        shown = time.monotonic()
        record.save()
        _show(running)
  finally:
    for one in running:
      one.process.terminate()
    for one in running:
      one.process.wait()
      one.close()


def cut(cores: Sequence[int]) -> list[tuple[int, ...]]:
  """Lanes of equally many cores each, one lane where there is one core."""
  share = max(1, len(cores) // _LANES)
  return [
    tuple(cores[start : start + share])
    for start in range(0, min(len(cores), _LANES * share), share)
  ]


def _start(command, root, cores, alone) -> _Running:
  print(f'\n$ {command}', flush=True)
  log = handle = None
  if not alone:
    logs = files.path(root) / 'logs'
    files.make_folder(logs)
    log = logs / f'{command.name.replace(" ", "-")}.log'
    handle = files.open_log(log, 'wb')
    print(f'(side by side with others; its output: {log})', flush=True)
  # Loaded here: behind a fork the loader's lock may be another thread's.
  prctl = ctypes.CDLL(None).prctl
  process = subprocess.Popen(
    [sys.executable, *command.words],
    env=recipe.environment(root),
    stdin=subprocess.DEVNULL,
    stdout=handle,
    stderr=None if alone else subprocess.STDOUT,
    preexec_fn=lambda: _child(cores, prctl),
  )
  return _Running(command, process, cores, log, handle, time.monotonic())


def _child(cores, prctl) -> None:
  """In a child, before its program: its cores, and to die with its parent.

  A command that outlived a killed quick start would be in the way of the one
  that continues it.
  """
  os.sched_setaffinity(0, cores)
  prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _failure(one: _Running) -> errors.UserError:
  tail = ''
  if one.log:
    lines = files.read_text(one.log, errors='replace').splitlines(True)
    tail = ''.join(lines[-15:])
  return errors.UserError(
    f'{tail}the command "{one.command.name}" ended with status '
    f'{one.process.returncode}; mend what it says and start the same command '
    'again, it continues.'
  )


def _show(running: Sequence[_Running]) -> None:
  """The last line of every log."""
  for one in running:
    if not one.log:
      continue
    here = one.output.name
    text = files.read_text(here, errors='replace').replace('\r', '\n')
    lines = [line for line in text.splitlines() if line.strip()]
    if lines:
      print(f'  {one.command.name}: {lines[-1][-110:]}', flush=True)
