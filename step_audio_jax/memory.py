"""Memory that was freed: kept for the next training step, or given back.

XLA asks the C library for its temporaries anew in every step. glibc hands
large blocks back to the kernel when they are freed, and touching fresh pages
again cost a sixth of a small step on CPUs. Its arenas of single threads map
every block above 64 MiB anew whatever they are told, so all threads share one.

A server runs for weeks, and no two requests are alike: there blocks that are
kept leave gaps between them, and memory grows for long though nothing leaks.
"""

import ctypes
import platform

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8


def keep_freed() -> bool:
  """Tells glibc's malloc to reuse freed memory; elsewhere does nothing.

  To be called early: threads that have allocated before keep their arenas.

  Returns:
    Whether it was told.
  """
  return _told((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1))


def give_back_freed(least: int = 2**18) -> bool:
  """Tells glibc's malloc to hand every large block back; elsewhere nothing.

  Its own threshold grows with what is freed, up to 32 MiB.

  Args:
    least: Bytes of a large block.

  Returns:
    Whether it was told.
  """
  return _told((_M_ARENA_MAX, 2), (_M_MMAP_THRESHOLD, least))


def _told(*wanted: tuple[int, int]) -> bool:
  if platform.libc_ver()[0] != 'glibc':
    return False
  mallopt = ctypes.CDLL(None).mallopt
  return all([mallopt(*pair) for pair in wanted])
