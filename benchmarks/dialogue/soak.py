r"""Many conversations for minutes, whose clients vanish at random.

    python -m step_audio_jax serve --port=8000 &
    python benchmarks/dialogue/soak.py --wav=DATA/wav/test*.wav --pid=$!

Each of `--sessions` conversations speaks recordings in real time and hears the
replies to their ends, as in `benchmarks/serving.py`. One turn in `--vanishing`
is left in the middle, of speech or of a reply, by a connection that is aborted;
the client comes back as another conversation. Looked for is what must not
happen: slots or requests that nobody holds any more, memory of the server that
grows, turns that nobody answers, replies whose parts are not the whole, and
compilations. Replies in which the model says nothing are counted. Prints one
JSON line; its status is 1 where something was found.
"""

import argparse
import asyncio
import base64
import collections
import glob
import json
import pathlib
import random
import statistics
import sys
import time
import urllib.request

# Run as a script, the folder of the script is all that is looked in.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks import serving  # noqa: E402
from benchmarks import side_by_side  # noqa: E402

_EVERY = 2.0  # seconds between two looks at memory
_LEFT = 30.0  # seconds in which a server has to be empty again
_EMPTY = 'engine_slots_taken', 'engine_waiting', 'requests_under_way'


class Talker(serving.Session):
  """One client after the other, in one place."""

  patience = 60.0

  def __init__(self, url, detection, number, thinks, vanishing):
    super().__init__(url, detection, number, thinks)
    self._vanishing = vanishing
    self.counts = collections.Counter()

  async def talk(self, waves, end: float) -> None:
    """Converses until a time."""
    await asyncio.sleep(self._random.uniform(0, 2))
    while time.monotonic() < end:
      self._replies: dict[str, dict] = {}
      async with self.connected():
        while time.monotonic() < end:
          if await self._one(self._random.choice(waves)):
            break
      self._judge()

  async def _one(self, wave_S) -> bool:
    """Whether the client has vanished in a turn."""
    turn = asyncio.create_task(self._turn(wave_S))
    if self._random.random() >= 1 / self._vanishing:
      await turn
      self.counts['turns'] += 1
      return False
    seconds = len(wave_S) / serving.RATE
    await asyncio.wait([turn], timeout=self._random.uniform(0.1, seconds + 2.5))
    self._socket.transport.abort()
    turn.cancel()
    await asyncio.gather(turn, return_exceptions=True)
    self.counts['vanished'] += 1
    return True

  def see(self, event) -> None:
    """Parts of replies, and what they are together."""
    kind, name = event['type'], event.get('response_id')
    if kind == 'response.created':
      new = {'words': {}, 'told': {}, 'bytes': 0, 'done': None}
      self._replies[event['response']['id']] = new
    elif kind == 'response.done':
      self._replies[event['response']['id']]['done'] = event['response']
    elif kind == 'response.output_audio.delta':
      sound = base64.b64decode(event['delta'])
      self._replies[name]['bytes'] += len(sound)
    elif kind == 'response.output_audio_transcript.delta':
      words = self._replies[name]['words']
      item = event['item_id']
      words[item] = words.get(item, '') + event['delta']
    elif kind == 'response.output_audio_transcript.done':
      self._replies[name]['told'][event['item_id']] = event['transcript']

  def unheard(self, told) -> None:
    """A model may end its turn at once; nobody may wait for ever."""
    if 'response.done' in told:
      self.counts['without_words'] += 1
    else:
      super().unheard(told)

  def _judge(self) -> None:
    """Whether replies that are done came whole."""
    for reply in self._replies.values():
      if reply['done'] is None:
        continue  # its client has vanished
      status = reply['done']['status']
      self.counts[status] += 1
      if status != 'completed':
        continue
      words = {k: v.strip() for k, v in reply['words'].items()}
      told = {k: v.strip() for k, v in reply['told'].items()}
      whole = words == told and (reply['bytes'] > 0 or not any(told.values()))
      self.counts['whole' if whole else 'in_parts'] += 1


def metrics(host: str) -> dict[str, float]:
  """Figures of a server by their names, without labels."""
  with urllib.request.urlopen(f'http://{host}/metrics') as reply:
    lines = reply.read().decode().splitlines()
  rows = (line.rsplit(' ', 1) for line in lines if line[:1] not in ('#', ''))
  return {
    name.removeprefix('step_audio_'): float(value)
    for name, value in rows
    if '{' not in name
  }


def resident(pid: int) -> float:
  """MiB that a process holds in memory."""
  status = pathlib.Path(f'/proc/{pid}/status').read_text()
  line = next(x for x in status.splitlines() if x.startswith('VmRSS'))
  return int(line.split()[1]) / 1024


async def _watched(pid, found: list[tuple[float, float]]) -> None:
  began = time.monotonic()
  while True:
    found.append((time.monotonic() - began, resident(pid)))
    await asyncio.sleep(_EVERY)


async def _soaked(flags, waves):
  url = f'ws://{flags.host}/v1/realtime'
  talkers = [
    Talker(url, {'type': 'semantic_vad'}, n, flags.thinks, flags.vanishing)
    for n in range(flags.sessions)
  ]
  memory: list[tuple[float, float]] = []
  watching = asyncio.create_task(_watched(flags.pid, memory))
  end = time.monotonic() + 60 * flags.minutes
  work = [asyncio.create_task(one.talk(waves, end)) for one in talkers]
  while not all(task.done() for task in work):
    await asyncio.wait(work, timeout=30)
    turns = sum(one.counts['turns'] for one in talkers)
    print(f'{turns} turns, {memory[-1][1]:.0f} MiB', file=sys.stderr)
  watching.cancel()
  await asyncio.gather(*work)
  return talkers, memory


def _emptied(host: str) -> dict[str, float]:
  """What is still held, when it has had time to go."""
  end = time.monotonic() + _LEFT
  while True:
    found = metrics(host)
    held = {name: found[name] for name in _EMPTY}
    held['requests_under_way'] -= 1  # that asks
    if not any(held.values()) or time.monotonic() > end:
      return held
    time.sleep(0.5)


def flatness(memory, minutes: float) -> dict[str, float]:
  """MiB behind the first part of the time, and at its end."""
  settled = min(60.0, 20 * minutes)
  later = [mib for second, mib in memory if second >= settled]
  part = max(1, len(later) // 10)
  first, last = (statistics.median(x) for x in (later[:part], later[-part:]))
  return {
    'first_mib': round(first, 1),
    'last_mib': round(last, 1),
    'most_mib': round(max(later), 1),
    'change_percent': round(100 * (last / first - 1), 2),
  }


def main() -> int:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--wav', nargs='+', required=True)
  parser.add_argument('--host', default='127.0.0.1:8000')
  parser.add_argument('--pid', type=int, required=True, help='of the server')
  parser.add_argument('--sessions', type=int, default=16)
  parser.add_argument('--minutes', type=float, default=10.0)
  parser.add_argument('--vanishing', type=float, default=5.0)
  parser.add_argument('--thinks', type=float, nargs=2, default=[0.5, 3.0])
  flags = parser.parse_args()
  paths = sorted(path for one in flags.wav for path in glob.glob(one))
  waves = [serving.spoken(path) for path in random.Random(0).sample(paths, 24)]
  before = metrics(flags.host)
  talkers, memory = asyncio.run(_soaked(flags, waves))
  held = _emptied(flags.host)
  after = metrics(flags.host)
  counts = sum((one.counts for one in talkers), collections.Counter())
  faults = [fault for one in talkers for fault in one.faults]
  flat = flatness(memory, flags.minutes)
  compiled = after['engine_compilations'] - before['engine_compilations']
  figures = [one for talker in talkers for one in talker.figures]
  is_well = (
    not any(held.values())
    and not faults
    and not counts['in_parts']
    and not compiled
    and abs(flat['change_percent']) <= 5
  )
  print(
    json.dumps(
      {
        'benchmark': 'soak',
        'sessions': flags.sessions,
        'minutes': flags.minutes,
        **counts,
        'held_at_the_end': held,
        'stuck': len(faults),
        'faults': faults[:5],
        'compilations': compiled,
        'memory': flat,
        'curve_mib': [round(mib) for _, mib in memory[::15]],
        'first_audio': serving.quantiles([x['first_audio'] for x in figures]),
        'is_well': is_well,
        'machine': side_by_side.machine(2),
      }
    )
  )
  return 0 if is_well else 1


if __name__ == '__main__':
  sys.exit(main())
