"""A waveform like speech, without a voice."""

import numpy as np

RATE = 16000


def speech(seconds=1.0, rate=RATE, seed=0):
  """Harmonics under syllables; float32, peak about 0.5."""
  time = np.arange(int(seconds * rate)) / rate
  hertz = 120 + 10 * np.sin(2 * np.pi * 0.7 * time + seed)
  phase = 2 * np.pi * np.cumsum(hertz) / rate
  tone = sum(np.sin(k * phase) / k for k in range(1, 16))
  syllables = np.maximum(0, np.sin(2 * np.pi * 4 * time + 0.3)) ** 0.5
  return (0.25 * tone * syllables).astype(np.float32)


def lag(one, two, most=400):
  """By how many samples `two` comes later than `one`."""
  size = 1 << (2 * len(one)).bit_length()
  product = np.fft.rfft(two, size) * np.conj(np.fft.rfft(one, size))
  correlation = np.fft.irfft(product, size)
  near = np.concatenate([correlation[-most:], correlation[: most + 1]])
  return int(np.argmax(near)) - most
