"""Sounds of which everything is known."""

import numpy as np

RATE = 16000


def buzz(seconds, hertz=120.0, amplitude=0.3, rate=RATE):
  """Twelve harmonics; `hertz` may be an array of samples."""
  count = round(seconds * rate)
  hertz_S = np.broadcast_to(np.asarray(hertz, np.float64), (count,))
  phase_S = 2 * np.pi * np.cumsum(hertz_S) / rate
  top = hertz_S.max(initial=1.0)
  tone = sum(
    np.sin(k * phase_S + k * k) / k for k in range(1, 13) if k * top < rate / 2
  )
  return (amplitude * tone / 2).astype(np.float32)


def quiet(seconds, rate=RATE):
  return np.zeros(round(seconds * rate), np.float32)


def syllables(count, each=0.25, hertz=120.0, rate=RATE):
  """`count` swells, one after the other."""
  time = np.arange(round(count * each * rate)) / rate
  swell = np.sin(np.pi * time / each) ** 2
  return (buzz(count * each, hertz, rate=rate) * swell).astype(np.float32)


def pulses(periods, amplitudes, rate=RATE):
  """Ringing pulses at the given distances, seconds, of given amplitudes."""
  starts = np.cumsum(periods)
  time = np.arange(round((starts[-1] + 0.02) * rate)) / rate
  wave = np.zeros(len(time))
  for start, amplitude in zip(starts, amplitudes, strict=True):
    behind = time - start
    ring = np.exp(-(((behind - 0.001) / 0.0006) ** 2))
    wave += amplitude * ring * np.cos(2 * np.pi * 700 * behind)
  return (0.5 * wave).astype(np.float32)
