"""Which split something belongs to that names none."""

from data_pipelines import tally


def split_of(name: str, dev: float, test: float) -> str:
  """The split of an id: a hash decides, the same on every machine."""
  place = tally.digest(name) / 2**64
  return 'dev' if place < dev else 'test' if place < dev + test else 'train'
