"""Text models that read every text as characters, whole.

A tokenizer comes as its author left it: cut to the length of a model, padded
to one, with a frame of special pieces around each text, dropping merges by
chance, and matching its special pieces wherever they are written. All of that
is taken off here; normaliser, pre-tokenizer and what was learnt stay as they
are, so that any other text keeps its ids.

A piece is taken for a control piece if its author marks it as special, if it
is written like one (`<tool_call>`, `[INST]`, `__end__`), or if it is one of
ours. Pieces that were added later and are ordinary text (runs of spaces, new
words) still match.
"""

import re
from typing import Any, Iterable
import unicodedata

from step_audio_jax import vocabulary

_AUDIO = re.compile(r'<audio_\d+>')
BYTE = re.compile(r'<0x[0-9A-Fa-f]{2}>')
# A name that no text contains: noncharacters, which are never exchanged.
_HIDDEN = '\ufdd0{}\ufdd1'
# SentencePiece's types of pieces (sentencepiece_model.proto).
_CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 3, 4, 5, 6


def is_control(piece: str, special: bool = False) -> bool:
  """Whether a piece is no text but a sign of its tokenizer.

  Args:
    piece: As it is written.
    special: Whether its author marks it as special.
  """
  if special or piece in vocabulary.CONTROL or _AUDIO.fullmatch(piece):
    return True
  written = piece.strip()
  if len(written) < 3 or not any(map(str.isalnum, written)):
    return False
  return _is_sign(written[0]) and _is_sign(written[-1])


def _is_sign(character: str) -> bool:
  return unicodedata.category(character)[0] == 'P' or character in '<>|＜＞｜~^'


def of_tokenizer(tree: dict[str, Any]) -> dict[str, Any]:
  """The object of a `tokenizer.json` that reads text as characters alone.

  Args:
    tree: The file's object; it stays as it is.
  """
  added = [a for a in tree.get('added_tokens') or () if isinstance(a, dict)]
  hidden = {
    a['content'] for a in added if is_control(a['content'], a.get('special'))
  }
  model = tree['model']
  # The library counts added pieces behind the model's own, whatever ids are
  # written: one that is left out would move those behind it.
  kept = [
    {**a, 'content': _HIDDEN.format(a['content']), 'normalized': False}
    if a['content'] in hidden
    else a
    for a in added
  ]
  return {
    **tree,
    'truncation': None,
    'padding': None,
    'post_processor': None,
    'added_tokens': kept,
    'model': _without(model, hidden),
  }


def _without(model, hidden: set[str]) -> dict[str, Any]:
  """A model whose control pieces have names that no text contains.

  They keep their ids and their scores, so that nothing else changes.
  """
  out = dict(model)
  if out.get('dropout'):
    out['dropout'] = None
  pieces = model.get('vocab') or {}
  names = pieces if isinstance(pieces, dict) else [name for name, _ in pieces]
  hidden = hidden & set(names)
  hidden |= {n for n in names if n in vocabulary.CONTROL or _AUDIO.fullmatch(n)}
  unknown = model.get('unk_id')
  if isinstance(pieces, list) and unknown is not None:
    hidden.add(pieces[unknown][0])
  if hidden:
    name_of = {name: _HIDDEN.format(name) for name in hidden}
    if isinstance(pieces, dict):
      out['vocab'] = {name_of.get(n, n): i for n, i in pieces.items()}
    else:
      out['vocab'] = [[name_of.get(n, n), score] for n, score in pieces]
    if out.get('unk_token') in hidden:
      out['unk_token'] = name_of[out['unk_token']]
  if model.get('merges'):
    out['merges'] = list(merges_of(model, hidden))
  return out


def merges_of(model: dict[str, Any], hidden: set[str]) -> Iterable[Any]:
  """Merges that make no control piece and no byte out of characters."""
  prefix = len(model.get('continuing_subword_prefix') or '')
  for merge in model['merges']:
    left, right = merge.split(' ') if isinstance(merge, str) else merge
    made = left + right[prefix:]
    if hidden.isdisjoint((left, right, made)) and not (
      model.get('byte_fallback') and BYTE.fullmatch(made)
    ):
      yield merge


def of_sentencepiece(raw: bytes) -> bytes:
  """A serialised SentencePiece model that matches no control piece in text.

  SentencePiece itself matches no piece of type CONTROL; those that a text may
  call (USER_DEFINED, or learnt by chance) become of that type.

  Args:
    raw: The model; must be one.
  """
  from sentencepiece import sentencepiece_model_pb2

  model = sentencepiece_model_pb2.ModelProto.FromString(raw)
  changed = False
  for piece in model.pieces:
    if piece.type in (_UNUSED, _BYTE, _CONTROL, 2):
      continue
    made_up = piece.type == _USER_DEFINED and is_control(piece.piece)
    ours = piece.piece in vocabulary.CONTROL or _AUDIO.fullmatch(piece.piece)
    if made_up or ours:
      piece.type, changed = _CONTROL, True
  return model.SerializeToString() if changed else raw
