"""A mind that only counts, and turns that are sound."""

import numpy as np

from step_audio_jax import errors
from step_audio_jax.chats import checks
from step_audio_jax.chats import conversation as chats
from step_audio_jax.dialogue import services


class Counting:
  """A letter is an id, a recording has 41.67 ids a second; 3 ids a turn."""

  def __init__(self, longest=10_000, hears=True):
    self.longest, self.hears = longest, hears
    self.asked = 0

  def length(self, turns):
    self.asked += 1
    total = 5
    for turn in turns:
      total += 3 + len(chats.as_json(list(turn.tools))) * bool(turn.tools)
      total += sum(len(call.written) for call in turn.calls)
      for part in turn.parts:
        total += len(part) if isinstance(part, str) else codes(part)
    return total


def codes(speech):
  if speech.duration < 0.12:
    raise errors.UserError('a recording: found less than a group.')
  return round(speech.duration / 0.12) * 5


def speech(seconds=3.0, text=None, name='u'):
  return chats.Speech(id=name, duration=seconds, text=text)


def check(turns):
  checks.check(chats.Conversation(tuple(turns)))
  return turns


def sound(seconds, groups=0, text='', ends=False, rate=24000, silent=False):
  """A part of what a mouth says."""
  samples = np.zeros(round(seconds * rate), np.float32)
  if not silent:
    samples[:] = 0.1
  ids = np.arange(5 * groups, dtype=np.int32)
  return services.Sound(samples, text, ids, ends)


def brief(turns):
  """Turns as pairs, a recording as its name."""
  told = []
  for turn in turns:
    parts = [p if isinstance(p, str) else f'<{p.id}>' for p in turn.parts]
    parts += [f'{call.name}#{call.id}' for call in turn.calls]
    told.append((turn.role, '|'.join(parts)))
  return told
