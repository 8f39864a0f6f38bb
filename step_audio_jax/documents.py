"""What one training document looks like, for every task.

A document is a sequence of ids with a loss weight for each (the weight of
predicting that id). With A the dual speech ids of an utterance:

    text          <s> text <|EOT|>
    continuation  <s> <audio_start> A <|EOT|>
    interleaved   <s> <audio_start> A… <text_start> text … <|EOT|>
                  (made by `interleaving`)
    asr           <s> <|ASR|> <audio_start> A <text_start> text <|EOT|>
    tts           <s> <|TTS|> <text_start> text <audio_start> A <|EOT|>
    image_text    <s> <im_start> <im_patch>… <im_end> <text_start> caption
                  <|EOT|>
    chat          <s> <|BOT|> role⏎ content <|EOT|> <|BOT|> …, where a content
                  is text or A; what the assistant says is learnt

There is no loss on `<s>`, on task markers, on the first modality marker, and
on images. The given side of asr and tts (its markers included) weighs
`prompt_loss`.
"""

import dataclasses
from typing import Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax import vocabulary

_ID = vocabulary.CONTROL
_AUDIO, _TEXT = _ID['<audio_start>'], _ID['<text_start>']
_PIECES = {name: np.array([i], np.int32) for name, i in _ID.items()}
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


class Writer:
  """Collects the ids and weights of a document."""

  def __init__(self):
    self.parts = []
    self.weights = []

  def add(self, ids: Sequence[int] | str, weight: float) -> 'Writer':
    """Adds ids, or a control piece by its name, of one weight."""
    if isinstance(ids, str):
      ids = _PIECES[ids]
    else:
      ids = np.asarray(ids, np.int32)
    self.parts.append(ids)
    self.weights.append(weight)
    return self

  def __len__(self) -> int:
    return sum(map(len, self.parts))

  def document(self, name: str, **fields) -> Document:
    """What was collected, as a document called `name`."""
    return Document(
      id=name,
      tokens=np.concatenate(self.parts),
      loss_weights=np.repeat(
        np.array(self.weights, np.float32), list(map(len, self.parts))
      ),
      **fields,
    )


def text(table: vocabulary.Vocabulary, name: str, words: str) -> Document:
  """`<s> text <|EOT|>`."""
  out = Writer().add('<s>', 0).add(text_ids(table, words), 1).add('<|EOT|>', 1)
  return out.document(name, header=1, cut=1)


def continuation(
  table: vocabulary.Vocabulary,
  name: str,
  linguistic: np.ndarray,
  semantic: np.ndarray,
) -> Document:
  """`<s> <audio_start> A <|EOT|>`."""
  out = Writer().add('<s>', 0).add('<audio_start>', 0)
  out.add(speech_ids(table, linguistic, semantic), 1).add('<|EOT|>', 1)
  return out.document(name, header=2, cut=vocabulary.GROUP)


def asr(
  table: vocabulary.Vocabulary,
  name: str,
  words: str,
  linguistic: np.ndarray,
  semantic: np.ndarray,
  *,
  prompt_loss: float = 1.0,
) -> Document:
  """`<s> <|ASR|> <audio_start> A <text_start> text <|EOT|>`."""
  out = Writer().add('<s>', 0).add('<|ASR|>', 0).add('<audio_start>', 0)
  out.add(speech_ids(table, linguistic, semantic), prompt_loss)
  out.add('<text_start>', prompt_loss)
  return out.add(text_ids(table, words), 1).add('<|EOT|>', 1).document(name)


def tts(
  table: vocabulary.Vocabulary,
  name: str,
  words: str,
  linguistic: np.ndarray,
  semantic: np.ndarray,
  *,
  prompt_loss: float = 1.0,
) -> Document:
  """`<s> <|TTS|> <text_start> text <audio_start> A <|EOT|>`."""
  out = Writer().add('<s>', 0).add('<|TTS|>', 0).add('<text_start>', 0)
  out.add(text_ids(table, words), prompt_loss).add('<audio_start>', prompt_loss)
  out.add(speech_ids(table, linguistic, semantic), 1)
  return out.add('<|EOT|>', 1).document(name)


def image_text(
  table: vocabulary.Vocabulary,
  name: str,
  caption: str,
  image: np.ndarray,
  *,
  patches: int,
) -> Document:
  """`<s> <im_start> <im_patch>… <im_end> <text_start> caption <|EOT|>`.

  Args:
    table: Turns text into ids.
    name: Id of the document.
    caption: What the image shows.
    image: uint8 (H, W, 3).
    patches: Places that the image takes.
  """
  out = Writer().add('<s>', 0).add('<im_start>', 0)
  slot = len(out)
  out.add([_ID['<im_patch>']] * patches, 0).add('<im_end>', 0)
  out.add('<text_start>', 0).add(text_ids(table, caption), 1).add('<|EOT|>', 1)
  return out.document(
    name, images=image[None], image_slots=np.array([slot], np.int32)
  )


ROLES = {'system': 'system', 'user': 'human', 'assistant': 'assistant'}


def chat(
  table: vocabulary.Vocabulary,
  name: str,
  turns: Sequence[tuple[str, str | tuple[np.ndarray, np.ndarray]]],
  *,
  prompt_loss: float = 0.0,
) -> Document:
  """`<s>`, then `<|BOT|> role⏎ content <|EOT|>` for each turn.

  The layout of Step-Audio-Chat's template.

  Args:
    table: Turns text and codes into ids.
    name: Id of the document.
    turns: (role, content): a key of `ROLES`, and a text or (linguistic,
      semantic) codes.
    prompt_loss: Weight of what others than the assistant say.

  Raises:
    UserError: The assistant says nothing, or a content has no ids.
  """
  out = Writer().add('<s>', 0)
  if all(role != 'assistant' for role, _ in turns):
    raise errors.UserError('turns: none of the assistant, expected one.')
  for role, content in turns:
    weight = 1.0 if role == 'assistant' else prompt_loss
    head = f'{ROLES[role]}\n'
    header = text_ids(table, head)
    if isinstance(content, str):
      # Encoded with its header, as a template would be: no word begins anew.
      body = text_ids(table, head + content)
      whole = body[: len(header)] == header
      body = body[len(header) :] if whole else []
      body = body or text_ids(table, content)
    else:
      body = speech_ids(table, *content)
    out.add('<|BOT|>', 0).add(header, 0)
    out.add(body, weight).add('<|EOT|>', weight)
  return out.document(name)


def text_ids(table: vocabulary.Vocabulary, words: str) -> list[int]:
  """Ids of plain text; control pieces written in it are only characters.

  Raises:
    UserError: There are none.
  """
  ids = table.encode_text(words)
  if not ids:
    raise errors.UserError(f'text: {words!r} has no ids, expected some text.')
  return ids


def speech_ids(
  table: vocabulary.Vocabulary, linguistic: np.ndarray, semantic: np.ndarray
) -> np.ndarray:
  """Codes → interleaved ids, int32 (5 * groups,).

  Raises:
    UserError: They are less than a group, or outside their codebooks.
  """
  ids = table.interleave(linguistic, semantic)
  if not len(ids):
    raise errors.UserError(
      f'codes: {len(linguistic)} linguistic and {len(semantic)} semantic '
      'codes, expected at least 2 and 3.'
    )
  return ids
