"""One process at a time in a store that has no locks: leases.

A claim is an object that only one process can make, because it is written
under the condition that there is none. It says who owns it and is written
again, under the condition that it is still the same, while the owner lives;
one that nobody renews for the length of a lease belongs to whoever writes it
next, under the same condition. No clock is compared with another: a process
that wants the claim watches whether the object changes.

An owner that could not renew in time has lost the claim. Nothing more is
written under it then: every upload asks `check` first.
"""

import contextlib
import getpass
import io
import json
import os
import socket
import sys
import threading
import time
from typing import Any, BinaryIO, Iterator
import uuid

from step_audio_jax import addresses
from step_audio_jax.storage.buckets import reading
from step_audio_jax.storage.clients import failures
from step_audio_jax.storage.clients import stores

NAME = '.lock'
# It goes on while a machine sleeps, where the system has such a clock.
_CLOCK = getattr(time, 'CLOCK_BOOTTIME', time.CLOCK_MONOTONIC)
_ANSWER = 0.05  # seconds after which a store has answered other writers, too


class Lease:
  """A claim and the thread that renews it.

  Attributes:
    path: The object.
    seconds: How long it lasts without being renewed.
  """

  seconds = 30.0  # a dead job is waited for as long
  held: dict[str, 'Lease'] = {}

  def __init__(self, path: addresses.Address, of: addresses.Address):
    """A claim at `path` for all that is written below `of`."""
    self.path, self.of = path, of
    self._bucket, self._key = stores.bucket_of(path), path.key
    self._token = uuid.uuid4().hex
    self._version, self._written = stores.ABSENT, 0
    self._over = threading.Event()
    self._good_until = 0.0
    self._thread = threading.Thread(target=self._keep, daemon=True)

  def take(self, wait: bool) -> None:
    """Makes the claim; returns once it is made.

    Args:
      wait: Whether to wait for an owner that lives; else it is named.

    Raises:
      Occupied: Somebody else has it.
    """
    watched, since, told = None, 0.0, False
    while True:
      found = self._bucket.head(self._key)
      if found is None:
        version = stores.ABSENT
      else:
        owner = self._owner()
        if found.version != watched:
          if watched is not None and not wait:
            raise self._occupied(owner)
          watched, since = found.version, time.monotonic()
        left = self.seconds - (time.monotonic() - since)
        if left > 0 and not _is_dead(owner):
          if not told and not wait:
            told = True
            print(
              f'note: {self.of}: {_name(owner)} holds it; watching for up to '
              f'{self.seconds:.0f} s whether that still lives.',
              file=sys.stderr,
              flush=True,
            )
          time.sleep(min(max(left, 0.01), self.seconds / 30))
          continue
        version = found.version
      try:
        self._write(version)
      except failures.Occupied:
        continue  # somebody was quicker
      # Not every store that speaks the protocol keeps to the condition.
      time.sleep(_ANSWER)
      if self._owner().get('token') == self._token:
        break
    self.held[self._below] = self
    self._thread.start()

  def is_renewed(self) -> bool:
    """Whether an owner lives: whether it renews its claim in time."""
    found = self._bucket.head(self._key)
    if found is None or _is_dead(self._owner()):
      return False
    end = time.monotonic() + self.seconds
    while time.monotonic() < end:
      time.sleep(self.seconds / 30)
      now = self._bucket.head(self._key)
      if now is None or now.version != found.version:
        return now is not None
    return False

  @property
  def _below(self) -> str:
    return f'{self.of}'

  def _write(self, version: str) -> None:
    begin = _now()
    # Some stores tell a version by the content: no two are alike.
    self._written += 1
    told = {**_self(), 'token': self._token, 'renewed': self._written}
    self._version = self._bucket.put(
      self._key, json.dumps(told).encode(), version=version
    ).version
    self._good_until = begin + self.seconds

  def _owner(self) -> dict[str, Any]:
    try:
      told = json.loads(self._bucket.get(self._key)[0])
    except (failures.Missing, ValueError):
      return {}
    return told if isinstance(told, dict) else {}

  def _occupied(self, owner) -> failures.Occupied:
    return failures.Occupied(
      self.of,
      f'another process is writing here, {_name(owner)}; wait for it or stop '
      'it',
    )

  def _keep(self) -> None:
    pause = self.seconds / 3
    while not self._over.wait(pause):
      pause = self.seconds / 30
      try:
        # One answer that does not come must not cost the claim.
        with failures.within(self.seconds * 2 / 3):
          if not self._renew():
            self._good_until = 0.0
            return
        pause = self.seconds / 3
      except failures.StoreError:
        continue  # until the lease ends, it may still be renewed

  def _renew(self) -> bool:
    """Whether the claim is still ours."""
    if self.is_lost() and self._owner().get('token') != self._token:
      return False  # not every store keeps to the condition
    try:
      self._write(self._version)
    except failures.Occupied:
      # By ourselves, where an earlier renewal was never answered.
      found = self._bucket.head(self._key)
      if found is None or self._owner().get('token') != self._token:
        return False
      self._write(found.version)
    return True

  def is_lost(self) -> bool:
    """Whether somebody else may have the claim by now."""
    return _now() > self._good_until

  def release(self) -> None:
    """Gives the claim back."""
    self._over.set()
    self._thread.join()
    self.held.pop(self._below, None)
    if not self.is_lost():  # so it is still ours
      with contextlib.suppress(failures.StoreError):
        self._bucket.delete(self._key, self._version)


def check(path: addresses.Address) -> None:
  """Raises if `path` is below a claim that this process has lost."""
  for below, lease in list(Lease.held.items()):
    inside = str(path) == below or str(path).startswith(f'{below}/')
    if inside and lease.is_lost():
      raise failures.Occupied(
        lease.of,
        f'the claim on it was lost: it could not be renewed for '
        f'{lease.seconds:.0f} s, and another process may be writing; '
        'start again to go on from the last checkpoint',
      )


def _now() -> float:
  return time.clock_gettime(_CLOCK)


@contextlib.contextmanager
def only_one(folder: addresses.Address) -> Iterator[None]:
  """As `claims.only_one`."""
  lease = Lease(folder / NAME, folder)
  lease.take(wait=False)
  try:
    yield
  finally:
    lease.release()


def is_claimed(path: addresses.Address) -> bool:
  """As `claims.is_claimed`; watches for as long as a lease lasts."""
  return path.name.endswith(NAME) and Lease(path, path).is_renewed()


def end_claim(path: addresses.Address) -> None:
  """As `claims.end_claim`; raises `Occupied` if somebody has it by now."""
  lease = Lease(path, path)
  lease.take(wait=False)
  lease.release()


def empty(folder: addresses.Address) -> None:
  """As `claims.empty`."""
  bucket = stores.bucket_of(folder)
  names = {one.key for one in bucket.list(f'{folder.key}/')}
  list(
    reading.in_parallel(bucket.delete, sorted(names - {(folder / NAME).key}))
  )


class Claimed(io.BytesIO):
  """An object in memory that `persist` writes back."""

  def __init__(self, path: addresses.Address):
    self._path = path
    try:
      content, _ = stores.bucket_of(path).get(path.key)
    except failures.Missing:
      content = b''
    super().__init__(content)

  def persist(self) -> None:
    """Writes what is there now."""
    check(self._path)
    stores.bucket_of(self._path).put(self._path.key, self.getvalue())


@contextlib.contextmanager
def claim_file(path: addresses.Address) -> Iterator[BinaryIO]:
  """As `claims.claim_file`; what `persist` has not written is lost."""
  lease = Lease(path.with_name(f'.{path.name[:100]}{NAME}'), path)
  lease.take(wait=True)
  try:
    yield Claimed(path)
  finally:
    lease.release()


def _self() -> dict[str, Any]:
  """Who this process is, for those who wait."""
  try:
    user = getpass.getuser()
  except (KeyError, OSError):
    user = str(os.getuid())
  return {
    'user': user,
    'host': socket.gethostname(),
    'boot': _boot(),
    'process': os.getpid(),
    'started': _started(os.getpid()),
  }


def _name(owner: dict[str, Any]) -> str:
  if not owner:
    return 'somebody'
  return (
    f'process {owner.get("process")} of {owner.get("user")} on '
    f'{owner.get("host")}'
  )


def _is_dead(owner: dict[str, Any]) -> bool:
  """Whether the owner was a process of this machine that has ended."""
  if not owner or owner.get('boot') != _boot() or not _boot():
    return False
  number = owner.get('process')
  return not isinstance(number, int) or (
    _started(number) != owner.get('started')
  )


def _boot() -> str:
  """What tells this machine, and its processes' numbers, from all others."""
  try:
    with open('/proc/sys/kernel/random/boot_id', encoding='ascii') as handle:
      boot = handle.read().strip()
    return f'{boot}/{os.readlink("/proc/self/ns/pid")}'
  except OSError:
    return ''


def _started(process: int) -> str | None:
  """When a process of this machine began; None if there is none."""
  try:
    with open(f'/proc/{process}/stat', encoding='utf-8') as handle:
      told = handle.read().rpartition(')')[2].split()
  except OSError:
    return None
  return None if told[0] == 'Z' else told[19]
