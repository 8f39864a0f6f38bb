"""A tokenizer that needs no training: codes are a function of the samples."""

import json
import pathlib

import numpy as np

from step_audio_jax.audio import io
from step_audio_jax.storage import files


class StandIn:
  """16.67 Hz and 25 Hz codes from the loudness of each frame."""

  calls = 0

  def __init__(self, folder):
    self.settings = files.read_json(files.path(folder) / 'dual.json')

  def encode_batch(self, waves):
    StandIn.calls += 1
    return [self.encode(wave) for wave in waves]

  def encode(self, wave):
    return (
      self._codes(wave, 960, self.settings['linguistic']),
      self._codes(wave, 640, self.settings['semantic']),
    )

  def encode_file(self, path, **part):
    StandIn.calls += 1
    return self.encode(io.read_audio(path, audible=True, **part)[0])

  def _codes(self, wave, hop, size):
    frames = wave[: len(wave) // hop * hop].reshape(-1, hop)
    return (np.abs(frames).mean(1) * 1e6).astype(np.int64) % size


def save(folder, linguistic=64, semantic=512):
  """Writes the stand-in's folder; returns it as a string."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'dual.json').write_text(
    json.dumps({'linguistic': linguistic, 'semantic': semantic})
  )
  return str(folder)
