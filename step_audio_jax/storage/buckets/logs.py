"""Logs in a store that can only write whole objects.

A log grows in a file of this machine. A thread uploads it when it has changed,
every few seconds, or as rarely as keeps the uploads of a long one below a
hundredth of the time; closing it uploads the rest.
"""

import contextlib
import os
import pathlib
import shutil
import sys
import tempfile
import threading
import time
from typing import Any
import weakref

from step_audio_jax import addresses
from step_audio_jax.storage.buckets import publishing
from step_audio_jax.storage.buckets import reading
from step_audio_jax.storage.clients import failures

_SECONDS = 10.0
_SHARE = 0.01  # of the time, for uploads


class Log:
  """An open log; what it does not do itself its file does."""

  def __init__(self, path: addresses.Address, mode: str):
    """Opens a log; 'a' goes on where an earlier one ends."""
    self._path = path
    self._folder = tempfile.mkdtemp(prefix='step_audio_jax.log.')
    weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
    file = pathlib.Path(self._folder) / path.name[-100:]
    if 'a' in mode:
      with contextlib.suppress(failures.Missing):
        with reading.opened(path) as old, open(file, 'wb') as new:
          shutil.copyfileobj(old, new)
    text = {} if 'b' in mode else {'encoding': 'utf-8'}
    self._file, self._handle = file, open(file, mode, **text)
    self._sent, self._over = -1, threading.Event()
    self._thread = threading.Thread(target=self._watch, daemon=True)
    self._thread.start()

  def __getattr__(self, name: str) -> Any:
    return getattr(self._handle, name)

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self.close()

  def __iter__(self):
    return iter(self._handle)

  def _watch(self) -> None:
    pause = _SECONDS
    while not self._over.wait(pause):
      begin = time.monotonic()
      try:
        self._send()
      except failures.StoreError as error:
        print(f'warning: {error}', file=sys.stderr, flush=True)
      pause = max(_SECONDS, (time.monotonic() - begin) / _SHARE)

  def _send(self) -> None:
    size = os.path.getsize(self._file)
    if size != self._sent:
      # What is written meanwhile comes the next time, or half of it now.
      publishing.put_file(self._file, self._path)
      self._sent = size

  def close(self) -> None:
    """Closes it; all of it is in the store.

    Raises:
      StoreError: It could not be uploaded.
    """
    if self._handle.closed:
      return
    self._handle.close()
    self._over.set()
    self._thread.join()
    self._sent = -1
    self._send()
    shutil.rmtree(self._folder, ignore_errors=True)
