"""A chat → what the assistant says next, by a run."""

import dataclasses
import secrets
from typing import AsyncIterator, Sequence

from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import rendering
from step_audio_jax.decoder import voice as voice_lib
from step_audio_jax.dialogue import services
from step_audio_jax.dialogue.models import run as run_lib
from step_audio_jax.dialogue.models import streaming
from step_audio_jax.generation import grammar as grammar_lib
from step_audio_jax.generation.batching import engine as engine_lib

_CALL, _CALLED = (
  vocabulary_lib.CONTROL[piece] for piece in ('<|CALL_START|>', '<|CALL_END|>')
)
_BROKEN = '\ufffd'  # a character of which bytes are missing


class Mind:
  """See `services.Mind`.

  Attributes:
    hears: Whether turns may hold speech without a transcript.
    speaks: Whether replies are speech among text.
  """

  def __init__(
    self,
    run: run_lib.Run,
    ear: object | None = None,
    *,
    speaks: bool = False,
  ):
    """Holds what answers.

    Args:
      run: It.
      ear: Gives the codes of recordings; None where nothing is heard.
      speaks: Whether the run answers in text and speech by turns.
    """
    self._run, self._ear = run, ear
    self.hears = run.hears and ear is not None
    self.speaks = speaks
    self._held = None

  @property
  def longest(self) -> int:
    """See `services.Mind.longest`."""
    return self._run.longest

  def length(self, turns: Sequence[chats.Turn]) -> int:
    """See `services.Mind.length`."""
    return len(self._run.answering(turns).ids)

  async def reply(
    self,
    turns: Sequence[chats.Turn],
    manner: services.Manner = services.Manner(),
  ) -> AsyncIterator[services.Piece]:
    """See `services.Mind.reply`."""
    turns = [await self._with_codes(turn) for turn in turns]
    prompt = self._run.answering(turns)
    state = grammar_lib.State.TEXT
    if self.speaks:
      state = grammar_lib.State.INTERLEAVED
    answer = streaming.Answer(
      self._run.engine,
      engine_lib.Request(
        prompt.ids,
        self._run.room(prompt.ids, manner.most),
        prompt.stops,
        state=state,
        sampler=run_lib.sampler_of(manner),
        seed=secrets.randbits(31) if manner.seed is None else manner.seed,
        constraint=self._constraint(turns, manner, prompt.stops),
      ),
    )
    reading = Reading(self._run.vocabulary, manner.stops)
    called = False
    async for ids in answer:
      for piece in reading.take(ids):
        called |= isinstance(piece, services.Called)
        yield piece
      if reading.stopped:
        break
    for piece in reading.rest():
      yield piece
    if reading.stopped:
      why = services.STOPPED
    else:
      cut = answer.why == engine_lib.CUT
      why = services.CUT if cut else services.STOPPED
    ticket = answer.ticket
    yield services.Ended(
      services.CALLED if called else why,
      services.Usage(len(prompt.ids), ticket.cached, ticket.drawn),
    )

  def _constraint(self, turns, manner, stops):
    """What a reply is held to: calls of tools, or a schema."""
    schemas = [one for turn in turns for one in turn.tools]
    if manner.response_schema is None and (
      not schemas or manner.tool_choice == 'none'
    ):
      return None
    return self._holding().of(
      schemas, manner.tool_choice, manner.response_schema, stops
    )

  def _holding(self):
    if self._held is None:
      from step_audio_jax.dialogue.models import holding

      self._held = holding.Holding(self._run.vocabulary)
    return self._held

  async def _with_codes(self, turn: chats.Turn) -> chats.Turn:
    """A turn whose recordings are `Heard`, but for those that are read."""
    if not turn.speech or not self.hears:
      return turn
    parts = []
    for part in turn.parts:
      if isinstance(part, chats.Speech):
        known = part.data is None and part.path is None
        if not (known and part.text is not None) or isinstance(
          part, run_lib.Heard
        ):
          part = await self._ear.heard(part)
        else:
          part = part.text
      parts.append(part)
    return dataclasses.replace(turn, parts=tuple(parts))


class Reading:
  """Ids of a reply → its pieces, each as soon as it is whole.

  Attributes:
    stopped: Whether a text that ends replies has come.
  """

  def __init__(
    self, vocabulary: vocabulary_lib.Vocabulary, stops: Sequence[str] = ()
  ):
    self._vocabulary, self._stops = vocabulary, [one for one in stops if one]
    self._text: list[int] = []
    self._shown = ''
    self._call: list[int] | None = None
    self._codes: list[int] = []
    self.stopped = False

  def take(self, ids: Sequence[int]) -> list[services.Piece]:
    """More ids."""
    found: list[services.Piece] = []
    for one in ids:
      if self.stopped:
        break
      if self._call is not None:
        if one == _CALLED:
          found += self._called()
        else:
          self._call.append(one)
      elif one == _CALL:
        found += self._words(whole=True)
        self._text, self._shown = [], ''
        self._call = []
      elif self._is_code(one):
        self._codes.append(one)
        if len(self._codes) == vocabulary_lib.GROUP:
          ids = voice_lib.mixed_ids(self._vocabulary, self._codes)
          found.append(services.Ids(ids))
          self._codes = []
      else:
        self._text.append(one)
        found += self._words()
    return found

  def rest(self) -> list[services.Piece]:
    """What is left when nothing more comes; half a call is none."""
    return [] if self.stopped else self._words(whole=True)

  def _is_code(self, one: int) -> bool:
    table = self._vocabulary
    return bool(table.linguistic_size) and one >= table.linguistic_offset

  def _called(self) -> list[services.Piece]:
    text = self._vocabulary.decode(self._call)
    self._call = None
    call = rendering.call_of(text)
    if isinstance(call, str):
      return [services.Text(call)]
    return [services.Called(call)]

  def _words(self, whole: bool = False) -> list[services.Piece]:
    """The text that has come and was not shown."""
    text = self._vocabulary.decode(self._text)
    places = [p for s in self._stops if (p := text.find(s)) >= 0]
    if places:
      self.stopped = True
      text = text[: min(places)]
    elif not whole:
      if text.endswith(_BROKEN):
        return []
      # What may be the beginning of a text that ends replies waits.
      held = max(
        (
          n
          for stop in self._stops
          for n in range(1, len(stop))
          if text.endswith(stop[:n])
        ),
        default=0,
      )
      text = text[: len(text) - held]
    new = text[len(self._shown) :]
    self._shown = text
    return [services.Text(new)] if new else []
