"""Which split something belongs to that names none."""

from step_audio_jax.storage import digests


def split_of(name: str, dev: float, test: float) -> str:
  """The split of an id: a hash decides, the same on every machine."""
  place = digests.number(name) / 2**64
  return 'dev' if place < dev else 'test' if place < dev + test else 'train'
