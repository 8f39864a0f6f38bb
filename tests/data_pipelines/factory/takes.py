"""Recordings with known figures."""

import numpy as np

from data_pipelines.factory.gates import base

RATE = 16000


def tone(seconds, level=0.3, hertz=317.0, rate=RATE):
  time = np.arange(int(seconds * rate)) / rate
  return (level * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def silence(seconds, rate=RATE):
  return np.zeros(int(seconds * rate), np.float32)


def take(*parts, rate=RATE, **fields):
  """A take of tones and silences, one behind the other."""
  samples = np.concatenate(parts) if parts else tone(1.0)
  return base.Take(fields.pop('id', 'x'), samples, rate, **fields)
