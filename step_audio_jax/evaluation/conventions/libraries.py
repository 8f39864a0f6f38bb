"""The libraries of the extra `conventions`, loaded when first needed."""

import functools
import importlib
from typing import Any
import warnings

from step_audio_jax import errors


@functools.cache
def load(module: str) -> Any:
  """A module of an optional library.

  Raises:
    UserError: It is not installed.
  """
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # zhconv asks setuptools for its tables
      return importlib.import_module(module)
  except ImportError as error:
    raise errors.UserError(
      f'a scoring convention needs {error.name or module}, which is not '
      "installed; expected `pip install 'step_audio_jax[conventions]'`."
    ) from error
