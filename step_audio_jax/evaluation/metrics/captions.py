"""Images in, captions out, on built image-text rows.

A document is cut behind its prompt (`documents.LAYOUTS['image_text']`); the
model writes the caption greedily.
"""

import base64
import pathlib
import struct
from typing import Any, Mapping
import zlib

import numpy as np

from step_audio_jax import documents as documents_lib
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.evaluation.metrics import scoring
from step_audio_jax.generation import decode
from step_audio_jax.generation import grammar as grammar_lib
from step_audio_jax.storage import files
from step_audio_jax.training.feeds import feed

_OPENER = documents_lib.LAYOUTS['image_text'].opener
_PATCH = vocabulary_lib.CONTROL['<im_patch>']


def documents(row: Mapping[str, np.ndarray]):
  """Yields (prompt ids, caption ids, image, slot) of a packed row.

  The slot is the place of the first patch in the prompt. Documents that are
  cut, or have no image, are passed over.
  """
  for segment in range(1, int(row['segment_ids'].max(initial=0)) + 1):
    places = np.flatnonzero(row['segment_ids'] == segment)
    ids = row['tokens'][places]
    starts = np.flatnonzero(ids == _OPENER)
    slots = [
      n
      for n, slot in enumerate(row.get('image_slots', ()))
      if slot >= 0 and places[0] <= slot <= places[-1]
    ]
    if len(starts) != 1 or len(slots) != 1 or _PATCH not in ids:
      continue
    cut, n = int(starts[0]) + 1, slots[0]
    slot = int(row['image_slots'][n]) - int(places[0])
    yield ids[:cut].tolist(), ids[cut:].tolist(), row['images'][n], slot


def evaluate(
  model: Any,
  variables: Mapping[str, Any],
  vocabulary: vocabulary_lib.Vocabulary,
  *,
  folder: str | pathlib.Path,
  count: int,
  keep: int = 8,
  max_new_tokens: int = 64,
  batch_size: int = 32,
) -> dict[str, Any]:
  """Captions of the first `count` images of a row folder.

  Returns:
    cer (a fraction), exact (share of captions that are right to the letter),
    images (how many), of (how many there are), passed_over (images of the rows
    that were read whose document is cut, or has other images beside it),
    unfinished (captions that met the length limit), and `keep` examples
    {reference, hypothesis, png}.
  """
  source = feed.Source('image_text', files.path(folder))
  items, passed_over, images = [], 0, int(source.stats.get('images') or 0)
  for index in range(len(source)):
    row = source.row(index)
    slots = int((np.asarray(row.get('image_slots', ())) >= 0).sum())
    if len(items) < count:
      found = list(documents(row))
      items += found
      passed_over += slots - len(found)
    elif source.stats.get('images'):
      break
    if not source.stats.get('images'):
      images += slots
  items = items[:count]
  outputs = decode.generate_outputs(
    model,
    variables,
    [prompt for prompt, _, _, _ in items],
    max_new_tokens=max_new_tokens,
    grammar=grammar_lib.build(vocabulary),
    start=grammar_lib.State.TEXT,
    images=[[image] for _, _, image, _ in items],
    image_slots=[[slot] for _, _, _, slot in items],
    shapes=decode.Shapes(batch_size=batch_size),
    label='captioning',
  )
  references = [vocabulary.decode(caption) for _, caption, _, _ in items]
  hypotheses = [vocabulary.decode(one.tokens) for one in outputs]
  pairs = list(zip(references, hypotheses, strict=True))
  return {
    'cer': scoring.corpus_errors((r, h, 'en') for r, h in pairs).rate,
    'exact': float(np.mean([r == h for r, h in pairs])) if pairs else 0.0,
    'images': len(items),
    'of': max(images, len(items) + passed_over),
    'passed_over': passed_over,
    'unfinished': sum(not one.stopped for one in outputs),
    'examples': [
      {'reference': r, 'hypothesis': h, 'png': png(item[2])}
      for (r, h), item in list(zip(pairs, items, strict=True))[:keep]
    ],
  }


def png(image_HWC: np.ndarray) -> str:
  """A uint8 RGB image → base64 of a PNG file (RFC 2083)."""
  height, width, _ = image_HWC.shape
  # Filter type 0 stands before each scan line.
  lines = np.zeros((height, 1 + 3 * width), np.uint8)
  lines[:, 1:] = image_HWC.reshape(height, -1)

  def chunk(kind, data):
    body = kind + data
    return (
      struct.pack('>I', len(data)) + body + struct.pack('>I', zlib.crc32(body))
    )

  header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
  return base64.b64encode(
    b'\x89PNG\r\n\x1a\n'
    + chunk(b'IHDR', header)
    + chunk(b'IDAT', zlib.compress(lines.tobytes(), 9))
    + chunk(b'IEND', b'')
  ).decode()
