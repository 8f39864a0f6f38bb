"""Codes of what benchmarks let a model hear, made once for all checkpoints.

Recordings are known by their content. Their codes are kept in a folder, so a
sweep that goes on, or one over another run with the same tokenizer, makes none
again. What cannot be heard (no audio, not finite, too short) is a sentence in
its place, for each recording by itself.
"""

import dataclasses
import functools
import os
from typing import Any, Iterable, Mapping, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax.audio import io
from step_audio_jax.chats import conversation as chats_lib
from step_audio_jax.endpoints import answers as answers_lib
from step_audio_jax.evaluation.memory import identity
from step_audio_jax.storage import digests
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.speech import seal

_BATCH = 16  # waveforms that are encoded, and kept, at a time
_SHORT = 'shorter than a group of codes (120 ms)'


@dataclasses.dataclass(frozen=True)
class Heard:
  """Codes of a recording.

  Attributes:
    linguistic: uint16 (n,).
    semantic: uint16 (m,).
    samples: Of the recording at 16 kHz.
  """

  linguistic: np.ndarray
  semantic: np.ndarray
  samples: int


class Recordings:
  """What is heard, as codes of one tokenizer."""

  def __init__(
    self,
    tokenizer: str | None,
    folder: str | os.PathLike,
    memory: identity.DigestCache,
  ):
    """Loads nothing yet.

    Args:
      tokenizer: Folder of the speech tokenizer; None where nobody hears.
      folder: Where codes are kept.
      memory: Of digests of files.

    Raises:
      UserError: There is no such tokenizer.
    """
    self._folder, self._memory = tokenizer, memory
    self._seal = seal.identity(tokenizer)['sha256'] if tokenizer else None
    self._kept = answers_lib.Answers(folder)
    self._known: dict[str, Heard | str] = {}

  @property
  def tokenizer(self) -> str | None:
    """Digest of the tokenizer."""
    return self._seal

  @functools.cached_property
  def encoder(self):
    """The tokenizer itself."""
    from step_audio_jax.tokenizers.speech import dual

    return dual.DualTokenizer.load(self._folder)

  def digest(self, speech: chats_lib.Speech) -> str:
    """Of a recording's content; of one that is missing, of that."""
    if speech.data is not None:
      found = digests.of_bytes(speech.data)
    elif speech.path and files.is_file(files.path(speech.path)):
      found = self._memory.file(speech.path)
    else:
      return 'missing'
    return found if speech.is_whole else digests.of_value([found, speech.part])

  def codes(
    self, wanted: Iterable[chats_lib.Speech], *, silenced: bool = False
  ) -> dict[str, Heard | str]:
    """Content → its codes, or why there are none.

    Args:
      wanted: Recordings.
      silenced: Silence as long as each, in its place.

    Raises:
      UserError: There is no tokenizer.
    """
    by_content = {self.digest(one): one for one in wanted}
    found = self._made(by_content, self._read)
    if not silenced:
      return found
    lengths = {
      f'silence of {one.samples}': one.samples
      for one in found.values()
      if isinstance(one, Heard)
    }
    silent = self._made(lengths, lambda n: np.zeros(n, np.float32))
    return {
      name: silent[f'silence of {one.samples}']
      if isinstance(one, Heard)
      else one
      for name, one in found.items()
    }

  def wave(self, speech: chats_lib.Speech) -> np.ndarray:
    """Samples at 16 kHz, float32 (S,).

    Raises:
      UserError: It cannot be heard.
    """
    return self._read(speech)

  def _made(self, wanted: Mapping[str, Any], wave_of) -> dict[str, Heard | str]:
    missing = []
    for name in wanted:
      if name not in self._known:
        kept = self._kept.get(self._asked(name))
        if kept is None:
          missing.append(name)
        else:
          self._known[name] = _opened(kept)
    if missing:
      self._make({name: wanted[name] for name in missing}, wave_of)
    return {name: self._known[name] for name in wanted}

  def _make(self, wanted: Mapping[str, Any], wave_of) -> None:
    if self._folder is None:
      raise errors.UserError(
        'benchmarks: tokenizer: missing, expected the folder of the speech '
        'tokenizer: a recording is to be heard.'
      )
    names = list(wanted)
    with progress.bar(total=len(names), label='tokenizing', unit='file') as bar:
      for start in range(0, len(names), _BATCH):
        self._encode(names[start : start + _BATCH], wanted, wave_of)
        bar.update(len(names[start : start + _BATCH]))

  def _encode(self, names: Sequence[str], wanted, wave_of) -> None:
    waves: dict[str, np.ndarray] = {}
    for name in names:
      try:
        waves[name] = wave_of(wanted[name])
      except errors.UserError as error:
        self._known[name] = str(error)  # not kept: the file may come
    codes = self.encoder.encode_batch(list(waves.values())) if waves else ()
    for (name, wave_S), (linguistic, semantic) in zip(
      waves.items(), codes, strict=True
    ):
      whole = min(len(linguistic) // 2, len(semantic) // 3)
      made = {
        'linguistic': linguistic.tolist(),
        'semantic': semantic.tolist(),
        'samples': len(wave_S),
        'fault': '' if whole else _SHORT,
      }
      self._kept.put(self._asked(name), made)
      self._known[name] = _opened(made)

  def _read(self, speech: chats_lib.Speech) -> np.ndarray:
    if speech.data is None and speech.path is None:
      raise errors.UserError(
        f'recording {speech.id!r}: found neither a path nor bytes.'
      )
    if speech.data is not None:
      source, name = speech.data, speech.id or 'a recording'
    else:
      source, name = files.path(speech.path), speech.path
    return io.read_audio(source, name=name, **speech.part)[0]

  def _asked(self, name: str) -> dict[str, Any]:
    return {'recording': name, 'tokenizer': self._seal}


def _opened(kept: Mapping[str, Any]) -> Heard | str:
  if kept['fault']:
    return kept['fault']
  return Heard(
    np.asarray(kept['linguistic'], np.uint16),
    np.asarray(kept['semantic'], np.uint16),
    int(kept['samples']),
  )
