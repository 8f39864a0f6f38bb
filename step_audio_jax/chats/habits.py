"""How conversations are laid out: rows say it, runs keep it, doors follow it.

    "turns": {"starts": false, "streams": "both", "history": "read"}

Two runs may read the same turns as other ids. So `build` writes into
`stats.json` how it laid them out, a run takes that over from its rows, and
whoever asks the run does the same.
"""

import dataclasses
from typing import Any, Iterable, Mapping

from step_audio_jax import documents as documents_lib
from step_audio_jax import errors
from step_audio_jax.chats import rendering

KEY = 'turns'  # as in `storage.bindings`
HEARD, READ = HISTORIES = ('heard', 'read')


@dataclasses.dataclass(frozen=True)
class Habits:
  """How a run reads turns.

  Attributes:
    starts: Whether `<s>` is behind every `<|BOT|>`.
    streams: Which codes are heard, of `documents.STREAMS`.
    history: Whether recordings in front of the last turn of the user are
      `heard`, or `read` as transcripts.
  """

  starts: bool = False
  streams: str = documents_lib.BOTH
  history: str = HEARD

  def layout(self, speaks: bool = False) -> documents_lib.Turns:
    """As `rendering.layout`."""
    return rendering.layout(self.starts, speaks)


def read(told: Any, path: Any) -> dict[str, Any]:
  """What an object says of its turns; {} where it says nothing.

  Args:
    told: A `stats.json` or `config.json`.
    path: Of it, for messages.

  Raises:
    UserError: It says something else than `Habits` can hold.
  """
  found = told.get(KEY) if isinstance(told, Mapping) else None
  if found is None:
    return {}
  kinds: Mapping[str, tuple[Any, ...]] = {
    'starts': (False, True),
    'streams': documents_lib.STREAMS,
    'history': HISTORIES,
  }
  if not isinstance(found, Mapping):
    raise errors.UserError(f'{path}: {KEY}: found {found!r:.60}, no object.')
  for name, value in found.items():
    if name not in kinds:
      raise errors.UserError(
        f'{path}: {KEY}.{name}: unknown field, expected {", ".join(kinds)}.'
      )
    if not any(
      type(value) is type(one) and value == one for one in kinds[name]
    ):
      raise errors.UserError(
        f'{path}: {KEY}.{name}: found {value!r:.60}, expected '
        f'{" or ".join(map(str, kinds[name]))}.'
      )
  return dict(found)


def joined(told: Iterable[tuple[Any, Mapping[str, Any]]]) -> dict[str, Any]:
  """What rows of several tasks say together.

  A run that has learnt to read what was said before is asked so.

  Args:
    told: (path, what it says) of each.

  Raises:
    UserError: Two of them read the same turns as other ids.
  """
  found: dict[str, Any] = {}
  whose: dict[str, Any] = {}
  for path, one in told:
    for name, value in one.items():
      if name == 'history':
        found[name] = READ if READ in (value, found.get(name)) else value
      elif found.setdefault(name, value) != value:
        raise errors.UserError(
          f'{path}: found turns {_words(name, value)}, expected them '
          f'{_words(name, found[name])} as in {whose[name]}; build both alike.'
        )
      whose.setdefault(name, path)
  return found


def of_run(
  told: Any,
  path: Any,
  *,
  starts: bool | None = None,
  streams: str | None = None,
) -> Habits:
  """How a run is asked.

  Args:
    told: Its `config.json`.
    path: Of it, for messages.
    starts: What the user wants; None for what the run has learnt.
    streams: The same.

  Raises:
    UserError: As `read`, or the user wants what it has not learnt.
  """
  known = read(told, path)
  wanted = {'starts': starts, 'streams': streams}
  for name, value in wanted.items():
    if value is None:
      continue
    if known.setdefault(name, value) != value:
      flag = (
        f'--{name}={value}'
        if name == 'streams'
        else (f'--{"" if value else "no"}{name}')
      )
      raise errors.UserError(
        f'{flag}: {path} says that turns were learnt '
        f'{_words(name, known[name])}, expected that or no such flag.'
      )
  return Habits(**known)


def _words(name: str, value: Any) -> str:
  if name == 'streams':
    return f'with {value} codes'
  if value:
    return 'with <s> behind every <|BOT|>'
  return 'without <s> behind <|BOT|>'
