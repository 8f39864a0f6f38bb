"""What a server allows: who may ask, how much, how often, for how long."""

import dataclasses
import ipaddress
import re

from step_audio_jax import errors
from step_audio_jax.dialogue.tools import catalogue
from step_audio_jax.dialogue.turns import controller
from step_audio_jax.dialogue.turns import endpointing

_HOST = re.compile(r'[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]')
_ORIGIN = re.compile(r'https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d+)?')
_SHORTEST = 16  # characters of a token


@dataclasses.dataclass(frozen=True)
class Settings:
  """A server's limits.

  Attributes:
    host: Address that is listened at; beyond loopback a token is required.
    port: Of it; 0 takes a free one.
    token: Clients send it as `Authorization: Bearer TOKEN`; None asks for
      none.
    hosts: Names that a browser may know this server by, beside loopback's.
    origins: Of pages elsewhere that may ask, `https://app.example.org`.
    proxies: Addresses whose `X-Forwarded-For` is believed.
    most_bytes: Of one request's body.
    most_bytes_together: Of all bodies, and of their sound, that are held at
      once.
    head_seconds: Until a request's head is there.
    body_seconds: Until its body is there, and one more for every
      `least_rate` bytes that came.
    least_rate: Bytes a second, of a body.
    write_seconds: A reader that takes nothing for so long is hung up on.
    reply_seconds: Of one reply, from its first byte in to its last byte out.
    drain_seconds: What replies under way are given when the server ends.
    per_minute: Requests of one client; 0 is no limit.
    burst: Of these at once.
    most_connections: Open at once.
    most_requests: Under way at once.
    most_per_client: Of these, of one client.
    longest_sound: Seconds of a recording.
    longest_input: Characters of a text that is spoken.
    longest_reply: Ids of a reply at most.
    usual_reply: Ids of a reply where a client names no limit.
    speculation: Whether a reply is begun at a pause, before it is known whether
      its turn is over.
    end_of_turn: Who says whether it is, by name (`dialogue.turns.endpointing`).
    tools: That realtime sessions are given, by name (`dialogue.tools`).
    tool_servers: File that names servers of more tools.
  """

  host: str = '127.0.0.1'
  port: int = 8000
  token: str | None = dataclasses.field(default=None, repr=False)
  hosts: tuple[str, ...] = ()
  origins: tuple[str, ...] = ()
  proxies: tuple[str, ...] = ()
  most_bytes: int = 40 * 2**20
  most_bytes_together: int = 2**30
  head_seconds: float = 10.0
  body_seconds: float = 20.0
  least_rate: int = 2**15
  write_seconds: float = 30.0
  reply_seconds: float = 600.0
  drain_seconds: float = 30.0
  per_minute: float = 1200.0
  burst: int = 200
  most_connections: int = 1024
  most_requests: int = 64
  most_per_client: int = 48
  longest_sound: float = 3600.0
  longest_input: int = 4096
  longest_reply: int = 4096
  usual_reply: int = 1024
  speculation: bool = True
  end_of_turn: str = endpointing.USUAL
  tools: tuple[str, ...] = ()
  tool_servers: str | None = None

  def __post_init__(self):
    where = 'serve'
    if not self.host or not self.host.isprintable():
      raise errors.UserError(
        f'{where}: host: found {self.host!r}, expected an address such as '
        '127.0.0.1.'
      )
    sizes = (
      *('most_bytes', 'most_bytes_together', 'least_rate', 'burst'),
      *('most_connections', 'most_requests', 'most_per_client'),
      *('longest_input', 'longest_reply', 'usual_reply'),
    )
    errors.at_least_one(where, self, sizes)
    most = float('inf')
    positive = (1e-3, most)
    errors.within(
      where,
      self,
      {
        'port': (0, 65535),
        'per_minute': (0, most),
        'drain_seconds': (0, most),
        'head_seconds': positive,
        'body_seconds': positive,
        'write_seconds': positive,
        'reply_seconds': positive,
        'longest_sound': positive,
      },
    )
    for name, pattern, like in (
      ('hosts', _HOST, 'talk.example.org'),
      ('origins', _ORIGIN, 'https://talk.example.org'),
    ):
      for one in getattr(self, name):
        if not pattern.fullmatch(one):
          raise errors.UserError(
            f'{where}: {name}: found {one!r:.60}, expected one such as {like}.'
          )
    endpointing.judge_of(self.end_of_turn)
    catalogue.check(self.tools)
    self._check_token(where)

  def _check_token(self, where: str) -> None:
    token = self.token
    if token is None:
      if not self.is_local:
        raise errors.UserError(
          f'{where}: host is {self.host}, which others can reach, and there '
          'is no token; expected one, or the host 127.0.0.1.'
        )
      return
    fits = token.isascii() and token.isprintable() and ' ' not in token
    if not fits or len(token) < _SHORTEST:
      raise errors.UserError(  # which is not shown
        f'{where}: token: found {len(token)} characters, expected {_SHORTEST} '
        'or more, printable ASCII without spaces.'
      )

  @property
  def turns(self) -> controller.Settings:
    """How turns are told."""
    return controller.Settings(
      speculates=self.speculation, judge=self.end_of_turn
    )

  @property
  def is_local(self) -> bool:
    """Whether only this machine can reach it."""
    return is_loopback(self.host)


def is_loopback(host: str) -> bool:
  """Whether an address or a name is this machine's own."""
  if host == 'localhost':
    return True
  try:
    return ipaddress.ip_address(host.strip('[]')).is_loopback
  except ValueError:
    return False
