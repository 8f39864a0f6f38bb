"""Sound like a voice's."""

import numpy as np

RATE = 16000


def voice(seed: int, seconds: float, pitch: float) -> np.ndarray:
  """Harmonics whose colour and loudness change, with some breath."""
  rng = np.random.default_rng(seed)
  t_S = np.arange(round(seconds * RATE)) / RATE
  knots = rng.uniform(-0.15, 0.15, 2 + round(seconds / 0.06))
  pitch_S = pitch * (1 + np.interp(t_S / 0.06, np.arange(len(knots)), knots))
  phase_S = 2 * np.pi * np.cumsum(pitch_S) / RATE
  sound_S = 0.02 * rng.standard_normal(len(t_S))
  for n in range(1, 20):
    colour_S = 1 + np.sin(2 * np.pi * rng.uniform(1, 4) * t_S + n)
    sound_S += colour_S * np.sin(n * phase_S) / n
  return 0.1 * sound_S
