"""Checksums that containers of sound carry, at the speed of numpy.

A CRC is the remainder of a polynomial over GF(2). Of n words wᵢ of 16 bits,

    crc = Σ wᵢ x^(16 (n−i)) mod P,

and since a product with a constant is a table of 2¹⁶ entries, neighbours are
folded pairwise: w'ᵢ = w₂ᵢ x^(16·2ᵏ) + w₂ᵢ₊₁, log₂ n times. Long data are folded
before that: x^32767 = 1, so that what lies 32767 bytes apart is added.
"""

import functools
import zlib

import numpy as np

from step_audio_jax.audio.formats import spans

_POLYNOMIAL = 0x8005  # x¹⁶ + x¹⁵ + x² + 1: FLAC's frames and LAME's tag
_CRC8 = bytes(
  functools.reduce(
    lambda value, _: value << 1 & 0xFF ^ (0x07 if value & 0x80 else 0),
    range(8),
    byte,
  )
  for byte in range(256)
)
_ORDER = 2**15 - 1  # of x: P = (x + 1) times a primitive polynomial
_REVERSED = bytes(int(f'{byte:08b}'[::-1], 2) for byte in range(256))


@functools.cache
def _shifted(bits: int) -> np.ndarray:
  """Table of v x^bits mod P, v of 16 bits: uint16 (65536,)."""
  power = 1
  # x^bits by squaring.
  for bit in f'{bits:b}':
    power = _product(power, power)
    if bit == '1':
      power = _product(power, 2)
  table = np.zeros(1, np.uint16)
  for _ in range(16):
    table = np.concatenate([table, table ^ np.uint16(power)])
    power = _product(power, 2)
  return table


def _product(one: int, other: int) -> int:
  result = 0
  while other:
    if other & 1:
      result ^= one
    one <<= 1
    if one & 0x10000:
      one ^= 0x10000 | _POLYNOMIAL
    other >>= 1
  return result


def crc16(data: bytes, state: int = 0) -> int:
  """CRC-16 with polynomial 0x8005, most significant bit first, no inversion.

  Args:
    data: Bytes.
    state: The checksum of what lies before them.
  """
  if len(data) < 2:
    for byte in data:
      head = (state >> 8) ^ byte
      state = ((state << 8) & 0xFF00) ^ int(_shifted(16)[head])
    return state
  data = bytes([data[0] ^ state >> 8, data[1] ^ state & 0xFF]) + data[2:]
  # Zeros in front change nothing.
  if len(data) > 2 * _ORDER:
    folded, octets = np.zeros(_ORDER, np.uint8), np.frombuffer(data, np.uint8)
    for stop in range(len(data), 0, -_ORDER):
      part = octets[max(0, stop - _ORDER) : stop]
      folded[_ORDER - len(part) :] ^= part
    data = folded.tobytes()
  words = np.frombuffer(b'\0' * (len(data) % 2) + data, '>u2')
  bits = 16
  while len(words) > 1:
    if len(words) % 2:
      words = np.concatenate([np.zeros(1, np.uint16), words])
    words = _shifted(bits)[words[0::2]] ^ words[1::2]
    bits *= 2
  return int(_shifted(16)[words[0]])


def crc16_reflected(data: bytes, state: int = 0) -> int:
  """CRC-16/ARC, the same polynomial with the least significant bit first."""
  state = crc16(data.translate(_REVERSED), _reversed(state, 16))
  return _reversed(state, 16)


def crc16_of(
  source: spans.Source, begin: int, end: int, reflected: bool = False
) -> int:
  """`crc16`, or `crc16_reflected`, of the bytes [begin, end) of a file."""
  add, state = crc16_reflected if reflected else crc16, 0
  while begin < end:
    block = source.read(begin, min(spans.BLOCK, end - begin))
    if not block:
      break
    state = add(block, state)
    begin += len(block)
  return state


def crc8(data: bytes) -> int:
  """CRC-8 with polynomial 0x07, of the few bytes of a frame's header."""
  state = 0
  for byte in data:
    state = _CRC8[state ^ byte]
  return state


def crc32_ogg(page: bytes) -> int:
  """CRC-32 of an Ogg page: zlib's polynomial in the other bit order.

  Args:
    page: With zeros where its own checksum stands.
  """
  raw = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
  return _reversed(raw, 32)


def _reversed(value: int, bits: int) -> int:
  return int(f'{value:0{bits}b}'[::-1], 2)
