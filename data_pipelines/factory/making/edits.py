"""The edits of what was said: chats behind the lines that they refer to.

An edit is kept where both of its recordings are; else it is in quarantine with
the one that is missing.
"""

import itertools
from typing import Any, Iterable, Iterator

from data_pipelines.factory import provenance
from data_pipelines.factory.gates import base
from data_pipelines.factory.making import grades as grades_lib
from data_pipelines.factory.making import items as items_lib
from step_audio_jax.corpus import manifest

Told = dict[str, Any]  # as `shards` tells what became of an item


def interleaved(
  made: Iterable[tuple[items_lib.Item, Told]], grades: grades_lib.Grades
) -> Iterator[Told]:
  """What became of items, with each group's edits behind it.

  Args:
    made: Items in order, with what became of them.
    grades: Of the recipe.
  """
  groups = itertools.groupby(
    made, lambda pair: pair[0].group or pair[0].line.id
  )
  for _, members in groups:
    first, kept = None, set()
    for item, told in members:
      first = first or item
      if 'utterance' in told:
        kept.add(item.line.id)
      yield told
    if first is not None and first.group:
      for edit in grades.edits():
        yield _edit(first, kept, *edit)


def _edit(item, kept, axis: str, start: int, end: int) -> Told:
  """One edit of a group, whose neutral item is given."""
  name = grades_lib.name_of_edit(item.group, axis, start, end)
  sides = [grades_lib.name_of(item.group, axis, k) for k in (start, end)]
  lost = [side for side in sides if side not in kept]
  if lost:
    reason = f'edit: {lost[0]!r} was not kept, expected both recordings.'
    refused = items_lib.refusal(name, items_lib.EDIT, base.UNMEASURED, reason)
    return {
      'quarantine': refused,
      'outcomes': {items_lib.EDIT: base.UNMEASURED},
    }
  turns = grades_lib.turns(item.group, item.text, axis, start, end, item.place)
  utterance = manifest.Utterance(
    id=name,
    kind='chat',
    split=item.line.split,
    language=item.line.language,
    turns=tuple(turns),
  )
  origin = provenance.Origin(id=name, seed=item.line.seed, sources=sides)
  return {
    'utterance': utterance.to_json(),
    'origin': origin.to_json(),
    'outcomes': {items_lib.EDIT: base.PASSED},
  }
