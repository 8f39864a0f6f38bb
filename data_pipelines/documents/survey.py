"""What a manifest holds, found in one pass and 8 bytes a line.

Tasks ask for it several times (which splits there are, how many lines a worker
has to pass by, whether any line has word times), so it is kept until the file
changes.
"""

import functools
import os
from typing import Mapping, NamedTuple

from data_pipelines import id_marks
from step_audio_jax import errors
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files
from step_audio_jax.styles import markup
from step_audio_jax.styles import tags as tags_lib

Group = tuple[str, str]  # (kind, split)


class Survey(NamedTuple):
  """Figures of a manifest.

  Attributes:
    lines: (kind, split) → lines, in the file's order.
    timed: Those (kind, split) in which any line has word times.
    tags: (kind, split) → tags of its marked texts, as they are written, in
      order; of those that have any.
    categories: (kind, split) → those of its lines, sorted; of those that have
      any.
  """

  lines: Mapping[Group, int]
  timed: frozenset[Group]
  tags: Mapping[Group, tuple[str, ...]]
  categories: Mapping[Group, tuple[str, ...]]

  def splits(self, kind: str) -> list[str]:
    """Splits that have lines of a kind, in the file's order."""
    return [split for found, split in self.lines if found == kind]


def read_survey(corpus: str | os.PathLike) -> Survey:
  """Reads a manifest, or remembers it.

  Raises:
    UserError: It is missing, a line is wrong, or an id occurs twice.
  """
  path = manifest.path_of(corpus)
  try:
    state = files.state(path)
  except OSError:
    return _read(str(path))  # says what is missing
  return _kept(str(path), state)


@functools.lru_cache(maxsize=16)
def _kept(path: str, state: files.State) -> Survey:
  del state  # only tells one content from another
  return _read(path)


def _read(path: str) -> Survey:
  lines: dict[Group, int] = {}
  timed, ids = set(), id_marks.Marks()
  tags: dict[Group, set[tags_lib.Tag]] = {}
  categories: dict[Group, set[str]] = {}
  for utterance in manifest.stream(path):
    group = utterance.kind, utterance.split
    lines[group] = lines.get(group, 0) + 1
    ids.add(utterance.id)
    if utterance.words:
      timed.add(group)
    if utterance.category:
      categories.setdefault(group, set()).add(utterance.category)
    if utterance.marked:
      found = markup.tags_of(markup.parse(utterance.marked))
      tags.setdefault(group, set()).update(found)
  twice = ids.repeated(utterance.id for utterance in manifest.stream(path))
  if twice:
    number, name = twice
    raise errors.UserError(f'{path}: item {number}: id {name!r} occurs twice.')
  known = {
    group: tuple(str(tag) for tag in tags_lib.every() if tag in some)
    for group, some in tags.items()
  }
  sorts = {group: tuple(sorted(some)) for group, some in categories.items()}
  return Survey(lines, frozenset(timed), known, sorts)
