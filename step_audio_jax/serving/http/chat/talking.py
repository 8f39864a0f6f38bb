"""A mind that is listened to through a mouth: words and sound, as they come.

Mind and mouth run beside each other. Between them and to the reader lie short
queues: whoever is slow is waited for, and when the reader goes both end.
"""

import asyncio
from typing import AsyncIterator, Sequence

from step_audio_jax.chats import conversation as chats
from step_audio_jax.dialogue import services
from step_audio_jax.serving.guards import delivery

_AHEAD = 32  # pieces

Item = services.Piece | services.Sound


async def aloud(
  mind: services.Mind,
  mouth: services.Mouth,
  turns: Sequence[chats.Turn],
  manner: services.Manner,
) -> AsyncIterator[Item]:
  """A reply in words and in sound.

  Args:
    mind: Answers.
    mouth: Says it.
    turns: The chat.
    manner: Of both.

  Yields:
    `Text` and `Called` as the mind has them, `Sound` as the mouth has it;
    `Ended` is the last.
  """
  out: asyncio.Queue = asyncio.Queue(_AHEAD)
  running = asyncio.ensure_future(_run(out, mind, mouth, turns, manner))
  try:
    while not isinstance(item := await out.get(), services.Ended):
      if isinstance(item, Exception):
        raise item
      yield item
    yield item
  finally:
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def _run(out, mind, mouth, turns, manner) -> None:
  said: asyncio.Queue = asyncio.Queue(_AHEAD)
  try:
    async with asyncio.TaskGroup() as group:
      thought = group.create_task(_think(out, said, mind, turns, manner))
      group.create_task(_speak(out, said, mind, mouth, manner))
  except BaseExceptionGroup as several:
    first = several.exceptions[0]
    if not isinstance(first, Exception):
      raise first from several
    await out.put(first)
    return
  await out.put(thought.result())


async def _think(out, said, mind, turns, manner) -> services.Ended:
  ended = services.Ended()
  async with delivery.closing(mind.reply(turns, manner)) as pieces:
    async for piece in pieces:
      if isinstance(piece, services.Ended):
        ended = piece
      elif isinstance(piece, services.Ids):
        await said.put(piece.ids)
      else:
        await out.put(piece)
        if isinstance(piece, services.Text) and not mind.speaks:
          await said.put(piece.text)
  await said.put(None)
  return ended


async def _speak(out, said, mind, mouth, manner) -> None:
  async def parts():
    while (part := await said.get()) is not None:
      yield part

  how = mouth.sound if mind.speaks else mouth.speak
  async with delivery.closing(how(parts(), manner)) as sounds:
    async for sound in sounds:
      await out.put(sound)
