"""A run as those ask it who talk with it: its engine, and its prompts."""

import dataclasses
import os
from typing import Sequence

import numpy as np

from step_audio_jax import documents as documents_lib
from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import habits as habits_lib
from step_audio_jax.chats import rendering
from step_audio_jax.dialogue import services
from step_audio_jax.generation import complete
from step_audio_jax.generation import restore
from step_audio_jax.generation import sampling
from step_audio_jax.generation.batching import engine as engine_lib
from step_audio_jax.storage import files


@dataclasses.dataclass(frozen=True)
class Heard(chats.Speech):
  """A recording whose codes are known.

  Attributes:
    linguistic: Its codes, 16.67 Hz.
    semantic: The same, 25 Hz.
    seconds: How long it is.
  """

  linguistic: np.ndarray = dataclasses.field(
    default_factory=lambda: np.zeros(0, np.uint16), compare=False, repr=False
  )
  semantic: np.ndarray = dataclasses.field(
    default_factory=lambda: np.zeros(0, np.uint16), compare=False, repr=False
  )
  seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Prompt:
  """What the engine is given.

  Attributes:
    ids: Of the table.
    stops: That end what comes behind.
  """

  ids: list[int]
  stops: tuple[int, ...]


class Run:
  """A checkpoint that is loaded, with its engine.

  Attributes:
    folder: Of the run.
    vocabulary: Its ids.
    engine: Decodes.
    hears: Whether it has speech in its vocabulary.
  """

  def __init__(
    self,
    folder: str | os.PathLike,
    step: int | None = None,
    settings: engine_lib.Settings = engine_lib.Settings(),
  ):
    """Loads a checkpoint and starts an engine.

    Args:
      folder: Of the run.
      step: Which checkpoint; None is the newest.
      settings: Of the engine.

    Raises:
      UserError: It is no run of a language model that knows text.
    """
    self.folder = folder
    self._description = complete.describe(folder, step)
    model, variables, self.vocabulary = restore.load_model(folder, step)
    if self.vocabulary.text is None:
      raise errors.UserError(
        f'{folder}: has no text tokenizer, expected a run that knows its texts.'
      )
    self._habits = habits_lib.of_run(
      self._description, files.path(folder) / 'config.json'
    )
    self._is_converted = complete.is_converted(folder, self._description)
    self.hears = bool(self.vocabulary.linguistic_size)
    probe = complete.Asked([0], (), self._is_converted)
    self.engine = engine_lib.Engine(
      restore.unroll_layers(model),
      variables,
      self.vocabulary,
      settings,
      complete.grammar_of(self.vocabulary, probe),
    )

  @property
  def longest(self) -> int:
    """Ids that a prompt and its answer may have."""
    return self.engine.longest

  def room(self, ids: Sequence[int], most: int) -> int:
    """New ids that there is room for behind a prompt, `most` at most.

    Raises:
      UserError: There is none.
    """
    left = self.longest - len(ids)
    if left < 1:
      raise errors.UserError(
        f'messages: found {len(ids)} ids, expected fewer than {self.longest}, '
        'which a chat and its reply may have together.'
      )
    return min(most, left)

  def transcribing(self, heard: Heard) -> Prompt:
    """Asks for the words of a recording.

    Raises:
      UserError: It is too short, or the model hears nothing.
    """
    layout = documents_lib.LAYOUTS['asr']
    ids = layout.prompt(self.vocabulary, speech=self.speech_ids(heard))
    return Prompt(ids, (vocabulary_lib.EOT,))

  def answering(self, turns: Sequence[chats.Turn]) -> Prompt:
    """Asks for what the assistant says next.

    Args:
      turns: A chat; each recording is `Heard`, or has a transcript.

    Raises:
      UserError: It cannot be laid out.
    """
    if not turns:
      raise errors.UserError('messages: found none, expected a chat.')
    if not self.hears:
      turns = [_in_writing(turn) for turn in turns]
    elif self._habits.history == habits_lib.READ:
      turns = _earlier_in_writing(turns)
    laid = rendering.turns_of(chats.Conversation(tuple(turns)), self._ids_of)
    if self._is_converted:
      asked = complete.ask_chat(
        self.folder, self._description, self.vocabulary, laid
      )
      return Prompt(asked.prompt, tuple(asked.stops))
    ids, _ = rendering.prompt(
      self.vocabulary, laid, style=self._habits.layout()
    )
    return Prompt(ids, (vocabulary_lib.EOT,))

  def speech_ids(self, heard: Heard) -> np.ndarray:
    """Ids of a recording, in the streams that the run has learnt.

    Raises:
      UserError: It is shorter than a group, or the model hears nothing.
    """
    if not self.hears:
      raise errors.UserError(
        f'{self.folder}: the model has no speech in its vocabulary, expected '
        'one that hears.'
      )
    return documents_lib.speech_ids(
      self.vocabulary, heard.linguistic, heard.semantic, self._habits.streams
    )

  def _ids_of(self, speech: chats.Speech) -> np.ndarray:
    if isinstance(speech, Heard):
      return self.speech_ids(speech)
    raise errors.UserError(
      f'{speech.id or speech.path or "a recording"}: found no codes, expected '
      'a recording that was heard.'
    )


def sampler_of(manner: services.Manner) -> sampling.Sampler:
  """How ids are chosen in a manner.

  Raises:
    UserError: It makes no sense.
  """
  return sampling.Sampler(manner.temperature, manner.top_k, manner.top_p)


def _in_writing(turn: chats.Turn) -> chats.Turn:
  """A turn with the transcripts of its recordings in their place.

  Raises:
    UserError: One has none.
  """
  if not any(isinstance(part, chats.Speech) for part in turn.parts):
    return turn
  parts = []
  for part in turn.parts:
    if isinstance(part, chats.Speech):
      if part.text is None:
        raise errors.UserError(
          'messages: found a recording without a transcript, expected one, for '
          'the model reads only.'
        )
      part = part.text
    parts.append(part)
  return dataclasses.replace(turn, parts=tuple(parts))


def _earlier_in_writing(turns: Sequence[chats.Turn]) -> list[chats.Turn]:
  """All recordings but the last turn's as their transcripts, if known."""
  last = max((n for n, turn in enumerate(turns) if turn.speech), default=-1)
  found = []
  for n, turn in enumerate(turns):
    known = all(
      part.text is not None
      for part in turn.parts
      if isinstance(part, chats.Speech)
    )
    found.append(_in_writing(turn) if n != last and known else turn)
  return found
