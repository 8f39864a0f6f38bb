"""What a conversation asks of its models, whatever does it.

Three services: an `Ear` hears (speech → codes and a transcript), a `Mind`
answers (a chat → text, calls of tools, or speech), a `Mouth` speaks (text →
sound). `dialogue.models` makes them of runs on one generation engine; a test
makes them of scripts; `serving` and the doors know nothing else.

All are asynchronous: each iterator is closed (`aclose`, or a cancelled task) by
who no longer wants the rest, and what it held in the engine is free within one
decoding step.

Axes: S samples.
"""

import dataclasses
from typing import Any, AsyncIterator, Mapping, Protocol, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats

HEARD_RATE = 16000  # Hz, of what an ear is given

# Why a reply ended.
STOPPED, CUT, CALLED = 'stop', 'length', 'tool_calls'


@dataclasses.dataclass(frozen=True)
class Manner:
  """How a mind answers and a mouth speaks.

  Attributes:
    temperature: 0 is greedy.
    top_p: Of the best ids with this probability.
    top_k: Of this many best ids; 0 for all.
    most: Ids of a reply.
    seed: Of what is drawn; None draws one.
    tool_choice: 'auto', 'none', 'required', or the name of a tool.
    response_schema: JSON Schema that a written reply has to fit.
    stops: Texts that end a reply.
    voice: Of `Mouth.voices`; None is its own.
    style: Tags or words as `speak --style` takes them.
    speed: 0.5 to 2.
  """

  temperature: float = 0.0
  top_p: float = 1.0
  top_k: int = 0
  most: int = 256
  seed: int | None = None
  tool_choice: str = 'auto'
  response_schema: Mapping[str, Any] | None = None
  stops: tuple[str, ...] = ()
  voice: str | None = None
  style: str | None = None
  speed: float = 1.0


@dataclasses.dataclass(frozen=True)
class Text:
  """A part of a reply in words; parts joined are the whole."""

  text: str


@dataclasses.dataclass(frozen=True)
class Called:
  """A whole call of a tool, that fits the tool's schema."""

  call: chats.Call


@dataclasses.dataclass(frozen=True)
class Ids:
  """Speech of a mind that speaks by itself: mixed ids 0..5119."""

  ids: np.ndarray


@dataclasses.dataclass(frozen=True)
class Usage:
  """What a reply cost, in ids.

  Attributes:
    prompt: Of the prompt.
    cached: Of these, kept from an earlier turn.
    reply: That were decoded.
  """

  prompt: int = 0
  cached: int = 0
  reply: int = 0


@dataclasses.dataclass(frozen=True)
class Ended:
  """The last piece of a reply.

  Attributes:
    reason: `STOPPED`, `CUT` or `CALLED`.
    usage: What it cost.
  """

  reason: str = STOPPED
  usage: Usage = Usage()


Piece = Text | Called | Ids | Ended


@dataclasses.dataclass(frozen=True)
class Sound:
  """A part of what a mouth says.

  Attributes:
    samples_S: float32 in [-1, 1], at the mouth's rate.
    text: What was given to be said, from the end of the part before to the
      end of this sentence; '' within one.
    ids: Mixed ids whose sound this part completes, whole groups of 5; empty
      where the mouth does not speak in codes.
    ends: Whether a sentence ends with it.
  """

  samples_S: np.ndarray
  text: str = ''
  ids: np.ndarray = dataclasses.field(
    default_factory=lambda: np.zeros(0, np.int32)
  )
  ends: bool = False


class Hearing(Protocol):
  """One utterance that is being heard."""

  def push(self, samples_S: np.ndarray) -> None:
    """More of it, float32 at `HEARD_RATE`; returns at once."""

  async def partial(self) -> str:
    """A transcript of what came so far."""

  async def finish(self) -> chats.Speech:
    """All of it, as a mind takes it in a turn.

    Its transcript may still be missing (`Speech.text` is None). More may be
    pushed, and it may be finished again: a pause that was none.
    """

  async def transcript(self) -> str:
    """Of all of it, behind `finish`."""

  def cancel(self) -> None:
    """Nobody wants it any more."""


class Ear(Protocol):
  """Speech → codes and words."""

  def listen(self) -> Hearing:
    """Begins an utterance."""

  async def transcribe(
    self, samples_S: np.ndarray, manner: Manner = Manner()
  ) -> AsyncIterator[Piece]:
    """The transcript of a whole recording, of any length, in parts.

    Raises:
      UserError: It is silent, or not finite.
    """


class Mind(Protocol):
  """A chat → what the assistant says next."""

  hears: bool  # whether turns may hold speech that has no transcript
  speaks: bool  # whether replies are `Ids` among `Text`

  async def reply(
    self, turns: Sequence[chats.Turn], manner: Manner = Manner()
  ) -> AsyncIterator[Piece]:
    """The reply to a chat, in parts; `Ended` is the last.

    Raises:
      UserError: The chat cannot be laid out, or is too long.
    """

  def length(self, turns: Sequence[chats.Turn]) -> int:
    """Ids of a chat as it would be asked."""

  @property
  def longest(self) -> int:
    """Ids that a chat and its reply may have."""


class Mouth(Protocol):
  """Text → sound."""

  sample_rate: int  # Hz
  voices: Sequence[str]  # names, the own one first

  async def speak(
    self, texts: AsyncIterator[str], manner: Manner = Manner()
  ) -> AsyncIterator[Sound]:
    """Says texts as they come, sentence by sentence.

    Raises:
      UserError: There is no such voice or style, or a text cannot be said.
    """

  async def sound(
    self, ids: AsyncIterator[np.ndarray], manner: Manner = Manner()
  ) -> AsyncIterator[Sound]:
    """The sound of mixed ids that a mind speaks by itself."""


# Raised by whatever a service does where there is no room for it.
Busy = errors.Busy


@dataclasses.dataclass(frozen=True)
class Models:
  """What one server or door talks with.

  Attributes:
    name: Of the model, as clients call it.
    ear: Hears; None where there is no speech tokenizer.
    mind: Answers.
    mouth: Speaks; None where there is no speech decoder.
  """

  name: str
  ear: Ear | None
  mind: Mind
  mouth: Mouth | None
