"""Image features against `transformers` itself."""

import json

import jax
import numpy as np
import pytest

from step_audio_jax.interop.language import vision as vision_interop
from step_audio_jax.models.language import vision
from step_audio_jax.storage import shards
from tests.parity import peers


@pytest.mark.parametrize('name', peers.VISION)
def test_features(name, tmp_path, compare):
  theirs = peers.tower(name)
  theirs.save_pretrained(tmp_path / 'm')
  config = json.loads((tmp_path / 'm/config.json').read_text())
  assert vision_interop.is_vision(config)
  ours = vision_interop.read_config(config)
  variables = vision_interop.variables(
    ours, shards.read_folder(tmp_path / 'm'), name
  )['params']['vision']
  side = ours.image_size
  pixels = np.random.default_rng(5).integers(0, 256, (2, side, side, 3))
  seen = peers.normalised(pixels, ours.pixel_mean, ours.pixel_std)
  want = peers.features(theirs, seen)[:, 1 if ours.class_token else 0 :]
  got = jax.jit(vision.VisionEncoder(ours).apply)(
    {'params': variables}, pixels.astype(np.uint8)
  )
  compare(f'features {name}', got, want, 1e-4)
