"""What corpora call their fields, and which files of a folder hold them.

JSON lines, parquet and WebDataset leave the names of columns to their
authors. `NAMES` holds those that are in use; an option of the reader
(`--reader_option=text=normalized_text`) names any other.
"""

import collections
import contextlib
import dataclasses
import pathlib
import re
from typing import Any, Collection, Iterator, Mapping

from data_pipelines.readers.common import base
from data_pipelines.readers.common import channels
from data_pipelines.readers.common import media
from data_pipelines.readers.common import tables
from step_audio_jax import errors
from step_audio_jax import languages
from step_audio_jax.audio import foreign
from step_audio_jax.storage import files
from step_audio_jax.storage import lfs

# Field → columns that may hold it, the first that is there counts.
NAMES = {
  'id': (
    'id', 'utt', 'key', '__key__', 'utt_id', 'uttid', 'utterance_id',
    'segment_id', 'uuid',
  ),
  'text': (
    'text', 'sentence', 'normalized_text', 'transcript', 'transcription',
    'raw_text', 'content', 'caption',
  ),
  'caption': ('caption', 'text', 'sentence', 'title', 'description'),
  'speaker': ('speaker', 'speaker_id', 'spk', 'spk_id', 'client_id'),
  # The text of a translation is in its target language.
  'language': (
    'language', 'lang', 'locale', 'target_lang', 'source_lang', 'lang_code',
    'language_code',
  ),
  'split': ('split',),
  'category': ('category',),
  'channel': ('channel', 'audio_channel'),
  'audio': (
    'audio', 'audio_data', 'speech', 'wav', 'audio_path', 'audio_filepath',
    'audio_file', 'wav_path',
  ),
  'image': (
    'image', 'image_path', 'file_name', 'filename', 'img', 'jpg', 'png',
    'path', 'file',
  ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Columns:
  """Which columns hold which fields.

  Attributes:
    names: Field → columns, as in `NAMES`.
    chosen: Fields whose column the user named.
  """

  names: Mapping[str, tuple[str, ...]]
  chosen: frozenset[str] = frozenset()

  @classmethod
  def from_options(
    cls,
    options: base.Options,
    fields: Collection[str],
    more: Collection[str] = (),
  ) -> 'Columns':
    """The columns of `fields`, and what the user says instead.

    Args:
      options: Each field is an option of the reader.
      fields: Keys of `NAMES`.
      more: Further options of the reader.

    Raises:
      UserError: An option is unknown.
    """
    base.check_options(options.extra, (*fields, *more))
    named = {f: (options.extra[f],) for f in fields if f in options.extra}
    return cls({f: NAMES[f] for f in fields} | named, frozenset(named))

  def find(self, field: str, among: Collection[str]) -> str | None:
    """The column of a field, or None.

    Raises:
      UserError: The column that the user named is not there.
    """
    found = next((n for n in self.names[field] if n in among), None)
    if found is None and field in self.chosen:
      raise errors.UserError(
        f'--reader_option={field}: no column {self.names[field][0]!r}; there '
        f'are {", ".join(sorted(map(str, among)))}.'
      )
    return found

  def value(self, field: str, row: Mapping[str, Any]) -> Any:
    """What a row says of a field, or None."""
    values = (row.get(name) for name in self.names.get(field, ()))
    return next((value for value in values if value is not None), None)

  def fields(
    self, row: Mapping[str, Any], *, kind: str = 'speech', text: str = 'text'
  ) -> dict[str, Any]:
    """A row → the fields of an `Item`; what the row does not say is None.

    Args:
      row: One line of the corpus.
      kind: As in the manifest.
      text: The field that holds the text.

    Raises:
      UserError: A value has the wrong type.
    """
    return {
      'kind': kind,
      'id': name(self.value('id', row), 'id'),
      'text': string(self.value(text, row), text),
      'speaker': name(self.value('speaker', row), 'speaker'),
      'language': language(self.value('language', row)),
      'heard': row.get('source_lang'),
      'split': split(string(self.value('split', row), 'split')),
      'channel': channel(self.value('channel', row)),
    }


def string(value: Any, field: str) -> str | None:
  """A string or None.

  Raises:
    UserError: It is neither.
  """
  if value is not None and not isinstance(value, str):
    raise errors.UserError(
      f'{field}: found {_short(value)}, expected a string.'
    )
  return value


def name(value: Any, field: str) -> str | None:
  """A name, which some corpora write as a whole number; None stays None.

  Raises:
    UserError: It is neither.
  """
  if isinstance(value, int) and not isinstance(value, bool):
    return str(value)
  return string(value, field) or None


def number(value: Any, field: str) -> float:
  """A finite number.

  Raises:
    UserError: It is none.
  """
  if (
    isinstance(value, bool)
    or not isinstance(value, (int, float))
    or not abs(value) < 1e15  # NaN fails as well
  ):
    raise errors.UserError(
      f'{field}: found {_short(value)}, expected a number.'
    )
  return float(value)


def language(value: Any) -> str | None:
  """`English`, `EN`, `en-US` → `en`; what is unknown stays as it is.

  Raises:
    UserError: It is no string.
  """
  value = string(value, 'language')
  return languages.normalise(value or '') or None


def channel(value: Any) -> Any:
  """What numbers a channel; a name is a broadcaster's, and numbers none."""
  if not isinstance(value, (str, list)):
    return value
  try:
    return channels.parse(value)
  except errors.UserError:
    return None


def is_recording(value: Any) -> bool:
  """Whether a value is the name of a file with sound."""
  return isinstance(value, str) and value.lower().endswith(
    (*media.AUDIO, *foreign.ENDINGS)
  )


def split(value: str | None) -> str | None:
  """The name of a split as this project writes it: `validation` → `dev`."""
  return tables.SPLITS.get(value, value) or None


def split_of_file(path: str) -> str | None:
  """The split that a file's name tells, as Hugging Face names files.

  `data/train-00000-of-00010.parquet`, `default/validation/0000.parquet` and
  `test.parquet` tell one.
  """
  pure = pathlib.PurePosixPath(path)
  stem = pure.name.partition('.parquet')[0]
  sharded = re.fullmatch(r'(.+?)-\d+-of-\d+', stem)
  if sharded:
    return split(sharded[1])
  for part in (stem, *reversed(pure.parts[:-1])):
    if part in tables.SPLITS:
      return tables.SPLITS[part]
  return None


def files_of(
  source: pathlib.Path, options: base.Options, endings: tuple[str, ...]
) -> Iterator[tuple[pathlib.Path, str] | base.Rejected]:
  """The files of a source, in the order of their names.

  Args:
    source: A file, or a folder that is searched with the folders in it.
    options: A link may lead out of `source` into `options.audio_root`.
    endings: What names end with, such as `.jsonl`.

  Yields:
    (path, name below the source without the ending; with it where files
    differ by nothing else).

  Raises:
    UserError: There are none.
  """
  if files.is_file(source):
    lfs.refuse_path(source)
    yield source, _without(source.name, endings)
    return
  found = []
  for folder, inner, names in files.walk(source):
    inner[:] = [one for one in inner if not one.startswith('.')]
    found += [
      (files.path(folder) / one).relative_to(source).as_posix()
      for one in names
      if one.endswith(endings) and not one.startswith('.')
    ]
  if not found:
    raise errors.UserError(
      f'{source}: no file that ends with {" or ".join(endings)}.'
    )
  names = collections.Counter(_without(one, endings) for one in found)
  for one in sorted(found):
    path = base.reject_on_error(
      str(source / one), base.file_of, source, options, one
    )
    name = _without(one, endings)
    name = name if names[name] == 1 else one
    yield path if isinstance(path, base.Rejected) else (path, name)


@contextlib.contextmanager
def parquet_file(path: files.AnyPath, **options: Any) -> Iterator[Any]:
  """An open `pyarrow.parquet.ParquetFile`; raises what pyarrow raises."""
  from pyarrow import parquet

  with (
    files.open_read(path) as handle,
    parquet.ParquetFile(handle, **options) as file,
  ):
    yield file


def json_rows(
  source: pathlib.Path, options: base.Options, endings: tuple[str, ...]
) -> Iterator[tuple[pathlib.Path, str, int, dict[str, Any]] | base.Rejected]:
  """The objects of the JSON-lines files of a source, as `files_of` finds them.

  Yields:
    (path, name below the source without the ending, line, object).

  Raises:
    UserError: There are no files.
  """
  for found in files_of(source, options, endings):
    if isinstance(found, base.Rejected):
      yield found
      continue
    path, stem = found
    for line in base.json_lines(path):
      if isinstance(line, base.Rejected):
        yield line
      else:
        yield path, stem, *line


def _without(text: str, endings: tuple[str, ...]) -> str:
  longest = max(
    (len(ending) for ending in endings if text.endswith(ending)), default=0
  )
  return text[: len(text) - longest]


def _short(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 60 else f'{text[:57]}...'
