"""The one id space: text, control pieces, linguistic and semantic codes.

Layout (Step-Audio, arXiv 2502.11946 and its released tokenizer):

    [0, text_size)                      text, with control pieces at 0..67
    [text_size, +1024)                  linguistic codes, 16.67 Hz
    [text_size + 1024, +4096)           semantic codes, 25 Hz
    up to table_size                    rows that nothing emits

For Step-Audio text_size is 65,536 and table_size 74,752. Over any other text
vocabulary the same block is appended behind its last id.

The two streams are interleaved in groups of 120 ms: two linguistic codes, then
three semantic codes. What is left of either stream after the last complete
group is dropped, as the original does.
"""

import dataclasses
import re
from typing import Any, Mapping, Protocol, Sequence

import numpy as np

from step_audio_jax import errors

LINGUISTIC_PER_GROUP = 2
SEMANTIC_PER_GROUP = 3
GROUP = LINGUISTIC_PER_GROUP + SEMANTIC_PER_GROUP
GROUP_SECONDS = 0.12
LINGUISTIC_HZ = LINGUISTIC_PER_GROUP / GROUP_SECONDS
SEMANTIC_HZ = SEMANTIC_PER_GROUP / GROUP_SECONDS

# Control pieces of the released tokenizer, with their ids. Ids 39..67 are
# spare there. A text vocabulary that the project trains keeps these places.
CONTROL = {
  '<unk>': 0,
  '<s>': 1,
  '</s>': 2,
  '<|EOT|>': 3,
  '<|BOT|>': 4,
  '<|CALL_START|>': 5,
  '<|CALL_END|>': 6,
  '<|THINK_START|>': 7,
  '<|THINK_END|>': 8,
  '<im_patch>': 13,
  '<im_start>': 14,
  '<im_end>': 15,
  '<audio_start>': 31,
  '<audio_end>': 32,
  '<text_start>': 33,
  '<text_end>': 34,
  '<|TTS|>': 35,
  '<|ASR|>': 36,
  '<|TQAA|>': 37,
  '<|AQTA|>': 38,
}
CONTROL_SIZE = 68
PAD = CONTROL['<unk>']
BOS = CONTROL['<s>']
EOT = CONTROL['<|EOT|>']

SIZES = ('text_size', 'table_size', 'linguistic_size', 'semantic_size')

_AUDIO_PIECE = re.compile(r'<audio_(\d+)>')


class TextTokenizer(Protocol):
  """What a text vocabulary must offer (see `tokenizers.text`)."""

  size: int

  def encode(self, text: str) -> list[int]:
    """Ids of a text as characters, whole: no control piece is among them."""

  def decode(self, ids: Sequence[int]) -> str:
    """Text of ids; control pieces are left out."""


@dataclasses.dataclass(frozen=True)
class Vocabulary:
  """Text ids and speech ids in one table.

  Attributes:
    text_size: First id of the speech block, the number of text ids.
    table_size: Rows of the embedding table; 0 means "just behind the block".
    linguistic_size: Places kept for linguistic codes.
    semantic_size: Places kept for semantic codes.
    text: Encodes and decodes text; None where only ids are handled.
  """

  text_size: int = 65536
  table_size: int = 0
  linguistic_size: int = 1024
  semantic_size: int = 4096
  text: TextTokenizer | None = dataclasses.field(
    default=None, compare=False, repr=False
  )

  def __post_init__(self):
    if self.text is not None and self.text.size > self.text_size:
      raise errors.UserError(
        f'vocabulary: text_size is {self.text_size} but the text tokenizer '
        f'has {self.text.size} pieces; text_size must be at least that.'
      )
    if not self.table_size:
      object.__setattr__(self, 'table_size', self.end)
    if self.table_size < self.end:
      raise errors.UserError(
        f'vocabulary: table_size is {self.table_size}, expected at least '
        f'{self.end} (text {self.text_size} + linguistic '
        f'{self.linguistic_size} + semantic {self.semantic_size}).'
      )

  @classmethod
  def over(cls, text: TextTokenizer, multiple: int = 1) -> 'Vocabulary':
    """The speech block appended to `text`; table rounded up to `multiple`."""
    end = text.size + cls.linguistic_size + cls.semantic_size
    return cls(
      text_size=text.size, table_size=-(-end // multiple) * multiple, text=text
    )

  @classmethod
  def of_sizes(
    cls, described: Mapping[str, Any], text: TextTokenizer | None = None
  ) -> 'Vocabulary':
    """A vocabulary from what `describe` told of it."""
    return cls(**{k: described[k] for k in SIZES if k in described}, text=text)

  def describe(self) -> dict[str, Any]:
    """What ids mean: sizes, the text model's path and digests; JSON-able.

    `pieces_sha256` and `encoder_sha256` are those of `tokenizers.text`; they
    are left out where the text model is not known.
    """
    text = self.text
    told = {'text_model': getattr(text, 'path', None)}
    told |= {name: getattr(self, name) for name in SIZES}
    pieces = getattr(text, 'pieces_digest', None)
    if pieces:
      told |= {'pieces_sha256': pieces, 'encoder_sha256': text.encoder_digest}
    return told

  @property
  def linguistic_offset(self) -> int:
    return self.text_size

  @property
  def semantic_offset(self) -> int:
    return self.text_size + self.linguistic_size

  @property
  def end(self) -> int:
    """One past the last speech id."""
    return self.semantic_offset + self.semantic_size

  def encode(self, text: str) -> list[int]:
    """Template → ids.

    Control pieces written in it (`<|BOT|>`) and `<audio_k>` strings are
    atomic: it is for what this project or its user lays out. What was said or
    written by others goes through `encode_text`.
    """
    if self.text is None:
      raise ValueError('this vocabulary was made without a text tokenizer.')
    ids = []
    for part in _SPECIAL.split(text):
      if part in CONTROL:
        ids.append(CONTROL[part])
      elif match := _AUDIO_PIECE.fullmatch(part):
        ids.append(self._audio_id(int(match[1])))
      elif part:
        ids.extend(self.text.encode(part))
    return ids

  def encode_text(self, text: str) -> list[int]:
    """Text → text ids; control pieces written in it are only characters."""
    if self.text is None:
      raise ValueError('this vocabulary was made without a text tokenizer.')
    return self.text.encode(text)

  def decode(self, ids: Sequence[int]) -> str:
    """Ids → text; speech ids and control pieces are left out."""
    if self.text is None:
      raise ValueError('this vocabulary was made without a text tokenizer.')
    return self.text.decode([int(i) for i in ids if i < self.text_size])

  def _audio_id(self, k: int) -> int:
    if not 0 <= k < self.linguistic_size + self.semantic_size:
      raise errors.UserError(
        f'<audio_{k}>: expected 0..'
        f'{self.linguistic_size + self.semantic_size - 1}.'
      )
    return self.text_size + k

  def interleave(self, linguistic: Sequence[int], semantic: Sequence[int]):
    """Codes of both streams → ids in 2:3 groups, int32 (5 * groups,).

    Raises:
      UserError: A code lies outside its codebook.
    """
    linguistic = self._checked(linguistic, self.linguistic_size, 'linguistic')
    semantic = self._checked(semantic, self.semantic_size, 'semantic')
    groups = min(
      len(linguistic) // LINGUISTIC_PER_GROUP,
      len(semantic) // SEMANTIC_PER_GROUP,
    )
    ids = np.empty((groups, GROUP), np.int32)
    ids[:, :LINGUISTIC_PER_GROUP] = (
      linguistic[: groups * LINGUISTIC_PER_GROUP].reshape(
        groups, LINGUISTIC_PER_GROUP
      )
      + self.linguistic_offset
    )
    ids[:, LINGUISTIC_PER_GROUP:] = (
      semantic[: groups * SEMANTIC_PER_GROUP].reshape(
        groups, SEMANTIC_PER_GROUP
      )
      + self.semantic_offset
    )
    return ids.reshape(-1)

  def deinterleave(self, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `interleave`: ids → (linguistic, semantic) codes.

    Raises:
      UserError: The ids do not follow the 2:3 pattern.
    """
    ids = np.asarray(ids, np.int32)
    if len(ids) % GROUP:
      raise errors.UserError(
        f'speech ids: found {len(ids)} ids, expected a multiple of {GROUP}.'
      )
    groups = ids.reshape(-1, GROUP)
    linguistic = groups[:, :LINGUISTIC_PER_GROUP] - self.linguistic_offset
    semantic = groups[:, LINGUISTIC_PER_GROUP:] - self.semantic_offset
    bad = np.concatenate(
      [
        (linguistic < 0) | (linguistic >= self.linguistic_size),
        (semantic < 0) | (semantic >= self.semantic_size),
      ],
      axis=1,
    )
    if bad.any():
      place = int(np.argwhere(bad)[0] @ [GROUP, 1])
      raise errors.UserError(
        f'speech ids: id {ids[place]} at position {place} breaks the pattern '
        'of 2 linguistic and 3 semantic ids.'
      )
    return linguistic.reshape(-1), semantic.reshape(-1)

  def is_text(self, ids):
    """Mask of text ids (control pieces included); numpy or JAX arrays."""
    return ids < self.text_size

  def is_linguistic(self, ids):
    """Mask of linguistic ids; numpy or JAX arrays."""
    return (ids >= self.linguistic_offset) & (ids < self.semantic_offset)

  def is_semantic(self, ids):
    """Mask of semantic ids; numpy or JAX arrays."""
    return (ids >= self.semantic_offset) & (ids < self.end)

  def to_audio_string(self, ids: Sequence[int]) -> str:
    """Speech ids → `<audio_k>…`, the text form of the released prompts."""
    return ''.join(f'<audio_{int(i) - self.text_size}>' for i in ids)

  def from_audio_string(self, text: str) -> np.ndarray:
    """`<audio_k>…` → ids, int32.

    Raises:
      UserError: Something else stands between the pieces.
    """
    rest = _AUDIO_PIECE.sub('', text).strip()
    if rest:
      raise errors.UserError(
        f'audio string: found {rest[:20]!r}, expected only <audio_k> pieces.'
      )
    return np.asarray(
      [self._audio_id(int(k)) for k in _AUDIO_PIECE.findall(text)], np.int32
    )

  def _checked(self, codes, size, name):
    codes = np.asarray(codes)
    if codes.size and codes.dtype.kind not in 'iu':
      raise errors.UserError(
        f'{name} codes: found dtype {codes.dtype}, expected integers.'
      )
    if codes.size and (codes.min() < 0 or codes.max() >= size):
      place = int(np.argmax((codes < 0) | (codes >= size)))
      raise errors.UserError(
        f'{name} codes: code {codes[place]} at position {place}, expected '
        f'0..{size - 1}.'
      )
    return codes.astype(np.int32)


_SPECIAL = re.compile(
  '(' + '|'.join(map(re.escape, CONTROL)) + r'|<audio_\d+>)'
)

# The released layout: 65,536 text ids and 4,096 rows that nothing emits.
STEP_AUDIO = Vocabulary(text_size=65536, table_size=74752)


def table_size(vocabulary: Vocabulary) -> int:
  """Rows of the embedding table; for gin files."""
  return vocabulary.table_size
