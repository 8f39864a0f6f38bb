"""Waveforms of a corpus for a feed; what cannot be read is told, once."""

import os
import sys

import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.corpus import manifest

_TOLD = 20  # utterances, on stderr


class Recordings:
  """Reads utterances, or parts of them.

  Attributes:
    quarantine: {id: reason} of utterances that could not be read so far.
  """

  def __init__(
    self, corpus: str | os.PathLike, sample_rate: int = io.SAMPLE_RATE
  ):
    """Reads from the folder `corpus`, at `sample_rate` Hz."""
    self.quarantine: dict[str, str] = {}
    self._corpus, self._rate = corpus, sample_rate

  def read(
    self,
    utterance: manifest.Utterance,
    start: float = 0.0,
    seconds: float | None = None,
    *,
    audible: bool = False,
  ) -> np.ndarray | None:
    """Samples of an utterance, or None where it cannot be read.

    The first time that it cannot, the reason goes to stderr.

    Args:
      utterance: Has audio.
      start: Of the part, seconds behind the utterance's start.
      seconds: Of the part; None reads to the end of the utterance.
      audible: Silence cannot be read either.

    Returns:
      Float32 (S,).
    """
    part = utterance.part(start, seconds)
    seconds = part['duration']
    try:
      wave_S, _ = io.read_audio(
        utterance.audio_path(self._corpus),
        sample_rate=self._rate,
        audible=audible,
        **part,
      )
      if len(wave_S) < 0.98 * seconds * self._rate - 2:
        raise errors.UserError(
          f'{utterance.audio}: {len(wave_S) / self._rate:.2f} s of audio, '
          f'expected {seconds:.2f} s as the manifest says.'
        )
      return wave_S
    except errors.UserError as error:
      self.leave_out(utterance, error)
      return None

  def leave_out(
    self, utterance: manifest.Utterance, error: errors.UserError
  ) -> None:
    """Puts an utterance in quarantine; the first time, stderr says why.

    Of many the first are told: a corpus may have a million.
    """
    if utterance.id in self.quarantine:
      return
    self.quarantine[utterance.id] = str(error)
    if len(self.quarantine) > _TOLD + 1:
      return
    sentence = f'{utterance.id} is left out: {error}'
    if len(self.quarantine) > _TOLD:
      sentence = 'more utterances are left out, each for a reason like these.'
    print(f'warning: {sentence}', file=sys.stderr, flush=True)
