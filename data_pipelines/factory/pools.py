"""Utterances of a corpus as recordings that others are mixed with.

    noise.Recordings.pool = @pools.Utterances()
    pools.Utterances.where = 'data/mine'

Names are ids; one split alone is heard, so that no test is part of training.
"""

import dataclasses
import functools
from typing import Mapping, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio import io as audio_io
from step_audio_jax.corpus import manifest

_HELD = 64  # recordings in memory


@dataclasses.dataclass(frozen=True)
class Utterances:
  """A `Pool` of `audio.augmentation.pools`.

  Attributes:
    where: Corpus folder.
    split: Whose utterances are heard.
    language: Only this one's; None is any.
  """

  where: str
  split: str = 'train'
  language: str | None = None

  def names(self) -> Sequence[str]:
    """Ids, in the manifest's order.

    Raises:
      UserError: The manifest is missing or broken, or has no such speech.
    """
    return tuple(_listed(self))

  def read(self, name: str, sample_rate: int) -> np.ndarray:
    return _read(self, name, sample_rate)


@functools.lru_cache(maxsize=8)
def _listed(pool: Utterances) -> Mapping[str, manifest.Utterance]:
  found = {
    one.id: one
    for one in manifest.read(pool.where, splits=[pool.split], kind='speech')
    if one.audio is not None and pool.language in (None, one.language)
  }
  if not found:
    language = f' in {pool.language!r}' if pool.language else ''
    raise errors.UserError(
      f'{pool.where}: no recording of {pool.split!r}{language}, expected some '
      'to mix in.'
    )
  return found


@functools.lru_cache(maxsize=_HELD)
def _read(pool: Utterances, name: str, sample_rate: int) -> np.ndarray:
  found = _listed(pool).get(name)
  if found is None:
    raise errors.UserError(
      f'{pool.where}: found no {name!r} among the utterances of '
      f'{pool.split!r} that can be mixed in.'
    )
  wave_S, _ = audio_io.read_audio(
    found.audio_path(pool.where),
    sample_rate=sample_rate,
    audible=True,
    **found.part(),
  )
  wave_S.setflags(write=False)
  return wave_S
