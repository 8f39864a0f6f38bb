"""What one training document looks like, for every task.

A document is a sequence of ids with a loss weight for each (the weight of
predicting that id). With A the dual speech ids of an utterance:

    text          <s> text <|EOT|>
    continuation  <s> <audio_start> A <|EOT|>
    interleaved   <s> <audio_start> A… <text_start> text … <|EOT|>
    asr           <s> <|ASR|> <audio_start> A <text_start> text <|EOT|>
    tts           <s> <|TTS|> <text_start> text <audio_start> A <|EOT|>
    image_text    <s> <im_start> <im_patch>… <im_end> <text_start> caption
                  <|EOT|>

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
LONGEST_SPAN = 3  # words of an interleaved span


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
    cut: Body ids come in multiples of this when it is cut; 0 forbids it.
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

  def __len__(self) -> int:
    return len(self.tokens)

  def split(self, room: int) -> tuple['Document', 'Document'] | None:
    """Cuts off a first piece of at most `room` ids; None if that cannot be.

    Both pieces begin with the header, whose ids weigh nothing the second
    time, so that every id of the document is learnt once.
    """
    body = (min(room, len(self) - 1) - self.header) // max(self.cut, 1)
    place = self.header + body * self.cut
    if not self.cut or body < 1 or place >= len(self):
      return None
    head = self.tokens[: self.header]
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


class _Writer:
  """Collects ids and weights."""

  def __init__(self):
    self.parts = []
    self.weights = []

  def add(self, ids: Sequence[int] | int | str, weight: float) -> '_Writer':
    if isinstance(ids, str):
      ids = _ID[ids]
    ids = np.atleast_1d(np.asarray(ids, np.int32))
    self.parts.append(ids)
    self.weights.append(np.full(len(ids), weight, np.float32))
    return self

  def __len__(self) -> int:
    return sum(map(len, self.parts))

  def document(self, name: str, **fields) -> Document:
    return Document(
      id=name,
      tokens=np.concatenate(self.parts),
      loss_weights=np.concatenate(self.weights),
      **fields,
    )


def text(table: vocabulary.Vocabulary, name: str, words: str) -> Document:
  """`<s> text <|EOT|>`."""
  out = _Writer().add('<s>', 0).add(_text(table, words), 1).add('<|EOT|>', 1)
  return out.document(name, header=1, cut=1)


def continuation(
  table: vocabulary.Vocabulary,
  name: str,
  linguistic: np.ndarray,
  semantic: np.ndarray,
) -> Document:
  """`<s> <audio_start> A <|EOT|>`."""
  out = _Writer().add('<s>', 0).add('<audio_start>', 0)
  out.add(_audio(table, linguistic, semantic), 1).add('<|EOT|>', 1)
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
  out = _Writer().add('<s>', 0).add('<|ASR|>', 0).add('<audio_start>', 0)
  out.add(_audio(table, linguistic, semantic), prompt_loss)
  out.add('<text_start>', prompt_loss)
  return out.add(_text(table, words), 1).add('<|EOT|>', 1).document(name)


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
  out = _Writer().add('<s>', 0).add('<|TTS|>', 0).add('<text_start>', 0)
  out.add(_text(table, words), prompt_loss).add('<audio_start>', prompt_loss)
  out.add(_audio(table, linguistic, semantic), 1)
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
  out = _Writer().add('<s>', 0).add('<im_start>', 0)
  slot = len(out)
  out.add([_ID['<im_patch>']] * patches, 0).add('<im_end>', 0)
  out.add('<text_start>', 0).add(_text(table, caption), 1).add('<|EOT|>', 1)
  return out.document(
    name, images=image[None], image_slots=np.array([slot], np.int32)
  )


def interleaved(
  table: vocabulary.Vocabulary,
  name: str,
  words: Sequence[tuple[str, float, float]],
  transcript: str,
  linguistic: np.ndarray,
  semantic: np.ndarray,
  rng: np.random.Generator,
) -> Document:
  """Spans of 1..3 words, alternately spoken and written.

  A switch falls on the border of a 120 ms group next to the word's start, so
  that the 2:3 pattern of the codes survives; every word appears once.

  Args:
    table: Turns text and codes into ids.
    name: Id of the document.
    words: (word, start, end), seconds.
    transcript: The text; each word is found in it, in order.
    linguistic: Codes.
    semantic: Codes.
    rng: Decides what is spoken and where it changes.

  Raises:
    UserError: A word does not occur in the transcript, or there are none.
  """
  ids = _audio(table, linguistic, semantic).reshape(-1, vocabulary.GROUP)
  borders = group_borders([start for _, start, _ in words], len(ids))
  places = _places(transcript, [word for word, _, _ in words])
  out = _Writer().add('<s>', 0)
  for k, (spoken, first, last) in enumerate(draw_spans(borders, rng)):
    weight = float(k > 0)
    if spoken:
      out.add('<audio_start>', weight)
      out.add(ids[borders[first] : borders[last]].reshape(-1), 1)
    else:
      out.add('<text_start>', weight)
      stretch = transcript[places[first][0] : places[last - 1][1]]
      out.add(_text(table, stretch), 1)
  return out.add('<|EOT|>', 1).document(name)


def interleaved_segments(
  table: vocabulary.Vocabulary,
  segments: Sequence[tuple[str, str, np.ndarray, np.ndarray]],
  rng: np.random.Generator,
) -> Document:
  """Whole utterances, alternately spoken and written.

  For corpora without word times (as in Kimi-Audio, arXiv 2504.18425).

  Args:
    table: Turns text and codes into ids.
    segments: Neighbouring utterances: (id, text, linguistic, semantic).
    rng: Decides which kind is first.
  """
  spoken = bool(rng.integers(2))
  out = _Writer().add('<s>', 0)
  for k, (_, words, linguistic, semantic) in enumerate(segments):
    weight = float(k > 0)
    if spoken:
      out.add('<audio_start>', weight)
      out.add(_audio(table, linguistic, semantic), 1)
    else:
      out.add('<text_start>', weight).add(_text(table, words), 1)
    spoken = not spoken
  name = '+'.join(segment[0] for segment in segments)
  return out.add('<|EOT|>', 1).document(name)


def group_borders(starts: Sequence[float], groups: int) -> np.ndarray:
  """Word starts → first group of each word; one more for the end.

  The first word begins at group 0 and the last one ends with the audio, so
  that the words share out all groups.

  Args:
    starts: Seconds, rising (W,).
    groups: Number of 120 ms groups.

  Returns:
    int64 (W + 1,), not falling, from 0 to `groups`.
  """
  borders = np.round(np.asarray(starts) / vocabulary.GROUP_SECONDS)
  borders = np.append(borders, groups).astype(np.int64)
  borders[0] = 0
  return np.minimum(np.maximum.accumulate(borders), groups)


def draw_spans(
  borders: np.ndarray, rng: np.random.Generator
) -> list[tuple[bool, int, int]]:
  """Cuts the words into alternating spans.

  Returns:
    (spoken, first word, behind the last word) in order. No spoken span is
    empty: a word shorter than a group takes its neighbour along.
  """
  count = len(borders) - 1
  spans, first, spoken = [], 0, bool(rng.integers(2))
  while first < count:
    last = min(first + int(rng.integers(1, LONGEST_SPAN + 1)), count)
    if spoken:
      while last < count and borders[last] == borders[first]:
        last += 1
      if borders[last] == borders[first]:  # nothing left to be heard
        if spans:
          spans[-1] = (False, spans[-1][1], count)
        else:
          spans.append((False, first, count))
        break
    spans.append((spoken, first, last))
    first, spoken = last, not spoken
  return spans


def _places(transcript: str, words: Sequence[str]) -> list[tuple[int, int]]:
  """(start, end) of each word in the transcript, in order."""
  if not words:
    raise errors.UserError('words: there are none, expected word times.')
  places, at = [], 0
  for word in words:
    found = transcript.find(word, at)
    if found < 0:
      raise errors.UserError(
        f'words: {word!r} does not occur in order in the text '
        f'{transcript[:40]!r}.'
      )
    at = found + len(word)
    places.append((found, at))
  return places


def _text(table: vocabulary.Vocabulary, words: str) -> list[int]:
  """Ids of plain text; control pieces written in it are only characters."""
  ids = table.text.encode(words)
  if not ids:
    raise errors.UserError(f'text: {words!r} has no ids, expected some text.')
  return ids


def _audio(table, linguistic, semantic) -> np.ndarray:
  ids = table.interleave(linguistic, semantic)
  if not len(ids):
    raise errors.UserError(
      f'codes: {len(linguistic)} linguistic and {len(semantic)} semantic '
      'codes, expected at least 2 and 3.'
    )
  return ids
