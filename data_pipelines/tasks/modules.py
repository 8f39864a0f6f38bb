"""Python modules of a user that register corpora, named by --module or gin."""

import importlib
import os
import sys
from typing import Any, Sequence

from step_audio_jax import errors
from step_audio_jax.commands import moved
from step_audio_jax.commands import old_names
from step_audio_jax.commands import unreadable


def import_all(modules: Sequence[str]) -> None:
  """Imports modules; those of the working directory are found as well.

  Raises:
    UserError: One cannot be imported or read, or calls a module by an old name.
  """
  if modules and os.getcwd() not in sys.path:
    sys.path.insert(0, os.getcwd())
  for module in modules:
    if not all(part.isidentifier() for part in module.split('.')):
      raise errors.UserError(
        f'--module={module}: expected the name of a Python module, such as '
        '`corpora` or `mine.corpora`.'
      )
    if moved.entry(module):
      raise errors.UserError(
        f'--module={module}: {module} is now {moved.new_name(module)}.'
      )
    try:
      importlib.import_module(module)
    except (ImportError, AttributeError, SyntaxError, ValueError) as error:
      if told := unreadable.told(error):
        raise errors.UserError(told) from error
      if isinstance(error, (ImportError, AttributeError)):
        old_names.check_modules((), error)
      if not isinstance(error, ImportError):
        raise
      raise errors.UserError(
        f'--module={module}: cannot be imported: {error}.'
      ) from error
    old_names.check_modules([module])


def tasks_of(modules: Sequence[str]) -> dict[str, Any]:
  """Imports modules; the tasks that they add.

  Returns:
    Name → definition, or the splits of a task that was written by hand.

  Raises:
    UserError: As `import_all`.
  """
  from data_pipelines.tasks import corpora

  seqio = corpora.seqio  # imported there without its notices

  before = set(seqio.TaskRegistry.names())
  import_all(modules)
  return {
    name: corpora.DEFINITIONS.get(
      name, tuple(seqio.TaskRegistry.get(name).splits)
    )
    for name in seqio.TaskRegistry.names()
    if name not in before
  }
