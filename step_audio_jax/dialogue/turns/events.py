"""What a controller is told, and what it wants done.

Times are seconds on one clock, whichever; `at` never goes back. Replies have
numbers, which grow.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Event:
  """Something has happened.

  Attributes:
    at: When.
  """

  at: float


@dataclasses.dataclass(frozen=True)
class Frame(Event):
  """A frame of the microphone was judged; `at` is its end.

  Attributes:
    speech: Probability that somebody speaks in it.
    seconds: How long it is.
    echo: Whether it is what we play ourselves.
  """

  speech: float
  seconds: float = 0.032
  echo: bool = False


@dataclasses.dataclass(frozen=True)
class Words(Event):
  """A transcript of the turn has come.

  Attributes:
    text: Of all of it up to `until`.
    until: Where the sound ends that it is of.
  """

  text: str
  until: float


@dataclasses.dataclass(frozen=True)
class Ready(Event):
  """The first sound of a reply is there.

  Attributes:
    reply: Which.
  """

  reply: int


@dataclasses.dataclass(frozen=True)
class Failed(Event):
  """A reply will not come.

  Attributes:
    reply: Which.
  """

  reply: int


@dataclasses.dataclass(frozen=True)
class Ended(Event):
  """A reply was played to its end.

  Attributes:
    reply: Which.
  """

  reply: int


@dataclasses.dataclass(frozen=True)
class Tick(Event):
  """Time has passed."""


@dataclasses.dataclass(frozen=True)
class Press(Event):
  """The user holds the button: a turn begins, whatever is played."""


@dataclasses.dataclass(frozen=True)
class Release(Event):
  """The user lets it go: the turn is over."""


@dataclasses.dataclass(frozen=True)
class Commit(Event):
  """What was heard so far is a turn."""


@dataclasses.dataclass(frozen=True)
class Asked(Event):
  """A reply was asked for, by a program or in writing."""


@dataclasses.dataclass(frozen=True)
class Cancel(Event):
  """What is replied is not wanted."""


@dataclasses.dataclass(frozen=True)
class Action:
  """Something is to be done.

  Attributes:
    at: When that was decided.
  """

  at: float


@dataclasses.dataclass(frozen=True)
class BeginTurn(Action):
  """The user speaks.

  Attributes:
    since: From where on sound belongs to the turn.
  """

  since: float


@dataclasses.dataclass(frozen=True)
class EndTurn(Action):
  """The user has spoken.

  Attributes:
    since: As of `BeginTurn`.
    until: Where the last speech ends.
  """

  since: float
  until: float


@dataclasses.dataclass(frozen=True)
class DropTurn(Action):
  """What was taken for a turn was none: a noise."""


@dataclasses.dataclass(frozen=True)
class Idle(Action):
  """Nobody has spoken for long; a `Reply` follows where there are replies."""


@dataclasses.dataclass(frozen=True)
class Paused(Action):
  """The user pauses: what they have said so far is wanted in words.

  Attributes:
    until: Where the last speech ends.
  """

  until: float


@dataclasses.dataclass(frozen=True)
class Speculate(Action):
  """Begin a reply to what was said so far; nobody may hear it yet.

  Attributes:
    reply: Its number.
    until: Where the sound ends that it answers.
  """

  reply: int
  until: float


@dataclasses.dataclass(frozen=True)
class Discard(Action):
  """Give a reply up that nobody has heard.

  Attributes:
    reply: Which.
  """

  reply: int


@dataclasses.dataclass(frozen=True)
class Reply(Action):
  """Let a reply be heard; begin it now if it was not speculated.

  Attributes:
    reply: Which.
  """

  reply: int


@dataclasses.dataclass(frozen=True)
class Hold(Action):
  """Stop playing a reply at once; it may go on.

  Attributes:
    reply: Which.
    since: From where on sound belongs to who speaks over it.
  """

  reply: int
  since: float


@dataclasses.dataclass(frozen=True)
class Resume(Action):
  """Go on playing a reply that was held.

  Attributes:
    reply: Which.
  """

  reply: int


@dataclasses.dataclass(frozen=True)
class Stop(Action):
  """A reply that is heard is over: it was interrupted or cancelled.

  Attributes:
    reply: Which.
  """

  reply: int
