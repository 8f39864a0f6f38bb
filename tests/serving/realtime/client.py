"""A client of a realtime session in virtual time, strict about its events."""

import asyncio
import base64
import functools

import numpy as np
import pydantic

from step_audio_jax.dialogue.turns import controller as controller_lib
from step_audio_jax.serving.realtime import session as session_lib
from tests.dialogue import fakes

RATE = 24000


@functools.cache
def shapes():
  from openai.types import realtime

  return pydantic.TypeAdapter(realtime.RealtimeServerEvent)


def loud(frame_S):
  """A detector: what is loud is speech."""
  return float(np.abs(frame_S).mean() > 0.02)


def sound(seconds, level=0.3):
  """Base64 of a tone, or of silence."""
  place = np.arange(round(seconds * RATE))
  samples = np.sin(place * 0.2) * level * 32767
  return base64.b64encode(samples.astype('<i2').tobytes()).decode()


class Client:
  """Talks to a session."""

  def __init__(
    self, turns=controller_lib.Settings(), tools=None, watch=None, **models
  ):
    self.events = []
    self.models = fakes.models(**models)
    self.session = session_lib.Session(
      self.models,
      self._take,
      judge=loud,
      wall=lambda: 0.0,
      turns=turns,
      tools=tools,
      watch=watch,
    )

  async def _take(self, event):
    # Union members are told by `type`; extra fields would be forgotten.
    parsed = shapes().validate_python(event)
    assert parsed.type == event['type'], event
    self.events.append((asyncio.get_running_loop().time(), event))

  async def __aenter__(self):
    await self.session.begin()
    return self

  async def __aexit__(self, *_):
    await self.session.close()

  async def send(self, kind, **fields):
    await self.session.handle({'type': kind, 'event_id': 'mine', **fields})

  async def update(self, **fields):
    await self.send('session.update', session={'type': 'realtime', **fields})

  async def say(self, seconds, level=0.3, step=0.1):
    """Sound as a microphone gives it."""
    while seconds > 1e-9:
      part = min(step, seconds)
      await asyncio.sleep(part)
      await self.send('input_audio_buffer.append', audio=sound(part, level))
      seconds -= part

  async def hush(self, seconds):
    await self.say(seconds, 0.0)

  async def until(self, kind, seconds=60.0):
    """The next event of a kind, from now on or already there once."""
    for _ in range(int(seconds / 0.01)):
      found = self.all(kind)
      if found:
        return found[-1]
      await asyncio.sleep(0.01)
    raise AssertionError(f'no {kind} in {self.kinds()}')

  def all(self, kind):
    return [event for _, event in self.events if event['type'] == kind]

  def kinds(self):
    return [event['type'] for _, event in self.events]

  def when(self, kind):
    return [at for at, event in self.events if event['type'] == kind]

  def audio(self):
    """Seconds of sound that were sent."""
    parts = self.all('response.output_audio.delta')
    raw = b''.join(base64.b64decode(one['delta']) for one in parts)
    return len(raw) / 2 / RATE
