"""Text → sound, sentence by sentence, by a run and a speech decoder.

The ids of a sentence are drawn by the engine under the grammar of 2 linguistic
and 3 semantic ids; their sound follows a window of the flow behind them. Where
the sound of a whole sentence is changed (its speed, its loudness), the sentence
comes out in one part.

Axes: S samples, N ids.
"""

import threading
from typing import Any, AsyncIterator, Mapping, NamedTuple, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.audio import stretch
from step_audio_jax.audio.prosody import making
from step_audio_jax.decoder import sentences as sentences_lib
from step_audio_jax.decoder import stream as stream_lib
from step_audio_jax.decoder import styled_text
from step_audio_jax.decoder import text_to_codes
from step_audio_jax.decoder import voice as voice_lib
from step_audio_jax.decoder import windows as windows_lib
from step_audio_jax.decoder.causal import flow as causal_flow
from step_audio_jax.dialogue import services
from step_audio_jax.dialogue.models import run as run_lib
from step_audio_jax.dialogue.models import streaming
from step_audio_jax.generation import grammar as grammar_lib
from step_audio_jax.generation import sampling
from step_audio_jax.generation.batching import engine as engine_lib
from step_audio_jax.styles import instructions
from step_audio_jax.styles import markup
from step_audio_jax.styles import tags

OWN = 'default'
_GROUP = vocabulary_lib.GROUP
# As `speak` draws: greedy speech repeats itself.
_TEMPERATURE = 0.7
_PAUSE = 0.2  # seconds between sentences


class _Sentence(NamedTuple):
  """What is said in one go.

  Attributes:
    raw: As it was given, with what is around it.
    prompt: What the model is asked to say; '' where there is no word.
    part: What is done to its sound; None for nothing.
  """

  raw: str
  prompt: str = ''
  part: styled_text.Part | None = None


class Mouth:
  """See `services.Mouth`.

  Attributes:
    sample_rate: Hz.
    voices: Names of voices, the decoder's own first.
  """

  def __init__(
    self,
    run: run_lib.Run,
    decoder: Any,
    hands: streaming.Hands,
    voices: Mapping[str, voice_lib.Voice] | None = None,
    *,
    options: text_to_codes.SpeakOptions = text_to_codes.SpeakOptions(),
    steps: int = 10,
    windows: windows_lib.WindowConfig = windows_lib.WindowConfig(first=8),
  ):
    """Holds what speaks.

    Args:
      run: Turns text into ids.
      decoder: `decoder.speech.SpeechDecoder`, of the same codes.
      hands: Computes sound.
      voices: More voices by name.
      options: How the run is asked.
      steps: Of the flow's solver.
      windows: Of an offline flow.

    Raises:
      UserError: The run speaks other codes than the decoder, or none; or there
        is no voice at all.
    """
    decoder.check_codes(str(run.folder), text_to_codes.tokenizer_of(run.folder))
    self._run, self._decoder, self._hands = run, decoder, hands
    self._asking = text_to_codes.Prompts(run.vocabulary, options)
    self._longest = options.longest
    self._known = styled_text.of_run(
      run.folder, text_to_codes.is_released(run.folder)
    )
    own = {OWN: decoder.voice} if decoder.voice is not None else {}
    self._voices = {**own, **(voices or {})}
    if not self._voices:
      decoder.chosen(None)
    self.sample_rate = decoder.sample_rate
    self.voices: Sequence[str] = list(self._voices)
    self._steps, self._windows = steps, windows
    # What a stream is made with is not made twice at once.
    self._lock = threading.Lock()

  def check(self, manner: services.Manner) -> None:
    """Refuses a voice, a style or a speed that there is not.

    Raises:
      UserError: It names what was found and what is there.
    """
    self._voice(manner)
    self._style(manner)
    stretch.check_speed(manner.speed)

  def warm_up(self) -> None:
    """Compiles what sound needs, of every voice."""
    for voice in self._voices.values():
      self._stream(voice).warm_up()

  async def speak(
    self,
    texts: AsyncIterator[str],
    manner: services.Manner = services.Manner(),
  ) -> AsyncIterator[services.Sound]:
    """See `services.Mouth.speak`."""
    self.check(manner)
    voice, style = self._voice(manner), self._style(manner)
    first, playing = True, streaming.Playing()
    async for raw in sentences(texts):
      for one in self._laid(raw, style):
        if not one.prompt:
          yield services.Sound(np.zeros(0, np.float32), one.raw, ends=True)
          continue
        gap = 0.0 if first else _PAUSE
        if one.part is not None and one.part.gap is not None:
          gap = one.part.gap
        first = False
        said = self._said(one, voice, manner, gap, playing)
        async for sound in said:
          playing.add(len(sound.samples_S) / self.sample_rate)
          yield sound

  async def sound(
    self,
    ids: AsyncIterator[np.ndarray],
    manner: services.Manner = services.Manner(),
  ) -> AsyncIterator[services.Sound]:
    """See `services.Mouth.sound`."""
    self.check(manner)
    stream = await self._hands.do(self._stream, self._voice(manner))
    playing = streaming.Playing()
    waiting: list[np.ndarray] = []
    came = False
    async for some in ids:
      came = True
      waiting.append(np.asarray(some, np.int32))
      samples_S = await self._hands.do(stream.push, waiting[-1], by=playing.by)
      if len(samples_S):
        playing.add(len(samples_S) / self.sample_rate)
        yield services.Sound(samples_S, ids=np.concatenate(waiting))
        waiting = []
    if came:
      none = np.zeros(0, np.int32)
      samples_S = await self._hands.do(stream.push, none, True, by=playing.by)
      rest = np.concatenate([none, *waiting])
      yield services.Sound(samples_S, ids=rest, ends=True)

  async def _said(self, one: _Sentence, voice, manner, gap: float, playing):
    """The sound of a sentence, behind a pause."""
    prompt = self._asking.prompt(one.prompt, voice)
    groups = int(self._longest / vocabulary_lib.GROUP_SECONDS + 1e-6)
    engine = self._run.engine
    room = self._run.room(prompt, groups * _GROUP) // _GROUP * _GROUP
    heat = manner.temperature or _TEMPERATURE
    answer = streaming.Answer(
      engine,
      engine_lib.Request(
        prompt,
        max(room, _GROUP),
        state=grammar_lib.State.SPEECH,
        sampler=sampling.Sampler(
          heat, manner.top_k, manner.top_p, engine.settings.repetition
        ),
        seed=manner.seed or 0,
        keeps=False,
      ),
    )
    silence_S = np.zeros(round(gap * self.sample_rate), np.float32)
    changed = one.part is not None and bool(one.part.style)
    if changed or manner.speed != 1:
      ids = [some async for some in self._groups(answer)]
      if not ids:
        yield services.Sound(silence_S, one.raw, ends=True)
        return
      ids_N = np.concatenate(ids)
      samples_S = await self._hands.do(
        self._whole, ids_N, voice, one.part, manner.speed, by=playing.by
      )
      yield services.Sound(
        np.concatenate([silence_S, samples_S]), one.raw, ids_N, ends=True
      )
      return
    stream = await self._hands.do(self._stream, voice, by=playing.by)
    parts, waiting, came = [silence_S], [], False
    async for some in self._groups(answer):
      waiting.append(some)
      came = True
      samples_S = await self._hands.do(stream.push, some, by=playing.by)
      if len(samples_S):
        yield services.Sound(
          np.concatenate([*parts, samples_S]), ids=np.concatenate(waiting)
        )
        parts, waiting = [], []
    if came:
      none = np.zeros(0, np.int32)
      rest_S = await self._hands.do(stream.push, none, True, by=playing.by)
      parts.append(rest_S)
    yield services.Sound(
      np.concatenate([np.zeros(0, np.float32), *parts]),
      one.raw,
      np.concatenate([np.zeros(0, np.int32), *waiting]),
      ends=True,
    )

  async def _groups(self, answer) -> AsyncIterator[np.ndarray]:
    """Whole groups of mixed ids, as they come; what waits comes together."""
    held: list[int] = []
    async for ids in answer:
      held += ids
      whole = len(held) // _GROUP * _GROUP
      if whole:
        yield voice_lib.mixed_ids(self._run.vocabulary, held[:whole])
        held = held[whole:]

  def _stream(self, voice: voice_lib.Voice):
    """What turns ids into samples as they come."""
    decoder = self._decoder
    with self._lock:
      if isinstance(decoder.flow, causal_flow.CausalFlowDecoder):
        return stream_lib.SpeechStream(
          decoder.flow, decoder.vocoder, [voice], steps=self._steps
        )
      return windows_lib.WindowStream(
        decoder, voice, windows=self._windows, steps=self._steps
      )

  def _whole(self, ids_N, voice, part, speed: float) -> np.ndarray:
    """A sentence whose sound is changed; of the shapes of a stream."""
    samples_S = self._stream(voice).push(ids_N, True)
    if part is not None and part.style:
      spans = [markup.Span(part.text, part.style)]
      samples_S = making.make(
        samples_S, self.sample_rate, spans, reference_db=None
      ).samples
    return stretch.stretch(samples_S, speed, self.sample_rate)

  def _voice(self, manner: services.Manner) -> voice_lib.Voice:
    name = manner.voice or self.voices[0]
    if name not in self._voices:
      raise errors.UserError(
        f'voice: found {name!r:.60}, expected one of {", ".join(self.voices)}.'
      )
    return self._voices[name]

  def _style(self, manner: services.Manner) -> tags.Style:
    style = tags.Style()
    if manner.style and manner.style.strip():
      style = instructions.read(manner.style)
      styled_text.parse('', self._known, style, str(self._run.folder))
    return style

  def _laid(self, raw: str, style: tags.Style) -> list[_Sentence]:
    """A sentence as the model is asked for it, in parts of one style."""
    if not any(map(str.isalnum, raw)):
      return [_Sentence(raw)]
    text_to_codes.check_text(raw)
    asked = styled_text.parse(raw, self._known, style, str(self._run.folder))
    pieces = text_to_codes.sentences_with_words(markup.plain(asked.made))
    if not pieces:
      return [_Sentence(raw)]
    found = [
      _Sentence('', prompt, part)
      for prompt, part in styled_text.prompted(asked, pieces)
    ]
    # What was given belongs to the last: until then none of it ends.
    return [*found[:-1], found[-1]._replace(raw=raw)]


async def sentences(texts: AsyncIterator[str]) -> AsyncIterator[str]:
  """Text as it comes → whole sentences, with all that is between them."""
  held = ''
  async for text in texts:
    held += text
    # The last may go on.
    for piece in sentences_lib.split(held)[:-1]:
      end = held.index(piece) + len(piece)
      yield held[:end]
      held = held[end:]
  if held:
    yield held
