"""A small speaker encoder with random numbers, and voices made of tones."""

import numpy as np

from step_audio_jax.audio import io
from step_audio_jax.corpus import manifest
from step_audio_jax.decoder.speaker import encoder
from step_audio_jax.models.speaker import campplus

CONFIG = campplus.CampplusConfig(
  bands=16,
  embedding=6,
  growth=4,
  bottleneck=2,
  initial=8,
  head_width=4,
  head_blocks=(1, 1),
  layers=(1, 1),
  kernels=(3, 3),
  dilations=(1, 2),
)
# Hz of the tones of each voice.
VOICES = {'ann': (220.0, 660.0, 3500.0), 'bob': (150.0, 1200.0, 2000.0)}


def tree(seed=0):
  """Random variables that keep activations near one."""
  rng = np.random.default_rng(seed)

  def draw(name, shape):
    if name in ('scale', 'var'):
      return np.float32(1 + 0.1 * rng.random(shape))
    inner = int(np.prod(shape[:-1])) if len(shape) > 1 else 20
    return np.float32(rng.normal(size=shape) / np.sqrt(inner))

  def walk(shapes):
    return {
      name: walk(leaf) if isinstance(leaf, dict) else draw(name, leaf.shape)
      for name, leaf in shapes.items()
    }

  return walk(encoder.shapes(CONFIG))


def sound(voice, seconds, seed=0):
  """A voice that says something at 16 kHz, float32 (S,)."""
  rng = np.random.default_rng(seed)
  time = np.arange(round(seconds * 16000)) / 16000
  wave = 0.01 * rng.normal(size=len(time))
  for hz in VOICES[voice]:
    swell = 1 + np.sin(2 * np.pi * rng.uniform(1, 4) * time)
    wave += 0.1 * swell * np.sin(2 * np.pi * hz * time + rng.uniform(0, 6))
  return wave.astype(np.float32)


def write_corpus(folder, lines):
  """`lines`: (id, voice or None, seconds, split); writes waves, manifest."""
  utterances = []
  for number, (name, voice, seconds, split) in enumerate(lines):
    wave = sound(voice or 'ann', seconds, number)
    io.write_audio(folder / 'wav' / f'{name}.wav', wave)
    utterances.append(
      manifest.Utterance(
        id=name,
        split=split,
        audio=f'wav/{name}.wav',
        duration=len(wave) / 16000,
        sample_rate=16000,
        speaker=voice,
      )
    )
  manifest.write(folder, utterances)
  return folder
