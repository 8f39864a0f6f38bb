"""A SentencePiece model as the object of a `tokenizer.json`.

Hugging Face's tools read that file and no `.model`. SentencePiece scores
pieces; unigram models keep their scores there, merges of a BPE model are every
pair of pieces that makes a piece, best first, and a model of characters is one
without merges. The result is held against SentencePiece itself on probing
texts: one that cuts any of them differently is not given out.
"""

import base64
import json
from typing import Any, Iterator

_UNIGRAM, _BPE, _CHARACTERS = 1, 2, 4
_NORMAL, _UNKNOWN, _USER_DEFINED = 1, 2, 4
_SPACE = '▁'
_PROBES = (
  'The quick brown fox, 3.50 of it.  Two  spaces ',
  ' in front\nand\ta tab; naïve 妈妈有水 🙂 “quoted”',
  'aaaa bbbb ABBA 0123456789 \u00a0 ﬁ e\u0301',
)
_LONGEST = 400  # characters of a text that is made of the model's own pieces


def convert(raw: bytes) -> dict[str, Any] | None:
  """The object of a `tokenizer.json`; None where it cannot say the same.

  Args:
    raw: A serialised SentencePiece model.
  """
  from sentencepiece import sentencepiece_model_pb2

  proto = sentencepiece_model_pb2.ModelProto.FromString(raw)
  spec = proto.trainer_spec
  if (
    spec.model_type not in (_UNIGRAM, _BPE, _CHARACTERS)
    or spec.treat_whitespace_as_suffix
    or not proto.normalizer_spec.escape_whitespaces
  ):
    return None
  tree = {
    'version': '1.0',
    'truncation': None,
    'padding': None,
    'added_tokens': list(_added(proto)),
    'normalizer': {
      'type': 'Sequence',
      'normalizers': list(_normalizers(proto.normalizer_spec)),
    },
    'pre_tokenizer': None,
    'post_processor': None,
    'decoder': {'type': 'Sequence', 'decoders': list(_decoders(proto))},
    'model': _model(proto),
  }
  return tree if _same(tree, raw, proto) else None


def _added(proto) -> Iterator[dict[str, Any]]:
  """What is no ordinary piece, atomic where it is written."""
  from sentencepiece import SentencePieceProcessor

  processor = SentencePieceProcessor(model_proto=proto.SerializeToString())
  for place, piece in enumerate(proto.pieces):
    special = processor.is_control(place) or processor.is_unknown(place)
    if special or piece.type == _USER_DEFINED:
      yield added_token(piece.piece, place, special=special)


def added_token(piece: str, place: int, *, special: bool) -> dict[str, Any]:
  """An entry of `added_tokens`."""
  return {
    'id': place,
    'content': piece,
    'single_word': False,
    'lstrip': False,
    'rstrip': False,
    'normalized': False,
    'special': special,
  }


def _normalizers(spec) -> Iterator[dict[str, Any]]:
  if spec.precompiled_charsmap:
    encoded = base64.b64encode(spec.precompiled_charsmap).decode()
    yield {'type': 'Precompiled', 'precompiled_charsmap': encoded}
  if spec.remove_extra_whitespaces:
    yield {'type': 'Strip', 'strip_left': True, 'strip_right': True}
    yield {'type': 'Replace', 'pattern': {'Regex': ' {2,}'}, 'content': ' '}
  if spec.add_dummy_prefix:
    yield {'type': 'Prepend', 'prepend': _SPACE}
  yield {'type': 'Replace', 'pattern': {'String': ' '}, 'content': _SPACE}


def _decoders(proto) -> Iterator[dict[str, Any]]:
  yield {'type': 'Replace', 'pattern': {'String': _SPACE}, 'content': ' '}
  if proto.trainer_spec.byte_fallback:
    yield {'type': 'ByteFallback'}
  yield {'type': 'Fuse'}
  if proto.normalizer_spec.add_dummy_prefix:
    yield {'type': 'Strip', 'content': ' ', 'start': 1, 'stop': 0}


def _model(proto) -> dict[str, Any]:
  spec = proto.trainer_spec
  pieces = [piece.piece for piece in proto.pieces]
  unknown = [i for i, p in enumerate(proto.pieces) if p.type == _UNKNOWN]
  if spec.model_type == _UNIGRAM:
    return {
      'type': 'Unigram',
      'unk_id': unknown[0] if unknown else None,
      'vocab': [[piece.piece, piece.score] for piece in proto.pieces],
      'byte_fallback': spec.byte_fallback,
    }
  return {
    'type': 'BPE',
    'dropout': None,
    'unk_token': pieces[unknown[0]] if unknown else None,
    'continuing_subword_prefix': None,
    'end_of_word_suffix': None,
    'fuse_unk': True,
    'byte_fallback': spec.byte_fallback,
    'ignore_merges': False,
    'vocab': {piece: place for place, piece in enumerate(pieces)},
    'merges': _merges(proto) if spec.model_type == _BPE else [],
  }


def _merges(proto) -> list[list[str]]:
  """Every pair of ordinary pieces that makes one, the best scores first."""
  scores = {p.piece: p.score for p in proto.pieces if p.type == _NORMAL}
  places = {piece.piece: place for place, piece in enumerate(proto.pieces)}
  found = []
  for piece, score in scores.items():
    for cut in range(1, len(piece)):
      left, right = piece[:cut], piece[cut:]
      if left in scores and right in scores:
        order = (-score, places[piece], places[left], places[right])
        found.append((order, [left, right]))
  return [merge for _, merge in sorted(found)]


def _same(tree, raw, proto) -> bool:
  """Whether both libraries cut the probing texts alike."""
  import sentencepiece
  import tokenizers

  theirs = sentencepiece.SentencePieceProcessor(model_proto=raw)
  try:
    ours = tokenizers.Tokenizer.from_str(json.dumps(tree))
  except Exception:  # the library raises bare Exception
    return False
  return all(
    ours.encode(text, add_special_tokens=False).ids == theirs.encode(text)
    for text in (*_PROBES, *_own_texts(proto))
  )


def _own_texts(proto) -> Iterator[str]:
  """Texts that hold every ordinary piece."""
  text = ''
  for piece in proto.pieces:
    if piece.type == _NORMAL:
      text += piece.piece.replace(_SPACE, ' ')
    if len(text) > _LONGEST:
      yield text
      text = ''
  yield text
