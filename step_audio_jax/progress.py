"""Progress bars: one look for all long work, silent when nobody watches."""

import contextlib
import os
import sys
import threading
from typing import Any, Callable, Iterable, Iterator, TypeVar

import tqdm

T = TypeVar('T')


def bar(
  items: Iterable[T] | None = None,
  *,
  label: str,
  total: int | None = None,
  initial: int = 0,
  unit: str = 'it',
) -> 'tqdm.tqdm[T]':
  """A progress bar on stderr with rate and time left.

  On a terminal it redraws; in a log file it prints at most one line every ten
  seconds, so that a job's log stays readable. `PROGRESS=0` switches it off.
  """
  terminal = sys.stderr.isatty()
  return tqdm.tqdm(
    items,
    desc=label,
    total=total,
    initial=initial,
    unit=unit,
    disable=os.environ.get('PROGRESS') == '0',
    mininterval=0.2 if terminal else 10.0,
    ascii=not terminal,
    dynamic_ncols=terminal,
    leave=True,
  )


@contextlib.contextmanager
def watching(look: Callable[[], Any], seconds: float) -> Iterator[None]:
  """Calls `look` every `seconds` in a thread while the block runs."""
  stop = threading.Event()

  def watch():
    while not stop.wait(seconds):
      look()

  thread = threading.Thread(target=watch, daemon=True)
  thread.start()
  try:
    yield
  finally:
    stop.set()
    thread.join()
