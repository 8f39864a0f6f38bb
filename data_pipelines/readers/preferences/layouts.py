"""Preferences in any of the layouts, told apart by their fields.

    prompt · chosen · rejected     TRL's: texts, messages, or lists of them; the
                                   prompt may be what both begin with
    turns | messages | conversations · chosen · rejected
                                   a chat in any format, and its two answers
    chosen · rejected              HH's dialogues in plain text
    prompt · chosen · rejected · score_chosen · score_rejected
                                   UltraFeedback as pairs
    instruction · completions      UltraFeedback: responses with scores
    a prompt · answers             each with a rank, a score, or scores
    a prompt · completion · label  one answer, and whether it is wanted, as
                                   TRL has it for KTO

What is beside them is that of chats: `system`, `tools`, `audios`; and of a pair
its `margin`.
"""

import itertools
from typing import Any, Mapping, NamedTuple, Sequence

from data_pipelines.readers.common import columns as columns_lib
from data_pipelines.readers.preferences import dialogues
from data_pipelines.readers.preferences import rankings
from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats
from step_audio_jax.chats import formats
from step_audio_jax.chats import messages
from step_audio_jax.chats import own
from step_audio_jax.chats import preferences

CHOSEN, REJECTED = preferences.ANSWERS
ALONE, LABEL = 'completion', 'label'
# Lists of answers to one prompt: name → where an answer says its text.
_LISTS = {'answers': 'text', 'completions': 'response'}
# What a prompt may be called that is one text.
_PROMPTS = ('prompt', 'instruction')
_OWN = ('role', 'text', 'speech', 'content', 'calls')
Turns = tuple[chats.Turn, ...]


class Judged(NamedTuple):
  """A prompt with its answers, and which are better than which.

  Attributes:
    prompt: What is answered.
    answers: Turns of the assistant.
    pairs: Of places in `answers`.
    ranked: Whether there could be several pairs.
  """

  prompt: chats.Conversation
  answers: Turns
  pairs: Sequence[rankings.Pair]
  ranked: bool


def parse(row: Mapping[str, Any], rules: rankings.Rules) -> Judged:
  """What a row prefers; `preferences.check` says whether it is sound.

  Args:
    row: In one of the layouts.
    rules: Which answers become pairs.

  Raises:
    UserError: It is in none; the field is named.
  """
  for name, text in _LISTS.items():
    if row.get(name) is not None:
      return _ranked(row, name, text, rules)
  compared = any(row.get(name) is not None for name in preferences.ANSWERS)
  if row.get(ALONE) is not None and not compared:
    return _alone(row)
  for name in preferences.ANSWERS:
    if row.get(name) is None:
      raise errors.UserError(
        f'{name}: missing, expected {CHOSEN} and {REJECTED}, or one of '
        f'{", ".join((*_LISTS, ALONE))}.'
      )
  prompt, answers = _pair(row)
  return Judged(prompt, answers, [_margin(row, rules)], ranked=False)


def _ranked(row, name: str, text: str, rules: rankings.Rules) -> Judged:
  found = row[name]
  if not isinstance(found, list) or not all(
    isinstance(one, Mapping) for one in found
  ):
    raise errors.UserError(
      f'{name}: found {found!r:.60}, expected a list of objects.'
    )
  worths = rankings.worths(found, name, rules)
  pairs = rankings.pairs(worths, name, rules)
  prompt = _needed_prompt(row)
  answers = []
  for number, answer in enumerate(found):
    said = {'role': chats.ASSISTANT, **answer}
    if text != 'text':  # it may have a system of its own, too
      said = {'role': chats.ASSISTANT, 'content': answer.get(text)}
    elif row.get('turns') is not None:
      said = {key: said[key] for key in _OWN if key in said}
    answers.append(_turn(row, said, f'{name}[{number}]'))
  return Judged(prompt, tuple(answers), pairs, ranked=True)


def _alone(row) -> Judged:
  """A row with one answer, which is wanted or not."""
  label = row.get(LABEL)
  if not isinstance(label, bool):
    raise errors.UserError(
      f'{LABEL}: found {label!r:.60}, expected true for a {ALONE} that is '
      'wanted, or false.'
    )
  answers = _listed(row, row[ALONE], ALONE)
  if len(answers) > 1:
    raise errors.UserError(
      f'{ALONE}: found {len(answers)} turns, expected one behind the prompt.'
    )
  pair = rankings.Pair(*((0, None) if label else (None, 0)), 0.0)
  return Judged(_needed_prompt(row), answers, [pair], ranked=False)


def _margin(row: Mapping[str, Any], rules: rankings.Rules) -> rankings.Pair:
  """The one pair of a row, whose first answer is the chosen one."""
  scores = [f'score_{name}' for name in preferences.ANSWERS]
  margin = 0.0
  if any(row.get(name) is not None for name in scores):
    better, worse = (columns_lib.number(row.get(s), s) for s in scores)
    if better < worse:
      raise errors.UserError(
        f'{scores[0]}: found {better:g}, less than {worse:g} of the rejected '
        'answer, expected more.'
      )
    (pair,) = rankings.pairs([better, worse], ' and '.join(scores), rules)
    margin = pair.margin
  if row.get('margin') is not None:
    margin = columns_lib.number(row['margin'], 'margin')
  return rankings.Pair(0, 1, margin)


def _pair(row: Mapping[str, Any]) -> tuple[chats.Conversation, Turns]:
  """The prompt and both answers of a row with two of them."""
  asked = _prompt(row)
  values = [row[name] for name in preferences.ANSWERS]
  plain = all(
    isinstance(one, str) and not dialogues.is_dialogue(one) for one in values
  )
  if asked is None and plain:
    text, *values = dialogues.shared(*values)
    asked = _assembled(row, 'prompt', dialogues.prompt_messages(text))
  sides = [
    _listed(row, value, name)
    for name, value in zip(preferences.ANSWERS, values)
  ]
  _check_prompts(sides)
  (*before, _), _ = sides
  if before:
    _check_asked(row, asked, before)
    listed = row[CHOSEN]
    if isinstance(listed, str):
      listed = dialogues.messages_of(listed, CHOSEN)
    asked = _assembled(row, CHOSEN, listed[:-1])
  if asked is None:
    raise errors.UserError(
      f'prompt: missing, and {CHOSEN} is one turn, expected a prompt or whole '
      'dialogues.'
    )
  return asked, tuple(turns[-1] for turns in sides)


def _listed(row, value: Any, name: str) -> Turns:
  """One side of a pair: a prompt, if it is there, and the answer."""
  if isinstance(value, list) and value:
    return tuple(_turn(row, one, f'{name}[{n}]') for n, one in enumerate(value))
  if isinstance(value, str) and dialogues.is_dialogue(value):
    return _listed(row, dialogues.messages_of(value, name), name)
  if isinstance(value, str):
    value = {'role': chats.ASSISTANT, 'content': value}
  if not isinstance(value, Mapping):
    raise errors.UserError(
      f'{name}: found {value!r:.60}, expected an answer: a text, a message or '
      'a list of them.'
    )
  return (_turn(row, value, name),)


def _turn(row, value: Any, where: str) -> chats.Turn:
  """A turn in the way of the row's prompt."""
  if row.get('turns') is not None:
    return own.parse_turn(value, where)
  return messages.message(value, where)


def _check_prompts(sides: Sequence[Turns]) -> None:
  """Refuses two sides that answer different prompts."""
  chosen, rejected = (turns[:-1] for turns in sides)
  both = itertools.zip_longest(chosen, rejected)
  for number, (one, other) in enumerate(both):
    if one != other:
      raise errors.UserError(
        f'{REJECTED}: found {_shown(other)} as turn {number}, but '
        f'{_shown(one)} in {CHOSEN}, expected one prompt for both.'
      )


def _check_asked(row, asked, before: Sequence[chats.Turn]) -> None:
  """Refuses dialogues that are not about the prompt beside them."""
  if asked is None:
    return
  prompt = row.get('prompt')
  if isinstance(prompt, str) and not dialogues.is_dialogue(prompt):
    # It may be the first or the last that is asked.
    texts = [t.text.strip() for t in before if t.role == chats.USER]
    right = prompt.strip() in texts
  elif prompt is None:
    return  # what else is a chat may be the chosen one, as UltraFeedback has it
  else:
    said = (chats.USER, chats.ASSISTANT, chats.RESULT)
    both = [
      [t for t in some if t.role in said] for some in (before, asked.turns)
    ]
    right = both[0] == both[1]
  if not right:
    raise errors.UserError(
      f'{CHOSEN}: found {_shown(before[-1])} in front of the answer, but '
      f'prompt {prompt!r:.60}, expected one prompt for both.'
    )


def _needed_prompt(row: Mapping[str, Any]) -> chats.Conversation:
  found = _prompt(row)
  if found is None:
    raise errors.UserError(
      f'prompt: missing, expected one of '
      f'{", ".join((*_PROMPTS, *formats.FORMATS))}.'
    )
  return found


def _prompt(row: Mapping[str, Any]) -> chats.Conversation | None:
  """What is asked beside the answers; None where nothing is."""
  name = next((n for n in _PROMPTS if row.get(n) is not None), None)
  if name is not None:
    value = row[name]
    if isinstance(value, str):
      value = dialogues.prompt_messages(value)
    return _assembled(row, name, value)
  if not any(row.get(name) is not None for name in formats.FORMATS):
    return None
  return formats.FORMATS[formats.format_of(row)](row)


def _assembled(row, name: str, listed: Any) -> chats.Conversation:
  """Messages, behind the system and the tools beside them."""
  return messages.assembled({**row, name: listed}, name, messages.message)


def _shown(turn: chats.Turn | None) -> str:
  if turn is None:
    return 'nothing'
  return f'{turn.role} {turn.text!r:.40}'
