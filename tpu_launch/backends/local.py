"""Backend `local`: N workers on this machine, one process each.

The foreground command supervises: it prefixes what workers print, writes their
logs, and ends all of them as soon as one fails. Later commands find the
workers by process id and start time, so that a reused id is never touched.
"""

import dataclasses
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any, Mapping, Sequence

import psutil

from step_audio_jax import errors
from step_audio_jax.storage import files
from tpu_launch.backends import jobs
from tpu_launch.backends import shell


@dataclasses.dataclass(frozen=True)
class Local:
  """Runs jobs on this machine.

  Attributes:
    grace_seconds: What workers get between the polite and the hard signal.
    host: Where the coordinator listens.
  """

  grace_seconds: float = 10.0
  host: str = '127.0.0.1'

  def check(self, job: jobs.Job) -> Mapping[str, Any]:
    cores, memory = os.cpu_count(), psutil.virtual_memory().available
    print(
      f'this machine: {cores} cores, {memory / 2**30:.1f} GiB memory free, '
      f'for {job.processes} workers'
    )
    return {'cores': cores, 'memory_bytes_free': memory}

  def up(self, job: jobs.Job) -> Mapping[str, Any]:
    print('local: this machine is up; nothing to ask for.')
    job.save(state='up')
    return {'state': 'up'}

  def run(self, job: jobs.Job, command: Sequence[str]) -> Mapping[str, Any]:
    argv = [sys.executable, '-m', *command]
    port = 'PORT' if job.dry_run else str(_free_port(self.host))
    envs = [
      self._environment(job, f'{self.host}:{port}', worker)
      for worker in range(job.processes)
    ]
    for env in envs:
      print(f'+ {shell.quoted(["python", *argv[1:]], env)}', flush=True)
    if job.dry_run:
      return {'state': 'dry_run', 'workers': job.processes}
    if _alive(job.state()):
      raise errors.UserError(
        f'--name={job.name}: the job is still running; see `status`, or end '
        'it with `down`.'
      )
    first, exit_codes = _Supervisor(job, argv, envs, self.grace_seconds).run()
    if first is not None:
      code = exit_codes[first]
      how = f'status {code}' if code > 0 else f'signal {-code}'
      print(
        f'error: worker {first} of {job.name} ended with {how}; its output is '
        f'in {_log(job, first)}.',
        file=sys.stderr,
      )
      raise SystemExit(code if code > 0 else 128 - code)
    return {'state': 'succeeded', 'exit_codes': exit_codes}

  def status(self, job: jobs.Job) -> Mapping[str, Any]:
    state = job.state()
    status = state.get('state', 'up')
    if status == 'running' and not _alive(state):
      status = 'lost'  # the machine went down, or the supervisor was killed
    print(f'{job.name}: {status}')
    return {'state': status, 'exit_codes': state.get('exit_codes')}

  def logs(
    self, job: jobs.Job, worker: int, lines: int, follow: bool
  ) -> Mapping[str, Any]:
    path = _log(job, worker)
    argv = ['tail', f'--lines={lines}', *(['--follow'] if follow else [])]
    if not job.dry_run and not files.exists(path):
      raise errors.UserError(f'{path}: no such file; has the worker started?')
    shell.run([*argv, str(path)], dry_run=job.dry_run)
    return {'log': str(path)}

  def down(self, job: jobs.Job) -> Mapping[str, Any]:
    state = job.state()
    alive = _alive(state)
    for process in alive:
      print(f'+ kill {process.pid}', flush=True)
    if job.dry_run:
      return {'stopped': len(alive)}
    # The supervisor comes first in the list and ends its workers itself.
    for process in alive:
      _signal(process.pid, signal.SIGTERM)
      psutil.wait_procs(alive, timeout=self.grace_seconds + 1)
    for process in _alive(state):
      _signal(process.pid, signal.SIGKILL)
    state = job.state()
    if state.get('state') == 'running':
      del state['job']
      job.save(**(state | {'state': 'stopped'}))
    return {'stopped': len(alive)}

  def _environment(self, job, address, worker) -> dict[str, str]:
    """What tells a worker who it is; nothing where it is alone."""
    if job.processes == 1:
      return {}
    return {
      'JAX_COORDINATOR_ADDRESS': address,
      'JAX_NUM_PROCESSES': str(job.processes),
      'JAX_PROCESS_ID': str(worker),
    }


class _Supervisor:
  """Starts the workers of one job and waits for all of them."""

  def __init__(self, job, argv, envs, grace_seconds):
    self._job = job
    self._argv = argv
    self._envs = envs
    self._grace = grace_seconds
    self._workers = []
    self._lock = threading.Lock()

  def run(self) -> tuple[int | None, list[int]]:
    """Runs to the end, or to the first failure.

    Returns:
      The worker that failed first, if one did, and the exit status of each:
      0, the worker's own, or minus the signal that ended it.
    """
    files.make_folder(self._job.folder)
    before = signal.signal(signal.SIGTERM, _interrupt)
    pumps = []
    state = 'stopped'
    try:
      for worker, env in enumerate(self._envs):
        self._workers.append(
          subprocess.Popen(
            self._argv,
            env=os.environ | {'PYTHONUNBUFFERED': '1'} | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
            start_new_session=True,
          )
        )
        pumps.append(threading.Thread(target=self._pump, args=(worker,)))
        pumps[-1].start()
      self._save('running')
      while None in (codes := [worker.poll() for worker in self._workers]):
        if any(codes):
          break
        time.sleep(0.05)
      first = next((i for i, code in enumerate(codes) if code), None)
      state = 'succeeded' if first is None else 'failed'
    finally:
      self._end()
      for pump in pumps:
        pump.join(timeout=self._grace)
      signal.signal(signal.SIGTERM, before)
      codes = [worker.returncode for worker in self._workers]
      self._save(state, exit_codes=codes)
    return first, codes

  def _end(self) -> None:
    """Ends what still runs: politely, then not."""
    running = [w for w in self._workers if w.poll() is None]
    for worker in running:
      _signal(worker.pid, signal.SIGTERM)
    until = time.monotonic() + self._grace
    for worker in running:
      try:
        worker.wait(max(0.0, until - time.monotonic()))
      except subprocess.TimeoutExpired:
        _signal(worker.pid, signal.SIGKILL)
        worker.wait()

  def _pump(self, worker: int) -> None:
    """Copies one worker's lines to its log and, prefixed, to our output."""
    prefix = f'[{worker}] ' if len(self._envs) > 1 else ''
    with files.open_log(_log(self._job, worker)) as log:
      for line in self._workers[worker].stdout:
        log.write(line)
        log.flush()
        with self._lock:
          print(f'{prefix}{line}', end='', flush=True)

  def _save(self, state: str, **extra: Any) -> None:
    processes = [psutil.Process()]
    for worker in self._workers:
      try:
        processes.append(psutil.Process(worker.pid))
      except psutil.NoSuchProcess:
        pass
    self._job.save(
      state=state,
      command=self._argv,
      processes=[[p.pid, p.create_time()] for p in processes],
      **extra,
    )


def _alive(state: Mapping[str, Any]) -> list[psutil.Process]:
  """The processes of a saved state that still run, the supervisor first."""
  found = []
  if state.get('state') != 'running':
    return found
  for pid, started in state.get('processes', ()):
    try:
      process = psutil.Process(pid)
      if (
        abs(process.create_time() - started) < 0.01
        and process.status() != psutil.STATUS_ZOMBIE
      ):
        found.append(process)
    except psutil.NoSuchProcess:
      pass
  return found


def _signal(pid: int, number: int) -> None:
  """Signals a worker with all it has started, or just the supervisor."""
  try:
    if os.getsid(pid) == pid:
      os.killpg(pid, number)
    else:
      os.kill(pid, number)
  except ProcessLookupError:
    pass


def _interrupt(number, frame):
  raise KeyboardInterrupt


def _free_port(host: str) -> int:
  with socket.socket() as probe:
    probe.bind((host, 0))
    return probe.getsockname()[1]


def _log(job: jobs.Job, worker: int) -> pathlib.Path:
  return job.folder / f'worker-{worker}.log'
