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
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8


def keep_freed() -> bool:
  """Tells glibc's malloc to reuse freed memory; elsewhere does nothing.

  To be called early: threads that have allocated before keep their arenas.

  Returns:
    Whether it was told.
  """
  return _told((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1))


def give_back_freed() -> bool:
  """Hands free pages back to the kernel, those between blocks too; once.

  To be called now and then: memory that is given back at every turn, as glibc
  does with blocks above a threshold, is faulted in again at every turn, which
  doubled the time to an answer of a server with much to do.

  Returns:
    Whether there were any, and glibc to do it.
  """
  if platform.libc_ver()[0] != 'glibc':
    return False
  return bool(ctypes.CDLL(None).malloc_trim(0))


def _told(*wanted: tuple[int, int]) -> bool:
  if platform.libc_ver()[0] != 'glibc':
    return False
  mallopt = ctypes.CDLL(None).mallopt
  return all([mallopt(*pair) for pair in wanted])
