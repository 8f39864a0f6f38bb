"""A pseudo-random order of any length, of which nothing has to be kept.

A Feistel network with cycle walking (Black and Rogaway, "Ciphers with arbitrary
finite domains", 2002): constant time and memory, whatever the size.
"""

import functools
import hashlib

_ROUNDS = 4


def permute(index: int, size: int, key: int) -> int:
  """Place of `index` in a pseudo-random permutation of range(size)."""
  half = max(1, ((size - 1).bit_length() + 1) // 2)
  mask = (1 << half) - 1
  while True:
    left, right = index >> half, index & mask
    for i in range(_ROUNDS):
      left, right = right, left ^ (_mix(right, key, i) & mask)
    index = (left << half) | right
    if index < size:
      return index


@functools.lru_cache(maxsize=1 << 16)
def _mix(value: int, key: int, i: int) -> int:
  digest = hashlib.blake2b(
    f'{value},{key},{i}'.encode(), digest_size=8
  ).digest()
  return int.from_bytes(digest, 'little')
