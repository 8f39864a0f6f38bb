"""A voice to speak with: what a recording tells the decoder about who speaks.

The flow continues a prompt: the speech ids of the recording and its mel side by
side, and one embedding of the speaker. Ids and mel are cut to the same time,
whole groups of 120 ms. Nothing is trimmed: Step-Audio's released code takes the
ids of the trimmed recording beside the mel of the whole one, which leaves the
two apart by the silence that was cut. Axes: S samples, T frames, M mel bands,
D speaker embedding, N ids.
"""

import dataclasses
import sys
from typing import Any, Sequence

import numpy as np
import soxr

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.audio import io
from step_audio_jax.audio import levels
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.tokenizers.speech import storage

# The speech block alone: linguistic codes from 0, semantic ones from 1024.
IDS = vocabulary_lib.Vocabulary(text_size=0)
SHORTEST, LONGEST = 0.5, 30.0  # seconds


def mixed_ids(
  vocabulary: vocabulary_lib.Vocabulary, ids: Sequence[int]
) -> np.ndarray:
  """Speech ids of a model's table → mixed ids 0..5119, int32 (N,).

  Raises:
    UserError: They do not follow the 2:3 pattern.
  """
  return IDS.interleave(*vocabulary.deinterleave(ids))


@dataclasses.dataclass(frozen=True)
class Voice:
  """Who speaks.

  Attributes:
    tokens: Mixed ids of the prompt, int32 (N,); none for no prompt.
    mel_TM: Its log-mel, float32; no frames for no prompt.
    speaker_D: Speaker embedding, float32.
    text: What the prompt says, if known; the language model is told it.
  """

  tokens: np.ndarray
  mel_TM: np.ndarray
  speaker_D: np.ndarray
  text: str = ''

  @classmethod
  def of_speaker(cls, speaker_D: np.ndarray, bands: int) -> 'Voice':
    """A voice without a prompt."""
    return cls(
      np.zeros(0, np.int32),
      np.zeros((0, bands), np.float32),
      np.asarray(speaker_D, np.float32),
    )

  @classmethod
  def from_audio(
    cls,
    wave_S: np.ndarray,
    rate: int,
    *,
    tokenizer: Any,
    speaker: Any,
    mel: vocoder_mel.VocoderMel,
    text: str = '',
    name: str = 'voice',
  ) -> 'Voice':
    """A voice from a recording of it.

    Args:
      wave_S: Mono float samples; what is behind 30 s is not used.
      rate: Hz.
      tokenizer: `encode(wave at 16 kHz)` gives its codes
        (`tokenizers.speech.dual.DualTokenizer`).
      speaker: `embed(wave at 16 kHz)` gives (D,) (`decoder.speaker`).
      mel: Of the flow.
      text: What is said.
      name: What messages call the recording.

    Raises:
      UserError: It is too short, silent, or not finite.
    """
    wave_S = check_wave(wave_S, rate, name)
    wave_S = trim(wave_S, rate, name, len(wave_S) / rate)
    wave_16k = resample(wave_S, rate, io.SAMPLE_RATE)
    ids = IDS.interleave(*tokenizer.encode(wave_16k))
    if not len(ids):
      raise errors.UserError(f'{name}: the tokenizer found no group of codes.')
    mel_TM = log_mel(resample(wave_S, rate, mel.sample_rate), mel)
    # Both end with the last whole group of codes.
    groups = len(ids) // vocabulary_lib.GROUP
    frames = int(
      groups * vocabulary_lib.GROUP_SECONDS * mel.sample_rate / mel.hop
    )
    return cls(ids, mel_TM[:frames], speaker.embed(wave_16k), text)


def trim(
  wave_S: np.ndarray, rate: int, name: str, seconds: float
) -> np.ndarray:
  """The part of a recording that serves as a voice; tells what does not.

  Args:
    wave_S: Its samples, or its first ones.
    rate: Hz.
    name: What messages call it.
    seconds: Length of the whole recording.
  """
  most = int(LONGEST * rate)
  if len(wave_S) <= most:
    return wave_S
  print(
    f'{name}: {seconds:.1f} s of voice; the first {LONGEST:g} s are used, and '
    'their text alone is that of the voice.',
    file=sys.stderr,
  )
  return wave_S[:most]


def check_wave(wave_S: np.ndarray, rate: int, name: str) -> np.ndarray:
  """A recording that may serve as a voice, float32 (S,).

  Raises:
    UserError: It is too short, silent, not mono, or not finite.
  """
  wave_S = storage.check_wave(wave_S, name)
  seconds = len(wave_S) / rate
  if seconds < SHORTEST:
    raise errors.UserError(
      f'{name}: {seconds:.3f} s of audio, expected a voice of at least '
      f'{SHORTEST} s.'
    )
  if levels.is_silent(wave_S):
    raise levels.silence(name, 'a voice')
  return wave_S


def resample(wave_S: np.ndarray, rate: int, wanted: int) -> np.ndarray:
  """Samples at another rate."""
  if rate == wanted:
    return wave_S
  return soxr.resample(wave_S, rate, wanted, quality='HQ')


def log_mel(wave_S: np.ndarray, mel: vocoder_mel.VocoderMel) -> np.ndarray:
  """The vocoder's log-mel (T, M) of one waveform at its rate.

  It is padded to a multiple of a second, so that few lengths are compiled.
  """
  count = len(wave_S)
  width = -(-count // mel.sample_rate) * mel.sample_rate
  padded = np.zeros((1, width), np.float32)
  padded[0, :count] = wave_S
  mel_BTM, counts_B = vocoder_mel.vocoder_mel(
    padded, np.array([count], np.int32), mel
  )
  return np.asarray(mel_BTM[0, : int(counts_B[0])])


def check_ids(ids: Sequence[int]) -> np.ndarray:
  """Mixed ids of whole groups, int32 (N,).

  Raises:
    UserError: There are none, one is outside the speech block, or they break
      the pattern of 2 linguistic and 3 semantic ids.
  """
  ids = np.asarray(ids)
  if ids.ndim != 1 or not ids.size:
    raise errors.UserError(
      f'speech ids: found an array {ids.shape}, expected at least one group of '
      f'{vocabulary_lib.GROUP}.'
    )
  if ids.dtype.kind not in 'iu':
    raise errors.UserError(
      f'speech ids: found {ids.dtype}, expected whole numbers.'
    )
  wrong = np.flatnonzero((ids < 0) | (ids >= IDS.end))
  if wrong.size:
    raise errors.UserError(
      f'speech ids: id {ids[wrong[0]]} at position {wrong[0]}, expected '
      f'0..{IDS.end - 1}.'
    )
  # A stray id in the middle shifts all behind it: the place is worth more
  # than the length, which is what a plain check would find first.
  whole = len(ids) // vocabulary_lib.GROUP * vocabulary_lib.GROUP
  IDS.deinterleave(ids[:whole])
  IDS.deinterleave(ids)
  return ids.astype(np.int32)
