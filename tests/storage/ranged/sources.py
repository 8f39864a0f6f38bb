"""Bytes behind the interface of a store, and what was asked of them."""

import threading
import time


class HeldSource:
  """A file in memory.

  Attributes:
    size: Bytes.
    requests: Spans that were asked for.
    seconds: How long each of them takes.
    most: How many were asked for at once, at most.
  """

  def __init__(self, content, seconds=0.0):
    self.content, self.size = bytes(content), len(content)
    self.requests, self.seconds, self.most = [], seconds, 0
    self._now, self._lock = 0, threading.Lock()

  def read(self, begin, end):
    with self._lock:
      self.requests.append((begin, end))
      self._now += 1
      self.most = max(self.most, self._now)
    if self.seconds:
      time.sleep(self.seconds)
    with self._lock:
      self._now -= 1
    return self.content[begin:end]

  def read_many(self, spans):
    return [self.read(*span) for span in spans]
