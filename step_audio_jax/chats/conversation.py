"""What a conversation is: turns of five roles, written, spoken, with tools.

    system              text
    tool_json_schemas   schemas of tools, as OpenAI has them; behind the system
    user                text, one speech, or text in front of it or behind it
    assistant           the same, with text in front of speech; calls come last
    tool                text: what a call gave, behind the turn that called

Parsers of the formats (`formats`) make conversations, `checks` says what is
wrong with one, and `rendering` makes ids of it.
"""

import dataclasses
import json
from typing import Any, Mapping

ROLES = ('system', 'tool_json_schemas', 'user', 'assistant', 'tool')
SYSTEM, TOOLS, USER, ASSISTANT, RESULT = ROLES


def as_json(value: Any) -> str:
  """JSON as every chat here holds it, and as templates of others write it."""
  return json.dumps(value, ensure_ascii=False)


@dataclasses.dataclass(frozen=True)
class Speech:
  """A recording in a turn: one of the first three.

  Attributes:
    id: Of an utterance of the corpus.
    path: Of a file, relative to where the conversation was written.
    data: The file itself.
    text: What is said, if it is known.
    offset: Where the part that is meant begins in it, seconds.
    duration: Of that part, seconds; None is all that is left.
    channel: Which of it is heard, from 0; the mean of several; None is all.
  """

  id: str | None = None
  path: str | None = None
  data: bytes | None = dataclasses.field(default=None, repr=False)
  text: str | None = None
  offset: float = 0.0
  duration: float | None = None
  channel: int | tuple[int, ...] | None = None

  @property
  def part(self) -> dict[str, Any]:
    """What `audio.io` is told to read of it: arguments by name."""
    return {
      'offset': self.offset,
      'duration': self.duration,
      'channel': self.channel,
    }

  @property
  def is_whole(self) -> bool:
    """Whether all of it is meant."""
    return not self.offset and self.duration is None and self.channel is None


@dataclasses.dataclass(frozen=True)
class Call:
  """A call of a tool.

  Attributes:
    name: Of the tool.
    arguments: A JSON object.
    id: By which a result says whose it is.
  """

  name: str
  arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  id: str | None = None

  @property
  def written(self) -> str:
    """What stands between the control pieces."""
    return as_json({'name': self.name, 'arguments': self.arguments})


@dataclasses.dataclass(frozen=True)
class Turn:
  """What one of `ROLES` says.

  Attributes:
    role: Of `ROLES`.
    parts: Texts and speech in order; no two texts are neighbours.
    calls: Of the assistant.
    tools: Schemas, {'type': 'function', 'function': {'name', …}} each.
    call_id: Of a result: which call gave it.
    where: What the turn is called where it was written, for messages.
  """

  role: str
  parts: tuple[str | Speech, ...] = ()
  calls: tuple[Call, ...] = ()
  tools: tuple[Mapping[str, Any], ...] = ()
  call_id: str | None = None
  where: str = dataclasses.field(default='turns', compare=False)

  @property
  def speech(self) -> Speech | None:
    """The recording, if there is one."""
    return next((p for p in self.parts if isinstance(p, Speech)), None)

  @property
  def text(self) -> str:
    """All that is written in it."""
    return '\n'.join(part for part in self.parts if isinstance(part, str))


@dataclasses.dataclass(frozen=True)
class Conversation:
  """Turns in order."""

  turns: tuple[Turn, ...]

  @property
  def tools(self) -> tuple[Mapping[str, Any], ...]:
    """The schemas of all its tools."""
    return tuple(tool for turn in self.turns for tool in turn.tools)
