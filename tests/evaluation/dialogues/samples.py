"""Recorded dialogues of known timing: bursts like speech, words, layouts."""

import io
import json
import pathlib

import numpy as np
import soundfile

RATE = 16000
# Of the detector of activity: a hop, and rounding.
NEAR = 0.0105  # s


def sound(bursts, seconds, rate=RATE, seed=0):
  """Noise that swells four times a second in each (start, end), 0 elsewhere."""
  time_S = np.arange(round(seconds * rate)) / rate
  noise_S = np.random.default_rng(seed).uniform(-0.5, 0.5, len(time_S))
  wave_S = np.zeros(len(time_S), np.float32)
  for start, end in bursts:
    inside_S = (time_S >= start) & (time_S < end)
    swell_S = 1 + 0.5 * np.sin(8 * np.pi * time_S)
    wave_S[inside_S] = (noise_S * swell_S)[inside_S]
  return wave_S


def encoded(bursts, seconds, rate=RATE):
  """A whole WAV file."""
  wav = io.BytesIO()
  soundfile.write(wav, sound(bursts, seconds, rate), rate, format='WAV')
  return wav.getvalue()


def record(path: pathlib.Path, bursts, seconds, rate=RATE):
  """Writes a recording."""
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(encoded(bursts, seconds, rate))


def note(path: pathlib.Path, value):
  """Writes JSON."""
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(value))


def words(*times, text='word'):
  """A file of time-aligned words."""
  chunks = [{'text': text, 'timestamp': list(pair)} for pair in times]
  return {'text': ' '.join([text] * len(times)), 'chunks': chunks}


def said(*bursts, each=0.25):
  """Words that fill bursts, one each `each` seconds."""
  times = []
  for start, end in bursts:
    count = round((end - start) / each)
    edges = np.linspace(start, end, count + 1)
    times += zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
  return words(*times)


def figures(result):
  """Figure → value, of a result that can be written down."""
  json.dumps(result, allow_nan=False)
  return {name: one['value'] for name, one in result['figures'].items()}
