"""onnxruntime, one thread a session, so that sums are added in one order."""

import functools
from typing import Any, Protocol, Sequence

from step_audio_jax import errors

PACKAGE = 'onnxruntime'


class Missing(errors.UserError):
  """onnxruntime is not installed."""


class Session(Protocol):
  """What of an `onnxruntime.InferenceSession` is used."""

  def run(self, names: Sequence[str] | None, feed: dict[str, Any]) -> list: ...


def require() -> Any:
  """The module.

  Raises:
    Missing: It is not installed.
  """
  try:
    import onnxruntime
  except ImportError as error:
    raise Missing(
      'onnxruntime is not installed: pip install onnxruntime (it is in the '
      "'voices' and 'quality' extras)."
    ) from error
  return onnxruntime


def open_session(raw: bytes, name: Any) -> Session:
  """A session of a graph.

  Args:
    raw: The file's bytes.
    name: What messages call it.

  Raises:
    Missing: onnxruntime is not installed.
    UserError: It cannot run this graph.
  """
  runtime = require()
  options = runtime.SessionOptions()
  options.intra_op_num_threads = options.inter_op_num_threads = 1
  options.log_severity_level = 4  # a failure is told by the exception
  return _tried(
    name,
    functools.partial(
      runtime.InferenceSession,
      raw,
      options,
      providers=['CPUExecutionProvider'],
    ),
  )


def run(name: Any, session: Session, feed: dict[str, Any]) -> list:
  """What a session makes of its inputs.

  Raises:
    UserError: It fails.
  """
  return _tried(name, functools.partial(session.run, None, feed))


def _tried(name, function):
  try:
    return function()
  except Exception as error:  # its exceptions have no class in common
    reason = str(error).strip().splitlines()[-1]
    raise errors.UserError(
      f'{name}: onnxruntime cannot run it: {reason}'
    ) from error
