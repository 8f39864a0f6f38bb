"""A Dask scheduler and its workers, as Beam's DaskRunner needs them.

    --beam_option=--dask_client_address=tcp://HOST:8786   a scheduler that runs
    --beam_option=--dask_workers=4       one of its own, with processes here

Beam turns a map over a list into one task for each partition of the list, so
every shard becomes a partition. Dask gives the task of a worker that died to
another one, and gives it up when several have died of it.
"""

import asyncio
from concurrent import futures
import contextlib
import importlib.util
import logging
import os
import sys
from typing import Iterator, Mapping, Sequence

from data_pipelines.engines import environment
from data_pipelines.engines import quietly
from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax.storage import files

RUNNER = 'apache_beam.runners.dask.dask_runner.DaskRunner'
CONNECT_SECONDS = 10
_LOOK_SECONDS = 5.0
_ADDRESS, _FILE = '--dask_client_address', '--dask_scheduler_file'
_WORKERS, _TIMEOUT = '--dask_workers', '--dask_connection_timeout'
_CUTS = ('--dask_npartitions', '--dask_partition_size')
_LOGS = ('distributed', 'distributed.client', 'tornado', 'asyncio')
_KEPT = 'What is finished is kept; the same command continues.'


def is_meant(runner: str) -> bool:
  """Whether `--runner` names Dask, in a spelling that Beam would take."""
  return runner.lower() in ('dask', 'daskrunner', RUNNER.lower())


@contextlib.contextmanager
def reached(options: Sequence[str], shards: int) -> Iterator[list[str]]:
  """Finds or starts a cluster; yields the options by which Beam reaches it.

  Args:
    options: For Beam, spelt as flags; `--dask_workers` is only known here.
    shards: How many there are.

  Raises:
    UserError: dask is not installed, nobody answers at the address, or a
      worker has another environment. While the block runs: the scheduler is
      lost, or too many workers died of a shard.
  """
  if not all(map(importlib.util.find_spec, ('dask', 'distributed'))):
    raise errors.UserError(
      "--runner=DaskRunner: dask is not installed; pip install -e '.[dask]' "
      'brings it.'
    )
  given = dict(option.partition('=')[::2] for option in options)
  seconds = _whole(given, _TIMEOUT, CONNECT_SECONDS)
  named = [name for name in (_ADDRESS, _FILE, _WORKERS) if name in given]
  if len(named) > 1:
    raise errors.UserError(
      f'--beam_option: found {" and ".join(named)}, expected one of them.'
    )
  told = [
    option
    for option in options
    if option.partition('=')[0] not in (_FILE, _WORKERS, _ADDRESS, _TIMEOUT)
  ]
  cuts = [name for name in _CUTS if _whole(given, name, 1) and name in given]
  if not cuts:
    told.append(f'{_CUTS[0]}={shards}')
  with contextlib.ExitStack() as stack:
    stack.enter_context(_quiet())
    if _FILE in given:
      address = _of_file(given[_FILE])
    elif _ADDRESS in given:
      address = given[_ADDRESS]
    else:
      count = _whole(given, _WORKERS, os.cpu_count() or 1)
      address = stack.enter_context(_started(min(count, shards)))
    client = stack.enter_context(_connected(address, seconds))
    _check_workers(client, address)
    stack.enter_context(_noting(client, address))
    stack.enter_context(_told(address))
    yield [*told, f'{_ADDRESS}={address}', f'{_TIMEOUT}={seconds}']


def _whole(given: Mapping[str, str], name: str, default: int) -> int:
  text = given.get(name, str(default))
  if not text.isascii() or not text.isdigit() or not int(text):
    raise errors.UserError(
      f'--beam_option={name}: found {text!r}, expected a whole number above 0.'
    )
  return int(text)


def _of_file(path: str) -> str:
  """The address in a file that `dask scheduler --scheduler-file` wrote."""
  found = files.read_json(path)
  address = found.get('address') if isinstance(found, dict) else None
  if not isinstance(address, str):
    raise errors.UserError(f'{path}: address: expected that of a scheduler.')
  return address


def check(result) -> None:
  """Raises if tasks were cancelled, with which Beam's result is content."""
  for future in result.futures:
    if future.status != 'finished':
      raise futures.CancelledError(future.status)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keeps Dask's log of its own affairs from the user, who is told below."""
  import distributed  # sets the levels of its log

  del distributed
  logs = [logging.getLogger(name) for name in _LOGS]
  levels = [log.level for log in logs]
  for log in logs:
    log.setLevel(logging.CRITICAL + 1)
  try:
    yield
  finally:
    for log, level in zip(logs, levels):
      log.setLevel(level)


@contextlib.contextmanager
def _started(workers: int) -> Iterator[str]:
  """A scheduler in this process and workers in others; yields its address.

  The workers have the environment variables of this process, where Dask would
  change some (OMP_NUM_THREADS), and its memory: none is killed for its share.
  """
  from dask import config
  import distributed

  with contextlib.ExitStack() as stack:
    stack.enter_context(config.set({'distributed.nanny.pre-spawn-environ': {}}))
    try:
      cluster = stack.enter_context(
        distributed.LocalCluster(
          n_workers=workers,
          threads_per_worker=1,
          processes=True,
          host='127.0.0.1',
          dashboard_address=None,
          memory_limit=0,
          preload=quietly.__name__,
          silence_logs=logging.CRITICAL + 1,
        )
      )
    except (OSError, RuntimeError) as error:
      raise errors.UserError(
        f'--runner=DaskRunner: no cluster could be started on this machine: '
        f'{_line(error)}.'
      ) from error
    yield cluster.scheduler_address


def _greet(address: str, seconds: int) -> None:
  """Refuses an address where no scheduler is.

  A client of Dask that fails to connect is left half-open, and may hang the
  next one when it is collected; so it is only made where somebody answered.
  """
  import distributed

  async def ask():
    async with distributed.rpc(address, timeout=seconds) as there:
      return await there.identity()

  try:
    found = asyncio.run(asyncio.wait_for(ask(), seconds + 1)).get('type')
  except Exception as error:  # strangers answer all kinds of things
    raise errors.UserError(
      f'{_ADDRESS}={address}: no Dask scheduler answered there within '
      f'{seconds} s ({_line(error)}).'
    ) from error
  if found != 'Scheduler':
    raise errors.UserError(
      f'{_ADDRESS}={address}: found a {found}, expected a scheduler of Dask.'
    )


@contextlib.contextmanager
def _connected(address: str, seconds: int):
  import distributed

  _greet(address, seconds)
  client = distributed.Client(
    address, timeout=seconds, set_as_default=False, name='step_audio_jax'
  )
  try:
    yield client
  finally:
    client.close(timeout=seconds)


def _check_workers(client, address: str) -> None:
  """Refuses workers that would make other bytes, or cannot work at all."""

  # Sent by value, being local: it runs where the package may be absent.
  def probe():
    try:
      from data_pipelines.engines import environment
    except ImportError as error:
      return str(error)
    return environment.here()

  for worker, found in client.run(probe, on_error='return').items():
    if isinstance(found, dict):
      fault = environment.difference(found, environment.here())
    else:
      fault = _line(found)
    if fault:
      raise errors.UserError(
        f'{address}: the worker at {worker}: {fault}; give every worker the '
        'same environment (docs/engines.md).'
      )


@contextlib.contextmanager
def _noting(client, address: str) -> Iterator[None]:
  """Says so while there is no worker: the work would seem to hang."""
  told = False

  def look():
    nonlocal told
    try:
      absent = not client.scheduler_info(n_workers=-1)['workers']
    except (OSError, RuntimeError, futures.CancelledError):
      return  # it is lost, which the work tells by itself
    if absent and not told:
      print(
        f'note: {address}: no worker is there; the work waits for one. (One '
        'that leaves at once may lack this package, docs/engines.md.)',
        file=sys.stderr,
        flush=True,
      )
    told = absent

  look()
  with progress.watching(look, _LOOK_SECONDS):
    yield


@contextlib.contextmanager
def _told(address: str) -> Iterator[None]:
  """Dask's failures in one sentence."""
  from distributed import comm
  from distributed import scheduler

  try:
    yield
  except scheduler.KilledWorker as error:
    raise errors.UserError(
      f'--runner=DaskRunner: {error.allowed_failures + 1} workers died of the '
      f'same shard, the last of them at {error.last_worker.address}: their '
      f'logs say why, often too little memory. {_KEPT}'
    ) from error
  except (futures.CancelledError, comm.CommClosedError) as error:
    raise errors.UserError(
      f'{address}: the Dask scheduler was lost while the work ran. {_KEPT}'
    ) from error
  except ImportError as error:  # of a worker that came later
    raise errors.UserError(
      f'{address}: a worker cannot work: {_line(error)}; give every worker the '
      'same environment (docs/engines.md).'
    ) from error


def _line(error: object) -> str:
  return ' '.join(str(error).split()).rstrip('.') or type(error).__name__
