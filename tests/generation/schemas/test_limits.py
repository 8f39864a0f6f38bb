"""What is kept, and for how long."""

import pytest

from step_audio_jax.generation.schemas import limits


def test_what_is_kept_is_weighed():
  kept, made = limits.Kept(10, len), []

  def get(text):
    def make():
      made.append(text)
      return text

    assert kept.get(text[0], make) == text

  for text in ('aaaa', 'bbbb', 'aaaa', 'cccc', 'aaaa', 'bbbb'):
    get(text)
  assert made == ['aaaa', 'bbbb', 'cccc', 'bbbb']
  get('d' * 50)  # more than all may weigh, and yet of use
  get('d' * 50)
  get('aaaa')
  assert made[4:] == ['d' * 50, 'aaaa']


def test_what_fails_is_not_kept():
  kept = limits.Kept(10)
  with pytest.raises(ZeroDivisionError):
    kept.get('a', lambda: 1 / 0)
  assert kept.get('a', lambda: 5) == 5
