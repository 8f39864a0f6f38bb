"""The `chat` door: talk to a model in a terminal, in writing and by recording.

A line is what you say; `@FILE` is a recording of it. Replies are written, and
spoken into `--out` where that is given: one recording of all of them.
"""

import asyncio
import sys
import time
from typing import Any, Iterator

from absl import flags
import numpy as np

from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.dialogue.doors import folders
from step_audio_jax.storage import files

_MOST_CALLS = 4  # rounds of calls in one reply


def _define(fv: flags.FlagValues) -> None:
  flags.DEFINE_multi_string(
    'arguments',
    [],
    'What you say, turn by turn, @FILE for a recording; without any, lines of '
    'standard input are turns.',
    flag_values=fv,
  )
  folders.define(fv, speaks=True)
  flags.DEFINE_string(
    'system', '', 'What the model is told at first.', flag_values=fv
  )
  flags.DEFINE_string(
    'out', None, 'A wav of what the model says aloud.', flag_values=fv
  )
  flags.DEFINE_bool(
    'tools', False, 'Let it use a clock and a calculator.', flag_values=fv
  )
  flags.DEFINE_integer(
    'max_tokens', 128, 'Ids of a reply.', lower_bound=1, flag_values=fv
  )
  flags.DEFINE_float('temperature', 0.0, '0 is greedy.', flag_values=fv)
  flags.DEFINE_integer('seed', 0, 'Of everything random.', flag_values=fv)
  flags.DEFINE_string('style', None, 'As of `speak`.', flag_values=fv)


def _main(fv: flags.FlagValues) -> dict[str, Any]:
  if fv.out is not None:
    if files.path(fv.out).suffix.lower() != '.wav' or files.is_dir(fv.out):
      raise errors.UserError(f'--out: found {fv.out!r}, expected a file .wav.')
    files.check_writable(fv.out, '--out')
  for said in fv.arguments:
    _check(said)
  hears = not fv.arguments or any(one.startswith('@') for one in fv.arguments)
  given = folders.of(fv, 'chat', hears=hears, speaks=fv.out is not None)
  if fv.dry_run:
    print(f'would say {len(fv.arguments) or "lines of standard input"}')
    return {**given, 'turns': list(fv.arguments), 'dry_run': True}
  models = folders.load(given)
  try:
    return {**given, **asyncio.run(_Talk(models, fv).talk())}
  finally:
    models.close()


def _check(said: str) -> None:
  """Refuses a turn that says nothing."""
  if not said.strip():
    raise errors.UserError(
      'chat: found an empty turn, expected words or @FILE.'
    )
  if said.startswith('@') and not files.is_file(said[1:]):
    raise errors.UserError(
      f'{said[1:]}: no such file, expected a recording behind @.'
    )


class _Talk:
  """One conversation in a terminal."""

  def __init__(self, models, fv):
    from step_audio_jax.dialogue import services
    from step_audio_jax.dialogue.context import context as context_lib
    from step_audio_jax.dialogue.tools import calculator
    from step_audio_jax.dialogue.tools import clock
    from step_audio_jax.dialogue.tools import registry
    from step_audio_jax.dialogue.tools import runner

    tools = [clock.tool(), calculator.tool()] if fv.tools else []
    self._registry = registry.Registry(tools)
    self._models, self._fv = models, fv
    self._context = context_lib.Context(
      models.mind, instructions=fv.system, tools=self._registry.schemas
    )
    self._runner = runner.Runner(self._registry)
    self._manner = services.Manner(
      temperature=fv.temperature,
      most=fv.max_tokens,
      seed=fv.seed,
      style=fv.style,
    )
    self._sound: list[np.ndarray] = []

  async def talk(self) -> dict[str, Any]:
    """All turns, and what was said."""
    said = []
    for one in self._fv.arguments or self._lines():
      began = time.monotonic()
      heard = await self._take(one)
      reply, calls = await self._reply()
      said.append(
        {
          'user': one,
          **({'heard': heard} if heard is not None else {}),
          'assistant': reply,
          **({'calls': calls} if calls else {}),
          'wall_seconds': round(time.monotonic() - began, 3),
        }
      )
    found: dict[str, Any] = {'turns': said}
    if self._fv.out is not None:
      from step_audio_jax.audio import io

      rate = self._models.mouth.sample_rate
      wave_S = np.concatenate([np.zeros(0, np.float32), *self._sound])
      if not len(wave_S):
        raise errors.UserError(
          '--out: found nothing that was said, expected replies.'
        )
      io.write_audio(self._fv.out, wave_S, rate)
      found |= {'out': self._fv.out, 'seconds': round(len(wave_S) / rate, 3)}
    return found

  def _lines(self) -> Iterator[str]:
    shows = sys.stdin.isatty() and not self._fv.json
    while True:
      if shows:
        print('> ', end='', flush=True)
      line = sys.stdin.readline()
      if not line:
        return
      try:
        _check(line.strip())
      except errors.UserError as error:
        if not shows:
          raise
        print(error, file=sys.stderr)
        continue
      yield line.strip()

  async def _take(self, said: str) -> str | None:
    """What the user says joins the chat; the transcript of a recording."""
    from step_audio_jax.audio import io
    from step_audio_jax.chats import conversation as chats
    from step_audio_jax.dialogue.context import items

    if not said.startswith('@'):
      part = items.Part(items.INPUT_TEXT, text=said)
      self._context.create(items.message(chats.USER, part))
      return None
    wave_S, _ = io.read_audio(said[1:], audible=True)
    hearing = self._models.ear.listen()
    hearing.push(wave_S)
    part = items.Part(items.INPUT_AUDIO, speech=await hearing.finish())
    item = self._context.create(items.message(chats.USER, part))
    words = await hearing.transcript()
    self._context.transcribe(item.id, 0, words)
    if not self._fv.json:
      print(f'({words})', flush=True)
    return words

  async def _reply(self) -> tuple[str, list[dict[str, Any]]]:
    """What the assistant says, through rounds of calls."""
    from step_audio_jax.dialogue.context import items

    whole, told = '', []
    for _ in range(_MOST_CALLS):
      text, calls = await self._round()
      whole += text
      if text:
        item = self._context.reply()
        self._context.write(item.id, text)
        self._context.finish(item.id)
      if not calls:
        break
      running = []
      for call in calls:
        running.append(self._runner.start(call))
        self._context.create(items.Item(items.CALL, call=running[-1].call))
      for one in running:
        turn = await one.result()
        result = turn.parts[0]
        self._context.create(
          items.Item(items.OUTPUT, call_id=one.call.id, output=result)
        )
        told.append({'name': one.call.name, 'result': result})
        if not self._fv.json:
          print(f'[{one.call.written} → {result}]', flush=True)
    return whole, told

  async def _round(self):
    from step_audio_jax.dialogue import services

    turns = self._context.turns(self._manner.most)
    calls, words = [], []

    async def texts():
      async for piece in self._models.mind.reply(turns, self._manner):
        if isinstance(piece, services.Text):
          words.append(piece.text)
          if not self._fv.json:
            print(piece.text, end='', flush=True)
          yield piece.text
        elif isinstance(piece, services.Called):
          calls.append(piece.call)

    if self._models.mouth is None or self._fv.out is None:
      async for _ in texts():
        pass
    else:
      async for sound in self._models.mouth.speak(texts(), self._manner):
        self._sound.append(sound.samples_S)
    if words and not self._fv.json:
      print(flush=True)
    return ''.join(words), calls


DOOR = cli.Door(
  summary="""Talk to a model in a terminal.

    python -m step_audio_jax chat "What is the capital of Peru?"
    python -m step_audio_jax chat @question.wav --out=answer.wav
    python -m step_audio_jax chat        lines of standard input are turns""",
  main=_main,
  define=_define,
  texts=('arguments', 'style', 'system'),
  uses_gin=False,
)
