"""Codes by id for a reader that asks in the order of the manifest.

`tokenize` keeps that order, so that one pass over the shards answers all
questions and a record is dropped as soon as it has been passed. Codes in
another order are found as well, but those read ahead of their turn are held.
"""

import os
import pathlib

import numpy as np

from step_audio_jax import files
from step_audio_jax import manifest

Pair = tuple[np.ndarray, np.ndarray]


class CodeStream:
  """The codes of a folder, read forward once."""

  def __init__(self, folder: str | os.PathLike):
    """Opens nothing yet but the list of what has no codes."""
    self._stream = manifest.stream_codes(folder)
    self._ahead: dict[str, Pair] = {}
    quarantine = pathlib.Path(folder) / 'quarantine.jsonl'
    self._without = set()
    if quarantine.is_file():
      lines = files.read_jsonl(quarantine)
      self._without = {line.get('id') for line in lines}

  def get(self, name: str) -> Pair | None:
    """The codes of an utterance, once; None if it has none.

    Raises:
      UserError: As `manifest.read_codes`.
    """
    if name in self._without:
      return None
    if name in self._ahead:
      return self._ahead.pop(name)
    for found, pair in self._stream:
      if found == name:
        return pair
      self._ahead[found] = pair
    return None
