"""What a feed reads, as digests that a run keeps and a resume compares.

Digests must cost little at the start of a run, whatever the corpus weighs:

* shards of rows: the SHA-256 that `stats.json` has of each of them. What lies
  on disk is compared with it, read whole as long as all shards together are
  below `WHOLE_BYTES`; of the others size, beginning and end are looked at;
* shards in a bucket: the same SHA-256, sizes, beginnings and ends, and no shard
  whole that has a SHA-256 in `stats.json`; on a resume not even these where the
  store says that every object is the version that it was;
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
from step_audio_jax.storage import array_records
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

WHOLE_BYTES = 512 * 2**20
SAMPLE = 256
SAMPLE_BYTES = 64 * 2**20
_END_BYTES = 64 * 2**10
# What says how closely was looked, not what was found: compared only where both
# a run and its resume have it. What the store says is not compared at all: a
# copy of an object is another version.
ALL_ENDS, VERSIONS = 'all_ends', 'versions'
IF_BOTH = ('ends', ALL_ENDS)


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
  folder: files.Path,
  stats: Mapping[str, Any],
  budget: ByteBudget,
  known: Mapping[str, Any] | None = None,
  states: Mapping[files.AnyPath, files.State] | None = None,
) -> dict[str, Any]:
  """The rows of a folder, as digests.

  Args:
    folder: Of the shards.
    stats: Its `stats.json`.
    budget: Of all folders of a feed.
    known: What this gave when the run began, to spare reading again what a
      store says is unchanged.
    states: Of shards in a bucket, as far as they are known.

  Returns:
    `rows`, and `sha256` over the shards in their order; `ends` over sizes,
    beginnings and ends of those that were not read whole. In a bucket these are
    `all_ends`, with `versions` as the store tells them.

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
  if files.is_address(folder):
    return _far_rows(paths, stats, budget, known or {}, states or {})
  found, ends = [], []
  for path in paths:
    size, digest = files.size(path), told.get(path.name)
    _check_size(path, size, stats)
    if budget.takes(size):
      whole = digests.of_file(path)
      if digest and whole != digest:
        raise errors.UserError(
          f'{path}: its sha256 is {digests.short(whole)}, expected '
          f'{digests.short(digest)} as stats.json says; build the rows again.'
        )
      digest = whole
    else:
      ends.append(_ends(path, size))
    found.append(digest)
  out = {'rows': stats['rows'], 'sha256': digests.of_value(found)}
  return out | ({'ends': digests.of_value(ends)} if ends else {})


def _check_size(path: files.Path, size: int, stats: Mapping[str, Any]) -> None:
  stated = (stats.get('bytes') or {}).get(path.name, size)
  if size != stated:
    raise errors.UserError(
      f'{path}: {size} bytes, expected {stated} as stats.json says; build '
      'the rows again.'
    )


def _far_rows(paths, stats, budget, known, states) -> dict[str, Any]:
  """As `rows`, of shards that are not read whole where stats.json has digests.

  Rows from before there were any have their bytes read once.
  """
  missing = [path for path in paths if path not in states]
  found = array_records.in_flight(files.state, missing)
  states = {**states, **dict(zip(missing, found))}
  for path in paths:
    _check_size(path, states[path].size, stats)
  versions = digests.of_value(
    [
      [path.name, states[path].size, *map(str, states[path].version)]
      for path in paths
    ]
  )
  # What the store has not changed since is what it was.
  kept = known if known.get(VERSIONS) == versions else {}
  if told := stats.get('sha256'):
    whole = digests.of_value([told.get(path.name) for path in paths])
  else:
    whole = kept.get('sha256') or digests.of_value(
      [
        digests.of_file(path) if budget.takes(states[path].size) else None
        for path in paths
      ]
    )
  ends = kept.get(ALL_ENDS) or digests.of_value(
    list(
      array_records.in_flight(lambda path: _far_ends(path, states[path]), paths)
    )
  )
  return {
    'rows': stats['rows'],
    'sha256': whole,
    ALL_ENDS: ends,
    VERSIONS: versions,
  }


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


def _far_ends(path: files.Path, state: files.State) -> str:
  """As `_ends`, of what lies in a bucket."""
  source = files.ranged(path, state)
  size = source.size
  parts = source.read_many(
    [(0, min(size, _END_BYTES)), (max(0, size - _END_BYTES), size)]
  )
  return digests.of_bytes(b''.join([str(size).encode(), *parts]))


def _ends(path: str | os.PathLike, size: int) -> str:
  """Digest of a file's size, beginning and end."""
  told = hashlib.sha256(str(size).encode())
  with files.opened(path) as handle:
    told.update(handle.read(_END_BYTES))
    handle.seek(max(0, size - _END_BYTES))
    told.update(handle.read(_END_BYTES))
  return told.hexdigest()
