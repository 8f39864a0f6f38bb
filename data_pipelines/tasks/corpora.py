"""Corpora in SeqIO's registry.

    # my_corpora.py
    from data_pipelines.tasks import corpora
    corpora.register_speech_corpus(
      'mine', 'data/mine', codes='data/mine_codes', text_model='text.model')

registers the tasks `mine_continuation`, `mine_interleaved`, `mine_asr`,
`mine_tts`, `mine_sft_asr` and `mine_sft_tts`; text and image corpora give
`mine_text` and `mine_image_text`, chats `mine_chat`. `register_stages('mine')`
adds a mixture for each training stage, with the shares of
`step_audio_jax.corpus.stages`.

SeqIO is the definition layer: `build` packs a task into rows, and training
mixes rows. Importing this module imports SeqIO and TensorFlow (about 10 s).
"""

import contextlib
import itertools
from typing import Any, Callable, Iterator, Mapping

from absl import logging
import numpy as np

from data_pipelines import notices

with notices.hold_stderr():
  import seqio
  import tensorflow as tf

  # Keep TensorFlow off accelerators: they belong to JAX.
  tf.config.set_visible_devices([], 'GPU')

from data_pipelines.documents import examples as corpus_examples
from data_pipelines.tasks import definitions
from data_pipelines.tasks import metrics
from step_audio_jax import documents as documents_lib
from step_audio_jax import errors
from step_audio_jax.corpus import stages

Definition = definitions.Definition
DEFINITIONS: dict[str, Definition] = {}

_DEFAULT_SPLITS = ('train', 'dev', 'test')
# Preprocessors run in TensorFlow's threads, so this is no context variable.
_quarantine: list[list[dict]] = []
_raised: list[errors.UserError] = []  # TensorFlow makes other errors of them


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
    return definitions.load_vocabulary(self._text_model)

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


@contextlib.contextmanager
def quarantine() -> Iterator[list[dict]]:
  """Collects what preprocessors leave out, as {id, file, reason}."""
  found = []
  _quarantine.append(found)
  try:
    yield found
  finally:
    _quarantine.pop()


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
}
_CHUNK = 256


def dataset_of(
  generate: Callable[[], Iterator[Mapping[str, Any]]],
  spec: Mapping[str, tf.TensorSpec],
) -> tf.data.Dataset:
  """As `Dataset.from_generator`, ten times as fast on small examples.

  Examples cross from Python to TensorFlow by the hundred, as flat arrays with
  their lengths, and are taken apart on the other side.
  """
  flat = {}
  for name, feature in spec.items():
    rest = feature.shape[1:]
    flat[name] = tf.TensorSpec([None, *rest], feature.dtype)
    if feature.shape.rank:
      flat[f'{name}/starts'] = tf.TensorSpec([None], tf.int64)

  def told():
    try:
      yield from generate()
    except errors.UserError as error:
      _raised.append(error)
      raise

  def chunks():
    examples = told()
    while chunk := list(itertools.islice(examples, _CHUNK)):
      value = {}
      for name, feature in spec.items():
        items = [example[name] for example in chunk]
        if feature.shape.rank:
          value[name] = np.concatenate(items)
          lengths = list(map(len, items))
          value[f'{name}/starts'] = np.cumsum([0, *lengths])
        elif feature.dtype == tf.string:
          value[name] = np.array([v.encode() for v in items], object)
        else:
          value[name] = np.array(items, feature.dtype.as_numpy_dtype)
      yield value

  @tf.autograph.experimental.do_not_convert  # tracing is half of the time
  def take_apart(chunk):
    @tf.autograph.experimental.do_not_convert
    def take(place):
      example = {}
      for name, feature in spec.items():
        if not feature.shape.rank:
          example[name] = tf.gather(chunk[name], place)
          continue
        edges = tf.slice(chunk[f'{name}/starts'], [place], [2])
        start, stop = tf.unstack(edges, num=2)
        rest = [0] * (feature.shape.rank - 1), feature.shape.as_list()[1:]
        example[name] = tf.slice(
          chunk[name], [start, *rest[0]], [stop - start, *rest[1]]
        )
      return example

    first = next(iter(spec))
    return tf.data.Dataset.range(tf.size(chunk[first], tf.int64)).map(take)

  dataset = tf.data.Dataset.from_generator(chunks, output_signature=flat)
  return dataset.flat_map(take_apart)


def examples_of(dataset: tf.data.Dataset) -> Iterator[dict[str, Any]]:
  """As `as_numpy_iterator`, several times as fast on small examples.

  Strings come as str. Features that vary in more than one dimension are read
  one by one.

  Raises:
    UserError: As the source of a task that is registered here.
  """
  _raised.clear()
  try:
    yield from _read(dataset)
  except tf.errors.OpError:
    if _raised:
      raise _raised.pop() from None
    raise


def _read(dataset: tf.data.Dataset) -> Iterator[dict[str, Any]]:
  spec = dataset.element_spec
  if any(feature.shape[1:].num_elements() is None for feature in spec.values()):
    for example in dataset.as_numpy_iterator():
      yield {name: _told(value) for name, value in example.items()}
    return
  options = tf.data.Options()
  options.autotune.enabled = False  # on one core it stands in the way
  for batch in dataset.ragged_batch(_CHUNK).with_options(options):
    columns = {}
    for name, value in batch.items():
      if isinstance(value, tf.RaggedTensor):
        splits = value.row_splits.numpy()[1:-1]
        columns[name] = np.split(value.values.numpy(), splits)
      else:
        columns[name] = [_told(item) for item in value.numpy()]
    for values in zip(*columns.values()):
      yield dict(zip(columns, values))


def _told(value):
  return value.decode() if isinstance(value, bytes) else value


def register(definition: Definition) -> seqio.Task:
  """Adds one task to the registry; the same definition twice is one task.

  Raises:
    UserError: The name is taken by something else.
  """
  name = definition.name
  if name in seqio.TaskRegistry.names():
    if DEFINITIONS.get(name) == definition:
      return seqio.TaskRegistry.get(name)
    raise errors.UserError(
      f'task {name!r} is registered already, with other settings; choose '
      'another name for the corpus.'
    )
  try:
    splits = definition.splits()
  except errors.UserError:  # the corpus may be made later
    splits = _DEFAULT_SPLITS

  task = seqio.TaskRegistry.add(
    name,
    source=CorpusSource(definition, splits),
    preprocessors=[],
    output_features=output_features(definition.text_model),
    postprocess_fn=metrics.target,
    metric_fns=metrics.BY_KIND[definition.kind],
  )
  DEFINITIONS[name] = definition
  return task


class CorpusSource(seqio.DataSource):
  """The documents of a definition; SeqIO may ask for any part of them."""

  def __init__(self, definition: Definition, splits):
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
    return dataset_of(
      lambda: _examples(self._definition, split, part),
      {**_DOCUMENT, 'images': images},
    )


def _examples(
  definition: Definition, split: str, part: corpus_examples.Part
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

  for document in definition.documents(examples(), on_bad, split):
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
  return {
    'id': document.id,
    'tokens': document.tokens,
    'loss_weights': document.loss_weights,
    'image_slots': document.image_slots,
    'images': images,
    'header': document.header,
    'cut': document.cut,
    'spans': document.spans,
  }


def to_document(example, name: str = '') -> documents_lib.Document:
  """A SeqIO example as a document; only `tokens` is needed.

  This is how a task that was written by hand is built.
  """
  tokens = np.asarray(example['tokens'], np.int32)
  images = example.get('images')
  found = example.get('id', name)
  return documents_lib.Document(
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
  )


def register_speech_corpus(
  name: str,
  source: str,
  *,
  codes: str,
  text_model: str,
  interleaving: str | None = None,
  **settings,
) -> list[seqio.Task]:
  """Registers continuation, interleaved, asr, tts, sft_asr and sft_tts.

  Args:
    name: Of the corpus; tasks are called `<name>_<task>`.
    source: Corpus folder.
    codes: What `tokenize` made of it.
    text_model: Text vocabulary.
    interleaving: `segments`, `words` or `poisson`, see
      `interleaving.builders`; None means words where any line has word
      times, and segments where none has.
    **settings: `seed`, `poisson`, see `definitions.Definition`; and
      `prompt_loss`, the weight of the given side of asr and tts, of all tasks
      or as {'asr': 0.5, 'tts': 0.0}.
  """
  settings |= {'interleaving': interleaving}
  found = definitions.speech(name, source, codes, text_model, **settings)
  return [register(definition) for definition in found]


def register_text_corpus(
  name: str, source: str, *, text_model: str, **settings
) -> list[seqio.Task]:
  """Registers `<name>_text`, and with a `voice` `<name>_interleaved`.

  Args:
    name: Of the corpus.
    source: Corpus folder.
    text_model: Text vocabulary.
    **settings: `voice`, the run of a model that has learnt TTS, or an
      `interleaving.voice.VoiceConfig`; `seed`, `poisson`.
  """
  found = definitions.text(name, source, text_model, **settings)
  return [register(definition) for definition in found]


def register_image_text_corpus(
  name: str, source: str, *, text_model: str, **settings
) -> list[seqio.Task]:
  """Registers `<name>_image_text`; settings: `image_size`, `patches`."""
  found = definitions.image_text(name, source, text_model, **settings)
  return [register(definition) for definition in found]


def register_chat_corpus(
  name: str,
  source: str,
  *,
  text_model: str,
  codes: str | None = None,
  **settings,
) -> list[seqio.Task]:
  """Registers `<name>_chat`: SFT rows that learn what the assistant says.

  Args:
    name: Of the corpus.
    source: Corpus folder.
    text_model: Text vocabulary.
    codes: What `tokenize` made of its spoken turns.
    **settings: `prompt_loss`, the weight of what the others say.
  """
  found = definitions.chat(name, source, text_model, codes=codes, **settings)
  return [register(definition) for definition in found]


def register_stages(name: str) -> list[seqio.Mixture]:
  """Adds the mixtures `<name>_text` … `<name>_sft` of `stages.STAGES`.

  SeqIO mixes by examples, so its shares are only approximately those of
  tokens; rows are what trains.

  Raises:
    UserError: A stage needs a task that the corpus has not.
  """
  mixtures = []
  for stage, shares in stages.STAGES.items():
    tasks = [(f'{name}_{task}', float(r)) for task, r in shares.items()]
    absent = [t for t, _ in tasks if t not in seqio.TaskRegistry.names()]
    if absent:
      raise errors.UserError(
        f'stage {stage!r} needs the task {absent[0]!r}, which is not '
        f'registered; registered: {", ".join(sorted(DEFINITIONS))}.'
      )
    mixture = f'{name}_{stage}_mix'
    if mixture in seqio.MixtureRegistry.names():  # from the same table
      mixtures.append(seqio.MixtureRegistry.get(mixture))
    else:
      mixtures.append(seqio.MixtureRegistry.add(mixture, tasks))
  return mixtures
