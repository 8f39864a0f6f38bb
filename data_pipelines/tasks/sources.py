"""The documents of a definition as a SeqIO data source, and back.

A document crosses SeqIO as an example of the features that all tasks share,
over the project's one vocabulary.
"""

import contextlib
from typing import Iterator

from absl import logging
import numpy as np

from data_pipelines import notices
from data_pipelines.tasks import datasets

with notices.hold_stderr():
  import seqio
  import tensorflow as tf

from data_pipelines.documents import examples as corpus_examples
from data_pipelines.tasks import definitions
from data_pipelines.tasks import text_models
from step_audio_jax import documents as documents_lib
from step_audio_jax import pairs
from step_audio_jax.chats import rendering

# Preprocessors run in TensorFlow's threads, so these are no context variables.
_quarantine: list[list[dict]] = []
_fits: list[tuple[int, list[rendering.Cut]]] = []


class TextAndSpeech(seqio.PassThroughVocabulary):
  """The project's id space as a SeqIO vocabulary; loaded when first used.

  It encodes templates, as `Vocabulary.encode` does; a corpus's own words go
  through `table.encode_text`, as in every document that is made here.
  """

  def __init__(self, text_model: str):
    """Does not open `text_model` yet: it may not have been trained."""
    self._text_model = text_model
    super().__init__(size=0, eos_id=documents_lib.vocabulary.EOT)

  @property
  def table(self):
    return text_models.load(self._text_model)

  @property
  def size(self) -> int:
    return self.table.table_size

  vocab_size = size

  def _encode(self, s):
    return self.table.encode(s)

  def _decode(self, ids):
    return self.table.decode(ids)

  def __eq__(self, other):
    return (
      isinstance(other, TextAndSpeech) and self._text_model == other._text_model
    )

  def __hash__(self):
    return hash(self._text_model)

  def __str__(self):
    return f'TextAndSpeech({self._text_model})'


def output_features(text_model: str) -> dict[str, seqio.Feature]:
  """The features that all tasks share, so that any of them can be mixed."""
  table = TextAndSpeech(text_model)

  def feature(dtype, rank=1):
    return seqio.Feature(table, add_eos=False, dtype=dtype, rank=rank)

  return {
    'tokens': feature(tf.int32),
    'loss_weights': feature(tf.float32),
    'image_slots': feature(tf.int32),
    'images': feature(tf.uint8, rank=4),
  }


_STRING = tf.TensorSpec([], tf.string)
_DOCUMENT = {
  'id': _STRING,
  'tokens': tf.TensorSpec([None], tf.int32),
  'loss_weights': tf.TensorSpec([None], tf.float32),
  'image_slots': tf.TensorSpec([None], tf.int32),
  'text': _STRING,
  'language': _STRING,
  'header': tf.TensorSpec([], tf.int32),
  'cut': tf.TensorSpec([], tf.int32),
  'spans': tf.TensorSpec([None, 2], tf.int32),
  # Of a pair alone; the border of what is none is below 0.
  'border': tf.TensorSpec([], tf.int32),
  'margin': tf.TensorSpec([], tf.float32),
  'category': _STRING,
}

_NONE = np.zeros(0, np.int32)
_NO_PAIR = pairs.Pair('', _NONE, _NONE, border=-1)


class CorpusSource(seqio.DataSource):
  """The documents of a definition; SeqIO may ask for any part of them."""

  def __init__(self, definition: definitions.Definition, splits):
    self._definition = definition
    super().__init__(splits=splits)

  @property
  def supports_arbitrary_sharding(self) -> bool:
    return True

  def list_shards(self, split: str) -> list[str]:
    return [split]

  def get_dataset(
    self,
    split: str = 'train',
    shuffle: bool = True,
    seed: int | None = None,
    shard_info: seqio.ShardInfo | None = None,
    **_,
  ) -> tf.data.Dataset:
    del shuffle, seed  # rows are shuffled, not examples
    part = corpus_examples.Part()
    if shard_info is not None:
      part = corpus_examples.Part(shard_info.index, shard_info.num_shards)
    side = self._definition.image_size
    images = tf.TensorSpec([None, side, side, 3], tf.uint8)
    return datasets.dataset_of(
      lambda: _examples(self._definition, split, part),
      {**_DOCUMENT, 'images': images},
    )


def _examples(
  definition: definitions.Definition, split: str, part: corpus_examples.Part
) -> Iterator[dict]:
  """The documents of a split as SeqIO examples.

  Documents are made here and not in a preprocessor that iterates over a
  dataset of utterances: such nested iteration holds a TensorFlow thread while
  it waits for another, and a mixture of several tasks then stands still.
  """
  told, report = {}, _report(definition.name)
  single = definition.kind != 'interleaved'  # else a document is of several

  def examples():
    for example in definition.examples(split, part):
      if single:
        told[example['id']] = example['text'], example['language']
      yield example

  def on_bad(name, *about):
    told.pop(name, None)
    report(name, *about)

  longest, cuts = _fits[-1] if _fits else (None, [])
  for document in definition.documents(
    examples(), on_bad, split, longest, lambda _, cut: cuts.append(cut)
  ):
    text, language = told.pop(document.id, ('', ''))
    yield {
      **from_document(document, definition.image_size),
      'text': text,
      'language': language,
    }


def _report(task: str):
  def on_bad(name, file, reason):
    if _quarantine:
      _quarantine[-1].append({'id': name, 'file': file, 'reason': reason})
    else:
      logging.warning('%s: left out %s: %s', task, name, reason)

  return on_bad


def from_document(document, image_size: int) -> dict:
  """A document as a SeqIO example; no image is zero images."""
  images = document.images
  if images is None:
    images = np.zeros((0, image_size, image_size, 3), np.uint8)
  pair = document if isinstance(document, pairs.Pair) else _NO_PAIR
  return {
    'id': document.id,
    'tokens': document.tokens,
    'loss_weights': document.loss_weights,
    'image_slots': document.image_slots,
    'images': images,
    'header': document.header,
    'cut': document.cut,
    'spans': document.spans,
    'border': pair.border,
    'margin': pair.margin,
    'category': pair.category,
  }


def to_document(example, name: str = '') -> documents_lib.Document:
  """A SeqIO example as a document; only `tokens` is needed.

  This is how a task that was written by hand is built.
  """
  tokens = np.asarray(example['tokens'], np.int32)
  images = example.get('images')
  found = example.get('id', name)
  made, of_pair = documents_lib.Document, {}
  if example.get('border', -1) >= 0:
    made = pairs.Pair
    of_pair = {
      'border': int(example['border']),
      'margin': float(example.get('margin', 0.0)),
      'category': str(example.get('category', '')),
    }
  return made(
    id=str(found),
    tokens=tokens,
    loss_weights=np.asarray(
      example.get('loss_weights', np.ones(len(tokens))), np.float32
    ),
    image_slots=np.asarray(example.get('image_slots', ()), np.int32),
    images=images if images is not None and len(images) else None,
    header=int(example.get('header', 0)),
    cut=int(example.get('cut', 0)),
    spans=np.asarray(example.get('spans', ()), np.int32).reshape(-1, 2),
    **of_pair,
  )


@contextlib.contextmanager
def quarantine() -> Iterator[list[dict]]:
  """Collects what preprocessors leave out, as {id, file, reason}."""
  found = []
  _quarantine.append(found)
  try:
    yield found
  finally:
    _quarantine.pop()


@contextlib.contextmanager
def fitting(length: int) -> Iterator[list[rendering.Cut]]:
  """Chats fit into rows of a length; collects what longer ones lose."""
  found = []
  _fits.append((length, found))
  try:
    yield found
  finally:
    _fits.pop()
