"""Files that grow, in a store that can only write whole objects.

Such a file grows on this machine. A thread uploads it when it has changed,
every few seconds, or as rarely as keeps the uploads of a long one below a
hundredth of the time; `persist` uploads it now, and closing it the rest.
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


class Mirror:
  """Uploads a file of this machine while it grows."""

  def __init__(self, file: pathlib.Path, path: addresses.Address):
    """Watches `file`, of which `path` becomes the copy."""
    self._file, self._path, self._sent = file, path, -1
    self._lock, self._over = threading.Lock(), threading.Event()
    self._thread = threading.Thread(target=self._watch, daemon=True)
    self._thread.start()

  def _watch(self) -> None:
    pause = _SECONDS
    while not self._over.wait(pause):
      begin = time.monotonic()
      try:
        self.send()
      except OSError as error:
        print(f'warning: {error}', file=sys.stderr, flush=True)
      pause = max(_SECONDS, (time.monotonic() - begin) / _SHARE)

  def send(self) -> None:
    """Uploads it, if it has grown.

    Raises:
      StoreError: It could not be.
    """
    with self._lock:
      size = os.path.getsize(self._file)
      if size != self._sent:
        # An upload must not grow under way: it is of what is there now.
        still = self._file.with_name(f'.{self._file.name}.sent')
        try:
          shutil.copyfile(self._file, still)
          publishing.put_file(still, self._path)
        finally:
          still.unlink(missing_ok=True)
        self._sent = size

  def close(self) -> None:
    """Uploads the rest; raises as `send`."""
    if not self._over.is_set():
      self._over.set()
      self._thread.join()
      self.send()


class Log:
  """An open log; what it does not do itself its file does."""

  def __init__(self, path: addresses.Address, mode: str):
    """Opens a log; 'a' goes on where an earlier one ends."""
    self._folder = tempfile.mkdtemp(prefix='step_audio_jax.log.')
    weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
    file = pathlib.Path(self._folder) / path.name[-100:]
    if 'a' in mode:
      with contextlib.suppress(failures.Missing):
        with reading.opened(path) as old, open(file, 'wb') as new:
          shutil.copyfileobj(old, new)
    text = {} if 'b' in mode else {'encoding': 'utf-8'}
    self._handle = open(file, mode, **text)
    self._mirror = Mirror(file, path)

  def __getattr__(self, name: str) -> Any:
    return getattr(self._handle, name)

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self.close()

  def persist(self) -> None:
    """Uploads what is flushed.

    Raises:
      StoreError: It could not be.
    """
    self._mirror.send()

  def close(self) -> None:
    """Closes it; all of it is in the store.

    Raises:
      StoreError: It could not be uploaded.
    """
    if self._handle.closed:
      return
    self._handle.close()
    self._mirror.close()
    shutil.rmtree(self._folder, ignore_errors=True)
