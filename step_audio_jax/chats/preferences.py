"""What is preferred: two answers to one prompt, as manifests hold them.

    turns      a chat whose last turn is the user's, or what a tool gave
    chosen     {"role": "assistant", "text": …}, or "speech", or both
    rejected   the same: another answer

Where several answers are ranked there is one preference for each pair of them.
Where an answer was judged by itself it stands alone: as `chosen` if it is
wanted, as `rejected` if it is not.
"""

from typing import Any, Mapping, NamedTuple

from step_audio_jax import errors
from step_audio_jax.chats import checks
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import own

ANSWERS = CHOSEN, REJECTED = ('chosen', 'rejected')
_ASKING = (chats.USER, chats.RESULT)  # whose turn an answer stands behind


class Preference(NamedTuple):
  """A prompt with its two answers, or with one of them.

  Attributes:
    prompt: What the answers are to.
    chosen: The better answer, or one that is wanted.
    rejected: The other, or one that is not wanted.
  """

  prompt: chats.Conversation
  chosen: chats.Turn | None
  rejected: chats.Turn | None

  @property
  def answers(self) -> tuple[chats.Turn, ...]:
    """Those that there are."""
    both = self.chosen, self.rejected
    return tuple(one for one in both if one is not None)


def parse(turns: Any, chosen: Any, rejected: Any) -> Preference:
  """A preference as manifests write it; `check` says whether it is sound.

  Raises:
    UserError: A turn is of another shape than expected.
  """
  found = (
    None if value is None else own.parse_turn(value, name)
    for name, value in zip(ANSWERS, (chosen, rejected))
  )
  return Preference(own.parse(turns), *found)


def checked(
  turns: Any, chosen: Any, rejected: Any
) -> tuple[tuple[Mapping[str, Any], ...], dict[str, Mapping[str, Any]]]:
  """Turns of a manifest as they are kept, and its answers by name.

  Raises:
    UserError: As `parse` and `check`.
  """
  for name, value in zip(('turns', *ANSWERS), (turns, chosen, rejected)):
    checks.check_depth(value, name)
  found = parse(turns, chosen, rejected)
  check(found)
  names = [n for n, one in zip(ANSWERS, (chosen, rejected)) if one is not None]
  answers = own.written(chats.Conversation(found.answers))
  return own.written(found.prompt), dict(zip(names, answers))


def check(found: Preference) -> None:
  """Refuses a preference that is none, naming the turn and the field.

  Raises:
    UserError: As `check_prompt` and `check_answer`; or there is no answer, both
      are the same, or one of them alone is spoken.
  """
  check_prompt(found.prompt)
  if not found.answers:
    raise errors.UserError(
      f'{CHOSEN}: missing, as is {REJECTED}, expected one of them or both.'
    )
  for answer in found.answers:
    check_answer(found.prompt, answer)
  if found.chosen is not None and found.rejected is not None:
    check_pair(found.chosen, found.rejected)


def check_prompt(prompt: chats.Conversation) -> None:
  """Refuses a chat that asks nothing.

  Raises:
    UserError: It is not sound, nobody asks, or nobody is to answer.
  """
  if all(turn.role != chats.USER for turn in prompt.turns):
    raise errors.UserError('turns: found none of the user, expected one.')
  checks.check(prompt)
  last = prompt.turns[-1]
  if last.role not in _ASKING:
    raise errors.UserError(
      f'{last.where}: found {last.role} in front of the answers, expected '
      f'{" or ".join(_ASKING)}.'
    )


def check_answer(prompt: chats.Conversation, answer: chats.Turn) -> None:
  """Refuses what answers nothing.

  Raises:
    UserError: It is not of the assistant, empty, or not sound.
  """
  if answer.role != chats.ASSISTANT:
    raise errors.UserError(
      f'{answer.where}.role: found {answer.role}, expected {chats.ASSISTANT}.'
    )
  checks.check(chats.Conversation((*prompt.turns, answer)))


def check_pair(chosen: chats.Turn, rejected: chats.Turn) -> None:
  """Refuses two answers that cannot be told apart, or not by what they say.

  Raises:
    UserError: They are the same, or one of them alone is spoken.
  """
  if _said(chosen) == _said(rejected):
    raise errors.UserError(
      f'{rejected.where}: found the same answer as {chosen.where}, expected '
      'another.'
    )
  for one, other in ((chosen, rejected), (rejected, chosen)):
    if one.speech is not None and other.speech is None:
      raise errors.UserError(
        f'{other.where}: found no recording, but {one.where} has one, expected '
        'it on both sides or on none.'
      )


def _said(answer: chats.Turn) -> tuple[list[Any], list[str]]:
  """An answer without the blanks around its texts and the ids of its calls."""
  parts = [p.strip() if isinstance(p, str) else p for p in answer.parts]
  return parts, [call.written for call in answer.calls]
