"""Both speech tokenizers as one: waveforms → dual codes.

A folder ties them together; `dual.json` seals it with the digests of its
files, and its own digest is the tokenizer's: what is made of its codes carries
that (`bindings`).

    TOKENIZER/dual.json
    TOKENIZER/linguistic/{config.json, encoder.safetensors, centroids.npy}
    TOKENIZER/semantic/{config.json, model.safetensors}
"""

import itertools
import os
from typing import Iterable, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.audio import channels
from step_audio_jax.audio import io
from step_audio_jax.storage import digests
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.speech import linguistic as linguistic_lib
from step_audio_jax.tokenizers.speech import linguistic_stream
from step_audio_jax.tokenizers.speech import seal
from step_audio_jax.tokenizers.speech import semantic as semantic_lib
from step_audio_jax.tokenizers.speech import semantic_stream
from step_audio_jax.tokenizers.speech import storage

SEAL = seal.NAME
code_counts = seal.code_counts
_CHUNKS_AT_ONCE = 128  # 30.72 s
_FILES = (
  'linguistic/config.json',
  'linguistic/encoder.safetensors',
  'linguistic/centroids.npy',
  'semantic/config.json',
  'semantic/model.safetensors',
)
_CONTENTS = {SEAL, *(name.partition('/')[0] for name in _FILES)}


class DualTokenizer:
  """Waveforms → (linguistic, semantic) codes.

  Attributes:
    linguistic: 16.67 Hz.
    semantic: 25 Hz.
    identity: Folder and digest of what was saved or loaded, as `bindings` has
      them; None before.
  """

  identity: dict[str, str] | None = None

  def __init__(
    self,
    linguistic: linguistic_lib.LinguisticTokenizer,
    semantic: semantic_lib.SemanticTokenizer,
  ):
    """Checks that the codes have places in the vocabulary.

    Raises:
      UserError: There are more codes than places.
    """
    places = vocabulary.STEP_AUDIO
    for name, part, most in (
      ('linguistic', linguistic, places.linguistic_size),
      ('semantic', semantic, places.semantic_size),
    ):
      if part.size > most:
        raise errors.UserError(
          f'{name} tokenizer: {part.size} codes, expected at most {most}.'
        )
    self.linguistic, self.semantic = linguistic, semantic

  def encode(
    self, wave: np.ndarray, mode: str = 'pieces'
  ) -> tuple[np.ndarray, np.ndarray]:
    """One waveform → its codes; see `encode_batch`."""
    return self.encode_batch([wave], mode)[0]

  def encode_batch(
    self, waves: Sequence[np.ndarray], mode: str = 'pieces'
  ) -> list[tuple[np.ndarray, np.ndarray]]:
    """Codes of waveforms.

    Args:
      waves: Float samples (S,) at 16 kHz each, of any lengths.
      mode: How semantic codes of more than 30 s are made: see
        `tokenizers.speech.semantic`.

    Returns:
      (linguistic, semantic) uint16 for each waveform, in order. Both are
      empty for less than 55 ms and 30 ms.

    Raises:
      UserError: A waveform is empty, not mono, or not finite; or there is no
        such mode.
    """
    self.semantic.overlap(mode)
    waves = [
      storage.check_wave(wave, f'waveform {i}') for i, wave in enumerate(waves)
    ]
    out: list = [None] * len(waves)
    for part, wave_BS, samples_B in storage.batches(waves):
      one = self.linguistic.encode_padded(wave_BS, samples_B)
      two = self.semantic.encode_padded(wave_BS, samples_B, mode)
      codes, counts = map(np.asarray, one)
      pieces, lengths = map(np.asarray, two)
      for row, index in enumerate(part):
        whole = [p[:n] for p, n in zip(pieces[row], lengths[row])]
        out[index] = (
          codes[row, : counts[row]].astype(np.uint16),
          np.concatenate(whole).astype(np.uint16),
        )
    return out

  def encode_stream(
    self,
    blocks: Iterable[np.ndarray],
    *,
    peak: float | None = None,
    mode: str = 'pieces',
  ) -> tuple[np.ndarray, np.ndarray]:
    """Codes of a signal of any length that comes in parts.

    Memory does not depend on the length: 30 s at a time go through programs
    of one shape, the linguistic encoder with its caches.

    Args:
      blocks: Float samples (S,) at 16 kHz, parts of any size.
      peak: The largest |sample| of the whole signal; with it the codes are
        those of `encode`. None takes the samples as they are.
      mode: See `encode_batch`.

    Returns:
      (linguistic, semantic) uint16.

    Raises:
      UserError: A part is not mono or not finite, or there is no such mode.
    """
    parts = (
      linguistic_stream.LinguisticStream(
        self.linguistic, peaks=[peak], chunks=_CHUNKS_AT_ONCE
      ),
      semantic_stream.SemanticPieces(self.semantic, mode=mode, peak=peak),
    )
    found: tuple[list, list] = ([], [])
    end = np.zeros(0, np.float32)
    for block, final in itertools.chain(
      ((block, False) for block in blocks), [(end, True)]
    ):
      for part, codes in zip(parts, found):
        codes.append(part.push(block, final).astype(np.uint16))
    return np.concatenate(found[0]), np.concatenate(found[1])

  def encode_file(
    self,
    path: str | os.PathLike,
    *,
    offset: float = 0.0,
    duration: float | None = None,
    channel: channels.Channel = None,
    mode: str = 'pieces',
  ) -> tuple[np.ndarray, np.ndarray]:
    """Codes of a recording, or a part of one, of any length.

    The file is read twice, block by block: once for its peak.

    Args:
      path: Any format, rate and channel count (see `audio.io`).
      offset: Start of the part, seconds.
      duration: Length of the part, seconds; None reads to the end.
      channel: Which to hear, from 0; None is the mean of all.
      mode: See `encode_batch`.

    Returns:
      (linguistic, semantic) uint16, those of `encode` for the same samples.

    Raises:
      UserError: The file cannot be read or is silent, or there is no such
        mode.
    """
    self.semantic.overlap(mode)
    part = {'offset': offset, 'duration': duration, 'channel': channel}
    peak = io.find_peak(path, audible=True, **part)
    blocks = io.read_blocks(path, **part)
    return self.encode_stream(blocks, peak=peak, mode=mode)

  def save(self, folder: str | os.PathLike) -> None:
    """Writes the folder, whole or not at all; an older tokenizer goes.

    Raises:
      UserError: The folder cannot be written, or holds something else.
    """
    with files.atomic_folder(
      folder, replace=True, expected=_CONTENTS, last=SEAL
    ) as temporary:
      self.linguistic.save(temporary / 'linguistic')
      self.semantic.save(temporary / 'semantic')
      files.write_json(
        temporary / SEAL,
        {
          'linguistic_codes': self.linguistic.size,
          'semantic_codes': self.semantic.size,
          'sha256': digests.of_files(temporary, _FILES),
        },
      )
    self.identity = seal.identity(folder)

  @classmethod
  def load(cls, folder: str | os.PathLike) -> 'DualTokenizer':
    """Reads a folder and checks its seal.

    Raises:
      UserError: A file is missing, broken, or not the one that was sealed.
    """
    folder = files.path(folder)
    sealed = seal.read(folder).get('sha256') or {}
    for name, digest in digests.of_files(folder, _FILES).items():
      if digest != sealed.get(name):
        raise errors.UserError(
          f'{folder / name}: not the file that {SEAL} was written for (its '
          'sha256 differs); export the tokenizer again.'
        )
    tokenizer = cls(
      linguistic_lib.LinguisticTokenizer.load(folder / 'linguistic'),
      semantic_lib.SemanticTokenizer.load(folder / 'semantic'),
    )
    tokenizer.identity = seal.identity(folder)
    return tokenizer
