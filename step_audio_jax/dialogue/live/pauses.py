"""What was said up to a pause: heard once, whatever it turns out to be.

At a pause its words are wanted, and a reply may be begun to it. When the turn
is over nothing but silence has come since, so that what was heard then is the
turn: nobody waits for it to be heard again.
"""

import asyncio
import re
from typing import Any, Callable, Coroutine

from step_audio_jax.chats import conversation as chats
from step_audio_jax.dialogue import services

_SHARE = 0.6  # of words that are ours, from which on they are our own


class Pause:
  """One; `finish` and `transcript` are those of a `services.Hearing`.

  Attributes:
    hearing: That it is of.
    until: Where the speech in front of it ends.
  """

  def __init__(
    self,
    hearing: services.Hearing,
    until: float,
    begin: Callable[[Coroutine], asyncio.Task],
  ):
    """Has it heard and written down.

    Args:
      hearing: What was said so far.
      until: Where the last speech ends.
      begin: Begins a task, and ends it some day.
    """
    self.hearing, self.until = hearing, until
    self._speech = begin(hearing.finish())
    self._words = begin(hearing.transcript())
    for task in (self._speech, self._words):
      task.add_done_callback(_seen)

  async def finish(self) -> chats.Speech:
    """As a mind takes it in a turn."""
    return await asyncio.shield(self._speech)

  async def transcript(self) -> str:
    """Its words."""
    return await asyncio.shield(self._words)

  def cancel(self) -> None:
    """Nobody wants it any more."""
    self.hearing.cancel()


def _seen(task: asyncio.Task[Any]) -> None:
  """Who asks is told of an error; that nobody asks is none."""
  if not task.cancelled():
    task.exception()


def is_our_own(text: str, said: str) -> bool:
  """Whether words that were heard are a run of those that we say.

  Args:
    text: What was heard while we spoke.
    said: What we say.
  """
  heard, ours = _words(text), _words(said)
  longest = 0
  runs = [0] * (len(ours) + 1)  # that end in front of each of our words
  for word in heard:
    runs = [0] + [
      runs[n] + 1 if word == one else 0 for n, one in enumerate(ours)
    ]
    longest = max(longest, *runs)
  return longest >= max(2, _SHARE * len(heard))


def _words(text: str) -> list[str]:
  """Words; characters of scripts without spaces."""
  return re.findall(r"[a-z0-9']+|[^\W\d_]", text.lower())
