"""Contrastive pretraining: captions are found, and the loss learns."""

import jax
import numpy as np

from step_audio_jax.models.language import vision
from step_audio_jax.parallel import mesh as mesh_lib
from step_audio_jax.training import loop
from step_audio_jax.training import optimizers
from step_audio_jax.training.objectives import contrastive

CONFIG = vision.VisionConfig(
  image_size=8, patch_size=4, width=16, layers=1, heads=2, mlp_width=16
)
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]])


class ColourRows:
  """Rows of two images: `<im_start>` slots, then the colour's word."""

  batch_size = 4

  def batch(self, step, start=0, stop=None):
    stop = self.batch_size if stop is None else stop
    rng = np.random.default_rng(step)
    colours = rng.integers(0, 4, (self.batch_size, 2))[start:stop]
    rows = len(colours)
    tokens = np.zeros((rows, 14), np.int32)
    segments = np.zeros((rows, 14), np.int32)
    for n, place in ((0, 0), (1, 7)):
      tokens[:, place + 1 : place + 5] = 13
      tokens[:, place + 5] = 70 + colours[:, n]
      segments[:, place : place + 7] = n + 1
    images = np.broadcast_to(
      COLOURS[colours][:, :, None, None], (rows, 2, 8, 8, 3)
    )
    return {
      'tokens': tokens,
      'segment_ids': segments,
      'images': images.astype(np.uint8),
      'image_slots': np.tile(np.int32([1, 8]), (rows, 1)),
    }


def test_each_image_gets_the_words_of_its_own_segment():
  batch = ColourRows().batch(0)
  batch['image_slots'][0, 1] = -1
  _, tokens, mask = jax.jit(contrastive.captions)(batch)
  tokens, mask = np.asarray(tokens), np.asarray(mask)
  np.testing.assert_array_equal(mask[0].nonzero()[0], [5])
  assert mask[1].sum() == 0  # no image there
  np.testing.assert_array_equal(mask[3].nonzero()[0], [12])
  assert tokens[3, 12] == batch['tokens'][1, 12]


def test_colours_are_learnt(tmp_path):
  mesh = mesh_lib.MeshConfig()
  trainer = loop.Trainer(
    objective=contrastive.ImageCaption(
      vision.VisionText(CONFIG, vocab_size=80, width=16)
    ),
    feed=ColourRows(),
    optimizer=optimizers.OptimizerConfig(1e-2, weight_decay=0.0),
    config=loop.LoopConfig(steps=60, log_every=20),
    mesh=mesh.build(jax.devices()[:1]),
    rules=mesh.rules,
  )
  result = loop.run(trainer, tmp_path)
  assert result['caption_accuracy'] == 1.0
