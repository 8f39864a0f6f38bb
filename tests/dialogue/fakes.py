"""An ear, a mind and a mouth that follow scripts, for tests of what joins them.

A script is what is said, in order; a number in it is a wait in seconds, an
exception is raised. Each counts what is open, so that a test sees what leaks.
"""

import asyncio
import contextlib

import numpy as np

from step_audio_jax.chats import conversation as chats
from step_audio_jax.dialogue import services

RATE = 24000  # Hz, of a scripted mouth
SECONDS = 0.06  # that a scripted mouth needs for a character
GROUP = 0.12  # seconds of a part of its sound


class Follower:
  """Follows scripts, one a call; the last one again and again."""

  def __init__(self, *scripts):
    self.scripts = scripts
    self.calls = 0
    self.open = 0

  def next(self):
    script = self.scripts[min(self.calls, len(self.scripts) - 1)]
    self.calls += 1
    return script

  @contextlib.contextmanager
  def opened(self):
    self.open += 1
    try:
      yield
    finally:
      self.open -= 1

  async def steps(self, script):
    """What of a script is no wait, and nothing behind what is raised."""
    for step in script:
      if isinstance(step, int | float):
        await asyncio.sleep(step)
      elif isinstance(step, BaseException):
        raise step
      else:
        yield step


class ScriptedHearing:
  """Hears what the script says, whatever it is given."""

  def __init__(self, ear, words):
    self.ear, self.words = ear, words
    self.samples = []
    self.is_cancelled = False
    self.finished = 0

  def push(self, samples_S):
    assert samples_S.dtype == np.float32 and samples_S.ndim == 1
    self.samples.append(samples_S)

  @property
  def seconds(self):
    return sum(map(len, self.samples)) / services.HEARD_RATE

  async def partial(self):
    await asyncio.sleep(self.ear.wait)
    return self.words if isinstance(self.words, str) else ''

  async def finish(self):
    self.finished += 1
    await asyncio.sleep(self.ear.wait)
    return chats.Speech(id=f'heard-{self.seconds:.2f}')

  async def transcript(self):
    await asyncio.sleep(self.ear.late)
    if isinstance(self.words, BaseException):
      raise self.words
    return self.words

  def cancel(self):
    self.is_cancelled = True


class ScriptedEar(Follower):
  """An ear: the words of one utterance after the other."""

  def __init__(self, *words, wait=0.0, late=0.0):
    super().__init__(*(words or ('hello',)))
    self.wait, self.late = wait, late
    self.heard = []

  def listen(self):
    self.heard.append(ScriptedHearing(self, self.next()))
    return self.heard[-1]

  async def transcribe(self, samples_S, manner=services.Manner()):
    with self.opened():
      yield services.Text(self.next())
      yield services.Ended()


class ScriptedMind(Follower):
  """A mind: strings are `Text`; the end is told by itself."""

  def __init__(self, *scripts, hears=True, speaks=False, longest=2048):
    super().__init__(*(scripts or (['Good day. ', 'How are you?'],)))
    self.hears, self.speaks, self.longest = hears, speaks, longest
    self.asked = []  # turns
    self.manners = []

  async def reply(self, turns, manner=services.Manner()):
    self.asked.append(tuple(turns))
    self.manners.append(manner)
    script, called, told = self.next(), False, 0
    with self.opened():
      async for step in self.steps(script):
        if isinstance(step, services.Ended):
          yield step
          return
        told += 1
        called = called or isinstance(step, services.Called)
        yield services.Text(step) if isinstance(step, str) else step
      yield services.Ended(
        services.CALLED if called else services.STOPPED,
        services.Usage(self.length(turns), 0, told),
      )

  def length(self, turns):
    return sum(
      4 + len(turn.text.split()) + (40 if turn.speech else 0) for turn in turns
    )


class ScriptedMouth(Follower):
  """A mouth: a tone for each character, sentence by sentence."""

  sample_rate = RATE
  voices = ('own', 'other')

  def __init__(self, *scripts, wait=0.0):
    super().__init__(*(scripts or ([],)))
    self.wait = wait
    self.said = []

  async def speak(self, texts, manner=services.Manner()):
    with self.opened():
      async for _ in self.steps(self.next()):
        pass
      rest = ''
      async for text in texts:
        rest += text
        while cut := 1 + min(
          (at for at in map(rest.find, '.!?。！？') if at >= 0), default=-1
        ):
          sentence, rest = rest[:cut], rest[cut:]
          async for sound in self._sentence(sentence, manner):
            yield sound
      if rest.strip():
        async for sound in self._sentence(rest, manner):
          yield sound

  async def sound(self, ids, manner=services.Manner()):
    with self.opened():
      async for some in ids:
        whole = len(some) // 5
        for n in range(whole):
          yield services.Sound(tone(GROUP), ids=some[5 * n : 5 * n + 5])

  async def _sentence(self, sentence, manner):
    self.said.append(sentence)
    seconds = len(sentence) * SECONDS / manner.speed
    groups = max(1, round(seconds / GROUP))
    for n in range(groups):
      await asyncio.sleep(self.wait)
      is_last = n == groups - 1
      yield services.Sound(
        tone(GROUP),
        sentence if is_last else '',
        np.arange(5, dtype=np.int32),
        is_last,
      )


def tone(seconds):
  count = round(seconds * RATE)
  return (np.sin(np.arange(count) * 0.1) / 4).astype(np.float32)


def models(ear=None, mind=None, mouth=None, name='scripted'):
  """All three, as a server is given them."""
  return services.Models(
    name,
    ear or ScriptedEar(),
    mind or ScriptedMind(),
    mouth or ScriptedMouth(),
  )
