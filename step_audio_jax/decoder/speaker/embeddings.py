"""Speaker embeddings of a corpus, one for each utterance, in one file.

An `.npz` of two arrays, which hold no pickle: `ids` (N,), fixed-width text,
and `embeddings` float32 (N, D), both in the manifest's order.
"""

import dataclasses
import os
from typing import Collection, Iterable, Mapping
import zipfile
import zlib

import numpy as np

from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax.corpus import manifest
from step_audio_jax.decoder.speaker import encoder as speaker_lib
from step_audio_jax.storage import files
from step_audio_jax.training.feeds import recordings

_TOGETHER = 16  # recordings that are read before they are embedded


@dataclasses.dataclass(frozen=True)
class CorpusEmbeddings:
  """Embeddings of a corpus.

  Attributes:
    vectors: Id → float32 (D,), in the manifest's order.
    left_out: Id → why it has none.
  """

  vectors: Mapping[str, np.ndarray]
  left_out: Mapping[str, str]


def embed_corpus(
  corpus: str | os.PathLike,
  encoder: speaker_lib.SpeakerEncoder,
  splits: Collection[str] | None = None,
) -> CorpusEmbeddings:
  """Embeds every utterance that has audio, similar lengths together.

  Those that cannot be read, are too short or silent are left out; each is
  told on stderr.

  Raises:
    UserError: The manifest is bad, or no utterance is left.
  """
  found = manifest.read(corpus, splits=splits, kind='speech')
  spoken = [u for u in found if u.audio is not None]
  reader = recordings.Recordings(corpus)
  vectors, left_out = {}, {u.id: 'no audio' for u in found if u.audio is None}
  spoken.sort(key=lambda u: (u.duration, u.id))
  with progress.bar(label='embed', total=len(spoken), unit='utt') as bar:
    for begin in range(0, len(spoken), _TOGETHER):
      part = spoken[begin : begin + _TOGETHER]
      names, waves = [], []
      for utterance in part:
        wave_S = reader.read(utterance, audible=True)
        if wave_S is None:
          continue
        try:
          waves.append(speaker_lib.check_wave(wave_S, utterance.audio))
          names.append(utterance.id)
        except errors.UserError as error:
          reader.leave_out(utterance, error)
      vectors.update(zip(names, encoder.embed_batch(waves, names)))
      bar.update(len(part))
  left_out |= reader.quarantine
  if not vectors:
    raise errors.UserError(
      f'{manifest.path_of(corpus)}: no utterance to embed; left out: '
      f'{len(left_out)}.'
    )
  ordered = {u.id: vectors[u.id] for u in found if u.id in vectors}
  return CorpusEmbeddings(ordered, left_out)


def write(path: str | os.PathLike, vectors: Mapping[str, np.ndarray]) -> None:
  """Writes embeddings by id, atomically."""
  ids = np.array(list(vectors), np.str_)
  with files.atomic(path) as handle:
    np.savez(handle, ids=ids, embeddings=_stacked(vectors.values()))


def _stacked(vectors: Iterable[np.ndarray]) -> np.ndarray:
  return np.stack([np.asarray(vector, np.float32) for vector in vectors])


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Embeddings by utterance id, float32 (D,) each.

  Raises:
    UserError: The file is missing, broken, or is something else.
  """
  path = files.path(path)
  with files.opened(path) as handle:
    try:
      with np.load(handle, allow_pickle=False) as arrays:
        ids, vectors_ND = arrays['ids'], arrays['embeddings']
    except (
      *(AttributeError, EOFError, KeyError, OSError, TypeError, ValueError),
      *(zipfile.BadZipFile, zlib.error),
    ) as error:
      line = ' '.join(str(error).split()).strip('\'"')
      raise errors.UserError(
        f'{path}: not a file of embeddings, as `python -m step_audio_jax '
        f'embed` writes it: {line}.'
      ) from error
  if ids.ndim != 1 or ids.dtype.kind != 'U':
    raise errors.UserError(
      f'{path}: ids: found {ids.shape} of {ids.dtype}, expected (N,) of text.'
    )
  if vectors_ND.shape[:1] != ids.shape or vectors_ND.ndim != 2:
    raise errors.UserError(
      f'{path}: embeddings: found {vectors_ND.shape}, expected ({len(ids)}, D).'
    )
  if vectors_ND.dtype.kind != 'f' or not np.isfinite(vectors_ND).all():
    raise errors.UserError(
      f'{path}: embeddings: found {vectors_ND.dtype} or numbers that are not '
      'finite, expected finite float32.'
    )
  found = dict(zip(ids.tolist(), vectors_ND.astype(np.float32)))
  if len(found) != len(ids):
    raise errors.UserError(f'{path}: ids: one occurs twice.')
  return found
