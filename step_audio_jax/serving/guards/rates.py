"""How often a client may ask: a bucket of tokens each.

tokens ← min(burst, tokens + rate · Δt);  a request takes one
"""

import collections
import dataclasses
from typing import Callable

_MOST = 4096  # clients that are remembered; the longest silent is forgotten


@dataclasses.dataclass
class _Bucket:
  tokens: float
  at: float


class Buckets:
  """A bucket for each client."""

  def __init__(self, per_minute: float, burst: int, clock: Callable[[], float]):
    """All are full.

    Args:
      per_minute: Tokens; 0 is no limit.
      burst: What a bucket holds.
      clock: Seconds.
    """
    self._rate, self._burst, self._clock = per_minute / 60, burst, clock
    self._found: collections.OrderedDict[str, _Bucket] = (
      collections.OrderedDict()
    )

  def take(self, client: str) -> float:
    """Takes a token; returns 0, or the seconds until there is one."""
    if not self._rate:
      return 0.0
    now = self._clock()
    bucket = self._found.get(client)
    if bucket is None:
      bucket = self._found[client] = _Bucket(float(self._burst), now)
      if len(self._found) > _MOST:
        self._found.popitem(last=False)
    self._found.move_to_end(client)
    grown = bucket.tokens + self._rate * (now - bucket.at)
    bucket.tokens, bucket.at = min(float(self._burst), grown), now
    if bucket.tokens < 1:
      return (1 - bucket.tokens) / self._rate
    bucket.tokens -= 1
    return 0.0
