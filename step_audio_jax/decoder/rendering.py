"""What the `speak` door does with recordings and ids: voices and waveforms."""

import sys
import time
from typing import Any, Iterator, Sequence

import numpy as np

from step_audio_jax import progress
from step_audio_jax import vocabulary
from step_audio_jax.audio import io
from step_audio_jax.audio.prosody import making
from step_audio_jax.decoder import text_to_codes
from step_audio_jax.decoder import voice as voice_lib
from step_audio_jax.decoder import windows
from step_audio_jax.styles import markup

_PAUSE = 0.2  # seconds between sentences
_CHUNK_GROUPS = 5  # of ids that a stream is handed at a time, 0.6 s


def read_recording(path: str, channel: int | None) -> tuple[np.ndarray, int]:
  """The samples of a voice at their own rate, no more than are used.

  What is left out of a longer recording is told.

  Args:
    path: Of a recording.
    channel: Of it, from 0; None is the mean of all.

  Raises:
    UserError: It cannot be read, or is no voice.
  """
  seconds, rate, _ = io.probe(path)
  wave_S, rate = io.read_audio(
    path,
    sample_rate=rate,
    duration=voice_lib.LONGEST + 1,
    channel=channel,
    audible=True,
  )
  # Of the whole file: what was read ends soon behind what is used.
  seconds = max(seconds or 0.0, len(wave_S) / rate)
  wave_S = voice_lib.trim(wave_S, rate, path, seconds)
  return voice_lib.check_wave(wave_S, rate, path), rate


def load_speaker(
  decoder: Any, path: str, channel: int | None
) -> voice_lib.Voice:
  """Who speaks in a recording that is resynthesised; no prompt.

  Args:
    decoder: `decoder.speech.SpeechDecoder`.
    path: As in `read_recording`.
    channel: As in `read_recording`.

  Raises:
    UserError: The decoder cannot tell, and has no voice of its own.
  """
  if decoder.speaker is None:
    return decoder.chosen(None)
  wave_S, _ = io.read_audio(path, duration=voice_lib.LONGEST, channel=channel)
  embedding_D = decoder.speaker.embed(wave_S, path)
  return voice_lib.Voice.of_speaker(embedding_D, decoder.mel.bands)


def waveform(
  decoder: Any,
  spoken: Sequence[text_to_codes.SpokenSentence],
  voice: voice_lib.Voice | None,
  *,
  seed: int,
  steps: int,
  stream: bool = False,
  quiet: bool = False,
) -> tuple[np.ndarray, float | None]:
  """Sentences one after the other, with pauses, each in its style.

  Args:
    decoder: `decoder.speech.SpeechDecoder`.
    spoken: Sentences.
    voice: Who speaks; None is the decoder's own voice.
    seed: Of flow and vocoder.
    steps: Of the flow's solver.
    stream: Whether it is decoded in windows.
    quiet: Whether a stream tells nothing on stderr.

  Returns:
    Samples (S,), and of a stream the seconds from the first ids to the first
    samples, else None.

  Raises:
    UserError: As `SpeechDecoder.decode`.
  """
  parts: list[np.ndarray] = []
  first = None
  shown = spoken
  if len(spoken) > 1 and not stream:
    shown = progress.bar(spoken, label='decoding', unit='sentence')
  for piece in shown:
    gap = piece.gap
    if gap is None:
      gap = _PAUSE if parts else 0.0
    parts.append(np.zeros(int(gap * decoder.sample_rate), np.float32))
    if not stream:
      samples_S, rate = decoder.decode(piece.ids, voice, seed, steps)
      if piece.style:
        spans = [markup.Span(piece.text, piece.style)]
        made = making.make(samples_S, rate, spans, reference_db=None)
        samples_S = made.samples
      parts.append(samples_S)
      continue
    began = time.monotonic()
    source = windows.WindowStream(decoder, voice, seed=seed, steps=steps)
    for samples_S in _pieces(source, piece.ids):
      if first is None:
        first = time.monotonic() - began
      parts.append(samples_S)
      if not quiet:
        done = sum(map(len, parts)) / decoder.sample_rate
        print(f'spoken up to {done:.2f} s', file=sys.stderr)
  return np.concatenate(parts), first


def _pieces(stream, ids) -> Iterator[np.ndarray]:
  """Samples as they come when ids are handed over bit by bit."""
  size = _CHUNK_GROUPS * vocabulary.GROUP
  for begin in range(0, len(ids), size):
    samples_S = stream.push(ids[begin : begin + size], begin + size >= len(ids))
    if len(samples_S):
      yield samples_S
