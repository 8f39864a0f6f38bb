"""Asks a model behind an address: many questions, a few at once, in order.

    endpoint = client.Endpoint('http://127.0.0.1:8000/v1', 'qwen2.5-7b')
    kept = answers.Answers('runs/answers')
    for reply in endpoint.answers(questions, kept): …

What may pass (429, 5xx, time-outs, HTML of a proxy) is asked again (`retries`),
at the pace that was set. What stays wrong is a reply with its fault, and the
rest goes on. A number of faults in a row ends all with one sentence. Answers
are kept as they come, and faults once an answer came behind them: killed and
begun again, a job asks nothing twice, and gets the same.
"""

import collections
import concurrent.futures
import dataclasses
import threading
import time
from typing import Any, Iterable, Iterator

from step_audio_jax import errors
from step_audio_jax import retries
from step_audio_jax.endpoints import answers as answers_lib
from step_audio_jax.endpoints import chat
from step_audio_jax.endpoints import wire
from step_audio_jax.storage.clients import translation

_PASSING = (408, 409, 425, 429)  # statuses, and all from 500 on
_HIDDEN = '***'
NOT_KEPT = 'not_kept'  # kind of a reply that there is none of
_SHORTEST = 8  # characters of a key that is one; `EMPTY` is a word


@dataclasses.dataclass(frozen=True)
class Endpoint(chat.Model):
  """A model behind an address, and how it is asked.

  Attributes:
    together: Questions under way at once.
    per_minute: Requests in a minute, at most; None is no limit.
    connect: Seconds until a connection stands.
    seconds: Of one answer, from the first byte that is sent to the last.
    tries: Of one question.
    patience: Seconds of all tries of one question.
    first_pause: Seconds, as of `retries.Limits`.
    stop_after: Questions without an answer in a row that end all.
    most_requests: In all, tries and all; None is no limit.
    most_seconds: In all; None is no limit.
    most_bytes: Of one answer.
  """

  together: int = 4
  per_minute: float | None = None
  connect: float = 10.0
  seconds: float = 120.0
  tries: int = 5
  patience: float = 600.0
  first_pause: float = 1.0
  stop_after: int = 10
  most_requests: int | None = None
  most_seconds: float | None = None
  most_bytes: int = 2**20

  def __post_init__(self):
    super().__post_init__()
    whole = ('together', 'tries', 'stop_after', 'most_bytes')
    errors.at_least_one('endpoint', self, whole)
    for name in (
      *('per_minute', 'connect', 'seconds', 'patience', 'first_pause'),
      *('most_requests', 'most_seconds'),
    ):
      value = getattr(self, name)
      if value is not None and not value > 0:
        raise errors.UserError(
          f'endpoint: {name}: found {value}, expected a number above 0.'
        )

  def answers(
    self,
    questions: Iterable[chat.Question],
    kept: answers_lib.Answers,
    counts: collections.Counter | None = None,
  ) -> Iterator[chat.Reply]:
    """Replies in the order of the questions.

    Args:
      questions: Read as they are asked.
      kept: What was answered before, and what will be.
      counts: Of requests, retries by reason, replies by kind; added to.

    Raises:
      UserError: It has no key, `stop_after` questions in a row had no answer,
        or a limit of all is met.
    """
    return _Asking(self, kept, counts).all(questions)

  def kept_answers(
    self, questions: Iterable[chat.Question], kept: answers_lib.Answers
  ) -> Iterator[chat.Reply]:
    """Replies as `answers` gave them before; nobody is asked.

    A question that nobody was asked before has a reply of the kind `NOT_KEPT`.
    No key is needed.
    """
    for question in questions:
      asked = self.asked(question)
      answer = kept.get(asked)
      if chat.is_answer(answer):
        yield _read(self, kept, asked, answer, True)
      else:
        fault = f'no answer is kept in {kept.folder}.'
        lacking = {'kind': NOT_KEPT, 'fault': fault}
        yield _read(self, kept, asked, lacking, False)


class _Asking:
  """One run through some questions."""

  def __init__(self, endpoint, kept, counts):
    self._endpoint, self._kept, self._key = endpoint, kept, endpoint.key()
    self._counts = collections.Counter() if counts is None else counts
    self._wire, self._lock = wire.Wire(), threading.Lock()
    self._over, self._end = threading.Event(), ''
    self._requests, self._next = 0, 0.0
    self._began = time.monotonic()
    self._in_a_row, self._faults = 0, []  # not kept yet

  def all(self, questions) -> Iterator[chat.Reply]:
    most = self._endpoint.together
    waiting: collections.deque[concurrent.futures.Future] = collections.deque()
    pool = concurrent.futures.ThreadPoolExecutor(most)
    try:
      for question in questions:
        waiting.append(pool.submit(self._reply, question))
        if len(waiting) >= 2 * most:
          yield self._counted(waiting.popleft())
      while waiting:
        yield self._counted(waiting.popleft())
      self._keep_faults()  # the endpoint was not given up
    finally:
      self._over.set()
      self._wire.hang_up()
      pool.shutdown(cancel_futures=True)

  def _counted(self, future) -> chat.Reply:
    reply = future.result()
    self._check()
    with self._lock:
      kind = 'kept' if reply.is_kept and not reply.kind else reply.kind
      self._counts[f'replies/{kind or "new"}'] += 1
    return reply

  def _reply(self, question: chat.Question) -> chat.Reply:
    asked = self._endpoint.asked(question)
    answer = self._kept.get(asked)
    if chat.is_answer(answer):
      return _read(self._endpoint, self._kept, asked, answer, True)
    self._check()
    most = retries.Limits(
      tries=self._endpoint.tries,
      seconds=self._endpoint.patience,
      first_pause=self._endpoint.first_pause,
      longest_pause=60.0,
    )
    body = self._endpoint.body(asked)
    try:
      answer = retries.persist(
        lambda _: self._asked_once(body), most, self._count, self._pause
      )
    except retries.GaveUp as error:
      kind, last = 'no_answer', str(error.last).rstrip('.')
      if isinstance(error.last, _Again):
        kind = error.last.kind
      answer = {'kind': kind, 'fault': f'{error} (the last: {last}).'}
    except chat.Wrong as error:
      answer = {'kind': error.kind, 'fault': str(error)}
    if 'kind' in answer:
      self._failed(asked, answer)
    else:
      self._answered(asked, answer)
    return _read(self._endpoint, self._kept, asked, answer, False)

  def _asked_once(self, body: bytes) -> dict[str, Any]:
    self._take_turn()
    headers = {'Content-Type': 'application/json', 'Accept': 'application/json'}
    if self._key:
      headers['Authorization'] = f'Bearer {self._key}'
    answer = self._wire.post(
      self._endpoint.address,
      body,
      headers,
      connect=self._endpoint.connect,
      seconds=self._endpoint.seconds,
      most_bytes=self._endpoint.most_bytes,
    )
    told = self._hidden(answer.body)
    if answer.status != 200:
      said = _said(answer.status, told)
      if answer.status in _PASSING or answer.status >= 500:
        pause = translation.pause(answer.headers)
        raise _Again(f'status_{answer.status}', said, pause)
      raise chat.Wrong(f'status_{answer.status}', said)
    try:
      found = chat.read(told, answer.headers.get('content-type'))
    except chat.Wrong as error:
      if error.kind == 'refusal':
        raise
      raise _Again(error.kind, str(error)) from error
    if len(self._key) >= _SHORTEST:  # JSON can spell it otherwise
      found['text'] = found['text'].replace(self._key, _HIDDEN)
    return found

  def _hidden(self, body: bytes) -> bytes:
    """What came back, without the key: an endpoint may repeat what it got."""
    if len(self._key) < _SHORTEST:
      return body
    return body.replace(self._key.encode(), _HIDDEN.encode())

  def _take_turn(self) -> None:
    """Waits for the pace; counts what is asked in all."""
    most = self._endpoint.most_requests
    with self._lock:
      if most is not None and self._requests >= most:
        self._stop(f'most_requests: {most} were made')
      seconds = self._endpoint.most_seconds
      if seconds is not None and time.monotonic() - self._began > seconds:
        self._stop(f'most_seconds: {seconds:g} are over')
      wait = 0.0
      if not self._end:
        self._requests += 1
        now = time.monotonic()
        wait = max(0.0, self._next - now)
        if self._endpoint.per_minute:
          self._next = max(now, self._next) + 60 / self._endpoint.per_minute
    self._check()
    self._pause(wait)

  def _pause(self, seconds: float) -> None:
    if seconds:
      self._over.wait(seconds)
    self._check()

  def _check(self) -> None:
    """Raises what ended all, if something did."""
    if self._end:
      raise errors.UserError(self._end)
    if self._over.is_set():
      raise concurrent.futures.CancelledError()

  def _stop(self, why: str) -> None:
    """Ends all; the lock is held."""
    if not self._end:
      self._end = (
        f'{self._endpoint.name}: {why}; what was answered is kept in '
        f'{self._kept.folder}, and the same command goes on from there.'
      )
    self._over.set()

  def _count(self, name: str) -> None:
    with self._lock:
      self._counts[name] += 1

  def _answered(self, asked, answer) -> None:
    self._kept.put(asked, answer)
    kind, fault = chat.unusable(answer)
    with self._lock:
      if kind:
        self._one_more(fault)
      else:
        self._in_a_row = 0
    self._keep_faults()

  def _failed(self, asked, answer) -> None:
    with self._lock:
      self._faults.append((asked, answer))
      self._one_more(answer['fault'])

  def _one_more(self, fault: str) -> None:
    """Another question without an answer; the lock is held."""
    self._in_a_row += 1
    most = self._endpoint.stop_after
    if self._in_a_row >= most:
      told = fault.rstrip('.')
      self._stop(f'{most} questions in a row had no answer; the last: {told}')

  def _keep_faults(self) -> None:
    """What is wrong with a question is known where others are answered."""
    with self._lock:
      faults, self._faults = self._faults, []
    for asked, answer in faults:
      self._kept.put(asked, answer)


def _read(endpoint, kept, asked, answer, is_kept) -> chat.Reply:
  key = kept.key_of(asked)
  kind, fault = answer.get('kind'), answer.get('fault')
  if kind is None:
    kind, fault = chat.unusable(answer)
  if kind:
    fault = f'{endpoint.name}: {fault}'
  text = answer.get('text')
  return chat.Reply(key, text, kind, fault, answer.get('model'), is_kept)


class _Again(retries.Transient):
  """An answer that is none, and may be one the next time.

  Attributes:
    kind: In a word, as it is counted.
    fault: In one sentence.
  """

  def __init__(self, kind: str, fault: str, pause: float = 0.0):
    super().__init__(kind, pause)
    self.kind, self.fault = kind, fault

  def __str__(self) -> str:
    return self.fault


def _said(status: int, body: bytes) -> str:
  """What a status and its body say."""
  if 300 <= status < 400:
    return f'status {status}, a redirect; expected the address itself in url.'
  said = chat.error_of(body)
  return f'status {status}: {said}.' if said else f'status {status}.'
