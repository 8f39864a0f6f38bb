"""What a checkpoint speaks: texts, in a voice, as codes and as files of sound.

The voice is that of an item's recording where it brings one (a benchmark of
voices that are imitated), else the decoder's own.
"""

import functools
import os
from typing import Any, Sequence

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.audio import io
from step_audio_jax.chats import conversation as chats_lib
from step_audio_jax.decoder import speech as decoder_lib
from step_audio_jax.decoder import text_to_codes
from step_audio_jax.decoder import voice as voice_lib
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks import recordings as recordings_lib
from step_audio_jax.evaluation.metrics import sound as sound_lib
from step_audio_jax.generation import sampling
from step_audio_jax.storage import digests
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.speech import seal


@functools.cache
def _decoder(folder: str) -> decoder_lib.SpeechDecoder:
  """One for all checkpoints."""
  return decoder_lib.SpeechDecoder.load(folder)


class Sounding:
  """One checkpoint that speaks."""

  def __init__(
    self,
    run: str | os.PathLike,
    loaded: tuple[Any, Any, Any],
    config: sound_lib.SoundConfig,
    recordings: recordings_lib.Recordings,
    folder: str | os.PathLike,
  ):
    """Loads the decoder.

    Args:
      run: Its directory: how it is asked to speak follows from it.
      loaded: Model, unrolled for decoding, variables, vocabulary.
      config: The decoder and the tokenizer of its codes.
      recordings: Reads the voices.
      folder: Gets the sounds.

    Raises:
      UserError: The run cannot speak, or the decoder cannot be loaded.
    """
    self._loaded, self._config = loaded, config
    self._recordings, self._folder = recordings, files.path(folder)
    self._layout = text_to_codes.layout_of(run)
    self._starts = text_to_codes.starts_of(run)
    self._decoder = _decoder(config.decoder)
    self._voices: dict[str, voice_lib.Voice] = {}

  def speak(
    self,
    texts: Sequence[str],
    voices: Sequence[chats_lib.Speech | None],
    decoding: benchmark.Decoding,
    seed: int,
  ) -> list[benchmark.Answer]:
    """Speaks texts; an answer's `wav` is relative to the folder.

    Args:
      texts: What is said.
      voices: In whose voice, each; None is the decoder's own.
      decoding: Limits and sampling.
      seed: Of the sampling.
    """
    writer = self._writer(decoding, seed)
    # Only turns have a place for a voice that is heard.
    listens = self._layout == 'turns'
    pieces: list[str] = []
    prompts: list[list[int]] = []
    made: list[tuple[int, int] | str] = []  # an item's pieces, or its fault
    chosen: list[voice_lib.Voice | None] = []
    for text, speech in zip(texts, voices, strict=True):
      start, voice = len(pieces), None
      try:
        voice = self._voice(speech)
        some = text_to_codes.sentences(text)
        heard = voice if listens else None
        asked = [writer.prompt(piece, heard) for piece in some]
        pieces += some
        prompts += asked
        made.append((start, len(pieces)))
      except errors.UserError as error:
        made.append(str(error))
      chosen.append(voice)
    spoken = writer.answer(pieces, prompts) if pieces else []
    return [
      benchmark.Answer(None, fault=of)
      if isinstance(of, str)
      else self._sound(spoken[slice(*of)], voice)
      for of, voice in zip(made, chosen, strict=True)
    ]

  def sound_again(
    self, recordings: Sequence[chats_lib.Speech]
  ) -> list[benchmark.Answer]:
    """Recordings → codes → sound, each in its own voice where that can be had.

    Args:
      recordings: What is encoded and decoded.
    """
    codes, found = self._recordings.codes(recordings), []
    for speech in recordings:
      heard = codes[self._recordings.digest(speech)]
      if isinstance(heard, str):
        found.append(benchmark.Answer(None, fault=heard))
        continue
      ids = voice_lib.IDS.interleave(heard.linguistic, heard.semantic)
      try:
        imitated = speech if self._decoder.speaker is not None else None
        found.append(self._decoded(ids.tolist(), self._voice(imitated), True))
      except errors.UserError as error:
        found.append(benchmark.Answer(None, fault=str(error)))
    return found

  def _writer(self, decoding, seed) -> text_to_codes.Writer:
    linguistic, semantic = seal.code_counts(self._config.tokenizer)
    return text_to_codes.Writer(
      *self._loaded,
      text_to_codes.SpeakOptions(
        layout=self._layout,
        starts=self._starts,
        longest=min(600.0, decoding.groups * vocabulary_lib.GROUP_SECONDS),
        linguistic_codes=linguistic,
        semantic_codes=semantic,
        sampler=sampling.Sampler(decoding.temperature, top_p=decoding.top_p),
        seed=seed,
      ),
    )

  def _sound(self, pieces, voice) -> benchmark.Answer:
    ids = [int(one) for piece in pieces for one in piece.ids]
    stopped = all(piece.stopped for piece in pieces)
    if not ids:
      return benchmark.Answer(None, stopped=stopped)
    return self._decoded(ids, voice, stopped)

  def _decoded(self, ids, voice, stopped) -> benchmark.Answer:
    try:
      wave_S, rate = self._decoder.decode(
        ids, voice, self._config.seed, self._config.steps
      )
    except errors.UserError as error:
      return benchmark.Answer(None, (), stopped, codes=ids, fault=str(error))
    told = [ids, voice.tokens.tolist(), voice.speaker_D.tolist()]
    name = f'{digests.of_value(told)[:24]}.wav'
    io.write_audio(self._folder / name, wave_S, rate)
    return benchmark.Answer(None, (), stopped, codes=ids, wav=name)

  def _voice(self, speech) -> voice_lib.Voice:
    if speech is None:
      return self._decoder.chosen(None)
    name = self._recordings.digest(speech)
    if name not in self._voices:
      self._voices[name] = self._decoder.voice_from(
        self._recordings.wave(speech),
        io.SAMPLE_RATE,
        self._recordings.encoder,
        speech.text or '',
        speech.path or speech.id or 'voice',
      )
    return self._voices[name]
