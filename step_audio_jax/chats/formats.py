"""A conversation in any of the three formats, told apart by its fields.

messages        OpenAI's (`messages`)
conversations   ShareGPT's (`sharegpt`)
turns           a manifest's (`own`)
"""

from typing import Any, Mapping

from step_audio_jax import errors
from step_audio_jax.chats import checks
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import messages
from step_audio_jax.chats import own
from step_audio_jax.chats import sharegpt

FORMATS = {
  'messages': messages.parse,
  'conversations': sharegpt.parse,
  'turns': lambda value: own.parse(value['turns']),
}


def format_of(value: Any) -> str:
  """Which of `FORMATS` an object is in.

  Raises:
    UserError: It is in none.
  """
  if isinstance(value, Mapping):
    for name in FORMATS:
      if value.get(name) is not None:
        return name
  raise errors.UserError(
    f'messages: missing, expected a list of them, or {", ".join(FORMATS)}.'
  )


def parse(value: Any, *, training: bool = False) -> chats.Conversation:
  """A checked conversation.

  Args:
    value: An object in one of `FORMATS`.
    training: As in `checks.check`.

  Raises:
    UserError: It is in none, or not sound; the turn and the field are named.
  """
  name = format_of(value)
  checks.check_depth(value, name)
  conversation = FORMATS[name](value)
  checks.check(conversation, training=training, orderly=name != 'turns')
  return conversation
