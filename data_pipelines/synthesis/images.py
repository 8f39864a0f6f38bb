"""Drawn images with their captions."""

import pathlib

import numpy as np

from data_pipelines.synthesis import drawing
from data_pipelines.synthesis import plan
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files


def make_images(root: pathlib.Path, config: plan.Config) -> list:
  """Draws the image corpus; returns its manifest's lines."""
  rng = np.random.default_rng([config.seed, 4])
  scenes = drawing.scenes()
  rng.shuffle(scenes)
  held = len(scenes) // 10
  pools = {
    'dev': scenes[:held],
    'test': scenes[held : 2 * held],
    'train': scenes[2 * held :],
  }
  counts = {
    'dev': config.images // 10,
    'test': config.images // 10,
    'train': config.images,
  }
  lines = []
  with files.background(root) as call:
    for split, pool in pools.items():
      for place in range(counts[split]):
        scene = pool[rng.integers(len(pool))]
        language = 'en' if rng.random() < config.english_share else 'zh'
        name = f'{split}-{place:05d}'
        image = drawing.png(drawing.draw(scene, rng))
        call(files.write_bytes, root / 'img' / f'{name}.png', image)
        lines.append(
          manifest.Utterance(
            id=name,
            kind='image_text',
            split=split,
            language=language,
            text=scene.caption(language),
            image=f'img/{name}.png',
          )
        )
  return lines
