"""Conversations as ShareGPT and LLaMA-Factory write them.

    {"conversations": [
      {"from": "human", "value": "<audio>What does she say?"},
      {"from": "function_call", "value": JSON of {"name", "arguments"}},
      {"from": "observation", "value": "…"},
      {"from": "gpt", "value": "…"}],
     "system": "…", "tools": JSON of a list of schemas, "audios": ["a.wav"]}

Each `<audio>` stands for the next of `audios`, each as a message has it. What
`messages` says of roles, of a `system` beside and of a recording in a turn
holds here too.
"""

import collections
from typing import Any, Mapping

from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import messages

TAG = '<audio>'


def parse(value: Mapping[str, Any]) -> chats.Conversation:
  """A conversation of `conversations`; `checks.check` says whether it is sound.

  Raises:
    UserError: A field is of another kind than expected, or there are more tags
      than recordings, or fewer.
  """
  audios = value.get('audios')
  audios = [audios] if isinstance(audios, (str, Mapping)) else audios or []
  if not isinstance(audios, list):
    raise errors.UserError(
      f'audios: found {audios!r:.60}, expected a list of paths.'
    )
  left = collections.deque(
    messages.recording(one, f'audios[{n}]') or chats.Speech(path='')
    for n, one in enumerate(audios)
  )

  def turn(one: Any, where: str) -> chats.Turn:
    found = messages.message(one, where)
    # Without recordings a tag is what somebody wrote.
    return _heard(found, left, len(audios)) if audios else found

  found = messages.assembled(value, 'conversations', turn)
  if left:
    raise errors.UserError(
      f'audios: found {len(audios)} of them and {len(audios) - len(left)} '
      f'{TAG} in the turns, expected one tag for each.'
    )
  return found


def _heard(turn: chats.Turn, left, count: int) -> chats.Turn:
  """A turn whose tags are recordings."""
  parts: list[messages.Part] = []
  for part in turn.parts:
    if not isinstance(part, str) or TAG not in part:
      parts.append(part)
      continue
    for number, text in enumerate(part.split(TAG)):
      if number:
        if not left:
          raise errors.UserError(
            f'{turn.where}: found more {TAG} than the {count} audios, expected '
            'one for each.'
          )
        parts.append(left.popleft())
      parts.append(text.strip())
  return chats.Turn(
    turn.role,
    messages.joined(parts),
    turn.calls,
    turn.tools,
    turn.call_id,
    turn.where,
  )
