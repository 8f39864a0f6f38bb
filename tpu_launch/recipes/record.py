"""What a recipe has done: `timing.json`, written as it goes."""

import contextlib
import pathlib
import threading
import time
from typing import Any, Iterator, Mapping

import psutil

from step_audio_jax.storage import files
from tpu_launch.recipes import recipe


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


class Record:
  """Commands that are done, and how long the recipe ran for them.

  Time counts while the recipe runs, over kills and continuations; it begins
  anew where nothing that was done is kept. A killed recipe loses what ran
  behind the last `save`.
  """

  def __init__(self, path: pathlib.Path):
    self._path = path
    found = files.read_json(path) if files.is_file(path) else {}
    self._told = {entry['name']: entry for entry in found.get('commands', [])}
    self._before = found.get('wall_seconds') or found.get('ran_seconds')
    if self._before is None:  # killed before recipes noted it
      self._before = sum(
        entry['seconds'] / entry.get('together', 1)
        for entry in self._told.values()
      )
    self._peak = found.get('peak_memory_bytes', 0)
    self._done: dict[str, Any] = {}
    self._started: float | None = None
    self._memory: PeakMemory | None = None

  def is_done(self, name: str) -> bool:
    return name in self._done

  def keeps(self, command: recipe.Command) -> bool:
    """Takes over a command that was done before, with all that it needs."""
    told = self._told.get(command.name)
    same = (
      told is not None
      and told['command'] == str(command)
      and told.get('settings') in (None, command.settings())
      and all(map(self.is_done, command.needs))
    )
    if same:
      self._done[command.name] = told
    return same

  @contextlib.contextmanager
  def running(self) -> Iterator[None]:
    """Counts time and memory meanwhile."""
    if not self._done:
      self._before = self._peak = 0
    if self._started is None:
      self._started = time.monotonic()
    with PeakMemory() as self._memory:
      try:
        yield
      finally:
        self.save()

  def seconds(self) -> float:
    """How long the recipe ran."""
    if self._started is None:
      return self._before
    return self._before + time.monotonic() - self._started

  def add(self, command: recipe.Command, seconds: float) -> None:
    """Notes a command that has ended well."""
    self._done[command.name] = {
      'name': command.name,
      'command': str(command),
      'settings': command.settings(),
      'began': round(self.seconds() - seconds, 1),
      'seconds': round(seconds, 2),
    }
    self.save()

  def save(self) -> None:
    # The report is the last command and counts the time up to itself: no end
    # yet, and a beginning that leaves out the time between a kill and now.
    seconds = self.seconds()
    files.write_json(
      self._path,
      {
        **self._contents(),
        'wall_seconds': None,
        'ran_seconds': round(seconds, 1),
        'started': time.time() - seconds,
      },
    )

  def close(self) -> Mapping[str, Any]:
    """What the file holds when all is done."""
    contents = self._contents()
    contents['wall_seconds'] = round(self.seconds(), 1)
    files.write_json(self._path, contents)
    return contents

  def _contents(self) -> dict[str, Any]:
    if self._memory:
      self._peak = max(self._peak, self._memory.peak)
    return {
      'commands': list(self._done.values()),
      'peak_memory_bytes': self._peak,
    }
