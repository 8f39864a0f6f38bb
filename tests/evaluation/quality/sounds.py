"""Made sounds that are measured in tests."""

import numpy as np

RATE = 16000


def voice(seconds=1.2, hz=150.0, rate=RATE):
  """Harmonics that come and go, as of somebody who speaks."""
  t = np.arange(round(seconds * rate)) / rate
  wave = sum(np.sin(2 * np.pi * hz * n * t) / n for n in range(1, 12))
  return (0.1 * wave * np.sin(2 * np.pi * 2 * t) ** 2).astype(np.float32)


def noise(seconds=1.2, size=0.05, seed=0, rate=RATE):
  generator = np.random.default_rng(seed)
  found = size * generator.standard_normal(round(seconds * rate))
  return found.astype(np.float32)
