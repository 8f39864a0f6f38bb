"""A vocabulary whose ids can be read off, and codes to go with it."""

import numpy as np

from step_audio_jax import vocabulary


class Letters:
  """Text ids 100 + code point; two ids above the control pieces."""

  size = 500

  def encode(self, text):
    return [100 + ord(c) % 300 for c in text]

  def decode(self, ids):
    return ''.join(chr(i - 100) for i in ids)


TABLE = vocabulary.Vocabulary.over(Letters())


def codes(groups):
  """Random codes of so many groups: (linguistic, semantic)."""
  rng = np.random.default_rng(groups)
  return rng.integers(0, 1024, 2 * groups), rng.integers(0, 4096, 3 * groups)
