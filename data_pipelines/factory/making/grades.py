"""One text at several levels by one voice, and the edits between them.

    neutral ─(fast 1)→ fast 1 ─(fast 1)→ fast 2 …      and back by (slow 1)

A group is a text that is said without tags, and once for each level of each
axis, by one speaker with one seed; what it goes through behind the voice is the
same for all. An edit leads from one of an axis to another: a chat whose user
gives the text with the tag and the recording, and whose assistant answers with
the other one. With the text these are the triples (text, neutral codes, styled
codes) of arXiv 2502.11946, 5.1.1; that an edit also starts from a level, so
that it can be applied again, leads back, and is told its text, is our choice.
"""

import dataclasses
import itertools
from typing import Collection, Iterator

from step_audio_jax import errors
from step_audio_jax.styles import markup
from step_audio_jax.styles import tags

# Axis → its tags, of levels above 0 and below. Codes know no volume.
AXES = {
  'speed': ('快速', '慢速'),
  'pitch': ('高音', '低音'),
  'volume': ('大声', '小声'),
  'pause': ('停顿', None),
}
EDITED = ('speed', 'pitch', 'pause')


@dataclasses.dataclass(frozen=True)
class Grades:
  """Which levels a text is said at besides none, and how far edits go.

  Attributes:
    speed: Levels from −5 (slow 5) to 5 (fast 5).
    pitch: From −5 (low) to 5 (high).
    volume: From −5 (quiet) to 5 (loud).
    pause: From 1 to 5, of one before a word that is drawn.
    steps: By how many levels an edit leads on or back.
    edited: Axes that have edits; of the volume codes know nothing.
  """

  speed: tuple[int, ...] = ()
  pitch: tuple[int, ...] = ()
  volume: tuple[int, ...] = ()
  pause: tuple[int, ...] = ()
  steps: tuple[int, ...] = (1, 2)
  edited: tuple[str, ...] = EDITED

  def __post_init__(self):
    for axis, (_, below) in AXES.items():
      levels = getattr(self, axis)
      low = -tags.LEVELS if below else 1
      _check_levels(axis, levels, low)
      object.__setattr__(self, axis, tuple(sorted(levels)))
    _check_levels('steps', self.steps, 1)
    for axis in self.edited:
      if axis not in EDITED:
        why = ': codes do not have it' if axis in AXES else ''
        raise errors.UserError(
          f'grades: edited: found {axis!r}{why}, expected some of '
          f'{", ".join(EDITED)}.'
        )

  def __bool__(self) -> bool:
    return any(getattr(self, axis) for axis in AXES)

  def levels(self) -> Iterator[tuple[str, int]]:
    """(axis, level) of what is said besides the neutral line."""
    for axis in AXES:
      for level in getattr(self, axis):
        yield axis, level

  def edits(self) -> Iterator[tuple[str, int, int]]:
    """(axis, level it starts from, level it leads to); 0 is neutral."""
    for axis in AXES:
      levels = getattr(self, axis)
      if axis not in self.edited or not levels:
        continue
      for start, end in itertools.permutations(sorted({0, *levels}), 2):
        back = (
          AXES[axis][1] is None and end < start
        )  # no tag takes a pause away
        if abs(end - start) in self.steps and not back:
          yield axis, start, end


def marked(text: str, axis: str, level: int, place: int = 0) -> str:
  """A text with the tag of a level.

  Args:
    text: Words.
    axis: Of `AXES`.
    level: Other than 0, below it for the lower end.
    place: Character before which a pause is.
  """
  name = AXES[axis][level < 0]
  assert name is not None
  tag = tags.Tag(name, abs(level))
  if axis == 'pause':
    spans = [markup.Span(text[:place]), markup.Span(text[place:], pause=level)]
  else:
    spans = [markup.Span(text, tags.Style((tag,)))]
  return markup.write(spans)


def name_of(group: str, axis: str = '', level: int = 0) -> str:
  """Id of a line of a group."""
  return f'{group}.{axis}{level:+d}' if level else group


def name_of_edit(group: str, axis: str, start: int, end: int) -> str:
  """Id of an edit."""
  return f'{group}.{axis}{start:+d}to{end:+d}'


def turns(
  group: str, text: str, axis: str, start: int, end: int, place: int = 0
) -> list[dict]:
  """The turns of an edit, as a manifest has them."""
  asked = marked(text, axis, end - start, place)
  return [
    {
      'role': 'user',
      'content': [{'text': asked}, {'speech': name_of(group, axis, start)}],
    },
    {'role': 'assistant', 'speech': name_of(group, axis, end)},
  ]


def _check_levels(name: str, found: Collection[int], low: int) -> None:
  right = all(
    type(one) is int and low <= one <= tags.LEVELS and one for one in found
  )
  if not right or len(set(found)) < len(found):
    raise errors.UserError(
      f'grades: {name}: found {found!r}, expected different whole numbers from '
      f'{low} to {tags.LEVELS}, without 0.'
    )
