"""What is asked of an engine, and how one is built."""

import dataclasses
from typing import Sequence

import jax
import numpy as np

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.generation import grammar as grammar_lib
from step_audio_jax.generation import repetition as repetition_lib
from step_audio_jax.generation import rows as rows_lib
from step_audio_jax.generation import sampling
from step_audio_jax.generation.schemas import constraint as constraint_lib

# Why a request ended.
STOPPED, CUT, CANCELLED, FAILED = 'stopped', 'cut', 'cancelled', 'failed'


@dataclasses.dataclass(frozen=True)
class Settings:
  """How an engine is built.

  Attributes:
    slots: Requests that decode at once.
    places: Ids that a prompt and its answer may have together.
    waiting: Requests that may wait for a slot.
    stops: Stop ids that a request may have.
    kept_bytes: Of prompts that are kept for the next turn; 0 keeps none.
    repetition: The rule that a request may switch on.
  """

  slots: int = 8
  places: int = 1024
  waiting: int = 64
  stops: int = 8
  kept_bytes: int = 2**28
  repetition: repetition_lib.Repetition = repetition_lib.Repetition(10, 0.3)

  def __post_init__(self):
    errors.at_least_one('engine', self, ('slots', 'places', 'stops'))
    for name in ('waiting', 'kept_bytes'):
      if getattr(self, name) < 0:
        raise errors.UserError(
          f'engine: {name}: found {getattr(self, name)}, expected 0 or more.'
        )


@dataclasses.dataclass(frozen=True)
class Request:
  """What is to be continued.

  Attributes:
    ids: The prompt, at least one id.
    limit: New ids at most.
    stops: Ids that end it.
    state: `grammar.State` that it starts in.
    sampler: How ids are chosen; its rule about repeated ids is the engine's or
      off.
    seed: Of the draws.
    constraint: Holds it to a form; None for none.
    keeps: Whether its prompt is kept for those that begin alike.
  """

  ids: Sequence[int]
  limit: int
  stops: tuple[int, ...] = (vocabulary_lib.EOT,)
  state: grammar_lib.State = grammar_lib.State.TEXT
  sampler: sampling.Sampler = sampling.Sampler()
  seed: int = 0
  constraint: constraint_lib.Constraint | None = None
  keeps: bool = True


@dataclasses.dataclass
class Counts:
  """What an engine has done, for those who watch it.

  Attributes:
    requests: That were taken.
    refused: That were not, for want of room.
    cancelled: That were given up.
    prompt: Ids of prompts that were read.
    cached: Ids of prompts that had been kept.
    drawn: Ids that were drawn.
    turns: Steps of all slots together.
    busy_seconds: In which something was computed.
  """

  requests: int = 0
  refused: int = 0
  cancelled: int = 0
  prompt: int = 0
  cached: int = 0
  drawn: int = 0
  turns: int = 0
  busy_seconds: float = 0.0


def joining(request: Request, stops: int) -> rows_lib.Joining:
  """What is known of a request's row."""
  stops_K = np.full(stops, rows_lib.NO_ID, np.int32)
  stops_K[: len(request.stops)] = request.stops
  state = request.state
  if request.constraint is not None:
    state = grammar_lib.State.FREE  # the constraint says all
  return rows_lib.Joining(
    np.asarray(request.ids[-1:], np.int32),
    np.asarray([len(request.ids) - 1], np.int32),
    np.asarray([state], np.int32),
    np.asarray([request.limit], np.int32),
    jax.random.key(request.seed)[None],
    stops_K[None],
  )
