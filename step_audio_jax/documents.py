"""What a training document and a prompt look like, for every task.

A document is a sequence of ids with a loss weight for each (the weight of
predicting that id). A prompt is the document before its answer, so both come
from one layout. With A the dual speech ids of an utterance, and the answer
behind the bar:

    text          <s> | text <|EOT|>
    continuation  <s> <audio_start> | A <|EOT|>
    asr           <s> <|ASR|> <audio_start> A <text_start> | text <|EOT|>
    tts           <s> <|TTS|> <text_start> text <audio_start> | A <|EOT|>
    image_text    <s> <im_start> <im_patch>… <im_end> <text_start> | caption
                  <|EOT|>
    interleaved   <s> <audio_start> | A… <text_start> text … <|EOT|>
    chat          <s> <|BOT|> role⏎ content <|EOT|> <|BOT|> … role⏎ | content
                  <|EOT|>, where a content is text, A, or both in any order,
                  and the assistant's may end with calls, <|CALL_START|> JSON
                  <|CALL_END|>; everything that the assistant says is learnt

There is no loss on `<s>`, on task markers, on the first modality marker, and
on images. The given side of asr and tts (its markers included) weighs
`prompt_loss`; so does what others than the assistant say in a chat.

Texts are characters: a control piece that is written in one is spelt.
"""

import dataclasses
from typing import Mapping, NamedTuple, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax import vocabulary

_ID = vocabulary.CONTROL
_AUDIO, _TEXT = _ID['<audio_start>'], _ID['<text_start>']
_PIECES = {name: np.array([i], np.int32) for name, i in _ID.items()}
_NONE = np.zeros(0, np.int32)
# `Document.cut` of text and speech in turns: text is cut between ids and speech
# between groups, and the second piece begins with `<s>` and the marker again.
SPANS = -1
SPANS_IF_LONG = -2  # the same, of documents that are longer than a row alone


@dataclasses.dataclass(frozen=True)
class Document:
  """Ids of one document.

  Attributes:
    id: Of the utterance, text or image it was made from.
    tokens: int32 (n,).
    loss_weights: float32 (n,), weight of predicting the id at that place.
    image_slots: int32 (k,), place of each image's first patch.
    images: uint8 (k, H, W, 3), or None.
    header: Leading ids that every piece repeats when the document is cut.
    cut: Body ids come in multiples of this when it is cut; 0 forbids it, and
      `SPANS` and `SPANS_IF_LONG` cut text and speech in turns.
    spans: int32 (n, 2), (spoken, words) of each span of an interleaved one.
  """

  id: str
  tokens: np.ndarray
  loss_weights: np.ndarray
  image_slots: np.ndarray = dataclasses.field(
    default_factory=lambda: np.zeros(0, np.int32)
  )
  images: np.ndarray | None = None
  header: int = 0
  cut: int = 0
  spans: np.ndarray = dataclasses.field(
    default_factory=lambda: np.zeros((0, 2), np.int32)
  )

  def __len__(self) -> int:
    return len(self.tokens)

  @property
  def fills(self) -> bool:
    """Whether it may be cut to fill a row."""
    return self.cut not in (0, SPANS_IF_LONG)

  def split(self, room: int) -> tuple['Document', 'Document'] | None:
    """Cuts off a first piece of at most `room` ids; None if that cannot be.

    Both pieces begin with the header, whose ids weigh nothing the second
    time, so that every id of the document is learnt once.
    """
    if self.cut in (SPANS, SPANS_IF_LONG):
      return self._split_spans(room)
    body = (min(room, len(self) - 1) - self.header) // max(self.cut, 1)
    place = self.header + body * self.cut
    if not self.cut or body < 1 or place >= len(self):
      return None
    return self._pieces(place, self.tokens[: self.header])

  def _split_spans(self, room: int) -> tuple['Document', 'Document'] | None:
    """As `split`, where markers part text from speech."""
    place = min(room, len(self) - 2)  # no piece is <|EOT|> alone
    markers = np.flatnonzero(np.isin(self.tokens, (_AUDIO, _TEXT)))
    markers = markers[markers < place]
    if not len(markers):
      return None
    begin = int(markers[-1]) + 1
    if self.tokens[begin - 1] == _AUDIO:
      place -= (place - begin) % vocabulary.GROUP
    if place == begin:  # the marker goes with what it announces
      place = begin - 1
    if place < 2:
      return None
    marked = self.tokens[place] in (_AUDIO, _TEXT)
    head = self.tokens[[0] if marked else [0, begin - 1]]
    first, second = self._pieces(place, head)
    second.loss_weights[1] = 0  # nothing says which kind comes first
    return first, second

  def _pieces(self, place: int, head: np.ndarray):
    first = dataclasses.replace(
      self,
      tokens=self.tokens[:place],
      loss_weights=self.loss_weights[:place],
    )
    second = dataclasses.replace(
      self,
      tokens=np.concatenate([head, self.tokens[place:]]),
      loss_weights=np.concatenate(
        [np.zeros(len(head), np.float32), self.loss_weights[place:]]
      ),
    )
    return first, second


class Image(NamedTuple):
  """A picture in a document: uint8 (H, W, 3), and places that it takes."""

  pixels_HWC: np.ndarray
  patches: int


Said = str | Sequence[int] | np.ndarray  # a text, or interleaved speech ids
Content = Said | Image


@dataclasses.dataclass(frozen=True)
class Layout:
  """Pieces of a task's documents, in order and with spaces between them.

  A piece is a control piece or the name of a content.

  Attributes:
    marks: Say which task it is; nothing of them is learnt.
    given: The rest of the prompt, weighs `prompt_loss`.
    learnt: The answer.
    cut: `Document.cut`; every piece of the document repeats the marks.
  """

  marks: str
  given: str
  learnt: str
  cut: int = 0

  @property
  def contents(self) -> list[str]:
    """Names of the contents, in order."""
    pieces = f'{self.marks} {self.given} {self.learnt}'.split()
    return [piece for piece in pieces if piece not in _PIECES]

  @property
  def opener(self) -> int:
    """The last id of a prompt."""
    return _ID[f'{self.marks} {self.given}'.split()[-1]]

  def document(
    self,
    table: vocabulary.Vocabulary,
    name: str,
    *,
    prompt_loss: float = 1.0,
    **contents: Content,
  ) -> Document:
    """The document called `name`.

    Args:
      table: Turns text into ids.
      name: Id of the document.
      prompt_loss: Weight of what is given.
      **contents: One for each name in the layout.

    Raises:
      UserError: A content has no ids.
    """
    ids = {key: _ids_of(table, content) for key, content in contents.items()}
    marks = _join(self.marks, ids)
    document = _document(
      name,
      [
        (marks, 0),
        (_join(self.given, ids), prompt_loss),
        (_join(self.learnt, ids), 1),
      ],
      header=len(marks) if self.cut else 0,
      cut=self.cut,
    )
    if 'image' not in contents:
      return document
    slots = np.flatnonzero(document.tokens == _ID['<im_patch>'])[:1]
    return dataclasses.replace(
      document,
      images=contents['image'].pixels_HWC[None],
      image_slots=slots.astype(np.int32),
    )

  def prompt(
    self, table: vocabulary.Vocabulary, **contents: Content
  ) -> list[int]:
    """The document before its answer.

    Args:
      table: Turns text into ids.
      **contents: What is given. It may be empty: a model that said nothing is
        asked all the same what it has said.
    """
    ids = {key: _encoded(table, content) for key, content in contents.items()}
    return _join(f'{self.marks} {self.given}', ids).tolist()


LAYOUTS = {
  'text': Layout('<s>', '', 'text <|EOT|>', cut=1),
  'continuation': Layout(
    '<s> <audio_start>', '', 'speech <|EOT|>', cut=vocabulary.GROUP
  ),
  'asr': Layout(
    '<s> <|ASR|> <audio_start>', 'speech <text_start>', 'text <|EOT|>'
  ),
  'tts': Layout(
    '<s> <|TTS|> <text_start>', 'text <audio_start>', 'speech <|EOT|>'
  ),
  'image_text': Layout(
    '<s> <im_start> image <im_end> <text_start>', '', 'text <|EOT|>'
  ),
}


def interleaved(
  table: vocabulary.Vocabulary, name: str, contents: Sequence[Said], **fields
) -> Document:
  """Texts and speech in turns, each behind its marker.

  Args:
    table: Turns text into ids.
    name: Id of the document.
    contents: In order.
    **fields: More of the document.

  Raises:
    UserError: A content has no ids.
  """
  parts = [(_PIECES['<s>'], 0)]
  for place, content in enumerate(contents):
    marker = '<text_start>' if isinstance(content, str) else '<audio_start>'
    # Nothing says which kind comes first.
    parts.append((_PIECES[marker], int(place > 0)))
    parts.append((_ids_of(table, content), 1))
  return _document(name, [*parts, (_PIECES['<|EOT|>'], 1)], **fields)


# Whose turn → how it is written. Schemas of tools are the released model's; how
# it calls results is not published: `tool` is our choice.
ROLES = {role: role for role in ('system', 'user', 'assistant')}
ROLES |= {'user': 'human', 'tool_json_schemas': 'tool_json_schemas'}
ROLES['tool'] = 'tool'


class Call(str):
  """A call of a tool, as JSON; it stands between two control pieces."""


class Mixed(tuple):
  """Texts, speech and calls of one turn, in order."""


Turn = tuple[str, Said | Mixed]  # of a key of `ROLES`


@dataclasses.dataclass(frozen=True)
class Turns:
  r"""`<s>`, then `<|BOT|> role⏎ content <|EOT|>` for each turn.

  SentencePiece puts a space before the first word of whatever it is given. So
  a text that opens a turn is encoded behind something, whose ids are taken off
  again. One that follows speech or a call is encoded by itself.

  Attributes:
    behind: What that is; `{role}` in it is whose turn it is.
    starts: Whether `<s>` is behind every `<|BOT|>` too, as released code has.
  """

  behind: str
  starts: bool = False

  def document(
    self,
    table: vocabulary.Vocabulary,
    name: str,
    turns: Sequence[Turn],
    *,
    prompt_loss: float = 0.0,
    last_only: bool = False,
  ) -> Document:
    """The document called `name`.

    Args:
      table: Turns text into ids.
      name: Id of the document.
      turns: In order.
      prompt_loss: Weight of what is not learnt.
      last_only: Learn what the assistant says behind the last human turn;
        otherwise all that it says.

    Raises:
      UserError: The assistant says nothing, or a content has no ids.
    """
    learnt = last_human(turns) if last_only else 0
    if all(role != 'assistant' for role, _ in turns[learnt:]):
      where = ' behind the last of the user' if learnt else ''
      raise errors.UserError(
        f'turns: none of the assistant{where}, expected one.'
      )
    parts = [(_PIECES['<s>'], 0)]
    for number, (role, content) in enumerate(turns):
      said = role == 'assistant' and number >= learnt
      weight = 1.0 if said else prompt_loss
      opening, body, end = self._turn(table, role, content)
      if role != 'system':  # who asks for speech may instruct nothing
        _require(body, content)
      parts += [(opening, 0), (body, weight), (end, weight)]
    return _document(name, parts)

  def prompt(
    self, table: vocabulary.Vocabulary, turns: Sequence[Turn]
  ) -> list[int]:
    """Turns, of which some may be empty, and the assistant's, left open."""
    parts = [_PIECES['<s>']]
    for role, content in turns:
      parts += self._turn(table, role, content)
    opening, *_ = self._turn(table, 'assistant', '')
    return np.concatenate([*parts, opening]).tolist()

  def _turn(self, table, role: str, content) -> list[np.ndarray]:
    """Ids of what opens the turn, of its content, and of its end."""
    role = ROLES[role]
    opening = [_ID['<|BOT|>'], *[_ID['<s>']] * self.starts]
    opening += table.encode_text(f'{role}\n')
    body: list[int] = []
    for part in content if isinstance(content, Mixed) else (content,):
      if isinstance(part, Call):
        part = table.encode_text(part)
        part = [_ID['<|CALL_START|>'], *part, _ID['<|CALL_END|>']]
      elif isinstance(part, str):
        before = '' if body else self.behind.format(role=role)
        part = self._inside(table, before, part)
      body.extend(part)
    return [np.array(i, np.int32) for i in (opening, body, [vocabulary.EOT])]

  def _inside(self, table, before: str, words: str) -> list[int]:
    head, ids = table.encode_text(before), table.encode_text(before + words)
    begins = ids[: len(head)] == head
    if begins and (len(ids) > len(head) or not words):
      return ids[len(head) :]
    return table.encode_text(words)  # what is before is joined to the words


def last_human(turns: Sequence[Turn]) -> int:
  """Place of the last turn of the user; 0 if there is none."""
  return max([0, *(n for n, turn in enumerate(turns) if turn[0] == 'user')])


# The template of Step-Audio-Chat encodes a turn as a whole; in the turns of
# Step-Audio-TTS-3B a text stands behind the line break alone. The ids are the
# same but for text models that join the line break with letters, or make a
# space of it and drop that where a text begins. With those, rows have been made
# in the first way and models have been asked in the second, so neither follows
# the other.
CHAT = Turns('{role}\n')
TTS_TURNS = Turns('\n')


def tts_turns(
  text: str,
  *,
  system: str = '',
  voice_text: str = '',
  voice_ids: Sequence[int] | np.ndarray = (),
) -> list[Turn]:
  """Turns that ask for speech, as Step-Audio-TTS-3B's are.

    system: system text · human: what the voice says · assistant: its speech
        · human: text

  After arXiv 2502.11946 and its released code. That puts `<s>` behind every
  `<|BOT|>`, a habit of its text tokenizer's default; which form the model was
  trained on is not published. Here it stands once, at the very start
  (`Turns.starts`).

  Args:
    text: What is to be said.
    system: Instruction. The released ones are not part of this project.
    voice_text: What the recording of the voice says.
    voice_ids: The recording's interleaved speech ids; without them the
      voice's two turns are left out.
  """
  turns: list[Turn] = [('system', system)]
  if len(voice_ids):
    turns += [('user', voice_text), ('assistant', voice_ids)]
  return [*turns, ('user', text)]


BOTH, LINGUISTIC = STREAMS = ('both', 'linguistic')


def in_streams(
  table: vocabulary.Vocabulary, ids: np.ndarray, streams: str
) -> np.ndarray:
  """Of interleaved ids those in `streams`, one of `STREAMS`."""
  return ids[table.is_linguistic(ids)] if streams == LINGUISTIC else ids


def speech_ids(
  table: vocabulary.Vocabulary,
  linguistic: np.ndarray,
  semantic: np.ndarray,
  streams: str = BOTH,
) -> np.ndarray:
  """Codes → ids, int32: interleaved ones (5 * groups,).

  Args:
    table: Turns codes into ids.
    linguistic: Codes.
    semantic: Codes.
    streams: Of `STREAMS`; the linguistic one alone hears, at 40 % of the ids,
      but cannot speak.

  Raises:
    UserError: They are less than a group, or outside their codebooks.
  """
  if streams not in STREAMS:
    raise errors.UserError(
      f'streams: found {streams!r}, expected one of {", ".join(STREAMS)}.'
    )
  ids = table.interleave(linguistic, semantic)
  if not len(ids):
    raise errors.UserError(
      f'codes: {len(linguistic)} linguistic and {len(semantic)} semantic '
      'codes, expected at least 2 and 3.'
    )
  return in_streams(table, ids, streams)


def _ids_of(table, content: Content) -> np.ndarray:
  """Ids of a content, int32 (n,).

  Raises:
    UserError: There are none.
  """
  return _require(_encoded(table, content), content)


def _encoded(table, content: Content) -> np.ndarray:
  if isinstance(content, str):
    content = table.encode_text(content)
  elif isinstance(content, Image):
    content = [_ID['<im_patch>']] * content.patches
  return np.asarray(content, np.int32)


def _require(ids: np.ndarray, content: Content) -> np.ndarray:
  if len(ids):
    return ids
  if isinstance(content, str):
    raise errors.UserError(f'text: {content!r} has no ids, expected some text.')
  kind = 'image: no patches' if isinstance(content, Image) else 'speech: no ids'
  raise errors.UserError(f'{kind}, expected at least one.')


def _join(pieces: str, contents: Mapping[str, np.ndarray]) -> np.ndarray:
  """Ids of pieces, one behind the other."""
  found = [_PIECES[p] if p in _PIECES else contents[p] for p in pieces.split()]
  return np.concatenate([_NONE, *found])


def _document(
  name: str, parts: Sequence[tuple[np.ndarray, float]], **fields
) -> Document:
  """Parts, each of one weight, as a document."""
  ids, weights = zip(*parts)
  return Document(
    id=name,
    tokens=np.concatenate(ids),
    loss_weights=np.repeat(np.array(weights, np.float32), list(map(len, ids))),
    **fields,
  )
