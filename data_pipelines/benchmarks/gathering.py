"""From what readers of corpora yield to items that are asked.

Nothing goes silently: what a reader rejects, what `admission` refuses, and
what a public set has and the folder has not, are left out by reason.
"""

import dataclasses
import os
import re
from typing import Any, Callable, Iterable, Iterator, Mapping, Sequence

from data_pipelines.ingestion import admission
from data_pipelines.readers import parquet
from data_pipelines.readers.common import base
from data_pipelines.readers.common import columns
from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats_lib
from step_audio_jax.corpus import manifest
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.storage import files

Left = tuple[str, str]  # id, or place, and why it is left out
Found = Iterable[base.Item | base.Rejected]
_BATCH = 256  # rows of parquet that are held
_PATH = re.compile(r"'?[^\s']*/[^\s']*[^\s'.,:;]'?")
_NUMBER = re.compile(r'\d+(\.\d+)?')


def kind_of(reason: str, *names: Any) -> str:
  """A reason as it is counted: without names, paths and numbers.

  Args:
    reason: A sentence about one item.
    *names: Of the item and its files.
  """
  for name in sorted(filter(None, map(str, names)), key=len, reverse=True):
    reason = re.sub(rf'(?<!\w){re.escape(name)}(?!\w)', '…', reason)
  reason = _NUMBER.sub('…', _PATH.sub('…', reason))
  return reason.removesuffix('.')


def left(rejected: base.Rejected) -> Left:
  """What a reader could not use."""
  names = (rejected.id, rejected.file, os.path.basename(rejected.file or ''))
  why = kind_of(rejected.reason, *names)
  return rejected.id or rejected.where, why


def admitted(
  found: Found, language: str
) -> Iterator[tuple[base.Item, manifest.Utterance] | Left]:
  """Items that `ingest` would keep, and why it would not keep the others.

  Args:
    found: What a reader yields.
    language: Of items that name none.
  """
  rules = admission.Rules(language=language)
  for one in found:
    if isinstance(one, base.Rejected):
      yield left(one)
      continue
    try:
      yield one, admission.admit(one, rules)
    except errors.UserError as error:
      files.raise_outage(error)
      names = (
        *(one.fields.get('id'), one.audio_name),
        os.path.basename(one.audio_name or ''),
      )
      name = one.fields.get('id')
      why = kind_of(str(error), *names)
      yield (name if isinstance(name, str) and name else one.where), why


def speech(item: base.Item, said: manifest.Utterance) -> chats_lib.Speech:
  """The recording of an item: its file, or its bytes, and which part of it."""
  is_bytes = isinstance(item.audio, bytes)
  whole = item.fields.get('duration') is None and not said.offset
  return chats_lib.Speech(
    id=said.id,
    path=None if is_bytes else os.fspath(item.audio),
    data=item.audio if is_bytes else None,
    text=said.text,
    **{**said.part(), **({'duration': None} if whole else {})},
  )


def reading(
  asked: benchmark.Benchmark,
  found: Iterable[benchmark.Item | Left],
  *,
  expected: int = 0,
  version: str = '',
) -> benchmark.Reading:
  """What a benchmark holds, compared with what the public set has.

  Args:
    asked: The benchmark.
    found: Its items, and what is left out.
    expected: Items of the public set; 0 where it is not known.
    version: As far as the folder says one.

  Returns:
    Of too few items those that are missing are left out by their numbers; of
    too many the version says so.

  Raises:
    UserError: Nothing can be asked.
  """
  told = benchmark.reading(found, asked.folder, version)
  if not expected or told.of == expected:
    return told
  note = f'{told.of:,} items, the public set has {expected:,}'
  version = f'{version}: {note}' if version else note
  left_out = dict(told.left_out)
  if told.of < expected:
    why = f'not in the folder, which has {told.of:,} of {expected:,}'
    numbers = range(told.of + 1, expected + 1)
    left_out[why] = tuple(f'item {number}' for number in numbers)
  return dataclasses.replace(told, left_out=left_out, version=version)


def one_of(folder: str, patterns: Sequence[str]) -> list[files.AnyPath]:
  """The files of a public layout that a folder has.

  Args:
    folder: Of the benchmark.
    patterns: Globs below it, in the order in which they are tried.

  Returns:
    All that the first pattern finds which finds any, by name.

  Raises:
    UserError: There are none.
  """
  root = files.path(folder)
  if not files.is_dir(root):
    raise errors.UserError(f'{folder}: no such folder.')
  for pattern in patterns:
    if found := sorted(files.glob(root, pattern)):
      return found
  raise errors.UserError(
    f'{folder}: found none of {", ".join(patterns)}, expected one of them.'
  )


def rows(
  paths: Sequence[files.AnyPath], wanted: Sequence[str]
) -> Iterator[tuple[str, str, Mapping[str, Any]] | Left]:
  """The rows of JSON lines or of parquet.

  Args:
    paths: Files.
    wanted: Columns of parquet that are read, where they are there.

  Yields:
    (where, name of the row, its fields).
  """
  for path in paths:
    if path.name.endswith('.parquet'):
      found = _parquet(path, wanted)
    else:
      stem = path.name.partition('.')[0]
      found = (
        one
        if isinstance(one, base.Rejected)
        else (f'{path}:{one[0]}', f'{stem}-{one[0]}', one[1])
        for one in base.json_lines(path)
      )
    for one in found:
      yield left(one) if isinstance(one, base.Rejected) else one


def _parquet(path, wanted):
  options = base.Options()
  named = columns.Columns.from_options(options, ('split',))
  for row in parquet.rows(
    path,
    options,
    named,
    _BATCH,
    lambda _, names: _used(wanted, names),
  ):
    if isinstance(row, base.Rejected):
      yield row
    else:
      where, place, _, values = row
      yield where, place, values


def _used(wanted, names) -> list[str]:
  found = [one for one in wanted if one in names]
  if wanted and not found:
    raise errors.UserError(
      f'found the columns {", ".join(names)}; expected some of '
      f'{", ".join(wanted)}.'
    )
  return found


def made(
  name: str, make: Callable[..., benchmark.Item], *args: Any
) -> benchmark.Item | Left:
  """`make(*args)`, or why it is no item."""
  try:
    return make(*args)
  except errors.UserError as error:
    files.raise_outage(error)
    return name, kind_of(str(error), name)


def field(row: Mapping[str, Any], *names: str) -> Any:
  """What a row says under the first of several names.

  Raises:
    UserError: It has none of them.
  """
  for name in names:
    if row.get(name) is not None:
      return row[name]
  raise errors.UserError(f'{names[0]}: missing, expected it in every row.')


def text(row: Mapping[str, Any], *names: str) -> str:
  """As `field`, of a text.

  Raises:
    UserError: It is missing, empty or none.
  """
  found = field(row, *names)
  if not isinstance(found, str) or not found.strip():
    raise errors.UserError(f'{names[0]}: found no text, expected one.')
  return found
