"""onnxruntime, one thread a process, so that sums are added in one order."""

import functools
from typing import Any, Protocol, Sequence

from data_pipelines.synthesis.voices import graphs
from step_audio_jax import errors
from step_audio_jax.storage import files

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
      "'voices' extra)."
    ) from error
  return onnxruntime


@functools.lru_cache(4)
def open_session(
  path: files.Path, sha256: str, lengths: str = 'Ceil'
) -> Session:
  """A session of a model whose noise comes from outside (`graphs`).

  Args:
    path: Of the model.
    sha256: Of the voice; another content gets another session.
    lengths: As of `graphs.read`.

  Raises:
    Missing: onnxruntime is not installed.
    UserError: It cannot run this model.
  """
  del sha256
  runtime = require()
  options = runtime.SessionOptions()
  options.intra_op_num_threads = options.inter_op_num_threads = 1
  options.log_severity_level = 4  # a failure is told by the exception
  raw = graphs.read(path, lengths).raw
  try:
    return runtime.InferenceSession(
      raw, options, providers=['CPUExecutionProvider']
    )
  except Exception as error:  # its exceptions have no class in common
    reason = str(error).strip().splitlines()[-1]
    raise errors.UserError(
      f'{path}: onnxruntime cannot run it: {reason}'
    ) from error


def run(path: files.Path, session: Session, feed: dict[str, Any]) -> list:
  """What a session makes of its inputs.

  Raises:
    UserError: It fails.
  """
  try:
    return session.run(None, feed)
  except Exception as error:  # its exceptions have no class in common
    reason = str(error).strip().splitlines()[-1]
    raise errors.UserError(
      f'{path}: onnxruntime cannot run it: {reason}'
    ) from error
