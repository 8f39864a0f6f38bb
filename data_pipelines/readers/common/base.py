"""What every reader of a corpus format gives and uses.

A reader is a function `read(source, options)` that yields, one after the
other, an `Item` for what can become a line of a manifest and a `Rejected` for
what the reader itself cannot use. It holds one item at a time, never a
corpus. `ingest` checks the items (ids, times, texts, recordings), places
their files and counts: whatever is yielded is either kept or in quarantine.

A reader raises `UserError` only where the source as a whole is not what it
should be (a table is missing); one bad line costs one line.
"""

import dataclasses
import functools
import gzip
import itertools
import json
import os
import pathlib
from typing import Any, Callable, Iterator, Mapping, Sequence, TypeVar
import zlib

from data_pipelines.readers.common import inside
from step_audio_jax import errors
from step_audio_jax.storage import files

T = TypeVar('T')
Pairs = Callable[[Sequence[tuple[str, Any]]], dict[str, Any]]

# A longer line is no line of a table; it is skipped without being held.
LINE_BYTES = 64 * 2**20
_BOM = b'\xef\xbb\xbf'
_WIDE = (b'\xff\xfe', b'\xfe\xff')  # byte order marks of UTF-16 and UTF-32
# How files begin that are called what they are not.
_PACKED = {
  b'\x1f\x8b': 'gzip; give it a name that ends with .gz',
  b'PK\x03\x04': 'a zip archive; unpack it',
  b'\xfd7zXZ': 'xz; unpack it',
  b'\x28\xb5\x2f\xfd': 'Zstandard; unpack it',
  b'BZh': 'bzip2; unpack it',
  b'PAR1': 'Parquet; read it as --format=parquet',
}


@dataclasses.dataclass(frozen=True)
class Item:
  """What a reader found; `ingest` checks it.

  Attributes:
    where: `file:line` or `tar!member`, for messages.
    fields: Fields of `manifest.Utterance`: id, kind, text, language, speaker,
      split, offset, duration, sample_rate, channel, words, turns, marked. What
      the corpus does not say is left out or None; `audio` and `image` do not
      belong here. `part_of` is the id of what it shares the split with,
      `heard` the language of the sound where the text may be a translation,
      `side` a channel that counts only where the recording has several.
    audio: The recording: a path that `resolve_inside` gave, or its bytes.
    audio_name: Its name below the corpus' `audio/`. Items with one name are
      parts of one recording.
    image: As `audio`.
    image_name: Its name below the corpus' `images/`.
    line: Number of the line, where there are lines.
    may_lack: Which of `text` and `audio` speech need not have here.
  """

  where: str
  fields: Mapping[str, Any]
  audio: pathlib.Path | bytes | None = None
  audio_name: str | None = None
  image: pathlib.Path | bytes | None = None
  image_name: str | None = None
  line: int | None = None
  may_lack: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Rejected:
  """What a reader cannot use; it goes to the quarantine.

  Attributes:
    where: As in `Item`.
    reason: One sentence.
    id: Of the utterance, if it is known.
    line: As in `Item`.
    file: The recording as the corpus names it, if it does.
  """

  where: str
  reason: str
  id: str | None = None
  line: int | None = None
  file: str | None = None


@dataclasses.dataclass(frozen=True)
class Options:
  """What a user may tell a reader.

  Attributes:
    audio_root: Where recordings lie; None is the folder of the source.
      Relative paths start there and no path leads out of it.
    subset: Only this part of a corpus that has parts.
    allow_pipes: Run the commands of a Kaldi `wav.scp`.
    extra: Options of single readers, from `--reader_option=NAME=VALUE`.
  """

  audio_root: pathlib.Path | None = None
  subset: str | None = None
  allow_pipes: bool = False
  extra: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def root(self, source: pathlib.Path) -> pathlib.Path:
    """The folder that recordings lie in."""
    if self.audio_root is not None:
      return files.path(self.audio_root)
    source = files.path(source)
    return source if files.is_dir(source) else source.parent


Reader = Callable[[pathlib.Path, Options], Iterator[Item | Rejected]]

resolve_inside, with_slashes = inside.resolve_inside, inside.with_slashes
locate = inside.locate


def reject_on_error(
  where: str,
  make: Callable[..., T],
  *args: Any,
  id: Any = None,
  line: int | None = None,
  file: Any = None,
) -> T | Rejected:
  """`make(*args)`, or the `Rejected` that its `UserError` becomes."""
  try:
    return make(*args)
  except errors.UserError as error:
    files.raise_outage(error)
    return Rejected(where, str(error), id=id, line=line, file=file)


def locator(
  root: str | os.PathLike, field: str = 'audio'
) -> Callable[[Any], tuple[pathlib.Path, str]]:
  """`locate` below one folder, for readers whose lines share recordings.

  A file is looked at once and not again while its lines are read; what was
  refused is looked at each time.
  """
  known = functools.lru_cache(maxsize=2**14)(
    lambda name: locate(root, name, field)
  )
  # Of a line of JSON it may be anything, also what no cache can hold.
  return lambda name: (
    known(name) if isinstance(name, str) else locate(root, name, field)
  )


def file_of(
  source: pathlib.Path, options: Options, name: str | os.PathLike
) -> pathlib.Path:
  """A table or an archive of a source that is a folder.

  Args:
    source: The folder.
    options: A link may lead out of `source` into `options.audio_root`.
    name: Relative to `source`. The file need not exist.

  Raises:
    UserError: As `resolve_inside`.
  """
  try:
    return resolve_inside(source, name, 'source')
  except errors.UserError:
    if options.audio_root is None:
      raise
    if not files.is_address(name):
      name = (source / name).absolute()
    return resolve_inside(options.audio_root, name, 'source')


def text_lines(
  path: str | os.PathLike,
) -> Iterator[tuple[int, str] | Rejected]:
  """The lines of a UTF-8 file, which may be gzipped (`.gz`).

  Args:
    path: May begin with a byte order mark and have CR LF at its line ends.

  Yields:
    (number from 1, text without the line's end); lines of white space are
    left out. A line in another encoding, or longer than `LINE_BYTES`, is a
    `Rejected`.

  Raises:
    UserError: The file cannot be opened.
  """
  for line in raw_lines(path):
    if not isinstance(line, Rejected):
      number, raw = line
      line = decode_line(path, number, raw)
    if line is not None:
      yield line


def decode_line(
  path: str | os.PathLike, number: int, raw: bytes
) -> tuple[int, str] | Rejected | None:
  """(number, text without the line's end); None for a line of white space."""
  try:
    text = raw.decode('utf-8').rstrip('\r\n')
  except UnicodeDecodeError as error:
    return Rejected(f'{path}:{number}', f'not UTF-8: {error}.', line=number)
  return (number, text) if text and not text.isspace() else None


def raw_lines(
  path: str | os.PathLike,
) -> Iterator[tuple[int, bytes] | Rejected]:
  """(number from 1, bytes with the line's end) of a file, as `text_lines`.

  The byte order mark is gone. A line of a file in UTF-16 is a `Rejected`.

  Raises:
    UserError: The file cannot be opened.
  """
  path = files.path(path)
  with files.opened(path) as handle:
    stream = gzip.open(handle) if path.suffix == '.gz' else handle
    number, wide = 0, False
    while True:
      number += 1
      try:
        raw = stream.readline(LINE_BYTES)
        size = len(raw)
        while raw and len(raw) == LINE_BYTES and raw[-1:] != b'\n':
          rest = stream.readline(LINE_BYTES)
          size += len(rest)
          if not rest or rest.endswith(b'\n'):
            break
      except (OSError, EOFError, zlib.error) as error:
        files.raise_outage(error)
        yield Rejected(
          f'{path}:{number}', f'cut short or damaged: {error}.', line=number
        )
        return
      if not raw:
        return
      packed = next((w for m, w in _PACKED.items() if raw.startswith(m)), None)
      if number == 1 and packed and not _is_text(raw):
        where = f'{path}:{number}'
        yield Rejected(where, f'found {packed}, expected text.', line=number)
        return
      if size > LINE_BYTES:
        yield Rejected(
          f'{path}:{number}',
          f'a line of {size} bytes, expected at most {LINE_BYTES}.',
          line=number,
        )
        continue
      if number == 1:
        wide = raw.startswith(_WIDE)
        raw = raw.removeprefix(_BOM)
      if not wide:
        yield number, raw
      elif raw.strip(b'\0\r\n\t '):
        yield Rejected(
          f'{path}:{number}',
          'not UTF-8: the file begins with the byte order mark of UTF-16; save '
          'it as UTF-8.',
          line=number,
        )


def _is_text(raw: bytes) -> bool:
  """Whether bytes that begin like a packed file are a line of text."""
  try:
    return '\0' not in raw.decode()
  except UnicodeDecodeError:
    return False


def table_lines(
  path: str | os.PathLike,
  is_record: Callable[[str | None], bool] = lambda text: False,
) -> Iterator[tuple[int, str] | Rejected]:
  """The lines of a table, each of which is a record by itself.

  A line ends at LF or CR LF, or at CR in a file that has no LF before its
  end. In other files a CR inside a line may be an end or a part of a text;
  lines are counted as if it were an end, and what stands in front of it is
  kept where a record stands behind it.

  Args:
    path: As in `text_lines`.
    is_record: Whether a text is a whole line of this table; None is what
      cannot be read.

  Yields:
    As `text_lines`, without a byte order mark in front of any line. A line
    with a NUL is a `Rejected` as well.

  Raises:
    UserError: The file cannot be opened.
  """
  found = raw_lines(path)
  first = list(itertools.islice(found, 1))
  by_returns = True  # until a line stands behind an LF
  for line in found:
    first.append(line)
    if isinstance(line, Rejected) or line[1].strip(b'\r\n'):
      by_returns = False
      break
  more = 0  # lines that a CR ends
  for line in itertools.chain(first, found):
    if isinstance(line, Rejected):
      number = line.line + more
      yield dataclasses.replace(line, where=f'{path}:{number}', line=number)
      continue
    number, raw = line
    if not (b'\r' in raw or b'\0' in raw or raw.startswith(_BOM)):
      one = decode_line(path, number + more, raw)
      if one is not None:
        yield one
      continue
    body = raw.removesuffix(b'\n').removesuffix(b'\r')
    if b'\r' not in body:
      one = _checked(path, number + more, body)
      if one is not None:
        yield one
      continue
    parts = body.split(b'\r')
    numbered = enumerate(parts, number + more)
    more += len(parts) - 1
    checked = [_checked(path, k, part) for k, part in numbered]
    checked = [one for one in checked if one is not None]
    for one, after in itertools.zip_longest(checked, checked[1:]):
      lost = after is not None and not by_returns
      if lost and not isinstance(one, Rejected):
        text = None if isinstance(after, Rejected) else after[1]
        one = one if is_record(text) else _cut(path, one[0])
      yield one


def _checked(path, number, raw):
  while raw.startswith(_BOM):  # of files that were joined
    raw = raw.removeprefix(_BOM)
  one = decode_line(path, number, raw)
  if isinstance(one, tuple) and '\0' in one[1]:
    return Rejected(
      f'{path}:{number}',
      f'a NUL at character {one[1].index(chr(0))}, expected text; the file is '
      'damaged, or is UTF-16 without a byte order mark.',
      line=number,
    )
  return one


def _cut(path, number):
  return Rejected(
    f'{path}:{number}',
    'a carriage return (CR) inside the line, behind which its text may go on; '
    'expected lines that end with LF or CR LF.',
    line=number,
  )


def json_lines(
  path: str | os.PathLike, pairs: Pairs | None = None
) -> Iterator[tuple[int, dict[str, Any]] | Rejected]:
  """The objects of a JSON-lines file; what is none is a `Rejected`.

  Args:
    path: As in `text_lines`.
    pairs: Makes an object of its fields, as `once` does.

  Raises:
    UserError: The file cannot be opened.
  """
  # An object that parses is whole, whatever ends its line.
  for line in table_lines(path, lambda _: True):
    if isinstance(line, Rejected):
      yield line
      continue
    number, text = line
    try:
      value = parse_object(text, pairs)
    except errors.UserError as error:
      yield Rejected(f'{path}:{number}', str(error), line=number)
    else:
      yield number, value


def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
  """An object none of whose fields is there twice: one would be lost.

  Raises:
    ValueError: A field is there twice.
  """
  found = dict(pairs)
  if len(found) < len(pairs):
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    raise ValueError(f'the field {twice!a:.60} occurs twice in one object')
  return found


def parse_object(
  text: str | bytes, pairs: Pairs | None = None
) -> dict[str, Any]:
  """Parses one JSON object.

  Args:
    text: A line.
    pairs: As `json_lines`.

  Raises:
    UserError: It is not JSON, or not an object.
  """
  try:
    value = json.loads(text, object_pairs_hook=pairs)
  except (ValueError, RecursionError) as error:
    raise errors.UserError(f'not a JSON line: {error}.') from error
  if not isinstance(value, dict):
    raise errors.UserError(
      f'found {type(value).__name__}, expected a JSON object.'
    )
  return value


def check_options(extra: Mapping[str, str], names: tuple[str, ...]) -> None:
  """Refuses options that a reader does not know.

  Raises:
    UserError: There is one.
  """
  for name in extra:
    if name not in names:
      raise errors.UserError(
        f'--reader_option: unknown option {name!r}, expected '
        f'{", ".join(names) or "none for this format"}.'
      )
