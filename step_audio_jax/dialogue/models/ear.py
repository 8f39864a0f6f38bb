"""Speech → codes and words, by the speech tokenizer and a run that hears.

An utterance is encoded where it ends, as the run has learnt it: loudness is
that of all of it. At 160 times real time that is 20 ms for three seconds.

Axes: S samples.
"""

import asyncio
import collections
import dataclasses
from typing import Any, AsyncIterator, Callable

import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.chats import conversation as chats
from step_audio_jax.dialogue import services
from step_audio_jax.dialogue.models import run as run_lib
from step_audio_jax.dialogue.models import streaming
from step_audio_jax.generation.batching import engine as engine_lib

RATE = services.HEARD_RATE
_LONGEST = 20.0  # seconds that are written down at a time
_SEARCHED = 6.0  # of these, at the end, in which a quiet place is looked for
_FRAME = RATE // 50
_KEPT = 32  # recordings of messages whose codes are remembered


class Hearing:
  """An utterance; see `services.Hearing`."""

  def __init__(self, ear: 'Ear'):
    self._ear = ear
    self._parts: list[np.ndarray] = []
    self._samples = 0
    self._heard: tuple[int, asyncio.Task] | None = None
    self._words: tuple[int, asyncio.Task] | None = None

  def push(self, samples_S: np.ndarray) -> None:
    """See `services.Hearing.push`."""
    self._parts.append(np.asarray(samples_S, np.float32))
    self._samples += len(samples_S)

  async def partial(self) -> str:
    """See `services.Hearing.partial`."""
    return await self.transcript()

  async def finish(self) -> run_lib.Heard:
    """See `services.Hearing.finish`."""
    if self._heard is None or self._heard[0] != self._samples:
      self._parts = [np.concatenate([np.zeros(0, np.float32), *self._parts])]
      work = asyncio.ensure_future(self._ear.encode(self._parts[0]))
      self._heard = (self._samples, work)
    return await asyncio.shield(self._heard[1])

  async def transcript(self) -> str:
    """See `services.Hearing.transcript`."""
    if self._words is None or self._words[0] != self._samples:
      self._words = (
        self._samples,
        asyncio.ensure_future(self._written(self.finish())),
      )
    return await asyncio.shield(self._words[1])

  async def _written(self, finishing) -> str:
    return await self._ear.write_down(await finishing)

  def cancel(self) -> None:
    """See `services.Hearing.cancel`."""
    for work in (self._heard, self._words):
      if work is not None:
        work[1].cancel()


class Ear:
  """See `services.Ear`."""

  def __init__(
    self,
    tokenizer: Any,
    run: run_lib.Run,
    hands: streaming.Hands,
    most: int = 200,
  ):
    """Holds what hears.

    Args:
      tokenizer: `tokenizers.speech.dual.DualTokenizer`.
      run: Writes down what is heard.
      hands: Computes codes.
      most: Ids of a transcript at most.

    Raises:
      UserError: The run hears nothing.
    """
    if not run.hears:
      raise errors.UserError(
        f'{run.folder}: the model has no speech in its vocabulary, expected '
        'one that hears.'
      )
    self._tokenizer, self._run, self._hands = tokenizer, run, hands
    self._most = most
    self._known: collections.OrderedDict[Any, run_lib.Heard] = (
      collections.OrderedDict()
    )

  def listen(self) -> Hearing:
    """See `services.Ear.listen`."""
    return Hearing(self)

  async def encode(self, wave_S: np.ndarray) -> run_lib.Heard:
    """Codes of samples at `RATE`.

    Raises:
      UserError: They are not finite, or too few.
    """
    codes = await self._hands.do(self._tokenizer.encode, wave_S)
    return run_lib.Heard(
      linguistic=codes[0], semantic=codes[1], seconds=len(wave_S) / RATE
    )

  async def heard(self, speech: chats.Speech) -> run_lib.Heard:
    """A recording of a message, with its codes.

    Raises:
      UserError: It cannot be read.
    """
    if isinstance(speech, run_lib.Heard):
      return speech
    if speech.data is None:
      # Messages come from others: no file of this machine is theirs to read.
      raise errors.UserError(
        'input_audio: found no sound, expected the recording itself in base64.'
      )
    key = (speech.data, *speech.part.values())
    if key not in self._known:
      wave_S, _ = await self._hands.do(
        lambda: io.read_audio(
          speech.data,
          sample_rate=RATE,
          audible=True,
          name='input_audio',
          **speech.part,
        )
      )
      found = await self.encode(wave_S)
      self._known[key] = found
      while len(self._known) > _KEPT:
        self._known.popitem(last=False)
    return dataclasses.replace(self._known[key], text=speech.text)

  async def write_down(
    self,
    heard: run_lib.Heard,
    manner: services.Manner = services.Manner(),
    told: Callable[[services.Usage], None] | None = None,
  ) -> str:
    """The words of what was heard; '' of what is too short to be any.

    Args:
      heard: Codes.
      manner: How it is decoded.
      told: Is told what it cost.
    """
    try:
      prompt = self._run.transcribing(heard)
    except errors.UserError:
      if len(heard.semantic) < 3 or len(heard.linguistic) < 2:
        return ''
      raise
    answer = streaming.Answer(
      self._run.engine,
      engine_lib.Request(
        prompt.ids,
        self._run.room(prompt.ids, min(self._most, manner.most)),
        prompt.stops,
        seed=manner.seed or 0,
        sampler=run_lib.sampler_of(manner),
        keeps=False,
      ),
    )
    ids: list[int] = []
    async for some in answer:
      ids += some
    if told:
      told(services.Usage(len(prompt.ids), 0, len(ids)))
    return self._run.vocabulary.decode(ids).strip()

  async def transcribe(
    self, samples_S: np.ndarray, manner: services.Manner = services.Manner()
  ) -> AsyncIterator[services.Piece]:
    """See `services.Ear.transcribe`."""
    samples_S = np.asarray(samples_S, np.float32)
    if not np.isfinite(samples_S).all():
      raise errors.UserError(
        'file: found samples that are not finite, expected sound.'
      )
    if not samples_S.any():
      raise errors.UserError('file: found silence, expected speech.')
    spent: list[services.Usage] = []
    between = ''
    for part_S in pieces(samples_S):
      heard = await self.encode(part_S)
      words = await self.write_down(heard, manner, spent.append)
      if words:
        yield services.Text(between + words)
        between = ' ' if words[-1].isascii() else ''
    yield services.Ended(
      services.STOPPED,
      services.Usage(
        sum(one.prompt for one in spent), 0, sum(one.reply for one in spent)
      ),
    )


def pieces(wave_S: np.ndarray) -> list[np.ndarray]:
  """A recording in parts of 20 s at most, cut where it is quietest."""
  longest, searched = int(_LONGEST * RATE), int(_SEARCHED * RATE)
  found = []
  while len(wave_S) > longest:
    tail_S = wave_S[longest - searched : longest]
    frames = tail_S[: len(tail_S) // _FRAME * _FRAME].reshape(-1, _FRAME)
    quietest = int(np.argmin((frames.astype(np.float64) ** 2).mean(axis=1)))
    place = longest - searched + quietest * _FRAME + _FRAME // 2
    found.append(wave_S[:place])
    wave_S = wave_S[place:]
  return [*found, wave_S] if len(wave_S) else found
