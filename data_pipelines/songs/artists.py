"""Artists in splits: whoever sings together is in one split, and in no other.

Names are compared without case, punctuation and spaces. `A feat. B` names two,
and joins all tracks of both; what is joined goes where a hash of its first name
by the alphabet says, so that a collection that grows moves tracks only where it
joins artists that were apart. A name that is taken for two joins more than it
must, which parts nobody.
"""

import re
from typing import Mapping
import unicodedata

from data_pipelines import splits
from step_audio_jax import errors

_BETWEEN = re.compile(
  r'\s*(?:[;/、,，&＆+]|\b(?:and|feat|ft|featuring|with|vs)\b\.?|\s[x×]\s)\s*',
  re.IGNORECASE,
)


def names_of(artist: str) -> tuple[str, ...]:
  """Whom the name of an artist names, as they are compared, in order."""
  found = []
  for part in _BETWEEN.split(artist):
    whole = unicodedata.normalize('NFKC', part).casefold()
    name = ''.join(letter for letter in whole if letter.isalnum())
    if name := name or whole.strip():  # some are called `!!!`
      found.append(name)
  return tuple(dict.fromkeys(found))


def groups(artists: Mapping[str, str | None]) -> dict[str, str]:
  """Track → name of the group of artists that it belongs to.

  Args:
    artists: Track → who sings, as its lyrics or its file say.

  Raises:
    UserError: Nobody knows who sings a track: it could be anyone of another
      split.
  """
  above: dict[str, str] = {}

  def root(name):
    above.setdefault(name, name)
    while above[name] != name:
      above[name] = above[above[name]]
      name = above[name]
    return name

  first = {}
  for track, artist in artists.items():
    names = names_of(artist or '')
    if not names:
      raise errors.UserError(
        f'{track}: artist: found {artist!r}, expected a name, as in [ar:NAME]: '
        'tracks are put into splits by it.'
      )
    first[track] = names[0]
    for name in names:
      one, other = sorted((root(names[0]), root(name)))
      above[other] = one
  return {track: root(name) for track, name in first.items()}


def splits_of(
  artists: Mapping[str, str | None], dev: float, test: float
) -> dict[str, str]:
  """Track → split.

  Args:
    artists: As of `groups`.
    dev: Share of groups, about; `test` likewise.
    test: As `dev`.

  Raises:
    UserError: As `groups`; the shares are none.
  """
  if not (0 <= dev and 0 <= test and dev + test < 1):
    raise errors.UserError(
      f'songs: dev, test: found {dev}, {test}, expected shares below 1 '
      'together.'
    )
  found = groups(artists)
  return {t: splits.split_of(group, dev, test) for t, group in found.items()}
