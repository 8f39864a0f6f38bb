"""`tfds`: data sets that TensorFlow Datasets has prepared.

SOURCE is the folder of one version (it holds `dataset_info.json`), or a data
folder of TFDS above it; there `--reader_option=name=librispeech` or
`name=librispeech/plain_text/1.1.0` chooses, and of versions the highest
counts. Nothing is downloaded or prepared.

Speech comes from a feature `speech` or `audio`, its transcript from `text`
and its speaker from `speaker_id`, as in `librispeech`; images with captions
from `image` and `text`. Options name other features (`--reader_option=
text=utterance`), and `sample_rate` the rate of audio that states none.
`--subset` reads one split.

The data set's own code does not run. `features.json` names the classes that
decode it, and TFDS would import any module named there: only its own may be.
"""

import pathlib
import re
from typing import Any, Iterator

import numpy as np

from data_pipelines.readers import base
from data_pipelines.readers import columns as columns_lib
from data_pipelines.readers import media
from step_audio_jax import errors
from step_audio_jax import files

FIELDS = ('id', 'text', 'speaker', 'language', 'audio', 'image')
INFO = 'dataset_info.json'
_CLASSES = ('type', 'pythonClassName', 'python_class_name', 'proto_cls')


def read(
  source: pathlib.Path, options: base.Options
) -> Iterator[base.Item | base.Rejected]:
  """Reads a prepared data set, split by split.

  Raises:
    UserError: There is none, or it has neither audio nor images.
  """
  columns = columns_lib.Columns.of(options, FIELDS, ('name', 'sample_rate'))
  folder = find(source, options.extra.get('name'))
  check_classes(folder)
  builder, failures = _open(folder)
  features = dict(builder.info.features.items())
  used = {field: columns.find(field, features) for field in columns.names}
  media_field = 'audio' if used['audio'] else 'image'
  if used[media_field] is None or used['text'] is None:
    raise errors.UserError(
      f'{folder}: found the features {", ".join(features)}; expected '
      f'{" or ".join(columns.names["audio"])} (or image) and text.'
    )
  rate = _rate(folder, features[used['audio']], options) if used['audio'] else 0
  splits = list(builder.info.splits)
  if options.subset is not None and options.subset not in splits:
    raise errors.UserError(
      f'--subset: no split {options.subset!r} in {folder}; it has '
      f'{", ".join(splits)}.'
    )
  for split in [options.subset] if options.subset else splits:
    names = [name for name in used.values() if name]
    content = used[media_field]
    image = content if media_field == 'image' else None
    number = 0
    try:
      for number, example in enumerate(
        _examples(builder, split, names, image), 1
      ):
        where = f'{folder}:{split}:{number}'
        yield base.guarded(
          where, _item, columns, where, split, number, example, content, rate
        )
    except failures as error:
      yield base.Rejected(
        f'{folder}:{split}',
        f'damaged behind example {number}: {str(error).splitlines()[0]}.',
      )


def _item(columns, where, split, number, example, media_name, rate):
  """An example; a rate makes it speech."""
  row = {name: _told(value) for name, value in example.items()}
  fields = columns.fields(row, kind='speech' if rate else 'image_text')
  fields['id'] = fields['id'] or f'{split}-{number}'
  fields['split'] = columns_lib.split(split)
  place, content = f'{split}/{number:08d}', example[media_name]
  if rate:
    data = media.wav(content, rate)
    return base.Item(where, fields, audio=data, audio_name=f'{place}.wav')
  name = place + media.image_suffix(content)
  return base.Item(where, fields, image=content, image_name=name)


def find(source: pathlib.Path, name: str | None) -> pathlib.Path:
  """The folder of a prepared version.

  Raises:
    UserError: There is none, or not one data set.
  """
  if name is None and (source / INFO).is_file():
    return source
  if name is not None and '..' in name.split('/'):
    raise errors.UserError(
      f'--reader_option=name: found {name!r}, expected a data set, such as '
      'librispeech/plain_text.'
    )
  below = source / name.strip('/') if name else source
  found = [path.parent for path in below.glob(f'**/{INFO}')]
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
        if outside and not name.startswith('tensorflow_datasets.'):
          raise errors.UserError(
            f'{path}: {key} is {name!r}, expected a class of '
            'tensorflow_datasets.'
          )


def _open(folder: pathlib.Path):
  """(builder, what reading it may raise)."""
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
  return builder, (tf.errors.OpError, AssertionError, ValueError)


def _examples(builder, split, names, image) -> Iterator[dict[str, Any]]:
  """Examples in the order of the files, with the features `names`."""
  import tensorflow_datasets as tfds

  decoders = {image: tfds.decode.SkipDecoding()} if image else None
  dataset = builder.as_dataset(
    split=split,
    shuffle_files=False,
    read_config=tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1),
    decoders=tfds.decode.PartialDecoding(
      {name: True for name in names}, decoders
    ),
  )
  return dataset.as_numpy_iterator()


def _rate(folder, feature, options) -> int:
  rate = options.extra.get('sample_rate')
  rate = getattr(feature, 'sample_rate', None) if rate is None else rate
  if not str(rate).isdigit():
    raise errors.UserError(
      f'{folder}: sample_rate: found {rate}, expected Hz; '
      '--reader_option=sample_rate=16000 states it.'
    )
  return int(rate)


def _told(value: Any) -> Any:
  """A value of TensorFlow as Python writes it; arrays are left alone."""
  if isinstance(value, bytes):
    try:
      return value.decode('utf-8')
    except UnicodeDecodeError:
      return value  # an image, or a text that is refused
  if isinstance(value, np.generic):
    return value.item()
  return value
