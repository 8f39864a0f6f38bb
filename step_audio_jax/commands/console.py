"""Standard output and error as the doors have them: never a traceback.

A name that is not UTF-8, or a character that the terminal's encoding lacks, is
printed with a backslash. A standard output that is closed or full costs what
would have been printed, not the work: the door goes on, says so at its end and
fails. Standard error may be closed, too.
"""

import json
import math
import os
import sys
from typing import Any, Callable, Mapping, TextIO


class _Stream:
  """A text stream that remembers what it could not write, and goes on.

  Attributes:
    error: The first error of writing; None if there was none.
  """

  def __init__(self, stream: TextIO | None):
    """Wraps `stream`, None where Python found it closed."""
    self._stream = stream
    self.error: OSError | None = None

  def write(self, text: str) -> int:
    self._attempt(lambda: self._stream.write(text))
    return len(text)

  def flush(self) -> None:
    if self._stream is not None:
      self._attempt(self._stream.flush)

  def _attempt(self, work: Callable[[], Any]) -> None:
    if self.error is not None:
      return
    try:
      if self._stream is None:
        raise OSError('it is closed')
      work()
    except BrokenPipeError:  # `… | head` has seen enough
      raise
    except OSError as error:
      self.error = error

  def isatty(self) -> bool:
    return self._stream is not None and self._stream.isatty()

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)


def call(command: str, work: Callable[[], int]) -> int:
  """Runs `work` with streams that do not fail it; returns its status.

  Args:
    command: What the user started, for the message.
    work: Prints, and returns an exit status.

  Returns:
    The status of `work`; 1 where the reader of a pipe has gone; 2 where what
    it printed could not be written.
  """
  if isinstance(sys.stdout, _Stream):
    return work()
  _occupy_closed_descriptors()
  before = sys.stdout, sys.stderr
  for stream in before:
    if hasattr(stream, 'reconfigure'):
      stream.reconfigure(errors='backslashreplace')
  sys.stdout, sys.stderr = map(_Stream, before)
  try:
    status = work()
    sys.stdout.flush()
    if sys.stdout.error is not None:
      reason = sys.stdout.error.strerror or sys.stdout.error
      print(
        f'error: {command}: standard output could not be written ({reason}); '
        'expected an open one with room.',
        file=sys.stderr,
      )
      _turn_off(before[0])
      status = status or 2
    return status
  except BrokenPipeError:
    _turn_off(before[0])
    return 1
  finally:
    sys.stdout, sys.stderr = before


def json_line(value: Any) -> str:
  """`value` as one line of JSON that standard output can hold.

  JSON has no number that is not finite: NaN and infinities are null.
  """
  encoding = getattr(sys.stdout, 'encoding', None) or 'ascii'
  plain = encoding.lower().replace('-', '') == 'utf8'
  line = json.dumps(
    _finite(value), ensure_ascii=not plain, default=_plain, allow_nan=False
  )
  # Only a surrogate is left, and `\udcff` is JSON's own way to write it.
  return line.encode('utf-8', 'backslashreplace').decode()


def _finite(value: Any) -> Any:
  """`value` with None in place of every number that is not finite."""
  if isinstance(value, float):  # also NumPy's float64
    return value if math.isfinite(value) else None
  if isinstance(value, Mapping):
    return {key: _finite(one) for key, one in value.items()}
  if isinstance(value, (list, tuple)):
    return [_finite(one) for one in value]
  return value


def _plain(value: Any) -> Any:
  """What JSON does not know: arrays and their numbers as such, else text."""
  if hasattr(value, 'tolist'):
    return _finite(value.tolist())
  return str(value)


def _occupy_closed_descriptors() -> None:
  """Keeps the next file from taking the place of a closed stream.

  Libraries in C write their messages there, which would then be in the file.
  """
  for descriptor in range(3):
    try:
      os.fstat(descriptor)
    except OSError:
      os.open(os.devnull, os.O_RDWR)  # takes the lowest free one


def _turn_off(stream: TextIO | None) -> None:
  """Python flushes standard output once more when it ends."""
  try:
    descriptor = stream.fileno()
  except (AttributeError, OSError, ValueError):  # closed, or none of the system
    return
  nowhere = os.open(os.devnull, os.O_WRONLY)
  os.dup2(nowhere, descriptor)
  os.close(nowhere)
