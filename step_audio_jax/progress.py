"""Progress bars: one look for all long work, silent when nobody watches."""

import os
import sys
from typing import Iterable, TypeVar

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
