"""HighwayHash-64 of bytes, with the key of Riegeli files.

Alakuijala, Cox and Wassenberg, "Fast keyed hash/pseudo-random function using
SIMD multiply and permute" (2016). The state is four words each of v0, v1, mul0
and mul1; every 32 bytes go through one round of multiplications and byte
shuffles. It is compiled when it is first used, and lets other threads run.
"""

import functools
from typing import Any, Callable

import numpy as np

_KEY = b'Riegeli/records\n' * 2
_MUL0 = (
  *(0xDBE6D5D5FE4CCE2F, 0xA4093822299F31D0),
  *(0x13198A2E03707344, 0x243F6A8885A308D3),
)
_MUL1 = (
  *(0x3BD39E10CB0EF593, 0xC0ACF169B5F18A8C),
  *(0xBE5466CF34E90C6C, 0x452821E638D01377),
)
_PACKET = 32  # bytes


def hash64(content: bytes | memoryview) -> int:
  """The hash of `content`."""
  size = len(content)
  rest = size % _PACKET
  if rest:
    whole = size - rest
    content = bytes(content[:whole]) + _last_packet(bytes(content[whole:]))
  words = np.frombuffer(content, '<u8')
  return int(_compiled()(words, rest, _start().copy()))


def _last_packet(tail: bytes) -> bytes:
  """The bytes that fill no packet, spread over one."""
  four, odd = len(tail) & ~3, len(tail) & 3
  packet = bytearray(_PACKET)
  packet[:four] = tail[:four]
  if len(tail) & 16:
    packet[28:] = tail[-4:]
  elif odd:
    packet[16:19] = bytes((tail[four], tail[four + odd // 2], tail[-1]))
  return bytes(packet)


@functools.cache
def _start() -> np.ndarray:
  """State before the first packet: v0, v1, mul0, mul1, uint64 (4, 4)."""
  key = np.frombuffer(_KEY, '<u8')
  mul0, mul1 = (np.array(mul, np.uint64) for mul in (_MUL0, _MUL1))
  half = np.uint64(32)
  return np.stack([mul0 ^ key, mul1 ^ (key >> half | key << half), mul0, mul1])


@functools.cache
def _compiled() -> Callable[[Any, int, Any], np.uint64]:
  """(words of the packets, bytes of the last, state) → hash."""
  import numba

  u64 = np.uint64
  low, half = u64(0xFFFFFFFF), u64(32)

  @numba.njit
  def shuffled(one, other):
    """Bytes of two words, in the order in which they are added to a pair."""
    first = (
      ((one & u64(0xFF000000)) | (other & u64(0xFF00000000))) >> u64(24)
      | ((one & u64(0xFF0000000000)) | (other & u64(0xFF000000000000)))
      >> u64(16)
      | one & u64(0xFF0000)
      | (one & u64(0xFF00)) << u64(32)
      | (other & u64(0xFF00000000000000)) >> u64(8)
      | one << u64(56)
    )
    second = (
      ((other & u64(0xFF000000)) | (one & u64(0xFF00000000))) >> u64(24)
      | other & u64(0xFF0000)
      | (other & u64(0xFF0000000000)) >> u64(16)
      | (other & u64(0xFF00)) << u64(24)
      | (one & u64(0xFF000000000000)) >> u64(8)
      | (other & u64(0xFF)) << u64(48)
      | one & u64(0xFF00000000000000)
    )
    return first, second

  @numba.njit
  def add(state, to, source):
    for i in (0, 2):
      first, second = shuffled(state[source, i], state[source, i + 1])
      state[to, i] += first
      state[to, i + 1] += second

  @numba.njit
  def update(state, a, b, c, d):
    packet = (a, b, c, d)
    for i in range(4):
      state[1, i] += state[2, i] + packet[i]
      state[2, i] ^= (state[1, i] & low) * (state[0, i] >> half)
      state[0, i] += state[3, i]
      state[3, i] ^= (state[0, i] & low) * (state[1, i] >> half)
    add(state, 0, 1)
    add(state, 1, 0)

  @numba.njit
  def swapped(word):
    return word >> half | word << half

  @numba.njit
  def rotated(word, by):
    """Both halves of a word rotated to the left."""
    upper, lower = word >> half, word & low
    upper = (upper << by | upper >> (half - by)) & low
    lower = (lower << by | lower >> (half - by)) & low
    return upper << half | lower

  @numba.njit(
    numba.uint64(
      numba.types.Array(numba.uint64, 1, 'C', readonly=True),
      numba.uint64,
      numba.uint64[:, ::1],
    ),
    nogil=True,
  )
  def run(words, rest, state):
    packets = len(words) // 4
    for i in range(packets):
      if rest and i == packets - 1:
        for k in range(4):
          state[0, k] += (rest << half) + rest
          state[1, k] = rotated(state[1, k], rest)
      k = 4 * i
      update(state, words[k], words[k + 1], words[k + 2], words[k + 3])
    for _ in range(4):
      v0 = state[0]
      update(
        state, swapped(v0[2]), swapped(v0[3]), swapped(v0[0]), swapped(v0[1])
      )
    return state[0, 0] + state[1, 0] + state[2, 0] + state[3, 0]

  return run
