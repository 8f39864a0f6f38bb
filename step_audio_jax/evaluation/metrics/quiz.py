"""Questions of a corpus: chats that end with what the assistant should say."""

import collections
import dataclasses
import functools
import re
from typing import Any, Mapping, NamedTuple, Sequence

from step_audio_jax import errors
from step_audio_jax.chats import checks
from step_audio_jax.chats import conversation as chats_lib
from step_audio_jax.chats import own
from step_audio_jax.chats import views
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import digests

_HAN = r'\u3400-\u9fff'
_WORD = re.compile(rf"[{_HAN}]|[^\W_{_HAN}]+(?:'[^\W_{_HAN}]+)*")


class Answer(NamedTuple):
  """What a model said.

  Attributes:
    text: In words.
    calls: Of tools; JSON where it is none.
  """

  text: str
  calls: Sequence[chats_lib.Call | str] = ()


@dataclasses.dataclass(frozen=True)
class Question:
  """A chat that ends with what the assistant should say.

  Attributes:
    id: Of the chat.
    question: Words of the last turn of the user; '' where nobody knows them.
    expected: Words of the reply.
    calls: Of the reply.
    chat: Up to the reply.
    texts: Recording → its words, as far as they are known.
    seconds: Recording → its length.
  """

  id: str
  question: str
  expected: str
  calls: tuple[chats_lib.Call, ...]
  chat: chats_lib.Conversation
  texts: Mapping[str, str]
  seconds: Mapping[str, float]

  @property
  def speech(self) -> str | None:
    """What the user says last, if it is said."""
    last = [t for t in self.chat.turns if t.role == chats_lib.USER][-1]
    return last.speech.id if last.speech else None

  @functools.cached_property
  def digest(self) -> str:
    """Of all that is asked: turns up to the reply, and words of recordings."""
    turns = own.written(chats_lib.Conversation(self.chat.turns[:-1]))
    said = {name: self.texts.get(name) for name in own.spoken(turns)}
    return digests.of_value([turns, said])

  def shown(self, view: str) -> chats_lib.Conversation:
    """The chat up to its reply as a task shows it; '' as it is.

    Raises:
      UserError: As `views.View`.
    """
    if not view:
      return chats_lib.Conversation(self.chat.turns[:-1])
    found = views.VIEWS[view](self.chat, lambda s: self.texts.get(s.id))
    return chats_lib.Conversation(found.turns[:-1])


Asked = Mapping[str, Sequence[Question]]  # split → its questions


def words(text: str) -> list[str]:
  """Words of a text, folded, without punctuation; Han characters one by one."""
  return _WORD.findall(text.casefold())


def is_right(question: str, expected: str, said: str) -> bool:
  """Whether an answer has all of the expected one that the question has not."""
  wanted = set(words(expected)) - set(words(question))
  wanted = wanted or set(words(expected))
  # Han characters are words of their own and mean something as neighbours.
  left = ''.join(c if c in wanted else ' ' for c in expected)
  together = re.findall(f'[{_HAN}]+', left)
  return wanted <= set(words(said)) and all(some in said for some in together)


def questions(
  corpus: str, splits: Sequence[str]
) -> tuple[dict[str, list[Question]], dict[str, list[str]]]:
  """Split → its questions, and why others are none.

  Raises:
    UserError: A split has no chat that ends with what the assistant says.
  """
  texts, seconds = {}, {}
  chats: dict[str, list[manifest.Utterance]] = {split: [] for split in splits}
  for utterance in manifest.stream(corpus):
    if utterance.kind == 'speech':
      texts[utterance.id] = utterance.text or ''
      seconds[utterance.id] = utterance.duration
    elif utterance.kind == 'chat' and utterance.split in chats:
      chats[utterance.split].append(utterance)
  found: dict[str, list[Question]] = {}
  passed: dict[str, list[str]] = {}
  for split, some in chats.items():
    found[split], passed[split] = [], []
    for chat in some:
      try:
        found[split].append(_question(chat, texts, seconds))
      except errors.UserError as error:
        passed[split].append(f'{chat.id}: {error}')
    if not found[split]:
      why = f' (the first is {passed[split][0]})' if passed[split] else '.'
      raise errors.UserError(
        f'{manifest.path_of(corpus)}: no chat of the split {split!r} ends with '
        f'what the assistant says, expected some{why}'
      )
  return found, {split: some for split, some in passed.items() if some}


def _question(chat, texts, seconds) -> Question:
  conversation = own.parse(chat.turns)
  checks.check(conversation, training=True, orderly=False)
  *given, last = conversation.turns
  if last.role != chats_lib.ASSISTANT:
    raise errors.UserError(
      f'{last.where}: found {last.role}, expected the assistant last.'
    )
  names = list(own.spoken(chat.turns))
  said = {name: texts[name] for name in names if name in texts}
  reply = views.in_writing(last, lambda s: said.get(s.id))
  asked = [t for t in given if t.role == chats_lib.USER]
  if not asked:
    raise errors.UserError('turns: found none of the user, expected one.')
  parts = [
    part if isinstance(part, str) else said.get(part.id, '')
    for part in asked[-1].parts
  ]
  found = Question(
    chat.id,
    '\n'.join(filter(None, parts)),
    reply.text,
    reply.calls,
    conversation,
    said,
    {name: seconds[name] for name in names if name in seconds},
  )
  found.shown('aqta' if found.speech else 'tqta')
  return found


def seconds(asked: Asked) -> dict[str, float]:
  """Recording of these questions → its length."""
  return {
    name: length
    for some in asked.values()
    for one in some
    for name, length in one.seconds.items()
  }


def in_writing(asked: Asked) -> dict[str, list[Question]]:
  """Those whose turns all have words: nobody writes silence."""
  found = {
    split: [q for q in some if _is_read(q)] for split, some in asked.items()
  }
  return {split: some for split, some in found.items() if some}


def _is_read(question: Question) -> bool:
  try:
    question.shown('tqta')
  except errors.UserError:
    return False
  return True


def without_tools(asked: Asked) -> dict[str, list[Question]]:
  """Those that an untouched model can be asked: its template knows texts."""
  found = {
    split: [
      q
      for q in some
      if not q.calls
      and all(t.role in ('system', 'user', 'assistant') for t in q.chat.turns)
    ]
    for split, some in asked.items()
  }
  return {split: some for split, some in found.items() if some}


def score(asked: Asked, said: Sequence[Answer]) -> dict[str, dict[str, Any]]:
  """Figures of each split, and every answer.

  Args:
    asked: Of `questions`.
    said: Answers to all of them, in order.

  Returns:
    Split → shares that are `right` and `exact`; `chance`, the share that is
    exact for who always says the commonest of the expected answers; how many
    `questions`, and `answers`.
  """
  answers, found = iter(said), {}
  for split, some in asked.items():
    rows = []
    for one in some:
      text, calls = next(answers)
      called = _same_calls(one.calls, calls)
      row = {
        'id': one.id,
        'question': one.question,
        'expected': one.expected,
        'speech': one.speech,
        'answer': text,
        'right': called and is_right(one.question, one.expected, text),
        'exact': called and words(text) == words(one.expected),
      }
      if one.calls or calls:
        row['expected_calls'] = [call.written for call in one.calls]
        row['calls'] = [getattr(call, 'written', call) for call in calls]
      rows.append(row)
    wanted = collections.Counter(tuple(words(one.expected)) for one in some)
    found[split] = {
      'chance': max(wanted.values()) / len(rows),
      'right': sum(row['right'] for row in rows) / len(rows),
      'exact': sum(row['exact'] for row in rows) / len(rows),
      'questions': len(rows),
      'answers': rows,
    }
  return found


def _same_calls(expected, said) -> bool:
  """Whether tools are called by name with the same arguments."""
  told = [
    [(getattr(c, 'name', c), getattr(c, 'arguments', None)) for c in some]
    for some in (expected, said)
  ]
  return told[0] == told[1]
