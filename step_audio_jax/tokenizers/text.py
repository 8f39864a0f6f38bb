"""Text vocabularies: SentencePiece models and Hugging Face tokenizers.

Only text is seen here: control pieces and speech strings are split off by
`vocabulary.Vocabulary.encode` before, as the fast tokenizer of the released
model does.
"""

import pathlib
from typing import Sequence

from step_audio_jax import errors
from step_audio_jax import vocabulary


class SentencePieceText:
  """A SentencePiece model.

  Attributes:
    path: Its file.
    size: Number of text ids; `<audio_k>` pieces of a released model are not
      counted, they are the speech block.
  """

  def __init__(self, path: str):
    """Loads the model.

    Raises:
      UserError: The file is missing or no SentencePiece model.
    """
    import sentencepiece

    self.path = str(path)
    _must_exist(path)
    try:
      self._model = sentencepiece.SentencePieceProcessor(model_file=self.path)
    except (RuntimeError, OSError) as error:
      raise errors.UserError(
        f'{path}: not a SentencePiece model: {str(error).splitlines()[0]}.'
      ) from error
    self.size = self._model.get_piece_size()
    audio = self._model.piece_to_id('<audio_0>')
    if self._model.id_to_piece(audio) == '<audio_0>':
      self.size = audio

  def encode(self, text: str) -> list[int]:
    """Ids of a text."""
    return self._model.encode(text)

  def decode(self, ids: Sequence[int]) -> str:
    """Text of ids; control pieces give nothing."""
    return self._model.decode([int(i) for i in ids])


class HuggingFaceText:
  """A `tokenizer.json` of the tokenizers library.

  Attributes:
    path: Its file.
    size: Number of text ids, added tokens included.
  """

  def __init__(self, path: str):
    """Loads the tokenizer.

    Raises:
      UserError: The file is missing or no tokenizer.
    """
    import tokenizers

    self.path = str(path)
    _must_exist(path)
    try:
      self._model = tokenizers.Tokenizer.from_file(self.path)
    except Exception as error:  # the library raises bare Exception
      raise errors.UserError(
        f'{path}: not a tokenizer.json: {str(error).splitlines()[0]}.'
      ) from error
    self.size = self._model.get_vocab_size(with_added_tokens=True)

  def encode(self, text: str) -> list[int]:
    """Ids of a text."""
    return self._model.encode(text, add_special_tokens=False).ids

  def decode(self, ids: Sequence[int]) -> str:
    """Text of ids; special tokens give nothing."""
    return self._model.decode([int(i) for i in ids], skip_special_tokens=True)


def load(path: str) -> vocabulary.TextTokenizer:
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


def _must_exist(path) -> None:
  if not pathlib.Path(path).is_file():
    raise errors.UserError(f'{path}: no such text vocabulary.')
