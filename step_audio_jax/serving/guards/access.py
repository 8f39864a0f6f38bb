"""Who may ask: a token, and of browsers the page that they are on.

A page of somebody else that is open in a user's browser can reach loopback. It
is told apart by its Origin; and where it made its own name point here (DNS
rebinding), by the Host that the browser asks for.
"""

import hmac
from typing import Any, Mapping
import urllib.parse

from step_audio_jax.serving.guards import faults
from step_audio_jax.serving.guards import settings as settings_lib

# How browsers send a token with a WebSocket, which takes no headers from them.
SUBPROTOCOL = 'openai-insecure-api-key.'


def headers_of(scope: Mapping[str, Any]) -> dict[str, str]:
  """Headers by lower-case names; the last of several."""
  return {
    name.decode('latin-1').lower(): value.decode('latin-1')
    for name, value in scope['headers']
  }


def check_place(
  headers: Mapping[str, str], settings: settings_lib.Settings
) -> str | None:
  """Refuses pages of others and names that are not ours.

  Args:
    headers: Of a request.
    settings: Of the server.

  Returns:
    The origin of another page that may ask, for CORS; else None.

  Raises:
    Fault: 403.
  """
  host = headers.get('host', '')
  named = _name(host)
  # Where others can reach it, a token is required, which no rebound page has.
  if settings.is_local or settings.hosts:
    if not settings_lib.is_loopback(named) and named not in settings.hosts:
      raise faults.Fault(
        403,
        f'host: found {host!r:.80}, expected a name of this server; '
        '--host_name adds one.',
        code='host_not_allowed',
      )
  origin = headers.get('origin')
  if origin is None:
    return None
  if origin in settings.origins:
    return origin
  if urllib.parse.urlsplit(origin).netloc.lower() == host.lower() != '':
    return None
  raise faults.Fault(
    403,
    f'origin: found {origin!r:.80}, expected the page of this server; '
    '--origin adds one.',
    code='origin_not_allowed',
  )


def check_token(
  headers: Mapping[str, str], settings: settings_lib.Settings
) -> None:
  """Refuses who does not know the token.

  Raises:
    Fault: 401.
  """
  if settings.token is None:
    return
  scheme, _, given = headers.get('authorization', '').partition(' ')
  if scheme.lower() != 'bearer':
    given = next(
      (
        one.strip().removeprefix(SUBPROTOCOL)
        for one in headers.get('sec-websocket-protocol', '').split(',')
        if one.strip().startswith(SUBPROTOCOL)
      ),
      '',
    )
  given = given.strip()
  if not hmac.compare_digest(given.encode(), settings.token.encode()):
    raise faults.Fault(
      401,
      'Incorrect API key provided; expected the token of this server.'
      if given
      else 'No API key provided; expected Authorization: Bearer TOKEN.',
      code='invalid_api_key',
      headers={'www-authenticate': 'Bearer'},
    )


def _name(host: str) -> str:
  """`name:port` without its port, lower case."""
  if host.startswith('['):
    return host.partition(']')[0].lower() + ']'
  return host.partition(':')[0].lower()
