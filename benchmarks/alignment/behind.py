"""Policies behind a finished quick start, as its recipe trains them."""

import os
from typing import Any, Sequence


def command(
  root: str,
  folder: str | os.PathLike,
  gin_file: str,
  sources: Sequence[str],
  **macros: Any,
) -> list[str]:
  """Words of `train` behind the program.

  Args:
    root: Folder of the quick start.
    folder: Of the policy's run.
    gin_file: Of the policy.
    sources: Runs of the quick start that it begins with.
    **macros: More of the gin file.
  """
  told = {
    'RUN_DIR': str(folder),
    'MANIFEST': f'{root}/data/speech',
    'CODES': f'{root}/codes/speech',
    'TEXT_MODEL': f'{root}/data/text.model',
    'INIT_FROM': [f'{root}/{name}' for name in sources],
    **macros,
  }
  bindings = [f'--gin.{name}={value!r}' for name, value in told.items()]
  return ['train', f'--gin_file={gin_file}', *bindings]
