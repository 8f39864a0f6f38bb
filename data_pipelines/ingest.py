"""`ingest`: recordings with a table of transcripts → a corpus.

    SOURCE/metadata.csv      file,text[,id,language,speaker,split,offset,…]
    SOURCE/metadata.jsonl    the same fields, one JSON object a line
    SOURCE/…/*.wav           any format, rate and channel count of libsndfile

    OUTPUT/manifest.jsonl    the corpus
    OUTPUT/audio/…           links to the recordings, or copies
    OUTPUT/quarantine.jsonl  lines that were left out, and why

Lines that name no split are shared out by a hash of their id, so that the
same line is always in the same split.
"""

import csv
import hashlib
import os
import pathlib
import shutil
from typing import Any, Iterator, Mapping

from absl import flags

from data_pipelines import synthesize
from step_audio_jax import cli
from step_audio_jax import errors
from step_audio_jax import files
from step_audio_jax import manifest
from step_audio_jax import progress
from step_audio_jax.audio import io as audio_io

FORMATS = ('folder',)
TABLES = ('metadata.csv', 'metadata.jsonl')
FIELDS = (
  'file', 'text', 'id', 'language', 'speaker', 'split', 'offset', 'duration',
  'words',
)  # fmt: skip


def find_table(source: pathlib.Path) -> pathlib.Path:
  """The table of a folder.

  Raises:
    UserError: There is none, or there are two.
  """
  found = [source / name for name in TABLES if (source / name).is_file()]
  if len(found) != 1:
    raise errors.UserError(
      f'{source}: found {len(found)} of {", ".join(TABLES)}, expected one.'
    )
  return found[0]


def read_table(path: pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
  """Yields (line number, fields) of a table.

  Raises:
    UserError: The columns are not those that are known.
  """
  if path.suffix == '.jsonl':
    yield from files.read_numbered_jsonl(path)
    return
  with open(path, encoding='utf-8-sig', newline='') as handle:
    try:
      reader = csv.DictReader(handle, strict=True)
      columns = reader.fieldnames or []
      unknown = [name for name in columns if name not in FIELDS]
      if 'file' not in columns or unknown:
        raise errors.UserError(
          f'{path}: found the columns {", ".join(map(str, columns)) or "none"};'
          f' expected `file` and any of {", ".join(FIELDS[1:])}.'
        )
      twice = [name for name in columns if columns.count(name) > 1]
      if twice:
        raise errors.UserError(
          f'{path}: found the column {twice[0]} twice, expected it once.'
        )
      for row in reader:
        more = row.pop(None, [])
        count = sum(cell is not None for cell in row.values()) + len(more)
        if count != len(columns):
          raise errors.UserError(
            f'{path}:{reader.line_num}: found {count} cells, '
            f'expected {len(columns)}; quote texts that hold commas.'
          )
        yield (
          reader.line_num,
          {key: value for key, value in row.items() if value != ''},
        )
    except (csv.Error, UnicodeDecodeError) as error:
      raise errors.UserError(f'{path}: not a CSV file: {error}.') from error


def split_of(name: str, dev: float, test: float) -> str:
  """The split of an id: a hash decides, the same on every machine."""
  digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
  place = int.from_bytes(digest, 'little') / 2**64
  return 'dev' if place < dev else 'test' if place < dev + test else 'train'


def to_utterance(
  fields: Mapping[str, Any],
  source: pathlib.Path,
  *,
  language: str,
  dev: float,
  test: float,
) -> tuple[manifest.Utterance, pathlib.Path]:
  """One line of a table → an utterance and its recording.

  Raises:
    UserError: A field is wrong, or the recording cannot be used.
  """
  if not isinstance(fields, Mapping):
    raise errors.UserError(f'found {fields!r}, expected a JSON object.')
  unknown = [name for name in fields if name not in FIELDS]
  if unknown:
    raise errors.UserError(
      f'{unknown[0]}: unknown field, expected {", ".join(FIELDS)}.'
    )
  file = fields.get('file')
  if not isinstance(file, str) or not file:
    raise errors.UserError(
      f'file: found {file!r}, expected the path of a recording; a transcript '
      'without audio belongs into a text corpus.'
    )
  if not isinstance(fields.get('text'), str) or not fields['text'].strip():
    raise errors.UserError(f'text: missing, expected what is said in {file}.')
  name = fields.get('id') or pathlib.PurePosixPath(file).with_suffix('').name
  if not isinstance(name, str):
    raise errors.UserError(f'id: found {name!r}, expected a string.')
  utterance = manifest.Utterance(
    id=name,
    split=fields.get('split') or split_of(name, dev, test),
    text=' '.join(fields['text'].split()),
    language=fields.get('language') or language,
    speaker=fields.get('speaker'),
    audio=f'audio/{file}',
    offset=_seconds('offset', fields.get('offset', 0.0)),
    duration=_seconds('duration', fields.get('duration', 1.0)),
    sample_rate=audio_io.SAMPLE_RATE,
    words=fields.get('words'),
  )
  path = (source / file).resolve()
  if not path.is_relative_to(source.resolve()):
    raise errors.UserError(f'file: {file!r} leads out of {source}.')
  wave, rate = audio_io.read_audio(path, offset=utterance.offset)
  length = len(wave) / rate
  if 'duration' in fields and utterance.duration > length + 0.01:
    raise errors.UserError(
      f'duration: {utterance.duration:g} s from {utterance.offset:g} s on, '
      f'but {file} has only {length:.3f} s there.'
    )
  import soundfile

  return (
    manifest.dataclasses.replace(
      utterance,
      duration=round(utterance.duration if 'duration' in fields else length, 6),
      sample_rate=soundfile.info(path).samplerate,
    ),
    path,
  )


def _seconds(field: str, value: Any) -> float:
  try:
    return float(value)
  except (TypeError, ValueError) as error:
    raise errors.UserError(
      f'{field}: found {value!r}, expected seconds.'
    ) from error


def ingest_folder(
  source: str | os.PathLike,
  output: str | os.PathLike,
  *,
  language: str = 'en',
  dev: float = 0.05,
  test: float = 0.05,
  copy: bool = False,
) -> dict[str, Any]:
  """Makes a corpus of a folder of recordings.

  Args:
    source: Folder with a table and recordings.
    output: Corpus folder.
    language: Of lines that name none.
    dev: Share of lines without a split that go to dev; `test` likewise.
    test: As `dev`.
    copy: Copy the recordings; otherwise the corpus holds a link to them.

  Returns:
    Counts: read = kept + quarantined.

  Raises:
    UserError: The table is unreadable, or no line of it can be used.
  """
  source, output = pathlib.Path(source), pathlib.Path(output)
  if not (0 <= dev and 0 <= test and dev + test < 1):
    raise errors.UserError(
      f'--dev, --test: found {dev}, {test}, expected shares below 1 together.'
    )
  table = find_table(source)
  kept, quarantine, seen, paths = [], [], set(), {}
  lines = list(read_table(table))
  for number, fields in progress.bar(lines, label='ingest', unit='file'):
    try:
      utterance, path = to_utterance(
        fields, source, language=language, dev=dev, test=test
      )
      if utterance.id in seen:
        raise errors.UserError(
          f'id: {utterance.id!r} occurs twice; give each line an `id`.'
        )
      seen.add(utterance.id)
      kept.append(utterance)
      paths[utterance.audio] = path
    except errors.UserError as error:
      told = fields if isinstance(fields, Mapping) else {}
      quarantine.append(
        {
          'id': told.get('id'),
          'line': number,
          'file': told.get('file'),
          'reason': str(error),
        }
      )
  if not kept:
    first = quarantine[0]['reason'] if quarantine else 'it has no lines.'
    raise errors.UserError(
      f'{table}: none of {len(lines)} lines can be used; the first: {first}'
    )
  for audio, path in paths.items():
    place(path, output / audio, copy)
  files.write_jsonl(output / 'quarantine.jsonl', quarantine)
  manifest.write(output, kept)
  return {
    'read': len(lines),
    'kept': len(kept),
    'quarantined': len(quarantine),
    **synthesize.statistics(kept),
  }


def place(path: pathlib.Path, target: pathlib.Path, copy: bool) -> None:
  """Puts a recording into the corpus: a hard link where that is possible."""
  target.parent.mkdir(parents=True, exist_ok=True)
  temporary = target.with_name(f'.{target.name}.{os.getpid()}.tmp')
  temporary.unlink(missing_ok=True)
  try:
    try:
      if copy:
        raise OSError
      os.link(path, temporary)
    except OSError:  # another file system
      shutil.copyfile(path, temporary)
    os.replace(temporary, target)
  finally:  # two links to one file: the renaming leaves both
    temporary.unlink(missing_ok=True)


def _define(fv: flags.FlagValues) -> None:
  flags.DEFINE_enum(
    'format', 'folder', FORMATS, 'What SOURCE is.', flag_values=fv
  )
  flags.DEFINE_string(
    'source', None, 'Folder with a table and recordings.', flag_values=fv
  )
  flags.DEFINE_string('output', None, 'Corpus folder.', flag_values=fv)
  flags.mark_flags_as_required(['source', 'output'], flag_values=fv)
  flags.DEFINE_string(
    'language', 'en', 'Of lines that name none.', flag_values=fv
  )
  flags.DEFINE_float(
    'dev', 0.05, 'Share for dev of lines that name no split.', flag_values=fv
  )
  flags.DEFINE_float('test', 0.05, 'Share for test.', flag_values=fv)
  flags.DEFINE_bool(
    'copy', False, 'Copy recordings instead of linking.', flag_values=fv
  )


def _main(fv: flags.FlagValues) -> Mapping[str, Any]:
  if fv.dry_run:
    table = find_table(pathlib.Path(fv.source))
    count = sum(1 for _ in read_table(table))
    print(f'would read {count} lines of {table} into {fv.output}')
    return {'dry_run': True, 'lines': count}
  result = ingest_folder(
    fv.source,
    fv.output,
    language=fv.language,
    dev=fv.dev,
    test=fv.test,
    copy=fv.copy,
  )
  print(
    f'{fv.output}: {result["read"]} lines read, {result["kept"]} kept, '
    f'{result["quarantined"]} in quarantine; {result["splits"]}'
  )
  return result


DOOR = cli.Door(
  summary="""Turns a folder of recordings and transcripts into a corpus.

    python -m data_pipelines ingest --source=recordings --output=data/mine

SOURCE holds metadata.csv (columns file,text and any of id, language, speaker,
split, offset, duration) or metadata.jsonl with the same fields.
""",
  main=_main,
  define=_define,
  uses_gin=False,
)
