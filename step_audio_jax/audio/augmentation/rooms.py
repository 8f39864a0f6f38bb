"""Reverberation: a tail that is drawn, a room of six walls, or recordings.

    y = h * x, cut to the length of x         h(0) = 1 is the direct sound

h begins with the direct sound, so that times of words stay. A drawn tail is
white and falls by 60 dB in `rt60` seconds, sample by sample: random signs times
10^(−3 t / rt60). A room has mirror images of its source (Allen & Berkley,
"Image method for efficiently simulating small-room acoustics", JASA 65, 1979);
how much its walls reflect is found by bisection, so that the response that
comes out has the time that was asked for.

Axes: S samples, N samples of a response, K reflections.
"""

import dataclasses
import functools
import math

import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio.augmentation import base
from step_audio_jax.audio.augmentation import pools

SOUND = 343.0  # m/s
_WALL = 0.3  # m that nobody comes closer to a wall
_TAIL_DB = 80.0  # down to which a drawn tail is kept


@dataclasses.dataclass(frozen=True)
class Tail(base.Operation):
  """A drawn tail.

  Attributes:
    rt60: Seconds in which it falls by 60 dB.
    direct_db: Energy of the direct sound over that of the tail.
    delay: Seconds before it begins.
    seed: Of its signs.
  """

  kind = 'tail'

  rt60: base.Amount = base.amount((0.2, 0.8), 0.02, 10.0, 's')
  direct_db: base.Amount = base.amount((0.0, 15.0), -30.0, 100.0, 'dB')
  delay: base.Amount = base.amount((0.002, 0.02), 0.0, 0.5, 's')
  seed: int | None = None

  def apply(self, wave_S, sample_rate):
    response_N = tail_response(
      self.rt60,
      sample_rate,
      direct_db=self.direct_db,
      delay=self.delay,
      seed=self.seed,
    )
    return reverberated(wave_S, response_N), {}


@dataclasses.dataclass(frozen=True)
class Room(base.Operation):
  """A room of six walls.

  Attributes:
    rt60: Seconds in which sound falls by 60 dB.
    width: Metres; `depth` and `height` likewise.
    depth: Metres.
    height: Metres.
    distance: From the mouth to the microphone, m; less where the room is too
      small.
    seed: Of both places.
  """

  kind = 'room'

  rt60: base.Amount = base.amount((0.15, 0.5), 0.1, 0.8, 's')
  width: base.Amount = base.amount((3.0, 8.0), 2.0, 30.0, 'm')
  depth: base.Amount = base.amount((3.0, 8.0), 2.0, 30.0, 'm')
  height: base.Amount = base.amount((2.4, 4.0), 2.0, 15.0, 'm')
  distance: base.Amount = base.amount((0.3, 2.0), 0.1, 30.0, 'm')
  seed: int | None = None

  def apply(self, wave_S, sample_rate):
    size = self.width, self.depth, self.height
    mouth, microphone = places(size, self.distance, self.seed)
    response_N, walls = room_response(
      size, mouth, microphone, self.rt60, sample_rate
    )
    return reverberated(wave_S, response_N), {
      'distance': math.dist(mouth, microphone),
      'reflection': walls,
      'rt60': reverberation_time(response_N, sample_rate),
    }


@dataclasses.dataclass(frozen=True)
class Impulse(base.Operation):
  """A recorded impulse response; its loudest sample is the direct sound.

  Attributes:
    pool: Where they are.
    recording: Its name in the pool; drawn where there is none.
  """

  kind = 'impulse'

  pool: pools.Pool
  recording: str = ''

  def drawn(self, rng, avoid=None):
    if self.recording:
      return self
    names = [name for name in self.pool.names() if name != avoid]
    if not names:
      raise errors.UserError(
        f'{self.pool.where}: no recording besides {avoid}.'
      )
    chosen = names[int(rng.integers(len(names)))]
    return dataclasses.replace(self, recording=chosen)

  def apply(self, wave_S, sample_rate):
    found_N = self.pool.read(self.recording, sample_rate)
    source = {'name': self.recording, 'sha256': pools.digest(found_N)}
    return reverberated(wave_S, aligned(found_N)), {'sources': [source]}

  def check_settled(self):
    super().check_settled()
    if not self.recording:
      raise errors.UserError(
        f'{self.kind}: recording: found none, expected its name.'
      )


def reverberated(wave_S: np.ndarray, response_N: np.ndarray) -> np.ndarray:
  """Samples in a room, float32 (S,)."""
  if not len(wave_S):
    return wave_S
  response_N = response_N[: len(wave_S)]
  size = 1 << (len(wave_S) + len(response_N)).bit_length()
  spectrum = np.fft.rfft(wave_S.astype(np.float64), size)
  spectrum *= np.fft.rfft(response_N, size)
  return np.fft.irfft(spectrum, size)[: len(wave_S)].astype(np.float32)


def tail_response(
  rt60: float,
  sample_rate: int,
  *,
  direct_db: float,
  delay: float,
  seed: int | None,
) -> np.ndarray:
  """The direct sound and a drawn tail, float64 (N,); arguments as of `Tail`."""
  count = max(1, math.ceil(rt60 * _TAIL_DB / 60 * sample_rate))
  time = np.arange(1, count + 1) / sample_rate
  signs = np.random.default_rng(seed).integers(0, 2, count) * 2 - 1
  tail_N = signs * 10 ** (-3 * time / rt60)
  tail_N *= 10 ** (-direct_db / 20) / math.sqrt(np.sum(tail_N**2))
  pause = np.zeros(round(delay * sample_rate))
  return np.concatenate([[1.0], pause, tail_N])


def places(
  size: tuple[float, float, float], distance: float, seed: int | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Where mouth and microphone are, metres from a corner."""
  rng = np.random.default_rng(seed)
  low, high = np.full(3, _WALL), np.asarray(size) - _WALL
  microphone = rng.uniform(low, high)
  directions = rng.standard_normal((64, 3))
  directions /= np.linalg.norm(directions, axis=1, keepdims=True)
  found = microphone + distance * directions
  inside = np.flatnonzero(np.all((low <= found) & (found <= high), axis=1))
  if len(inside):
    mouth = found[inside[0]]
  else:  # along the longest way that there is
    corner = np.where(microphone - low > high - microphone, low, high)
    way = corner - microphone
    mouth = microphone + way * min(1.0, distance / np.linalg.norm(way))
  return tuple(map(float, mouth)), tuple(map(float, microphone))


@functools.lru_cache(maxsize=8)
def room_response(
  size: tuple[float, float, float],
  mouth: tuple[float, ...],
  microphone: tuple[float, ...],
  rt60: float,
  sample_rate: int,
) -> tuple[np.ndarray, float]:
  """Response of a room, float64 (N,), and the share that its walls reflect.

  Args:
    size: Metres.
    mouth: Metres from a corner.
    microphone: The same.
    rt60: Seconds.
    sample_rate: Hz.
  """
  by_order_KN = _images(size, mouth, microphone, rt60, sample_rate)
  # A wall turns the sign: with all of one sign, low tones would pile up.
  order_K = np.arange(len(by_order_KN))
  signs_K = np.where(order_K % 2, -1.0, 1.0)

  def response(reflection):
    return (signs_K * reflection**order_K) @ by_order_KN

  low, high = 0.0, 1.0
  for _ in range(30):
    middle = (low + high) / 2
    found = reverberation_time(response(middle), sample_rate)
    low, high = (middle, high) if found < rt60 else (low, middle)
  response_N = response(low)
  response_N.setflags(write=False)
  return response_N, low


def _images(size, mouth, microphone, rt60, sample_rate):
  """What arrives of images, by reflections and time, float64 (K, N).

  The direct sound is 1 at time 0.
  """
  direct = math.dist(mouth, microphone)
  count = math.ceil(rt60 * sample_rate)
  reach = direct + count / sample_rate * SOUND
  axes = []
  for length, at, ear in zip(size, mouth, microphone):
    most = math.ceil(reach / (2 * length)) + 1
    periods = 2 * length * np.arange(-most, most + 1)
    number = np.abs(np.arange(-most, most + 1))
    # Straight and mirrored images, and the walls that each has met.
    shift = np.concatenate([periods + at, periods - at]) - ear
    walls = np.concatenate(
      [2 * number, np.abs(2 * np.arange(-most, most + 1) - 1)]
    )
    axes.append((shift, walls))
  (x, x_walls), (y, y_walls), (z, z_walls) = axes
  yz = y[:, None] ** 2 + z[None, :] ** 2
  yz_walls = y_walls[:, None] + z_walls[None, :]
  near = yz < reach**2
  yz, yz_walls = yz[near], yz_walls[near]
  orders = int(math.sqrt(3) * reach / min(size)) + 6
  out_KN = np.zeros((orders, count))
  for square, met in zip(x**2, x_walls):
    distance = np.sqrt(yz + square)
    place = np.rint((distance - direct) / SOUND * sample_rate).astype(np.int64)
    order = yz_walls + met
    heard = (place < count) & (order < orders)
    index = order[heard] * count + place[heard]
    np.add.at(out_KN.reshape(-1), index, direct / distance[heard])
  return out_KN


def aligned(found_N: np.ndarray) -> np.ndarray:
  """A response from its loudest sample on, which becomes 1."""
  start = int(np.argmax(np.abs(found_N)))
  return found_N[start:].astype(np.float64) / float(found_N[start])


def reverberation_time(response_N: np.ndarray, sample_rate: int) -> float:
  """Seconds in which what follows the direct sound falls by 60 dB.

  Schroeder's backward integral, a line through −5 … −35 dB (T30); 0 where it
  falls at once.
  """
  energy = np.asarray(response_N, np.float64)[1:] ** 2
  left = np.cumsum(energy[::-1])[::-1]
  if not len(left) or not left[0]:
    return 0.0
  decibel = 10 * np.log10(np.maximum(left / left[0], 1e-12))
  begin, end = (int(np.argmax(decibel <= at)) for at in (-5.0, -35.0))
  if end - begin < 2:
    return 0.0
  time = np.arange(begin, end) / sample_rate
  slope = np.polyfit(time, decibel[begin:end], 1)[0]
  return float(-60.0 / slope) if slope < 0 else 0.0
