"""Hashes of HighwayHash-64, as Riegeli files have them."""

import pytest

from step_audio_jax.storage.ranged import highway_hash


# The first 64 bytes of every Riegeli file: its block header, its signature.
@pytest.mark.parametrize(
  ('content', 'told'),
  [
    (b'', 0x72C3B1E9C0139FE1),
    (bytes(8) + b'\x40' + bytes(7), 0x3F4A880DD170AF83),
    (
      bytes(8) + bytes.fromhex('e19f13c0e9b1c372') + b's' + bytes(15),
      0xA9E187923CC2BA91,
    ),
  ],
)
def test_hashes_of_the_specification(content, told):
  assert highway_hash.hash64(content) == told
  assert highway_hash.hash64(memoryview(content)) == told


def test_every_byte_counts_at_every_length():
  for size in range(1, 100):
    content = bytes(range(size))
    found = {highway_hash.hash64(content)}
    for place in range(size):
      changed = bytearray(content)
      changed[place] ^= 0x80
      found.add(highway_hash.hash64(bytes(changed)))
    assert len(found) == size + 1
