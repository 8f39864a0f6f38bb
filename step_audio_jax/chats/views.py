"""What is heard, read and learnt of a conversation: the tasks of its SFT.

One conversation is shown in several ways (arXiv 2502.11946, section 5.2):

    tqta    all of it is read; the last reply is written
    aqta    the last turn of the user is heard, all before it is read
    taqta   the same, with its words in front of what is heard
    aqtqta  as aqta, but the reply begins with the words that were heard
    aqaa    as aqta, and the last reply is spoken

Earlier turns are read as they are kept while a model is talked to: what was
said becomes its transcript. Only the last reply is learnt. The report says of
the third that the question in writing is input without loss, and output with
loss, and not how; that these are two tasks, and a line break between words and
answer, is our choice.
"""

import dataclasses
from typing import Callable, Mapping

from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats

TranscriptOf = Callable[[chats.Speech], str | None]
_Parts = tuple[str | chats.Speech, ...]


@dataclasses.dataclass(frozen=True)
class View:
  """How the last exchange is shown.

  Attributes:
    heard: Whether the last turn of the user is heard.
    read: Whether it is read, too, in front of that.
    repeated: Whether the reply begins with its words.
    spoken: Whether the last reply is spoken.
  """

  heard: bool = True
  read: bool = False
  repeated: bool = False
  spoken: bool = False

  def __call__(
    self, conversation: chats.Conversation, transcript_of: TranscriptOf
  ) -> chats.Conversation:
    """The conversation up to its last reply, as this task shows it.

    Args:
      conversation: A checked one.
      transcript_of: What is said in a recording; None or '' if nobody knows.

    Raises:
      UserError: The last turn of the user is not there, has no recording where
        it is to be heard, or no transcript where it is to be read; or the
        last reply is missing or of the other kind.
    """
    asked, answered = _last_exchange(conversation)
    turns = [_read(turn, transcript_of) for turn in conversation.turns[:asked]]
    question = conversation.turns[asked]
    words = ''
    if self.read or self.repeated or not self.heard:
      words = _read(question, transcript_of).text
    if self.heard:
      if question.speech is None:
        raise errors.UserError(
          f'{question.where}: found a text, expected a recording in the last '
          'turn of the user.'
        )
      parts: _Parts = question.parts
      if self.read:
        parts = (words, *(p for p in parts if isinstance(p, chats.Speech)))
      turns.append(dataclasses.replace(question, parts=parts))
    else:
      turns.append(dataclasses.replace(question, parts=(words,)))
    for turn in conversation.turns[asked + 1 : answered]:
      turns.append(_read(turn, transcript_of))
    turns.append(
      self._reply(conversation.turns[answered], words, transcript_of)
    )
    return chats.Conversation(tuple(turns))

  def _reply(self, reply, words: str, transcript_of) -> chats.Turn:
    if self.spoken:
      if reply.speech is None:
        raise errors.UserError(
          f'{reply.where}: found a text, expected a recording in the last '
          'reply.'
        )
      return reply
    reply = _read(reply, transcript_of)
    if not self.repeated:
      return reply
    text = '\n'.join(filter(None, (words, reply.text)))
    return dataclasses.replace(reply, parts=(text,))


VIEWS: Mapping[str, View] = {
  'tqta': View(heard=False),
  'aqta': View(),
  'taqta': View(read=True),
  'aqtqta': View(repeated=True),
  'aqaa': View(spoken=True),
}


def _last_exchange(conversation: chats.Conversation) -> tuple[int, int]:
  """Places of the last turn of the user that is answered, and of the answer."""
  roles = [turn.role for turn in conversation.turns]
  answered = max(
    (n for n, role in enumerate(roles) if role == chats.ASSISTANT), default=-1
  )
  asked = max(
    (n for n, role in enumerate(roles[:answered]) if role == chats.USER),
    default=-1,
  )
  if answered < 0 or asked < 0:
    missing = 'reply of the assistant' if answered < 0 else 'turn of the user'
    raise errors.UserError(
      f'turns: found no {missing}, expected a question with its answer.'
    )
  return asked, answered


def _read(turn: chats.Turn, transcript_of: TranscriptOf) -> chats.Turn:
  """A turn in writing: what is said in it becomes its transcript."""
  if turn.speech is None:
    return turn
  texts = []
  for part in turn.parts:
    if isinstance(part, chats.Speech):
      said = part.text or transcript_of(part)
      if not (said and said.strip()):
        raise errors.UserError(
          f'{turn.where}: the recording {part.id or part.path or ""!r} has no '
          'transcript, expected one.'
        )
      part = said
    texts.append(part)
  return dataclasses.replace(turn, parts=('\n'.join(texts),))
