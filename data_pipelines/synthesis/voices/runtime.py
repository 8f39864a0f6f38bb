"""Sessions of voices, by onnxruntime (`runtimes.onnx`)."""

import functools

from data_pipelines.synthesis.voices import graphs
from step_audio_jax.runtimes import onnx
from step_audio_jax.storage import files

PACKAGE = onnx.PACKAGE
Missing, Session = onnx.Missing, onnx.Session
require, run = onnx.require, onnx.run


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
  require()  # before the graph is read and changed
  return onnx.open_session(graphs.read(path, lengths).raw, path)
