"""What a feed reads, as digests that a run keeps and a resume compares.

Digests must cost little at the start of a run, whatever the corpus weighs:

* shards of rows: the SHA-256 that `stats.json` has of each of them. What lies
  on disk is compared with it, read whole as long as all shards together are
  below `WHOLE_BYTES`; of the others size, beginning and end are looked at;
* recordings: what the manifest says of each, and the files of up to `SAMPLE`
  utterances, spread over the corpus.

So another corpus, another build or a replaced file of a small one is found;
not found is a change in the middle of a large file that keeps its size, or of
a single recording among many (`data_pipelines inspect --verify` reads all).
"""

import hashlib
import os
from typing import Any, Mapping, Sequence

from step_audio_jax import errors
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

WHOLE_BYTES = 512 * 2**20
SAMPLE = 256
SAMPLE_BYTES = 64 * 2**20
_END_BYTES = 64 * 2**10


class ByteBudget:
  """Bytes that may be read whole."""

  def __init__(self, size: int):
    self._left = size

  def takes(self, size: int) -> bool:
    """Whether a file of `size` bytes is still read whole."""
    if size > self._left:
      return False
    self._left -= size
    return True


def rows(
  folder: str | os.PathLike, stats: Mapping[str, Any], budget: ByteBudget
) -> dict[str, Any]:
  """The rows of a folder, as digests.

  Args:
    folder: Of the shards.
    stats: Its `stats.json`.
    budget: Of all folders of a feed.

  Returns:
    `rows`, and `sha256` over the shards in their order; `ends` over sizes,
    beginnings and ends of those that were not read whole.

  Raises:
    UserError: The shards are not those of `stats.json`.
  """
  folder = files.path(folder)
  paths = sorted(files.glob(folder, '*.array_record'))
  told = stats.get('sha256') or {}
  names = {path.name for path in paths}
  if told and names != set(told):
    odd = sorted(names ^ set(told))[0]
    there = 'is there' if odd in names else 'is not there'
    raise errors.UserError(
      f'{folder / odd}: {there}, expected the {len(told)} shards of '
      'stats.json; build the rows again.'
    )
  known, ends = [], []
  for path in paths:
    size, digest = files.size(path), told.get(path.name)
    stated = (stats.get('bytes') or {}).get(path.name, size)
    if size != stated:
      raise errors.UserError(
        f'{path}: {size} bytes, expected {stated} as stats.json says; build '
        'the rows again.'
      )
    if budget.takes(size):
      found = digests.of_file(path)
      if digest and found != digest:
        raise errors.UserError(
          f'{path}: its sha256 is {digests.short(found)}, expected '
          f'{digests.short(digest)} as stats.json says; build the rows again.'
        )
      digest = found
    else:
      ends.append(_ends(path, size))
    known.append(digest)
  out = {'rows': stats['rows'], 'sha256': digests.of_value(known)}
  return out | ({'ends': digests.of_value(ends)} if ends else {})


def sample(paths: Sequence[str | os.PathLike | None]) -> str:
  """Digest of some of the files that a feed reads.

  Args:
    paths: In the order of the utterances; None for what has none.
  """
  budget, found = ByteBudget(SAMPLE_BYTES), []
  count = min(SAMPLE, len(paths))
  for i in range(count):
    path = paths[i * len(paths) // count]
    try:
      size = files.size(path)
      whole = budget.takes(size)
      found.append(digests.of_file(path) if whole else _ends(path, size))
    except (OSError, TypeError, errors.UserError):
      found.append(None)  # as it would be found again
  return digests.of_value(found)


def _ends(path: str | os.PathLike, size: int) -> str:
  """Digest of a file's size, beginning and end."""
  told = hashlib.sha256(str(size).encode())
  with files.opened(path) as handle:
    told.update(handle.read(_END_BYTES))
    handle.seek(max(0, size - _END_BYTES))
    told.update(handle.read(_END_BYTES))
  return told.hexdigest()
