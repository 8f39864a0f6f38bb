"""Rows of text, of speech and of images, and a small model, for tests."""

import json
import shutil

from array_record.python import array_record_module
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import numpy as safetensors_numpy

from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.models.language import speech_text


def tiny(vocabulary, eyes=False):
  """(model, variables, vocabulary), untrained."""
  model = speech_text.SpeechTextModel(
    speech_text.SpeechTextConfig(
      speech_text.TransformerConfig(
        vocab_size=vocabulary.table_size,
        width=8,
        layers=2,
        heads=2,
        kv_heads=1,
        mlp_width=8,
      ),
      speech_text.VisionConfig(8, 4, 8, 1, 2, 8) if eyes else None,
    )
  )
  init = jax.jit(model.init)
  variables = init(jax.random.key(0), jnp.ones((1, 4), jnp.int32))
  return model, nn.meta.unbox(variables), vocabulary


def write(root, source, rows, **stats):
  """Writes `<root>/<source>/dev`, in place of what was there."""
  folder = root / source / 'dev'
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir(parents=True)
  writer = array_record_module.ArrayRecordWriter(
    str(folder / 'rows-00000-of-00001.array_record'), 'group_size:1'
  )
  for row in rows:
    writer.write(safetensors_numpy.save(row))
  writer.close()
  length = len(rows[0]['tokens'])
  stats = {'rows': len(rows), 'length': length, **stats}
  (folder / 'stats.json').write_text(json.dumps(stats))


def row(ids):
  """One document."""
  ids = np.asarray(ids, np.int32)
  return {
    'tokens': ids,
    'segment_ids': np.ones(len(ids), np.int32),
    'loss_weights': np.ones(len(ids), np.float32),
  }


def captioned():
  """A row of two images with captions."""
  start = vocabulary_lib.CONTROL['<text_start>']
  patches = [vocabulary_lib.CONTROL['<im_patch>']] * 4
  image = row([1, 14, *patches, 15, start, 68, 69, 3] * 2)
  image['segment_ids'] = np.repeat([1, 2], 11).astype(np.int32)
  image['images'] = np.stack([np.full((8, 8, 3), n, np.uint8) for n in (3, 9)])
  image['image_slots'] = np.asarray([2, 13], np.int32)
  return image


def write_all(root):
  """Three rows of text, one of speech, one with two images."""
  write(root, 'text', [row([1, 70, 71, 72, 3])] * 3)
  write(root, 'asr', [row([1, 36, 31, 100, 101, 125, 126, 127, 33])])
  write(root, 'image_text', [captioned()], images_per_row=2)
  return root
