"""What a checkpoint answered, chunk by chunk, so that a kill costs one chunk.

    FOLDER/<key>/00003.json   {"ids": […], "rows": […], "sha256": …}
    FOLDER/<key>/chunks.json  the ids of each chunk, once all are there

The key is the digest of all that an answer depends on: parameters, what is
asked, and how it is decoded. Chunks of one key are the same on every machine,
and lie there whole or not at all; several hosts make some each and read the
others' (`Share`).
"""

import dataclasses
import os
import time
from typing import Any, Callable, Sequence

from step_audio_jax import errors
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

_CHUNKS = 'chunks.json'
_PAUSE = 2.0  # seconds between looks for what others make


@dataclasses.dataclass(frozen=True)
class Share:
  """Which chunks this process makes: of all, every `count`th.

  Attributes:
    index: Of this process.
    count: Of processes.
    patience: Seconds without a new chunk of the others before that is an
      error.
  """

  index: int = 0
  count: int = 1
  patience: float = 3600.0

  def __post_init__(self):
    if not 0 <= self.index < self.count:
      raise errors.UserError(
        f'evaluate: share: found process {self.index} of {self.count}, '
        f'expected 0 to {self.count - 1}.'
      )

  def is_mine(self, chunk: int) -> bool:
    """Whether this process makes a chunk."""
    return chunk % self.count == self.index


class Journal:
  """Answers of one key."""

  def __init__(self, folder: str | os.PathLike, key: str, share: Share):
    """Nothing is read yet.

    Args:
      folder: Of all keys.
      key: Digest of what the answers depend on.
      share: Which chunks this process makes.
    """
    self._folder, self._share = files.path(folder) / key[:32], share

  def whole(self, ids: Sequence[str]) -> list[benchmark.Answer] | None:
    """Answers to all of some items, if all are kept; nothing is made.

    Args:
      ids: Of the items, in the order that is wanted.
    """
    path = self._folder / _CHUNKS
    if not files.is_file(path):
      return None
    try:
      chunks = files.read_json(path)
      known = sorted(one for chunk in chunks for one in chunk)
    except (errors.UserError, TypeError):
      return None
    if known != sorted(ids):
      return None
    found: dict[str, benchmark.Answer] = {}
    for place, chunk in enumerate(chunks):
      kept = self._kept(place, chunk)
      if kept is None:
        return None
      found |= dict(zip(chunk, kept, strict=True))
    return [found[one] for one in ids]

  def fill(
    self,
    chunks: Sequence[Sequence[str]],
    make: Callable[[int], Sequence[benchmark.Answer]],
    tell: Callable[[int], Any] = lambda rows: None,
  ) -> dict[str, benchmark.Answer]:
    """Id → answer; what is kept is not made again.

    Args:
      chunks: Ids of each.
      make: Place of a chunk → its answers.
      tell: Called with the rows of each chunk that is there.

    Raises:
      UserError: Another process leaves its chunks unmade.
    """
    found: dict[str, benchmark.Answer] = {}
    others = []
    for place, ids in enumerate(chunks):
      kept = self._kept(place, ids)
      if kept is None and not self._share.is_mine(place):
        others.append(place)
        continue
      if kept is None:
        kept = list(make(place))
        self._keep(place, ids, kept)
      found |= dict(zip(ids, kept, strict=True))
      tell(len(ids))
    for place in others:
      found |= dict(
        zip(chunks[place], self._awaited(place, chunks[place]), strict=True)
      )
      tell(len(chunks[place]))
    if not self._share.index:
      files.write_json(self._folder / _CHUNKS, [list(ids) for ids in chunks])
    return found

  def _path(self, place: int) -> files.AnyPath:
    return self._folder / f'{place:05d}.json'

  def _kept(self, place, ids) -> list[benchmark.Answer] | None:
    path = self._path(place)
    if not files.is_file(path):
      return None
    try:
      value = files.read_json(path)
      told = value['sha256'] == digests.of_value([value['ids'], value['rows']])
      if told and value['ids'] == list(ids):
        return [benchmark.Answer(**row) for row in value['rows']]
    except (errors.UserError, KeyError, TypeError) as error:
      if isinstance(error, errors.UserError):
        files.raise_outage(error)
    return None

  def _keep(self, place, ids, answers) -> None:
    rows = [answer._asdict() for answer in answers]
    ids = list(ids)
    files.make_folder(self._folder)
    files.write_json(
      self._path(place),
      {'ids': ids, 'rows': rows, 'sha256': digests.of_value([ids, rows])},
    )

  def _awaited(self, place, ids) -> list[benchmark.Answer]:
    end = time.monotonic() + self._share.patience
    while (kept := self._kept(place, ids)) is None:
      if time.monotonic() > end:
        raise errors.UserError(
          f'{self._path(place)}: found nothing after '
          f'{self._share.patience:g} s, expected what process '
          f'{place % self._share.count} of {self._share.count} answers; start '
          'that one again.'
        )
      time.sleep(_PAUSE)
    return kept
