"""Examples between Python and TensorFlow, by the hundred and not one by one."""

import itertools
from typing import Any, Callable, Iterator, Mapping

import numpy as np

from data_pipelines import notices

with notices.hold_stderr():
  import tensorflow as tf

  # Keep TensorFlow off accelerators: they belong to JAX.
  tf.config.set_visible_devices([], 'GPU')

from step_audio_jax import errors

_CHUNK = 256
_raised: list[errors.UserError] = []  # TensorFlow makes other errors of them


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
      yield {name: _as_python(value) for name, value in example.items()}
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
        columns[name] = [_as_python(item) for item in value.numpy()]
    for values in zip(*columns.values()):
      yield dict(zip(columns, values))


def _as_python(value):
  return value.decode() if isinstance(value, bytes) else value
