"""Memory that was freed is kept for the next training step.

XLA asks the C library for its temporaries anew in every step. glibc hands
large blocks back to the kernel when they are freed, and touching fresh pages
again cost a sixth of a small step on CPUs. Its arenas of single threads map
every block above 64 MiB anew whatever they are told, so all threads share one.
"""

import ctypes
import platform

_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8


def keep_freed() -> bool:
  """Tells glibc's malloc to reuse freed memory; elsewhere does nothing.

  To be called early: threads that have allocated before keep their arenas.

  Returns:
    Whether it was told.
  """
  if platform.libc_ver()[0] != 'glibc':
    return False
  mallopt = ctypes.CDLL(None).mallopt
  wanted = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1))
  return all([mallopt(*pair) for pair in wanted])
