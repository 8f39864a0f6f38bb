"""Commands are lists of words, printed before they run; no shell reads them."""

import shlex
import shutil
import subprocess
from typing import Mapping, Sequence

from step_audio_jax import errors


def quoted(argv: Sequence[str], env: Mapping[str, str] | None = None) -> str:
  """One line that could be pasted into a shell."""
  words = [f'{name}={value}' for name, value in (env or {}).items()]
  return shlex.join((['env', *words] if words else []) + list(argv))


def run(
  argv: Sequence[str], *, dry_run: bool = False, capture: bool = False
) -> str:
  """Prints `+ command`, then runs it, unless this is a dry run.

  Returns:
    Its output where `capture` is set, else ''.

  Raises:
    UserError: The program is not installed, or the command failed.
  """
  print(f'+ {quoted(argv)}', flush=True)
  if dry_run:
    return ''
  if shutil.which(argv[0]) is None:
    raise errors.UserError(
      f'{argv[0]} is not on PATH; install it, or use --dry_run to see what '
      'would be run.'
    )
  done = subprocess.run(
    list(argv),
    stdout=subprocess.PIPE if capture else None,
    text=True,
    check=False,
  )
  if done.returncode:
    raise errors.UserError(
      f'{" ".join(argv[:6])} ...: exit status {done.returncode}.'
    )
  return done.stdout or ''
