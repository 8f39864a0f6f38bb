"""Digests: known values, and what must not matter."""

import pytest

from step_audio_jax import errors
from step_audio_jax.storage import digests

EMPTY = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
ABC = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'


def test_published_vectors_of_sha_256(tmp_path):
  assert digests.of_bytes(b'') == EMPTY
  (tmp_path / 'a').write_bytes(b'abc')
  (tmp_path / 'b').write_bytes(b'')
  assert digests.of_file(tmp_path / 'a') == ABC
  assert digests.of_files(tmp_path, ['b', 'a']) == {'a': ABC, 'b': EMPTY}


def test_a_values_digest_is_of_what_it_says():
  assert digests.of_value({'b': [1, 'ü'], 'a': None}) == digests.of_value(
    {'a': None, 'b': (1, 'ü')}
  )
  assert digests.of_value({'a': 1}) != digests.of_value({'a': '1'})
  assert digests.of_value('') == digests.of_bytes(b'""')


def test_a_missing_file_is_one_sentence(tmp_path):
  with pytest.raises(errors.UserError, match='no such file'):
    digests.of_file(tmp_path / 'none')


def test_messages_show_twelve_digits():
  assert digests.short(ABC) == 'ba7816bf8f01'
  assert digests.short(None) == 'none'
