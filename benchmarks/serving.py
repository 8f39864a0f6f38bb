"""How soon a spoken turn is answered: realtime sessions of a running server.

    python -m step_audio_jax serve --port=8000 &
    python benchmarks/serving.py --wav=DATA/wav/test*.wav --sessions=8

Each session speaks recordings in real time, 20 ms at a time, one turn after the
other, and hears the reply to its end. Measured is the time from the end of
speech in a recording (its last 20 ms within 35 dB of its loudest) to the first
sound of the reply, and from the event that says speech has stopped. Silence
goes on behind a recording, as a microphone's does. As people do, a session
hears a reply to its end and thinks for `--thinks` seconds, at random, before it
goes on; sessions begin at random times within as long. Prints one JSON line.
"""

import argparse
import asyncio
import base64
import contextlib
import glob
import json
import pathlib
import random
import statistics
import sys
import time
from typing import Sequence
import urllib.request

import numpy as np

# Run as a script, the folder of the script is all that is looked in.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from benchmarks import side_by_side  # noqa: E402

RATE, STEP = 24000, 0.02


def spoken(path: str) -> np.ndarray:
  """A recording at 24 kHz, up to the end of its speech."""
  import soxr

  from step_audio_jax.audio import io

  wave_S, rate = io.read_audio(path)
  wave_S = soxr.resample(wave_S, rate, RATE)
  size = int(STEP * RATE)
  frames = wave_S[: len(wave_S) // size * size].reshape(-1, size)
  level = 10 * np.log10((frames.astype(np.float64) ** 2).mean(axis=1) + 1e-12)
  last = int(np.flatnonzero(level > level.max() - 35)[-1])
  return wave_S[: (last + 1) * size]


class Session:
  """One conversation.

  Attributes:
    patience: Seconds behind a turn in which it has to be answered.
    figures: Of each turn that was, seconds.
    faults: What went wrong.
  """

  patience = 8.0

  def __init__(
    self,
    url: str,
    detection: dict,
    number: int,
    thinks: Sequence[float] = (0.0, 0.0),
  ):
    self._url, self._detection, self._thinks = url, detection, thinks
    self._random = random.Random(number)
    self.figures: list[dict[str, float]] = []
    self.faults: list[str] = []

  async def run(self, waves: list[np.ndarray]) -> None:
    """Speaks all of them."""
    await asyncio.sleep(self._random.uniform(0.0, 1.0 + self._thinks[1]))
    async with self.connected():
      for wave_S in waves:
        await self._turn(wave_S)

  @contextlib.asynccontextmanager
  async def connected(self):
    """While it can be talked to."""
    import websockets

    async with websockets.connect(self._url, max_size=None) as self._socket:
      await self._send(
        'session.update',
        session={
          'type': 'realtime',
          'audio': {'input': {'turn_detection': self._detection}},
        },
      )
      self._told: dict[str, float] = {}
      listening = asyncio.create_task(self._listen())
      try:
        yield
      finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

  def see(self, event: dict) -> None:
    """Whatever the server says."""

  async def _turn(self, wave_S: np.ndarray) -> None:
    self._told.clear()
    self._done = asyncio.Event()
    size = int(STEP * RATE)
    silence_S = np.zeros(size, np.float32)
    due, ended = time.monotonic(), None
    steps = len(wave_S) // size
    self._until = 0.0
    thinks = self._random.uniform(*self._thinks)
    for n in range(steps + int(self.patience / STEP)):
      part_S = wave_S[n * size : (n + 1) * size] if n < steps else silence_S
      pcm = (np.clip(part_S, -1, 1) * 32767).astype('<i2').tobytes()
      await self._send(
        'input_audio_buffer.append', audio=base64.b64encode(pcm).decode()
      )
      if n == steps - 1:
        ended = time.monotonic()
      heard = time.monotonic() > self._until + thinks
      if self._done.is_set() and ended is not None and heard:
        break
      due += STEP
      await asyncio.sleep(max(0.0, due - time.monotonic()))
    first = self._told.get('response.output_audio.delta')
    stopped = self._told.get('input_audio_buffer.speech_stopped')
    if first is None or stopped is None:
      self.unheard(sorted(self._told))
      return
    self.figures.append(
      {
        'first_audio': first - ended,
        'turn_end': stopped - ended,
        'behind_turn_end': first - stopped,
      }
    )

  def unheard(self, told: list[str]) -> None:
    """A turn had no reply that sounds, only events of these kinds."""
    self.faults.append(f'no reply: {told}')

  async def _listen(self) -> None:
    async for message in self._socket:
      event = json.loads(message)
      self.see(event)
      self._told.setdefault(event['type'], time.monotonic())
      if event['type'] == 'response.output_audio.delta':
        # Each is played when what was sent before has been.
        seconds = len(base64.b64decode(event['delta'])) / 2 / RATE
        self._until = max(self._until, time.monotonic()) + seconds
      elif event['type'] == 'response.done':
        self._done.set()
      elif event['type'] == 'error':
        self.faults.append(event['error']['message'])

  async def _send(self, kind: str, **fields) -> None:
    await self._socket.send(json.dumps({'type': kind, **fields}))


def quantiles(values: list[float]) -> dict[str, float]:
  """In milliseconds."""
  values = sorted(values)
  return {
    'p50': round(1000 * statistics.median(values)),
    'p95': round(1000 * values[int(0.95 * (len(values) - 1))]),
    'max': round(1000 * values[-1]),
  }


async def measured(url, detection, waves, count, turns, thinks):
  """Figures of so many sessions at once."""
  sessions = [Session(url, detection, n, thinks) for n in range(count)]
  await asyncio.gather(
    *(
      one.run([waves[(n * turns + k) % len(waves)] for k in range(turns)])
      for n, one in enumerate(sessions)
    )
  )
  figures = [one for session in sessions for one in session.figures]
  found = {
    name: quantiles([one[name] for one in figures])
    for name in ('first_audio', 'turn_end', 'behind_turn_end')
    if figures
  }
  faults = [fault for session in sessions for fault in session.faults]
  return {'turns': len(figures), **found, 'faults': faults[:5]}


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--wav', nargs='+', required=True)
  parser.add_argument('--host', default='127.0.0.1:8000')
  parser.add_argument('--sessions', type=int, nargs='+', default=[1, 8])
  parser.add_argument('--turns', type=int, default=8, help='of each session')
  parser.add_argument(
    '--thinks',
    type=float,
    nargs=2,
    default=[0.5, 1.5],
    help='seconds between a reply and the next turn, least and most',
  )
  parser.add_argument(
    '--detection',
    default='semantic_vad',
    choices=['semantic_vad', 'server_vad'],
  )
  arguments = parser.parse_args()
  paths = sorted(path for one in arguments.wav for path in glob.glob(one))
  waves = [spoken(path) for path in paths[:64]]
  url = f'ws://{arguments.host}/v1/realtime'
  found = {}
  for count in arguments.sessions:
    found[str(count)] = asyncio.run(
      measured(
        url,
        {'type': arguments.detection},
        waves,
        count,
        arguments.turns,
        arguments.thinks,
      )
    )
  with urllib.request.urlopen(f'http://{arguments.host}/metrics') as reply:
    lines = reply.read().decode().splitlines()
  print(
    json.dumps(
      {
        'benchmark': 'first_audio',
        'detection': arguments.detection,
        'sessions': found,
        'must': {'p50': 500, 'p95': 900},
        'engine': [one for one in lines if one.startswith('engine_slots')],
        'machine': side_by_side.machine(2),
      }
    )
  )


if __name__ == '__main__':
  main()
