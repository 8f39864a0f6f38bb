"""All benchmarks by name.

    benchmarks(('librispeech_clean', 'hellaswag'), '/data/benchmarks')

makes those of the folders `/data/benchmarks/librispeech_clean` and
`/data/benchmarks/hellaswag`; what a folder holds says `docs/benchmarks.md`,
whose table is `table()`.
"""

import dataclasses
import difflib
import functools
import sys
from typing import Any, Mapping, Sequence

from data_pipelines.benchmarks import conversations
from data_pipelines.benchmarks import dialogues
from data_pipelines.benchmarks import entries
from data_pipelines.benchmarks import quizzes
from data_pipelines.benchmarks import recordings
from data_pipelines.benchmarks import speaking
from data_pipelines.benchmarks import texts
from step_audio_jax import errors
from step_audio_jax.commands import gin_types
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.storage import files

# Each has a dict `ENTRIES`.
MODULES = (recordings, speaking, quizzes, conversations, dialogues, texts)

_COLUMNS = (
  'name', 'what', 'layout', 'asked', 'scored', 'items', 'source', 'Step-Audio',
)  # fmt: skip


@functools.cache
def all_entries() -> dict[str, entries.Entry]:
  """Name → entry, in the order of `MODULES`."""
  found: dict[str, entries.Entry] = {}
  for module in MODULES:
    if twice := found.keys() & module.ENTRIES.keys():
      raise ValueError(f'{module.__name__}: {sorted(twice)} are there already.')
    found |= module.ENTRIES
  return found


def entry(name: str) -> entries.Entry:
  """The benchmark of a name.

  Raises:
    UserError: There is none; it lists those that are called alike.
  """
  known = all_entries()
  if name in known:
    return known[name]
  near = difflib.get_close_matches(name, known, n=4, cutoff=0.5)
  alike = [one for one in known if name and one.startswith(name.split('_')[0])]
  near = list(dict.fromkeys([*near, *alike]))
  raise errors.UserError(
    f'benchmarks: found no {name!r}, expected '
    + (f'one of {", ".join(near)}' if near else 'a name of docs/benchmarks.md')
    + '.'
  )


def benchmarks(
  names: Sequence[str],
  folders: str | Mapping[str, str],
  *,
  most: int = 0,
  controls: Sequence[str] = (benchmark.PLAIN,),
  changed: Mapping[str, Mapping[str, Any]] | None = None,
  more: Sequence[benchmark.Benchmark] = (),
) -> tuple[benchmark.Benchmark, ...]:
  """The benchmarks of some names.

  Args:
    names: Of the catalogue.
    folders: Name → folder; or a folder below which each has its name.
    most: Items of each at most, the first ones; 0 is all.
    controls: Of `benchmark.CONTROLS`: how else the same is asked.
    changed: Name → fields of its class that are others than the catalogue's.
    more: Further ones, of yours.

  Raises:
    UserError: A name is unknown or there twice, or has no folder.
  """
  if isinstance(names, str):
    names = (names,)
  changed = changed or {}
  if unused := sorted(set(changed) - set(names)):
    raise errors.UserError(
      f'benchmarks: changed: found {unused[0]!r}, expected some of the names '
      f'{", ".join(names)}.'
    )
  found = []
  for name in names:
    one = entry(name)
    if any(name == other.name for other in found):
      raise errors.UserError(
        f'benchmarks: names: found {name!r} twice, expected it once.'
      )
    found.append(
      _made(
        one,
        name,
        _folder(name, folders),
        {'most': most, 'controls': tuple(controls), **changed.get(name, {})},
      )
    )
  return (*found, *more)


def _made(one, name, folder, fields):
  known = gin_types.annotations(one.load())
  taken = [field.name for field in dataclasses.fields(one.load())]
  for field in ('name', 'folder'):
    taken.remove(field)
  for field, value in fields.items():
    if field not in taken:
      raise errors.UserError(
        f'benchmarks: changed: {name}: found {field!r}, expected fields of its '
        f'class: {", ".join(taken)}.'
      )
    if not gin_types.matches(value, known[field]):
      raise errors.UserError(
        f'benchmarks: changed: {name}: {field} is {value!r}, expected '
        f'{gin_types.describe(known[field])}.'
      )
    fields[field] = gin_types.with_tuples(value, known[field])
  return one.make(name, folder, **fields)


def _folder(name: str, folders: str | Mapping[str, str]) -> str:
  if not folders:
    raise errors.UserError(
      f'benchmarks: folders: found {folders!r}, expected the folder that '
      f'{name!r} lies in.'
    )
  if isinstance(folders, str):
    return str(files.path(folders) / name)
  if name not in folders:
    raise errors.UserError(
      f'benchmarks: folders: found none for {name!r}, expected the folder of '
      'each name.'
    )
  return folders[name]


def table() -> str:
  """All of it in Markdown, for `docs/benchmarks.md`."""
  rows = [_COLUMNS, tuple('---' for _ in _COLUMNS)]
  for name, one in all_entries().items():
    rows.append(
      (
        f'`{name}`',
        one.summary,
        one.layout.replace('|', r'\|'),
        one.load().asks,
        one.scored,
        f'{one.expected:,}' if one.expected else '',
        one.source,
        _published(one),
      )
    )
  return ''.join(f'| {" | ".join(cells)} |\n' for cells in rows)


def _published(one: entries.Entry) -> str:
  told = '; '.join(
    f'{who}: ' + ', '.join(f'{name} {value:g}' for name, value in it.items())
    for who, it in one.published.items()
  )
  return f'{told} ({one.unpublished})' if told and one.unpublished else told


def published(name: str) -> dict[str, dict[str, float]]:
  """Step-Audio's own figures of a benchmark: system → figure → value."""
  found = all_entries().get(name)
  return {who: dict(it) for who, it in found.published.items()} if found else {}


def main() -> None:
  """Prints the table."""
  sys.stdout.write(table())


if __name__ == '__main__':
  main()
