"""Verifies what the jobs left: folders of rows, codes, corpora.

Everything is read as a stream: memory does not grow with what is verified,
but for the 8 bytes an id that tell one that occurs twice. `rows.checks` says
what must hold in a row.
"""

import collections
import pathlib
from typing import Iterator

from data_pipelines import id_marks
from data_pipelines import records
from data_pipelines.rows import checks
from data_pipelines.rows import folders as rows_lib
from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax import vocabulary
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.storage import files
from step_audio_jax.training.feeds import pairs as pairs_lib

# In the order in which they are reported.
CHECKS = ('checksums', *checks.CHECKS, 'counts')


def faults(
  folder: rows_lib.Folder,
  table_size: int = 0,
  checked: collections.Counter | None = None,
) -> Iterator[str]:
  """Says what is wrong with a folder of rows, one sentence each.

  Args:
    folder: As `open_folder` gives it.
    table_size: Ids must be below; 0 takes the one of `stats.json`.
    checked: Counts, for each check, the rows that it looked at (`checksums`:
      the shards).
  """
  stats = folder.stats
  checked = collections.Counter() if checked is None else checked
  table = vocabulary.Vocabulary.of_sizes(stats['vocabulary'])
  broken = list(_changed_shards(folder, checked))
  if broken:  # what such a shard holds says nothing
    yield from broken
    return
  found = rows_lib.Summary(table, stats['length'])
  shards = progress.bar(folder.shards(), label='verify', unit='shard')
  for shard in shards:
    for row, names in folder.read(shard):
      where = f'{folder.path / shard}: row {found.rows}'
      checked.update(checks.CHECKS)
      whole = True
      for field, what in checks.faults(
        row,
        names,
        table,
        stats['length'],
        table_size or table.table_size,
        # Counts are compared below: they cannot say so and hold others.
        linguistic_alone=not stats['tokens_by_kind'].get('semantic'),
        categories=len(stats.get(pairs_lib.CATEGORIES, ())),
      ):
        whole = False
        yield f'{where}: {field}: {what}.'
      if whole:
        found.count(row, names)
      else:
        found.skip()
  yield from _wrong_counts(folder, found, checked)


def _changed_shards(folder: rows_lib.Folder, checked) -> Iterator[str]:
  """Shards that are not those of `stats.json`."""
  digests = folder.stats.get('sha256')
  if digests is None:  # rows of older builds have none
    return
  for name in folder.shards():
    path = folder.path / name
    if not files.exists(path):
      yield f'{path}: no such file.'
    elif records.sha256(path) != digests[name]:
      yield f'{path}: its sha256 is not the one of stats.json.'
    else:
      checked['checksums'] += 1
  # The feed reads all that is there.
  for path in sorted(files.glob(folder.path, f'*{records.SUFFIX}')):
    if path.name not in digests:
      yield f'{path}: stats.json does not name this file.'


def _wrong_counts(
  folder: rows_lib.Folder, found: rows_lib.Summary, checked
) -> Iterator[str]:
  """Counts of `stats.json` that are not those of the rows."""
  stats, path = folder.stats, folder.path / 'stats.json'
  told = found.to_json()
  if found.broken:  # what those rows hold cannot be counted
    told = {'rows': told['rows']}
  for key, count in told.items():
    if key == 'vocabulary' or key not in stats:
      continue
    if isinstance(count, dict):
      pairs = {
        f'{key}.{kind}': (stats[key].get(kind, 0), count.get(kind, 0))
        for kind in sorted({*stats[key], *count})
      }
    else:
      pairs = {key: (stats[key], count)}
    for name, (expected, seen) in pairs.items():
      if expected != seen:
        yield f'{path}: {name} is {expected}, found {seen}.'
  dropped = sum(1 for _ in files.read_jsonl(folder.path / 'quarantine.jsonl'))
  if dropped != stats.get('dropped', dropped):
    yield (
      f'{path}: dropped is {stats["dropped"]}, found {dropped} lines in '
      'quarantine.jsonl.'
    )
  checked['counts'] += found.rows


def code_faults(
  folder: pathlib.Path, checked: collections.Counter
) -> Iterator[str]:
  """Says what is wrong with a folder of codes, one sentence each.

  Args:
    folder: What `tokenize` made.
    checked: Counts what was looked at.
  """
  table, ids = vocabulary.Vocabulary(), id_marks.Marks()
  for name, pair in speech_codes.stream_codes(folder):
    checked['codes'] += 1
    ids.add(name)
    try:
      table.interleave(*pair)
    except errors.UserError as error:
      yield f'{folder}: {name}: {error}'
  kept = files.read_json(folder / 'stats.json')['kept']
  checked['counts'] += checked['codes']
  if checked['codes'] != kept:
    yield (
      f'{folder}/stats.json: kept is {kept}, found {checked["codes"]} '
      'utterances.'
    )
  twice = ids.repeated(name for name, _ in speech_codes.stream_codes(folder))
  if twice:
    number, name = twice
    yield f'{folder}: item {number}: id {name!r} occurs twice.'


def _files_of(
  utterance: manifest.Utterance, folder: pathlib.Path
) -> tuple[str, list[str | None]]:
  """Its id, and of each of its files what is wrong with it, or None."""
  looks = []
  for field in ('audio', 'image'):
    name = getattr(utterance, field)
    if name is None:
      continue
    fault = None
    try:
      if not files.is_file(getattr(utterance, f'{field}_path')(folder)):
        fault = f'{folder}: {utterance.id}: {field} {name!r} is not there.'
    except errors.UserError as error:  # a link that leads out
      files.raise_outage(error)
      fault = str(error)
    looks.append(fault)
  return utterance.id, looks


def corpus_faults(
  folder: pathlib.Path, checked: collections.Counter
) -> Iterator[str]:
  """Says what is wrong with a corpus, one sentence each; as `code_faults`."""
  ids = id_marks.Marks()
  found = manifest.stream(folder)
  looked_at = files.ahead(folder, lambda one: _files_of(one, folder), found)
  for name, looks in looked_at:
    checked['lines'] += 1
    ids.add(name)
    for fault in looks:
      checked['files'] += 1
      if fault:
        yield fault
  twice = ids.repeated(utterance.id for utterance in manifest.stream(folder))
  if twice:
    number, name = twice
    path = manifest.path_of(folder)
    yield f'{path}: item {number}: id {name!r} occurs twice.'
