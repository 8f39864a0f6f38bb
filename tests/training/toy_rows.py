"""Small row folders in the real layout, for tests."""

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
  path = folder / 'rows-00000-of-00001.array_record'
  writer = array_record_module.ArrayRecordWriter(str(path), 'group_size:1')
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
    writer.write(safetensors_numpy.save(row))
  writer.close()
  stats = {
    'task': task,
    'split': split,
    'rows': rows,
    'length': length,
    'images_per_row': images,
  }
  (folder / 'stats.json').write_text(json.dumps(stats), encoding='utf-8')
  return folder
