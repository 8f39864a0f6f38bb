"""What is heard, read and learnt of a conversation: the tasks of its SFT.

One conversation is shown in several ways (arXiv 2502.11946, section 5.2):

    tqta    all of it is read; the last reply is written
    aqta    the last turn of the user is heard, all before it is read
    taqta   the same, with its words in front of what is heard
    aqtqta  as aqta, but the reply begins with the words that were heard
    aqaa    as aqta, and the last reply is spoken
    audio_edit  the last exchange alone: a text with tags and a recording of it
            are asked, the recording in the style of the tags is the reply

Earlier turns are read as they are kept while a model is talked to: what was
said becomes its transcript. Only the last reply is learnt. The report says of
the third that the question in writing is input without loss, and output with
loss, and not how; that these are two tasks, and a line break between words and
answer, is our choice. Of Audio-Edit (5.1.1) it says that neutral codes become
styled ones, and that it is applied again for more; that the text is told, with
its tags where a model of TTS has them, and that a tag says how much more or
less than in the recording, is ours.
"""

import dataclasses
from typing import Callable, Mapping, Sequence

from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats
from step_audio_jax.styles import instructions
from step_audio_jax.styles import markup

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
    turns = [
      in_writing(turn, transcript_of) for turn in conversation.turns[:asked]
    ]
    question = conversation.turns[asked]
    words = ''
    if self.read or self.repeated or not self.heard:
      words = in_writing(question, transcript_of).text
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
      turns.append(in_writing(turn, transcript_of))
    turns.append(
      self._reply(conversation.turns[answered], words, transcript_of)
    )
    return chats.Conversation(tuple(turns))

  def _reply(self, reply, words: str, transcript_of) -> chats.Turn:
    if self.spoken:
      _require_speech(reply)
      return reply
    reply = in_writing(reply, transcript_of)
    if not self.repeated:
      return reply
    text = '\n'.join(filter(None, (words, reply.text)))
    return dataclasses.replace(reply, parts=(text,))


def edit_turn(spans: Sequence[markup.Span], speech: chats.Speech) -> chats.Turn:
  """The turn that asks for a recording in another style.

  Args:
    spans: What is said in it, with tags.
    speech: The recording.

  Raises:
    UserError: There is no tag.
  """
  if not markup.tags_of(spans):
    raise errors.UserError(
      f'text: {markup.plain(spans)[:40]!r} has no tag, expected some, such as '
      '(fast 1): what is to change.'
    )
  return chats.Turn(chats.USER, (markup.write(spans, escape=False), speech))


def edited(
  question: chats.Turn, transcript_of: TranscriptOf
) -> tuple[tuple[markup.Span, ...], chats.Speech]:
  """What a turn asks to be edited: the text with its tags, and the recording.

  Args:
    question: A recording with its text and tags in it, or with an instruction
      alone, in tags or in words.
    transcript_of: As in `View`; asked where there is an instruction alone.

  Raises:
    UserError: There is no recording, no instruction, or no transcript.
  """
  speech, text = question.speech, question.text
  if speech is None or not text.strip():
    found = 'a text' if speech is None else 'a recording'
    raise errors.UserError(
      f'{question.where}: found {found} alone, expected a recording and how '
      'it is to be spoken.'
    )
  try:
    spans = markup.parse(text)
    if markup.tags_of(spans):
      return spans, speech
    fault = None
  except errors.UserError as error:  # also where tags stand alone
    fault = error
  try:
    style = instructions.read(text)
  except errors.UserError as error:
    raise errors.UserError(f'{question.where}: {fault or error}') from error
  words = _words_of(speech, question, transcript_of)
  return (markup.Span(words, style),), speech


@dataclasses.dataclass(frozen=True)
class Edit:
  """A recording, and the same words spoken in another style."""

  def __call__(
    self, conversation: chats.Conversation, transcript_of: TranscriptOf
  ) -> chats.Conversation:
    """The last exchange, as `View`; what was before it is left out.

    Raises:
      UserError: As `edited`, or the last reply is not spoken.
    """
    asked, answered = _last_exchange(conversation)
    question = edit_turn(*edited(conversation.turns[asked], transcript_of))
    reply = conversation.turns[answered]
    _require_speech(reply)
    reply = dataclasses.replace(reply, parts=(reply.speech,))
    return chats.Conversation((question, reply))


VIEWS: Mapping[
  str, Callable[[chats.Conversation, TranscriptOf], chats.Conversation]
] = {
  'tqta': View(heard=False),
  'aqta': View(),
  'taqta': View(read=True),
  'aqtqta': View(repeated=True),
  'aqaa': View(spoken=True),
  'audio_edit': Edit(),
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


def _require_speech(reply: chats.Turn) -> None:
  if reply.speech is None:
    raise errors.UserError(
      f'{reply.where}: found a text, expected a recording in the last reply.'
    )


def in_writing(turn: chats.Turn, transcript_of: TranscriptOf) -> chats.Turn:
  """A turn in writing: what is said in it becomes its transcript.

  Raises:
    UserError: There is none.
  """
  if turn.speech is None:
    return turn
  texts = []
  for part in turn.parts:
    if isinstance(part, chats.Speech):
      part = _words_of(part, turn, transcript_of)
    texts.append(part)
  return dataclasses.replace(turn, parts=('\n'.join(texts),))


def _words_of(speech, turn: chats.Turn, transcript_of: TranscriptOf) -> str:
  said = speech.text or transcript_of(speech)
  if not (said and said.strip()):
    raise errors.UserError(
      f'{turn.where}: the recording {speech.id or speech.path or ""!r} has no '
      'transcript, expected one.'
    )
  return said
