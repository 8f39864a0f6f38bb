"""Recordings that others are mixed with: noises, voices, impulse responses."""

import dataclasses
import functools
from typing import Protocol, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio import io as audio_io
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

ENDINGS = ('.wav', '.flac', '.ogg', '.opus', '.mp3')
_HELD = 64  # recordings in memory


class Pool(Protocol):
  """Recordings with names.

  Attributes:
    where: What messages and provenance call it.
  """

  where: str

  def names(self) -> Sequence[str]:
    """All of them, in an order that does not change."""

  def read(self, name: str, sample_rate: int) -> np.ndarray:
    """One of them, float32 (S,).

    Raises:
      UserError: It is not there, or is no sound.
    """


@dataclasses.dataclass(frozen=True)
class Folder:
  """The recordings of a folder and of those below it.

  Attributes:
    where: The folder.
  """

  where: str

  def __post_init__(self):
    if not isinstance(self.where, str) or not files.is_dir(self.where):
      raise errors.UserError(
        f'pool: found {self.where!r}, expected a folder of recordings.'
      )

  def names(self) -> Sequence[str]:
    """Paths below the folder, in order.

    Raises:
      UserError: There is none.
    """
    return _listed(self.where)

  def read(self, name: str, sample_rate: int) -> np.ndarray:
    return _read(self.where, name, sample_rate)


def digest(wave_S: np.ndarray) -> str:
  """SHA-256 of samples as float32, low byte first."""
  return digests.of_bytes(np.asarray(wave_S, '<f4').tobytes())


@functools.lru_cache(maxsize=16)
def _listed(where: str) -> tuple[str, ...]:
  root = files.path(where)
  found = sorted(
    path.relative_to(root).as_posix()
    for path in files.list_files(root)
    if path.suffix.lower() in ENDINGS
  )
  if not found:
    raise errors.UserError(
      f'{where}: no recording in it, expected files ending in '
      f'{", ".join(ENDINGS)}.'
    )
  return tuple(found)


@functools.lru_cache(maxsize=_HELD)
def _read(where: str, name: str, sample_rate: int) -> np.ndarray:
  if '..' in name.split('/') or name.startswith(('/', '~')):
    raise errors.UserError(
      f'{where}: found {name!r}, expected the name of a recording in it.'
    )
  path = files.path(where) / name
  wave_S, _ = audio_io.read_audio(path, sample_rate=sample_rate, audible=True)
  wave_S.setflags(write=False)
  return wave_S
