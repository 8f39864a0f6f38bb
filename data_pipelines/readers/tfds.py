"""`tfds`: data sets that TensorFlow Datasets has prepared.

SOURCE is the folder of one version (it holds `dataset_info.json`), or a data
folder of TFDS above it; there `--reader_option=name=librispeech` or
`name=librispeech/plain_text/1.1.0` chooses, and of versions the highest
counts. Nothing is downloaded or prepared.

Speech comes from a feature `speech` or `audio`, its transcript from `text`
and its speaker from `speaker_id`, as in `librispeech`; images with captions
from `image` and `text`. Options name other features (`--reader_option=
text=utterance`), and `sample_rate` the rate of audio that states none.
`--subset` reads one split. Files are read one by one, so that a damaged one
costs what is behind the damage in it.

The data set's own code does not run. `features.json` names the classes that
decode it, and TFDS would import any module named there: only its own features
may be. `dataset_info.json` names files, which may not lead out of the folder.
"""

import pathlib
import re
from typing import Any, Iterator

import numpy as np

from data_pipelines import notices
from data_pipelines.readers.common import base
from data_pipelines.readers.common import columns as columns_lib
from data_pipelines.readers.common import media
from data_pipelines.readers.common import tables
from step_audio_jax import errors
from step_audio_jax.storage import files

FIELDS = ('id', 'text', 'speaker', 'language', 'audio', 'image')
INFO = 'dataset_info.json'
_CLASSES = ('type', 'pythonClassName', 'python_class_name')
_FEATURES = 'tensorflow_datasets.core.features.'


def read(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads a prepared data set, split by split.

  Raises:
    UserError: There is none, or it has neither audio nor images.
  """
  columns = columns_lib.Columns.from_options(
    options, FIELDS, ('name', 'sample_rate')
  )
  source = source.absolute()
  folder = find(source, options.extra.get('name'))
  for path in (*files.glob(folder, '*.json'), *files.glob(folder, '*.txt')):
    base.file_of(source, options, path)
  check_classes(folder)
  # TFDS opens its files itself.
  with files.as_local(folder) as local:
    builder = _open(local)
  features = dict(builder.info.features.items())
  used = {field: columns.find(field, features) for field in columns.names}
  kind = 'audio' if used['audio'] else 'image'
  if used[kind] is None or used['text'] is None:
    raise errors.UserError(
      f'{folder}: found the features {", ".join(features)}; expected '
      f'{" or ".join(columns.names["audio"])} (or image) and text.'
    )
  used = {name: features[name] for name in used.values() if name}
  content = columns.find(kind, used)
  as_file = kind == 'image' or _is_file(used[content])
  rate = None if as_file else _rate(folder, used[content], options)
  splits = list(builder.info.splits)
  if options.subset is not None and options.subset not in splits:
    raise errors.UserError(
      f'--subset: no split {options.subset!r} in {folder}; it has '
      f'{", ".join(splits)}.'
    )
  for split in [options.subset] if options.subset else splits:
    number = 0
    for shard, path, stated in _shards(builder, split):
      if files.is_address(folder) and path.is_relative_to(local):
        path = folder / path.relative_to(local)
      found = _examples(
        builder, split, shard, list(used), content if as_file else None
      )
      count = 0
      try:
        base.file_of(source, options, path)
        for count, example in enumerate(found, 1):
          where = f'{path}:{count}'
          place = f'{split}/{number + count:08d}'
          yield base.reject_on_error(
            where, _item, columns, where, place, example, used, kind, rate
          )
      except errors.UserError as error:
        files.raise_outage(error)
        yield base.Rejected(
          str(path), f'not read behind example {count} of {stated}: {error}'
        )
      number += stated


def _item(columns, where, place, example, used, kind, rate):
  """An example; `rate` is that of samples, None of the bytes of a file."""
  content = example.pop(columns.find(kind, used))
  row = {name: _as_python(value, used[name]) for name, value in example.items()}
  fields = columns.fields(
    row, kind='speech' if kind == 'audio' else 'image_text'
  )
  split, _, number = place.rpartition('/')
  fields['id'] = fields['id'] or f'{split}-{int(number)}'
  fields['split'] = tables.split_named(split) or split
  if rate is not None:
    content, suffix = media.wav_bytes(content, rate), '.wav'
  elif kind == 'audio':
    suffix = media.audio_suffix(content)
  else:
    suffix = media.image_suffix(content)
  return base.Item(
    where, fields, **{kind: content, f'{kind}_name': place + suffix}
  )


def find(source: pathlib.Path, name: str | None) -> pathlib.Path:
  """The folder of a prepared version.

  Raises:
    UserError: There is none, or not one data set.
  """
  if name is None and files.is_file(source / INFO):
    return source
  if name is not None and '..' in name.split('/'):
    raise errors.UserError(
      f'--reader_option=name: found {name!r}, expected a data set, such as '
      'librispeech/plain_text.'
    )
  below = source / name.strip('/') if name else source
  found = [path.parent for path in files.glob(below, f'**/{INFO}')]
  sets = {path.relative_to(source).parent for path in found}
  if len(sets) != 1:
    nothing = f'no {INFO} of {name or "a data set"}'
    raise errors.UserError(
      f'{source}: found {", ".join(sorted(map(str, sets))) or nothing}; '
      'expected one prepared data set, --reader_option=name=… names it.'
    )
  return max(found, key=lambda path: _version(path.name))


def _version(text: str) -> list[int]:
  return [int(part) for part in re.findall(r'\d+', text)]


def check_classes(folder: pathlib.Path) -> None:
  """Refuses a data set that names classes from outside of TFDS.

  Raises:
    UserError: It does, or it says nothing of its features.
  """
  path = folder / 'features.json'
  waiting = [files.read_json(path)]
  while waiting:
    value = waiting.pop()
    if isinstance(value, list):
      waiting += value
    elif isinstance(value, dict):
      waiting += value.values()
      for key in _CLASSES:
        name = value.get(key)
        outside = isinstance(name, str) and '.' in name
        if outside and not name.startswith(_FEATURES):
          raise errors.UserError(
            f'{path}: {key} is {name!r}, expected a class of {_FEATURES[:-1]}.'
          )


def _open(folder: pathlib.Path):
  """What TFDS reads the folder with."""
  with notices.hold_stderr():
    import tensorflow as tf
    import tensorflow_datasets as tfds

    # Keep TensorFlow off accelerators: they belong to JAX.
    tf.config.set_visible_devices([], 'GPU')
  try:
    builder = tfds.builder_from_directory(folder)
    _ = builder.info.features
  # Files that are not what they should be make TFDS raise nearly anything.
  except Exception as error:
    raise errors.UserError(
      f'{folder}: not a prepared data set of TFDS: {error}.'
    ) from error
  return builder


def _shards(builder, split) -> Iterator[tuple[int, pathlib.Path, int]]:
  """(number, path, stated examples) of the files of a split."""
  info = builder.info.splits[split]
  for shard, pair in enumerate(zip(info.filepaths, info.shard_lengths)):
    path, stated = pair
    if stated:  # TFDS cannot read an empty one
      yield shard, files.path(path), stated


def _examples(builder, split, shard, names, as_file):
  """Examples of a file in its order; `as_file` names what stays bytes.

  Raises:
    UserError: The file is damaged from here on.
  """
  found = None
  while True:
    try:
      if found is None:
        found = _opened(builder, split, shard, names, as_file)
      example = next(found)
    except StopIteration:
      return
    # As in `_open`.
    except Exception as error:
      told = str(error).splitlines() or [type(error).__name__]
      raise errors.UserError(f'{told[0]}.') from error
    yield example


def _opened(builder, split, shard, names, as_file) -> Iterator[dict[str, Any]]:
  import tensorflow_datasets as tfds

  part = tfds.core.ReadInstruction(split, shard, shard + 1, unit='shard')
  skip = {as_file: tfds.decode.SkipDecoding()} if as_file else None
  decoders = tfds.decode.PartialDecoding({n: True for n in names}, skip)
  if builder.info.file_format in tfds.core.FileFormat.with_tf_data():
    config = tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1)
    return builder.as_dataset(
      split=part,
      shuffle_files=False,
      read_config=config,
      decoders=decoders,
    ).as_numpy_iterator()
  # ArrayRecord: at random places, without tf.data and partial decoding.
  raw = tfds.decode.DeserializeMethod.RAW_BYTES
  records = builder.as_data_source(split=part, deserialize_method=raw)
  features = decoders.extract_features(builder.info.features)
  return (
    features.deserialize_example_np(records[k], decoders=skip)
    for k in range(len(records))
  )


def _is_file(feature: Any) -> bool:
  """Whether a feature keeps recordings as files, decoded by ffmpeg."""
  return getattr(feature.to_json_content(), 'lazy_decode', False)


def _rate(folder, feature, options) -> int:
  rate = options.extra.get('sample_rate')
  rate = getattr(feature, 'sample_rate', None) if rate is None else rate
  if not str(rate).isdigit():
    raise errors.UserError(
      f'{folder}: sample_rate: found {rate}, expected Hz; '
      '--reader_option=sample_rate=16000 states it.'
    )
  return int(rate)


def _as_python(value: Any, feature: Any) -> Any:
  """A value of TensorFlow as Python writes it; arrays are left alone."""
  if isinstance(value, bytes):
    try:
      return value.decode('utf-8')
    except UnicodeDecodeError:
      return value  # a text that is refused
  if isinstance(value, np.generic):
    value = value.item()
  if isinstance(value, int) and hasattr(feature, 'int2str'):
    return _label(feature, value) if value >= 0 else None  # -1: there is none
  return value


def _label(feature: Any, value: int) -> str:
  try:
    return feature.int2str(value)
  except (IndexError, ValueError) as error:
    raise errors.UserError(
      f'found the label {value}, expected one of {feature.num_classes}.'
    ) from error
