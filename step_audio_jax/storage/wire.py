"""The wire of protobuf: fields of (number, wire type, value), nested.

What ONNX files need of it. The library itself would be held at the version
that TensorFlow shares, and would copy what is only looked through here.
"""

from typing import Iterator

Data = bytes | bytearray | memoryview


def read_varint(data: Data, place: int) -> tuple[int, int]:
  """A number, and the place behind it.

  Raises:
    ValueError: It has more than 64 bits.
    IndexError: It is cut.
  """
  value = shift = 0
  while True:
    byte = data[place]
    place += 1
    value |= (byte & 127) << shift
    if byte < 128:
      return value, place
    shift += 7
    if shift > 63:
      raise ValueError('a number of more than 64 bits')


def fields(data: Data) -> Iterator[tuple[int, int | Data]]:
  """(field, value) of a message: an int, or a view of its bytes.

  Raises:
    ValueError: It is cut, or no message.
    IndexError: Likewise.
  """
  place = 0
  while place < len(data):
    key, place = read_varint(data, place)
    wire = key & 7
    if wire == 0:
      value, place = read_varint(data, place)
    else:
      if wire == 2:
        size, place = read_varint(data, place)
      elif wire in (1, 5):
        size = 8 if wire == 1 else 4
      else:
        raise ValueError(f'a field of wire type {wire}')
      value = data[place : place + size]
      if len(value) < size:
        raise ValueError(f'{size} bytes announced, found {len(value)}')
      place += size
    yield key >> 3, value


def integers(value: int | Data) -> Iterator[int]:
  """One varint, or packed ones."""
  if isinstance(value, int):
    yield value
    return
  place = 0
  while place < len(value):
    number, place = read_varint(value, place)
    yield number


def text(value: Data) -> str:
  """A field of text."""
  return bytes(value).decode()


def varint(value: int) -> bytes:
  """A number of up to 64 bits, not negative."""
  out = bytearray()
  while value > 127:
    out.append(value & 127 | 128)
    value >>= 7
  out.append(value)
  return bytes(out)


def field(number: int, value: int | str | Data) -> bytes:
  """One field: a number, a text or the bytes of a message."""
  if isinstance(value, int):
    return varint(number << 3) + varint(value)
  value = value.encode() if isinstance(value, str) else bytes(value)
  return varint(number << 3 | 2) + varint(len(value)) + value
