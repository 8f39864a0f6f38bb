"""Text vocabularies: SentencePiece models and Hugging Face tokenizers.

Only text is seen here, and it is read as characters, whole (`characters`):
nothing that is written in it is a control piece, nothing is cut off, put around
it or filled up. Templates, in which control pieces and speech strings count,
are taken apart by `vocabulary.Vocabulary.encode` before.

Ids 0..67 belong to Step-Audio's control pieces (`vocabulary.CONTROL`). A model
that has these pieces at these places keeps its ids. In any other model those
ids mean something else, so all its ids are moved up by 68.

Two digests tell vocabularies apart. That of the pieces says what ids mean: two
models with one such digest can read each other's ids. That of the encoder is of
the file's bytes: it differs as well where equal pieces are scored or merged
otherwise, so that texts are cut in another way.
"""

import functools
import json
import os
import re
from typing import Callable, Iterator, Sequence

from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.storage import digests
from step_audio_jax.storage import files
from step_audio_jax.storage import lfs
from step_audio_jax.tokenizers.text import characters

# Where the audio pieces of a released model begin, its text ends.
_FIRST_AUDIO = '<audio_0>'
# What stands for a row of an exported table that no text and no code has.
FILLER = '<|reserved_{}|>'
# Control pieces by which an export of this project is known.
_BEHIND = ('<|BOT|>', '<audio_start>', '<text_start>', '<|TTS|>', '<|ASR|>')
# Any text, to see what is put around it.
_FRAMED = 'a'
# Where the name of a byte is cut, so that it is characters again.
_BEHIND_BRACKET = re.compile(r'(?<=<)(?=0x[0-9A-Fa-f]{2}>)')
_CONTROL_NAMES = {place: piece for piece, place in vocabulary.CONTROL.items()}

# What an id stands for: its piece, and whether that is text ('normal'), a
# byte, one of our control pieces, a special piece of the model's own, or
# nothing ('unused').
Piece = tuple[str, str]


def _end_of_text(
  piece_id: Callable[[str], int | None], count: int, own: bool
) -> int:
  """One past a model's last own id of text.

  Behind it may lie, in what this project has exported, fillers, speech and
  control pieces.

  Args:
    piece_id: Gives None for an absent piece.
    count: One past the last id of all.
    own: Whether control pieces are at our places, in front.
  """
  end = piece_id(_FIRST_AUDIO)
  if end is None:
    end = count
    first = piece_id(_BEHIND[0])
    if not own and first is not None:
      begin = first - vocabulary.CONTROL[_BEHIND[0]]
      places = {begin + vocabulary.CONTROL[piece]: piece for piece in _BEHIND}
      if all(piece_id(piece) == place for place, piece in places.items()):
        end = begin
  while 0 < end < count and piece_id(FILLER.format(end - 1)) == end - 1:
    end -= 1
  return end


class _Text:
  """What both kinds share: the place of the control pieces.

  Attributes:
    path: The model's file.
    size: Number of text ids, control pieces included; `<audio_k>` pieces of a
      released model are not counted, they are the speech block.
    moved: By how much the model's own ids are moved up, 0 or 68.
    encoder_digest: Of the file's bytes.
  """

  path: str
  size: int
  moved: int
  encoder_digest: str

  def _settle(
    self, path, raw: bytes, piece_id: Callable[[str], int | None], count: int
  ) -> None:
    """Finds shift and size; `piece_id` gives None for an absent piece."""
    self.path = str(path)
    self.encoder_digest = digests.of_bytes(raw)
    own = all(
      piece_id(piece) == place for piece, place in vocabulary.CONTROL.items()
    )
    self.moved = 0 if own else vocabulary.CONTROL_SIZE
    self.size = _end_of_text(piece_id, count, own) + self.moved

  @functools.cached_property
  def pieces(self) -> tuple[Piece, ...]:
    """What every text id stands for, control pieces included, (size,)."""
    low = vocabulary.CONTROL_SIZE
    table: list[Piece] = [('', 'unused')] * self.size
    for place in range(min(low, self.size)):
      table[place] = _CONTROL_NAMES.get(place, f'<spare_{place}>'), 'control'
    for place, piece, kind in self._own_pieces():
      place += self.moved
      if place < self.size:
        table[place] = piece, kind if place >= low else 'control'
    return tuple(table)

  @functools.cached_property
  def pieces_digest(self) -> str:
    """Of what ids mean: `pieces`, in order."""
    return digests.of_value(self.pieces)

  @property
  def opening(self) -> list[int]:
    """Ids that the model's author puts before every text."""
    raise NotImplementedError

  def _own_pieces(self) -> Iterator[tuple[int, str, str]]:
    """(the model's own id, piece, kind) of what there is."""
    raise NotImplementedError

  def _own_ids(self, ids: Sequence[int]) -> list[int]:
    """The model's own ids of text pieces; control pieces are left out."""
    low = vocabulary.CONTROL_SIZE
    return [int(i) - self.moved for i in ids if low <= i < self.size]


class SentencePieceText(_Text):
  """A SentencePiece model."""

  def __init__(self, path: str | os.PathLike):
    """Loads the model.

    Raises:
      UserError: The file is missing or no SentencePiece model.
    """
    import sentencepiece

    raw = _read(path)
    self._model = sentencepiece.SentencePieceProcessor()
    try:
      self._model.load_from_serialized_proto(raw)
      plain = characters.of_sentencepiece(raw)
      self._whole = self._model
      if plain is not raw:
        self._model = sentencepiece.SentencePieceProcessor()
        self._model.load_from_serialized_proto(plain)
    except (RuntimeError, ValueError) as error:
      raise errors.UserError(
        f'{path}: not a SentencePiece model: {" ".join(str(error).split())}.'
      ) from error

    def piece_id(piece):
      found = self._model.piece_to_id(piece)
      return found if self._model.id_to_piece(found) == piece else None

    self._settle(path, raw, piece_id, self._model.get_piece_size())

  @property
  def opening(self) -> list[int]:
    """`<s>`, where there is one: such models were trained behind it."""
    bos = self._whole.bos_id()
    return [bos + self.moved] if bos >= 0 else []

  def _own_pieces(self):
    whole = self._whole
    for place in range(whole.get_piece_size()):
      kind = 'normal'
      if whole.is_byte(place):
        kind = 'byte'
      elif whole.is_unused(place):
        kind = 'unused'
      elif whole.is_control(place) or whole.is_unknown(place):
        kind = 'special'
      yield place, whole.id_to_piece(place), kind

  def encode(self, text: str) -> list[int]:
    """Ids of a text, without beginning-of-sequence."""
    return [i + self.moved for i in self._model.encode(text)]

  def decode(self, ids: Sequence[int]) -> str:
    """Text of ids; control pieces give nothing."""
    return self._model.decode(self._own_ids(ids))


class HuggingFaceText(_Text):
  """A `tokenizer.json` of the tokenizers library."""

  def __init__(self, path: str | os.PathLike):
    """Loads the tokenizer.

    Raises:
      UserError: The file is missing or no tokenizer.
    """
    import tokenizers

    raw = _read(path)
    try:
      written = files.decoded(raw)
      tree = files.parsed(written)
      self._whole = tokenizers.Tokenizer.from_str(written)
      plain = characters.of_tokenizer(tree)
      self._model = tokenizers.Tokenizer.from_str(json.dumps(plain))
    except Exception as error:  # the library raises bare Exception
      raise errors.UserError(
        f'{path}: not a tokenizer.json: {" ".join(str(error).split())}.'
      ) from error
    model = plain['model']
    # Such a model takes the name of a byte, where it is written, for the byte.
    self._has_bytes = bool(model.get('byte_fallback'))
    self._names_bytes = self._has_bytes and isinstance(model['vocab'], list)
    # Ids may have holes, so the size is one past the last id.
    ids = self._whole.get_vocab(with_added_tokens=True).values()
    count = max(ids, default=-1) + 1
    self._settle(path, raw, self._whole.token_to_id, count)

  @property
  def opening(self) -> list[int]:
    """What the file's own frame has in front of a text."""
    framed = self._whole.encode(_FRAMED).ids
    plain = self._whole.encode(_FRAMED, add_special_tokens=False).ids
    for count in range(len(framed) - len(plain) + 1):
      if framed[count : count + len(plain)] == plain:
        return [i + self.moved for i in framed[:count]]
    return []

  def _own_pieces(self):
    whole = self._whole
    added = whole.get_added_tokens_decoder()
    for piece, place in whole.get_vocab(with_added_tokens=True).items():
      kind = 'normal'
      if place in added and added[place].special:
        kind = 'special'
      elif self._has_bytes and characters.BYTE.fullmatch(piece):
        kind = 'byte'
      yield place, piece, kind

  def encode(self, text: str) -> list[int]:
    """Ids of a text, without beginning-of-sequence."""
    if self._names_bytes and characters.BYTE.search(text):
      ids = self._around_bytes(text)
    else:
      ids = self._model.encode(text, add_special_tokens=False).ids
    return [i + self.moved for i in ids]

  def _around_bytes(self, text: str) -> Iterator[int]:
    """Ids of a text in which names of bytes, such as <0x41>, are written."""
    model = self._model
    if model.normalizer is not None:
      text = model.normalizer.normalize_str(text)
    parts = [(text, None)]
    if model.pre_tokenizer is not None:
      parts = model.pre_tokenizer.pre_tokenize_str(text)
    for part, _ in parts:
      for piece in _BEHIND_BRACKET.split(part):
        yield from (token.id for token in model.model.tokenize(piece) if piece)

  def decode(self, ids: Sequence[int]) -> str:
    """Text of ids; control pieces and special tokens give nothing."""
    return self._whole.decode(self._own_ids(ids), skip_special_tokens=True)


Text = SentencePieceText | HuggingFaceText


def load(path: str | os.PathLike) -> Text:
  """A text vocabulary by the ending of its file.

  Raises:
    UserError: As the classes; or the ending is neither.
  """
  if str(path).endswith('.model'):
    return SentencePieceText(path)
  if str(path).endswith('.json'):
    return HuggingFaceText(path)
  raise errors.UserError(
    f'{path}: unknown kind of text vocabulary; expected a SentencePiece '
    '.model or a Hugging Face tokenizer.json.'
  )


def _read(path) -> bytes:
  try:
    raw = files.read_bytes(path)
  except OSError as error:
    raise errors.UserError(
      f'{path}: no such text vocabulary ({error.strerror}).'
    ) from error
  lfs.refuse(raw, path)
  return raw
