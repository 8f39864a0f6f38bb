"""Speech codes of a corpus: ArrayRecord shards of safetensors records.

A record holds the linguistic and the semantic codes of one utterance, and its
id. The shards lie beside the corpus; `data_pipelines tokenize` makes them.
"""

import os
import pathlib
from typing import Iterator

import numpy as np

from step_audio_jax import errors
from step_audio_jax.storage import array_records
from step_audio_jax.storage import files

STEM = 'codes'


def read_codes(
  folder: str | os.PathLike,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Reads a tokenised corpus: id → (linguistic, semantic), both uint16.

  Raises:
    UserError: There are no shards, some are missing, or a record is broken.
  """
  return dict(stream_codes(folder))


def stream_codes(
  folder: str | os.PathLike,
) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
  """(id, (linguistic, semantic)) in the order of the shards.

  Raises:
    UserError: As `read_codes`.
  """
  for shard in list_shards(folder):
    yield from stream_shard(shard)


def stream_shard(
  shard: str | os.PathLike,
) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
  """As `stream_codes`, of one of `list_shards`."""
  for number, record in enumerate(array_records.stream_records(shard)):
    try:
      tensors, metadata = array_records.unpack(record)
      told = metadata['id'], (tensors['linguistic'], tensors['semantic'])
    except (KeyError, ValueError) as error:
      raise errors.UserError(
        f'{shard}: record {number} is not a tokenised utterance: {error}.'
      ) from error
    yield told


def list_shards(folder: str | os.PathLike) -> list[pathlib.Path]:
  """The shards of a tokenised corpus in order.

  Raises:
    UserError: There are none, or the set is incomplete.
  """
  folder = files.path(folder)
  paths = sorted(files.glob(folder, f'{STEM}-*-of-*.array_record'))
  if not paths:
    raise errors.UserError(
      f'{folder}: no {STEM}-*.array_record; run '
      '`python -m data_pipelines tokenize` first.'
    )
  total = int(paths[0].stem.rsplit('-', 1)[1])
  if len(paths) != total:
    raise errors.UserError(
      f'{folder}: found {len(paths)} shards, expected {total}; run '
      '`python -m data_pipelines tokenize` again to finish them.'
    )
  return paths
