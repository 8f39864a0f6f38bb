"""A failed save is told once: by whoever asked for it.

Orbax saves in threads. Where the disk is full each of them logs its error with
a traceback, asyncio adds what nobody waited for, and TensorStore calls back
into loops that are closed; then Orbax raises the error, and that is told. What
other code logs or raises is shown as before.
"""

import logging
import sys
import threading
import traceback
from typing import Any

_MAKERS = ('/orbax/', '/tensorstore/')
_CLOSED = 'Event loop is closed'


def silence_repeats() -> None:
  """Silences the echoes from now on; a second call changes nothing."""
  for name in ('absl', 'asyncio'):
    logger = logging.getLogger(name)
    if _is_no_echo not in logger.filters:
      logger.addFilter(_is_no_echo)
  if not isinstance(threading.excepthook, _Hook):
    threading.excepthook = _Hook(threading.excepthook)
  if not isinstance(sys.unraisablehook, _Hook):
    sys.unraisablehook = _Hook(sys.unraisablehook)


def _is_no_echo(record: logging.LogRecord) -> bool:
  error = record.exc_info[1] if record.exc_info else None
  if record.name == 'asyncio':
    return not _comes_from_saving(error) and 'orbax' not in record.getMessage()
  return error is None or not any(m in record.pathname for m in _MAKERS)


def _comes_from_saving(error: BaseException | None) -> bool:
  frames = traceback.extract_tb(error.__traceback__) if error else ()
  return any(maker in frame.filename for frame in frames for maker in _MAKERS)


class _Hook:
  """A hook for exceptions that nobody catches, without those of saving."""

  def __init__(self, before: Any):
    self._before = before

  def __call__(self, args: Any) -> None:
    error = args.exc_value
    closed = isinstance(error, RuntimeError) and str(error) == _CLOSED
    if not closed and not _comes_from_saving(error):
      self._before(args)
