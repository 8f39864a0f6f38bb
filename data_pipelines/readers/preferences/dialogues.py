r"""Dialogues and prompts in plain text.

    \n\nHuman: …\n\nAssistant: …     whose turns, as Anthropic's HH writes them
    The sky is blue. / The sky is green.    two continuations of one text

HH is told in Bai et al., "Training a Helpful and Harmless Assistant with
Reinforcement Learning from Human Feedback", 2022.
"""

import itertools
import re

from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats

_WHO = {'Human': chats.USER, 'Assistant': chats.ASSISTANT}
_SPEAKS = re.compile(r'(?:\A\s*|\n\n)(Human|Assistant):')
_DIALOGUE = re.compile(r'\s*Human:')
_WORD = r"[0-9A-Za-z\u00c0-\u024f']"  # of scripts with spaces between words
_BEGUN, _GOES_ON = re.compile(f'{_WORD}+$'), re.compile(_WORD)


def is_dialogue(text: str) -> bool:
  """Whether a text says whose turns it is made of."""
  return _DIALOGUE.match(text) is not None


def messages_of(text: str, field: str) -> list[dict[str, str]]:
  """A dialogue as messages.

  Args:
    text: As HH has it. What ends with `Assistant:` is a prompt.
    field: Of the text, for messages.

  Raises:
    UserError: It does not begin with a turn.
  """
  before, *rest = _SPEAKS.split(text)
  if before.strip() or not rest:
    raise errors.UserError(
      f'{field}: found {text!r:.60}, expected it to begin with "Human:".'
    )
  return [
    {'role': _WHO[who], 'content': said.strip()}
    for who, said in zip(rest[::2], rest[1::2])
  ]


def prompt_messages(text: str) -> list[dict[str, str]]:
  """A prompt, which may be a dialogue, as messages."""
  if not is_dialogue(text):
    return [{'role': chats.USER, 'content': text}]
  found = messages_of(text, 'prompt')
  open_end = found[-1] == {'role': chats.ASSISTANT, 'content': ''}
  return found[:-1] if open_end else found


def shared(chosen: str, rejected: str) -> tuple[str, str, str]:
  """The text that two begin with, in whole words, and how each goes on.

  Raises:
    UserError: They begin with different words.
  """
  both = zip(chosen, rejected)
  size = sum(1 for _ in itertools.takewhile(lambda two: two[0] == two[1], both))
  prompt = chosen[:size]
  if any(_GOES_ON.match(text[size:]) for text in (chosen, rejected)):
    prompt = _BEGUN.sub('', prompt)
  if not prompt.strip():
    raise errors.UserError(
      'prompt: missing, and chosen and rejected begin with different words, '
      'expected a prompt that both answer.'
    )
  size = len(prompt)
  return prompt.strip(), chosen[size:].strip(), rejected[size:].strip()
