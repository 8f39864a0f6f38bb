"""Asking again: what may pass is tried until it does, or until a limit.

The pause before a further try is a random part of one that grows ("full
jitter"), or what was asked for, if that is longer.
"""

import dataclasses
import random
import time
from typing import Any, Callable, TypeVar

_T = TypeVar('_T')


class Transient(Exception):
  """Raised by a client for what may be well the next time.

  Attributes:
    reason: In a word or two, as it is counted: '503', 'cut', 'time-out'.
    pause: Seconds to wait at least, as was asked; 0.0 if it was not.
  """

  def __init__(self, reason: str, pause: float = 0.0):
    """A fault that may pass."""
    super().__init__(reason)
    self.reason, self.pause = reason, pause


class GaveUp(Exception):
  """All tries failed; the last of them is the cause.

  Attributes:
    tries: How many there were.
    seconds: From the first to the last.
    last: What the last of them met.
  """

  def __init__(self, tries: int, seconds: float, last: Transient):
    """After so many tries."""
    super().__init__(f'no answer after {tries} tries in {seconds:.0f} s')
    self.tries, self.seconds, self.last = tries, seconds, last


@dataclasses.dataclass
class Limits:
  """How long a request is tried.

  Attributes:
    tries: At most.
    seconds: No try begins later than this after the first.
    first_pause: Seconds, of which a random part is waited before the second
      try; doubled for each further one.
    longest_pause: Seconds; what a store asks for counts up to it, too.
    connect: Seconds until a connection stands.
    read: Seconds without a byte of an answer.
  """

  tries: int = 12
  seconds: float = 180.0
  first_pause: float = 0.25
  longest_pause: float = 20.0
  connect: float = 10.0
  read: float = 60.0


def persist(
  request: Callable[[int], _T],
  most: Limits,
  count: Callable[[str], Any] = lambda name: None,
  sleep: Callable[[float], Any] = time.sleep,
) -> _T:
  """Asks until there is an answer, as long as `most` says.

  Args:
    request: Given the number of tries before it.
    most: How long.
    count: Told of 'requests', 'retries' and 'retries/REASON'.
    sleep: How a pause is made.

  Raises:
    GaveUp: All tries failed.
    Exception: As `request`, but for `Transient`.
  """
  begin = time.monotonic()
  for tried in range(most.tries):
    count('requests')
    try:
      return request(tried)
    except Transient as error:
      count('retries')
      count(f'retries/{error.reason}')
      last = error
    pause = min(most.longest_pause, most.first_pause * 2**tried)
    pause = max(random.uniform(0, pause), min(last.pause, most.longest_pause))
    if time.monotonic() - begin + pause > most.seconds:
      break
    if tried + 1 < most.tries:
      sleep(pause)
  raise GaveUp(tried + 1, time.monotonic() - begin, last) from last
