"""Programs that were compiled, kept for the next start of a door."""

import os

FOLDER = 'JAX_COMPILATION_CACHE_DIR'
_MOST = 2**32  # bytes that are kept; what was used least goes first


def keep() -> str | None:
  """Keeps every program that is compiled from here on.

  What the environment says of JAX's compilation cache stays as it is. Else the
  folder is the user's own, and nobody else can write into it: what it holds is
  run.

  Returns:
    The folder; None where there can be none.
  """
  import jax

  if os.environ.get('JAX_ENABLE_COMPILATION_CACHE', '').lower() == 'false':
    return None
  folder = os.environ.get(FOLDER)
  if folder is None:
    root = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    folder = os.path.join(root, 'step_audio_jax', 'compiled')
    try:
      os.makedirs(folder, mode=0o700, exist_ok=True)
      held = os.stat(folder)
    except OSError:
      return None
    if held.st_uid != os.getuid() or held.st_mode & 0o022:
      return None
    jax.config.update('jax_compilation_cache_max_size', _MOST)
  jax.config.update('jax_compilation_cache_dir', folder)
  # Small programs are many: read from a disk they cost a tenth.
  for name, value in (
    ('jax_persistent_cache_min_compile_time_secs', 0.0),
    ('jax_persistent_cache_min_entry_size_bytes', -1),
  ):
    if name.upper() not in os.environ:
      jax.config.update(name, value)
  return folder
