"""Small row folders in the real layout, and a tiny run over them."""

import json
import pathlib

from array_record.python import array_record_module
import numpy as np
from safetensors import numpy as safetensors_numpy


def write_source(
  root, task, rows, *, split='train', length=32, images=0, vocab=40, seed=0
):
  """Rows of ragged documents with random ids; returns the folder."""
  rng = np.random.default_rng([seed, len(task), rows])
  folder = pathlib.Path(root) / task / split
  folder.mkdir(parents=True, exist_ok=True)
  made = []
  for _ in range(rows):
    row = {
      'tokens': np.zeros(length, np.int32),
      'segment_ids': np.zeros(length, np.int32),
      'loss_weights': np.zeros(length, np.float32),
    }
    place, segment = 0, 1
    slots = []
    while place < length - 6:
      size = int(min(rng.integers(5, 14), length - place))
      span = slice(place, place + size)
      row['tokens'][span] = rng.integers(1, vocab, size)
      row['segment_ids'][span] = segment
      row['loss_weights'][place + 1 : place + size] = 1
      if len(slots) < images and size > 5:
        slots.append(place + 1)
        row['loss_weights'][place + 1 : place + 5] = 0
      place, segment = place + size, segment + 1
    if images:
      row['images'] = rng.integers(0, 256, (len(slots), 8, 8, 3), np.uint8)
      row['image_slots'] = np.asarray(slots, np.int32)
    made.append(row)
  write_rows(folder, made)
  stats = {
    'task': task,
    'split': split,
    'rows': rows,
    'length': length,
    'images_per_row': images,
  }
  (folder / 'stats.json').write_text(json.dumps(stats), encoding='utf-8')
  return folder


def write_rows(folder, rows):
  """The one shard of a folder, in place of what was there."""
  path = folder / 'rows-00000-of-00001.array_record'
  path.unlink(missing_ok=True)
  writer = array_record_module.ArrayRecordWriter(str(path), 'group_size:1')
  for row in rows:
    writer.write(safetensors_numpy.save(row))
  writer.close()


GIN = """
from __gin__ import dynamic_registration
from step_audio_jax import vocabulary
from step_audio_jax.models.language import speech_text
from step_audio_jax.models.language import transformer
from step_audio_jax.training.feeds import feed
from step_audio_jax.training import loop
from step_audio_jax.training.objectives import objectives
from step_audio_jax.training import optimizers
from step_audio_jax.training import run
RUN_DIR = %gin.REQUIRED
INIT_FROM = ()
CODES = 10
WIDTH = 8
VOCAB = 40
RATIOS = {'a': 1}
transformer.TransformerConfig:
  vocab_size = %VOCAB
  width = %WIDTH
  layers = 1
  heads = 2
  kv_heads = 1
  mlp_width = 8
speech_text.SpeechTextConfig.transformer = @transformer.TransformerConfig()
speech_text.SpeechTextModel.config = @speech_text.SpeechTextConfig()
vocabulary.Vocabulary.text_size = 20
vocabulary.Vocabulary.linguistic_size = 10
vocabulary.Vocabulary.semantic_size = %CODES
objectives.NextToken.model = @speech_text.SpeechTextModel()
objectives.NextToken.vocabulary = @vocabulary.Vocabulary()
feed.RowFeed:
  rows = 'ROWS'
  ratios = %RATIOS
  batch_size = 8
loop.LoopConfig.steps = 4
loop.LoopConfig.log_every = 2
optimizers.OptimizerConfig.learning_rate = 0.01
run.train:
  run_dir = %RUN_DIR
  objective = @objectives.NextToken()
  feed = @feed.RowFeed()
  optimizer = @optimizers.OptimizerConfig()
  config = @loop.LoopConfig()
  init_from = %INIT_FROM
"""


def gin_text(rows) -> str:
  """A gin file that trains a tiny model for four steps on task `a`."""
  return GIN.replace('ROWS', str(rows))
