"""Protobuf's wire: what is written is read; what is cut is refused."""

import hypothesis
from hypothesis import strategies as st
import pytest

from step_audio_jax.storage import wire

NUMBERS = st.integers(0, 2**63 - 1)
FIELDS = st.lists(st.tuples(st.integers(1, 2000), NUMBERS | st.binary()))


@hypothesis.given(FIELDS)
def test_fields_come_back(fields):
  raw = b''.join(wire.field(number, value) for number, value in fields)
  assert [(n, v) for n, v in wire.fields(raw)] == fields


@hypothesis.given(st.lists(NUMBERS))
def test_packed_numbers_come_back(numbers):
  raw = b''.join(map(wire.varint, numbers))
  assert list(wire.integers(raw)) == numbers
  assert [list(wire.integers(n)) for n in numbers] == [[n] for n in numbers]


def test_text_is_utf8():
  ((_, value),) = wire.fields(wire.field(4, 'ˈɛ'))
  assert wire.text(value) == 'ˈɛ'


@pytest.mark.parametrize(
  'raw, said',
  [
    (b'\x0a\x05abc', '5 bytes announced, found 3'),
    (b'\x08' + b'\xff' * 10, 'more than 64 bits'),
    (b'\x0b', 'wire type 3'),
  ],
)
def test_what_is_no_message_is_refused(raw, said):
  with pytest.raises(ValueError, match=said):
    list(wire.fields(raw))
