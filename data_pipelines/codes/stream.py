"""Codes by id for a reader that asks in the order of the manifest.

`tokenize` keeps that order, so that one pass over the shards answers all
questions and a record is dropped as soon as it has been passed. Codes in
another order are found as well, but those read ahead of their turn are held.
"""

import os
from typing import Iterator

import numpy as np

from step_audio_jax.corpus import speech_codes
from step_audio_jax.storage import files

Pair = tuple[np.ndarray, np.ndarray]


class CodeStream:
  """The codes of a folder, read forward once."""

  def __init__(self, folder: str | os.PathLike):
    """Opens nothing yet but the list of what has no codes."""
    self._folder = folder
    self._start, self._firsts = 0, None
    self._stream = self._read()
    self._ahead: dict[str, Pair] = {}
    quarantine = files.path(folder) / 'quarantine.jsonl'
    self._without = set()
    if files.is_file(quarantine):
      lines = files.read_jsonl(quarantine)
      self._without = {line.get('id') for line in lines}

  def shard_of(self, name: str) -> int:
    """Number of the shard that begins with an utterance, or 0.

    Raises:
      UserError: As `speech_codes.read_codes`.
    """
    if self._firsts is None:
      self._firsts = {
        next(speech_codes.stream_shard(shard), (None,))[0]: number
        for number, shard in enumerate(speech_codes.list_shards(self._folder))
      }
    return self._firsts.get(name, 0)

  def start_at(self, shard: int) -> None:
    """Reads from a shard on, and those before it only where nothing helps."""
    self._start = shard

  def lacks(self, name: str) -> bool:
    """Whether it is known that an utterance could not be tokenised."""
    return name in self._without

  def get(self, name: str) -> Pair | None:
    """The codes of an utterance, once; None if it has none.

    Raises:
      UserError: As `speech_codes.read_codes`.
    """
    if self.lacks(name):
      return None
    if name in self._ahead:
      return self._ahead.pop(name)
    for found, pair in self._stream:
      if found == name:
        return pair
      self._ahead[found] = pair
    return None

  def _read(self) -> Iterator[tuple[str, Pair]]:
    shards = speech_codes.list_shards(self._folder)
    for shard in shards[self._start :] + shards[: self._start]:
      yield from speech_codes.stream_shard(shard)
