"""One model that answers many requests at once, each as it comes.

A thread decodes: between two turns requests join and leave, a long prompt is
read piece by piece, and what was drawn goes out. Everything that is compiled
is compiled by `warm_up`: rows, places of the ring and the sizes of pieces are
fixed, and whatever a request asks for is an array.

    engine = Engine(model, variables, vocabulary, Settings(slots=16))
    engine.warm_up()
    ticket = engine.submit(Request(ids, 64), on_ids, on_end)
    ticket.cancel()  # its slot is free before the next turn
    engine.close()

Letters: B slots, W places, K stop ids, V vocabulary.
"""

import collections
import contextlib
import dataclasses
import threading
import time
from typing import Any, Callable, Mapping, Sequence

import jax
import numpy as np

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.generation import grammar as grammar_lib
from step_audio_jax.generation import restore
from step_audio_jax.generation import rows as rows_lib
from step_audio_jax.generation import sampling
from step_audio_jax.generation.batching import prompts
from step_audio_jax.generation.batching import requests

Settings = requests.Settings
Request = requests.Request
STOPPED, CUT = requests.STOPPED, requests.CUT
CANCELLED, FAILED = requests.CANCELLED, requests.FAILED
_SHORTEST = 192  # places of a ring, if there are as many


class Ticket:
  """A request that was taken.

  Attributes:
    request: It.
    cached: Ids of its prompt that had been kept.
    drawn: Ids that were drawn.
  """

  def __init__(self, engine, request, on_ids, on_end):
    self.request = request
    self.cached = self.drawn = 0
    self.is_cancelled = False
    self._engine, self._on_ids, self._on_end = engine, on_ids, on_end

  def cancel(self) -> None:
    """Gives it up; nothing more is told of it but that."""
    self.is_cancelled = True
    self._engine.wake()

  def tell(self, ids: Sequence[int]) -> None:
    """Hands out ids; of the engine's thread."""
    self.drawn += len(ids)
    if self.is_cancelled:
      return
    try:
      self._on_ids(ids)
    except Exception:  # noqa: BLE001 - who does not listen ends no other
      self.is_cancelled = True

  def end(self, why: str, error: Exception | None = None) -> None:
    """Says that it is over; of the engine's thread."""
    with contextlib.suppress(Exception):  # as above
      self._on_end(why, error)


@dataclasses.dataclass
class _Reading:
  """A prompt on its way into the batch."""

  ticket: Ticket
  cache: Any
  place: int


class Engine:
  """Continuous batching with a thread of its own.

  Attributes:
    settings: How it was built.
    counts: What it has done.
  """

  def __init__(
    self,
    model: Any,
    variables: Mapping[str, Any],
    vocabulary: vocabulary_lib.Vocabulary,
    settings: Settings = Settings(),
    grammar: grammar_lib.Grammar | None = None,
  ):
    """Starts the thread; nothing is compiled yet.

    Args:
      model: Flax module with the API of `models.language.speech_text`, its
        layers unrolled.
      variables: Its variables, unboxed.
      vocabulary: Its ids.
      settings: How it is built.
      grammar: Of its ids; by default the vocabulary's.
    """
    self.settings, self.counts = settings, requests.Counts()
    self._model = model
    self._read, self._laid = restore.laid_out(model, variables, settings.slots)
    if grammar is None:
      grammar = grammar_lib.build(vocabulary)
    self._grammar = jax.device_put(grammar)
    self._V = vocabulary.table_size
    self._store = prompts.Store(settings.kept_bytes)
    self._waiting: collections.deque[Ticket] = collections.deque()
    self._shapes = _shapes(model, settings)
    self._slots: list[Ticket | None] = [None] * self._shapes[0][0]
    self._reading: _Reading | None = None
    self._blank = self._rows = None
    self._masks: dict[int, jax.Array] = {}
    self._changed = threading.Condition()
    self._closed = False
    self._thread = threading.Thread(
      target=self._run, name='engine', daemon=True
    )
    self._thread.start()

  def submit(
    self,
    request: Request,
    on_ids: Callable[[Sequence[int]], None],
    on_end: Callable[[str, Exception | None], None],
  ) -> Ticket:
    """Takes a request.

    Args:
      request: It.
      on_ids: Told new ids as they are drawn, without what stopped it; on the
        engine's thread, so it must return at once.
      on_end: Told once why it ended: `STOPPED`, `CUT`, `CANCELLED`, or `FAILED`
        and the error. Likewise.

    Raises:
      UserError: It does not fit.
      Busy: Too many wait.
    """
    self._check(request)
    ticket = Ticket(self, request, on_ids, on_end)
    with self._changed:
      if self._closed:
        raise errors.Busy('the engine is closed')
      room = self.settings.waiting + self.settings.slots - self.live
      if len(self._waiting) + (self._reading is not None) >= room:
        self.counts.refused += 1
        raise errors.Busy(f'{len(self._waiting)} requests wait already')
      self.counts.requests += 1
      self._waiting.append(ticket)
      self._changed.notify()
    return ticket

  def run(self, request: Request) -> list[int]:
    """New ids of one request, when it has ended.

    Raises:
      UserError: It does not fit.
      Busy: Too many wait.
    """
    found: list[int] = []
    over = threading.Event()
    faults: list[Exception | None] = []

    def end(_, error):
      faults.append(error)
      over.set()

    self.submit(request, found.extend, end)
    over.wait()
    if faults[0] is not None:
      raise faults[0]
    return found

  def warm_up(self) -> None:
    """Compiles all that requests can need; nothing is compiled after it.

    There must be no request yet.
    """
    end = vocabulary_lib.EOT
    cache = prompts.begun(self._empty_prompt(), np.int32(0))
    for B, W in self._shapes:
      rows = self._none(B, W)
      alone = requests.joining(Request([end], 1), self.settings.stops)
      into = np.zeros(1, np.int32)
      rows = rows_lib.join(self._model, rows, cache, alone, into)
      rows = rows_lib.halted(rows, np.ones(B, bool))
      draws = sampling.Sampler(1.0, top_k=2, top_p=0.9)
      rows, *_ = self._decoded(rows, [draws] * B, self._all(B))
      for other in self._shapes:
        if other != (B, W):
          chosen = np.resize(np.arange(B), other[0])
          rows_lib.resized(self._model, rows, chosen, W=other[1])
    for size in prompts.PIECES:
      ids = [end] * min(size + 1, self.longest - 2)
      self.run(Request(ids, 2, ()))
      self._store.clear()  # or the next one is not read at its size

  def drain(self, seconds: float | None = None) -> bool:
    """Waits until nothing is left to do; whether that came in time."""
    with self._changed:
      return self._changed.wait_for(lambda: not self._has_work(), seconds)

  @property
  def longest(self) -> int:
    """Ids that a prompt and its answer may have together."""
    return self.settings.places - prompts.PIECES[-1]  # a piece may be padded

  @property
  def live(self) -> int:
    """Slots that are taken."""
    return sum(slot is not None for slot in self._slots)

  @property
  def queued(self) -> int:
    """Requests that wait for a slot."""
    return len(self._waiting)

  def wake(self) -> None:
    """Says that something has changed."""
    with self._changed:
      self._changed.notify_all()

  def close(self) -> None:
    """Ends the thread; what is not done is cancelled."""
    with self._changed:
      self._closed = True
      self._changed.notify_all()
    self._thread.join()

  def _check(self, request: Request) -> None:
    count = len(request.ids)
    if not count:
      raise errors.UserError('prompt: found no id, expected at least one.')
    if request.limit < 1 or count + request.limit > self.longest:
      raise errors.UserError(
        f'prompt: found {count} ids and a limit of {request.limit} new ones, '
        f'expected at most {self.longest} together.'
      )
    if not all(0 <= one < self._V for one in request.ids):
      raise errors.UserError(
        f'prompt: found an id outside 0 to {self._V - 1}, expected only ids of '
        'the model.'
      )
    if len(request.stops) > self.settings.stops:
      raise errors.UserError(
        f'stops: found {len(request.stops)}, expected at most '
        f'{self.settings.stops}.'
      )
    rule = request.sampler.repetition
    if rule.window and rule != self.settings.repetition:
      raise errors.UserError(
        f'repetition: found {rule}, expected {self.settings.repetition}, that '
        'of the engine, or none.'
      )

  # The thread.

  def _has_work(self) -> bool:
    return bool(self._waiting or self._reading or self.live)

  def _run(self) -> None:
    while True:
      with self._changed:
        self._changed.wait_for(lambda: self._closed or self._has_work())
        if self._closed:
          break
      began = time.monotonic()
      try:
        self._leave()
        self._read_on()
        self._turn()
      except Exception as error:  # noqa: BLE001 - told to those it concerns
        self._fail(error)
      self.counts.busy_seconds += time.monotonic() - began
      with self._changed:
        if not self._has_work():
          self._changed.notify_all()
    self._end_all(CANCELLED, None)

  def _leave(self) -> None:
    """Frees what was given up."""
    with self._changed:
      gone = [one for one in self._waiting if one.is_cancelled]
      for one in gone:
        self._waiting.remove(one)
    if self._reading is not None and self._reading.ticket.is_cancelled:
      gone.append(self._reading.ticket)
      self._reading = None
    going_B = np.ones(len(self._slots), bool)
    for slot, one in enumerate(self._slots):
      if one is not None and one.is_cancelled:
        going_B[slot] = False
        self._slots[slot] = None
        gone.append(one)
    if not going_B.all():
      self._rows = rows_lib.halted(self._rows, going_B)
    for one in gone:
      self.counts.cancelled += 1
      one.end(CANCELLED)

  def _read_on(self) -> None:
    """Reads prompts, the more of them wait the more at a time."""
    for _ in range(max(1, self.queued - self.live)):
      if self._reading is None:
        with self._changed:
          if not self._waiting or self.live == self.settings.slots:
            return
          ticket = self._waiting.popleft()
        self._reading = self._begin(ticket)
      self._read_piece(self._reading)

  def _read_piece(self, at: _Reading) -> None:
    """Reads one piece; the last one puts the prompt into the batch."""
    left = at.ticket.request.ids[at.place : -1]
    if len(left):
      size = prompts.piece(len(left), self.settings.places - at.place)
      some = left[:size]
      tokens_1T = np.zeros((1, size), np.int32)
      tokens_1T[0, : len(some)] = some
      at.cache = prompts.extend(
        self._model, self._read, at.cache, tokens_1T, np.int32(len(some))
      )
      at.place += len(some)
      self.counts.prompt += len(some)
    if at.place == len(at.ticket.request.ids) - 1:
      self._reading = None
      self._join(at)

  def _begin(self, ticket: Ticket) -> _Reading:
    head = ticket.request.ids[:-1]
    cache, count = self._store.find(head) or (self._empty_prompt(), 0)
    ticket.cached = count
    self.counts.cached += count
    return _Reading(ticket, prompts.begun(cache, np.int32(count)), count)

  def _empty_prompt(self):
    if self._blank is None:
      self._blank = prompts.blank(self._model, W=self.settings.places)
    return self._blank

  def _none(self, B: int, W: int) -> rows_lib.Rows:
    """Rows of which none is taken."""
    s = self.settings
    return rows_lib.empty(
      self._model, B=B, W=W, K=s.stops, reach=s.repetition.reach
    )

  def _join(self, at: _Reading) -> None:
    request = at.ticket.request
    self._fit(at.ticket)
    slot = self._slots.index(None)
    self._rows = rows_lib.join(
      self._model,
      self._rows,
      at.cache,
      requests.joining(request, self.settings.stops),
      np.asarray([slot], np.int32),
    )
    if request.keeps:
      self._store.keep(request.ids[:-1], at.cache)
    self._slots[slot] = at.ticket

  def _fit(self, joining: Ticket | None = None) -> None:
    """Rows and a ring as large as they have to be, and not far larger."""
    taken = [one for one in self._slots if one is not None]
    taken += [joining] if joining else []
    places = max(len(one.request.ids) + one.drawn for one in taken)
    wanted = next(
      (B, W) for B, W in self._shapes if B >= len(taken) and W > places
    )
    if self._rows is None:
      self._slots = [None] * wanted[0]
      self._rows = self._none(*wanted)
      return
    B, W = len(self._slots), self._rows.cache['positions'].shape[1]
    small = B < len(taken) or W <= places
    # Who grows again soon does not shrink.
    slack = B > wanted[0] and not self._waiting or W > places + W // 2
    if not small and not (slack and (B, W) > wanted):
      return
    order = sorted(range(B), key=lambda slot: self._slots[slot] is None)
    chosen = np.resize(order, wanted[0])
    self._rows = rows_lib.resized(self._model, self._rows, chosen, W=wanted[1])
    if wanted[0] > B:  # what is there twice lives once
      going_B = np.arange(wanted[0]) < B
      self._rows = rows_lib.halted(self._rows, going_B)
    slots = [self._slots[slot] for slot in order]
    self._slots = (slots + [None] * wanted[0])[: wanted[0]]

  def _all(self, B: int) -> jax.Array:
    """Every id allowed: turns without masks are of the program with them."""
    if B not in self._masks:
      self._masks[B] = jax.device_put(np.ones((B, self._V), bool))
    return self._masks[B]

  def _decoded(self, rows, samplers, allowed_BV):
    """One turn of rows; see `rows.turns`."""
    return rows_lib.turns(
      self._model,
      self._laid,
      rows,
      self._grammar,
      sampling.RowSampler.of(samplers, self.settings.repetition),
      allowed_BV,
      np.int32(1),
      np.int32(len(samplers) + 1),
      N=1,
    )

  def _turn(self) -> None:
    """One id of every slot that is taken."""
    if not self.live:
      return
    self._fit()
    idle = sampling.Sampler()
    samplers = [one.request.sampler if one else idle for one in self._slots]
    allowed_BV = self._all(len(self._slots))
    if any(one and one.request.constraint for one in self._slots):
      allowed_BV = np.ones((len(self._slots), self._V), bool)
      for slot, one in enumerate(self._slots):
        if one is not None and one.request.constraint is not None:
          allowed_BV[slot] = one.request.constraint.mask()
    self._rows, ids_BN, _, counts_B, stopped_B = self._decoded(
      self._rows, samplers, allowed_BV
    )
    ids_BN, counts_B, stopped_B, live_B = jax.device_get(
      (ids_BN, counts_B, stopped_B, self._rows.live_B)
    )
    self.counts.turns += 1
    for slot, one in enumerate(self._slots):
      if one is None:
        continue
      if counts_B[slot]:
        chosen = int(ids_BN[slot, 0])
        self.counts.drawn += 1
        if one.request.constraint is not None:
          one.request.constraint.advance(chosen)
        one.tell([chosen])
      if not live_B[slot]:
        self._slots[slot] = None
        one.end(STOPPED if stopped_B[slot] else CUT)

  def _fail(self, error: Exception) -> None:
    """What was computed is lost: everybody is told, and it begins anew."""
    self._rows = None
    self._store.clear()
    self._end_all(FAILED, error)

  def _end_all(self, why: str, error: Exception | None) -> None:
    with self._changed:
      some = [one for one in self._slots if one is not None]
      self._slots = [None] * len(self._slots)
      if self._reading is not None:
        some.append(self._reading.ticket)
        self._reading = None
      if self._closed:
        some += self._waiting
        self._waiting.clear()
    for one in some:
      one.end(why, error)


def _shapes(model: Any, settings: Settings) -> list[tuple[int, int]]:
  """(rows, places) that are compiled for, the smallest first.

  A turn costs what rows and places cost, taken or not: few requests are
  answered in few rows, short ones in a short ring.
  """
  sizes = {settings.slots, max(1, settings.slots // 4)}
  rings = {settings.places, max(_SHORTEST, settings.places // 3)}
  made = {
    (B, model.init_cache(1, min(W, settings.places))['positions'].shape[1])
    for B in sizes
    for W in rings
  }
  return sorted(made)
