"""A demonstration tool: what time it is somewhere."""

import datetime
import functools
from typing import Callable
import zoneinfo

from step_audio_jax import errors
from step_audio_jax.chats import checks
from step_audio_jax.dialogue.tools import registry

_LONGEST = 100  # characters of a name


def tool(
  now: Callable[[], datetime.datetime] | None = None, zone: str = 'UTC'
) -> registry.Tool:
  """The tool `clock`.

  Args:
    now: The time, with a zone; None is the machine's.
    zone: Of who does not say one.

  Raises:
    UserError: There is no such zone.
  """
  _zone(zone)
  if now is None:
    now = functools.partial(datetime.datetime.now, datetime.UTC)

  async def clock(zone: str = zone) -> str:
    found = _zone(zone)
    time = now().astimezone(found)
    offset = time.strftime('%z')
    return (
      f'{time:%A}, {time.day} {time:%B %Y, %H:%M:%S} in {found.key} '
      f'(UTC{offset[:3]}:{offset[3:]})'
    )

  return registry.Tool(
    'clock',
    'Tells the date and the time of day in a place.',
    clock,
    {
      'type': 'object',
      'properties': {
        'zone': {
          'type': 'string',
          'description': 'IANA name of a time zone, such as Europe/Berlin. '
          f'Without it: {zone}.',
        }
      },
      'additionalProperties': False,
    },
  )


@functools.cache
def _zones() -> dict[str, str]:
  """Names of zones and of their cities, lower case → the name."""
  names = sorted(zoneinfo.available_timezones())
  cities: dict[str, set[str]] = {}
  for name in names:
    if '/' in name:
      cities.setdefault(name.rpartition('/')[2].lower(), set()).add(name)
  found = {city: min(of) for city, of in cities.items() if len(of) == 1}
  return found | {name.lower(): name for name in names}


def _zone(name: str) -> zoneinfo.ZoneInfo:
  """A zone by its name, or by its city where there is one of that name.

  Raises:
    UserError: There is none.
  """
  zones = _zones()
  if not zones:
    raise errors.UserError(
      'zone: this machine has no table of time zones, expected one; '
      '`pip install tzdata` brings it.'
    )
  key = '_'.join(name[:_LONGEST].split()).lower()
  if key not in zones:
    near = checks.nearest(key, zones)
    raise errors.UserError(
      f'zone: found {name!r:.60}, expected the IANA name of a time zone, such '
      f'as Europe/Berlin{near}.'
    )
  return zoneinfo.ZoneInfo(zones[key])
