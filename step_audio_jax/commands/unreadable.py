"""Python files of a user that Python cannot read: where, and why.

What an import raises then names the file at best, and neither the gin file nor
the flag that asked for the module is at fault.
"""

import importlib.util
import itertools
import tokenize
import traceback

from step_audio_jax.commands import old_names
from step_audio_jax.storage import files

_READERS = ('gin', 'tokenize')  # of gin text; gin imports modules, too


def told(error: BaseException) -> str | None:
  """What to say of a Python file; None where none is at fault.

  Args:
    error: What an import raised, of gin or of ours.
  """
  frames = list(traceback.walk_tb(error.__traceback__))
  if not frames:
    return None
  message = str(error).partition('\n')[0]
  if message.startswith('source code string cannot contain null'):
    return f'{_with_null(frames)}: not Python syntax ({message}).'
  if not isinstance(error, SyntaxError):
    return None
  path, number, text = error.filename, error.lineno, error.text
  reader = frames[-1][0].f_globals.get('__name__', '').partition('.')[0]
  if reader in _READERS and not f'{path}'.endswith('.py'):
    return None
  if not path or not files.is_file(path):  # of a text that a module evaluates
    path, number, text = frames[-1][0].f_code.co_filename, frames[-1][1], None
  where = f'{path}:{number}' if number else path
  text = f': {text.strip()}' if text and text.strip() else ''
  return f'{where}: not Python syntax{text} ({error.msg}).'


def _with_null(frames) -> str:
  """The file with a null byte that was read last, else who asked for it."""
  for frame, _ in frames[-2:]:  # where the chain of an import was kept
    if frame.f_code.co_name == 'source_to_code':
      return frame.f_locals['path']
  frame, line = frames[-1]
  where = frame.f_code.co_filename
  if 'statement' in frame.f_locals:  # gin's own, of the import
    modules = [frame.f_locals['statement'].module]
  elif not files.is_file(where):
    modules = []
  else:
    with tokenize.open(where) as handle:
      imports = old_names.in_python(handle.read()).imports
    modules = [one.module for one in imports if one.line == line]
  for module in modules:
    for name in itertools.accumulate(module.split('.'), '{}.{}'.format):
      try:
        path = importlib.util.find_spec(name).origin
        if b'\0' in files.read_bytes(path):
          return path
      except Exception:  # of a module that is none, or of one before it
        break
  return f'{where}:{line}'
