"""The tokenizer inside a GGUF file, as the files that it was made from.

A byte-level BPE (`gpt2` there) becomes a `tokenizer.json`: tokens, merges and
the way of cutting that the file names. What the file calls `llama` is a
SentencePiece model with merges by score; it becomes a `tokenizer.model`. Chat
template and special ids go into the JSON files that others keep them in.
"""

import collections
import json
import pathlib
from typing import Any

import numpy as np

from step_audio_jax import errors
from step_audio_jax.interop.formats import gguf_files
from step_audio_jax.interop.formats import sentencepiece_json
from step_audio_jax.interop.language import tokenizer_files
from step_audio_jax.storage import files

# Types of tokens, as SentencePiece numbers them.
_UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 2, 3, 4, 5, 6
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
_GPT2 = (
  r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
)
# How text is cut before bytes are merged: regular expressions one after the
# other, 'digits' for one digit each, 'words' for the library's own (GPT-2's).
_CUTS = {
  'smollm': ('digits', 'words'),
  'gpt-2': ('words',),
  'qwen2': (_WORDS + r'|\p{N}' + _REST,),
  'llama-bpe': (_WORDS + r'|\p{N}{1,3}' + _REST,),
  'default': (r'[\p{P}\$\+<=>\^~\|]+', _GPT2, r'\p{N}+', '[0-9][0-9][0-9]'),
}
_NORMALIZED = ('qwen2',)
_WHOLE_WORDS = ('llama-bpe',)  # a word that is a token is not merged
_BEGINS = ('llama-bpe',)  # with a token, where the file does not say
_ROLES = {'bos': 'bos', 'eos': 'eos', 'unknown': 'unk', 'padding': 'pad'}


def write(
  file: gguf_files.GgufFile, folder: pathlib.Path, rows: int
) -> dict[str, Any]:
  """Writes the tokenizer of a file into a folder.

  Args:
    file: Its values are looked at.
    folder: Gets `tokenizer.json` or `tokenizer.model`, `tokenizer_config.json`
      and `generation_config.json`.
    rows: Of the embedding.

  Returns:
    What `config.json` says of ids.

  Raises:
    UserError: The file contradicts itself, or its tokenizer is of another kind.
  """
  table = _Table(file, rows)
  begins = table.flag('add_bos_token', table.begins)
  if begins and 'bos' not in table.special:
    raise table.refusal('bos_token_id', None, 'the token that texts begin with')
  if table.kind == 'gpt2':
    files.write_json(folder / tokenizer_files.JSON, _bpe(table, begins))
  else:
    files.write_bytes(folder / 'tokenizer.model', _sentencepiece(table))
  special = {name: table.tokens[place] for name, place in table.special.items()}
  config = {
    'tokenizer_class': 'PreTrainedTokenizerFast',
    'clean_up_tokenization_spaces': False,
    'add_bos_token': begins,
    **{f'{name}_token': token for name, token in special.items()},
  }
  template = file.get('tokenizer.chat_template', str)
  if template:
    config['chat_template'] = template
  files.write_json(folder / tokenizer_files.CONFIG, config)
  ids = {
    f'{name}_token_id': place
    for name, place in table.special.items()
    if name != 'unk'
  }
  ends = [ids['eos_token_id']] if 'eos_token_id' in ids else []
  ends += [i for i in (table.id_of('eot'),) if i is not None and i not in ends]
  generation = {**ids, 'eos_token_id': ends} if ends else ids
  files.write_json(folder / tokenizer_files.GENERATION, generation)
  return ids


class _Table:
  """The tokens of a file, looked at."""

  def __init__(self, file: gguf_files.GgufFile, rows: int):
    self._file = file
    self.kind = self.get('model', str)
    if self.kind not in ('gpt2', 'llama'):
      raise self.refusal(
        'model', self.kind, "'gpt2' (byte-level BPE) or 'llama' (SentencePiece)"
      )
    self.cut = self.get('pre', str, 'default')
    if self.kind == 'gpt2' and self.cut not in _CUTS:
      raise self.refusal('pre', self.cut, f'one of {", ".join(_CUTS)}')
    self.tokens: list[str] = self.strings('tokens')
    if len(self.tokens) != rows:
      raise self.refusal(
        'tokens',
        f'{len(self.tokens)} tokens',
        f'{rows}, the rows of token_embd.weight',
      )
    self.types = self.numbers('token_type', 'iu', np.ones(rows, np.int32))
    if not np.isin(self.types, range(1, _BYTE + 1)).all():
      raise self.refusal(
        'token_type', int(self.types.max()), 'numbers from 1 to 6'
      )
    places: dict[str, int] = {}
    for place in np.flatnonzero(self.types != _UNUSED).tolist():
      token = self.tokens[place]
      if token in places or not token:
        first = f', that of id {places[token]}' if token in places else ''
        raise self.refusal(
          'tokens', f'{token!r} for id {place}{first}', 'one name for each'
        )
      places[token] = place
    self.places = places
    self.special = {
      ours: found
      for theirs, ours in _ROLES.items()
      if (found := self.id_of(theirs)) is not None
    }

  @property
  def begins(self) -> bool:
    """Whether texts begin with a token where the file does not say."""
    return self.kind == 'llama' or self.cut in _BEGINS

  def get(self, name: str, kind: type, default: Any = None) -> Any:
    return self._file.get(f'tokenizer.ggml.{name}', kind, default)

  def array(self, name: str, default: Any = None) -> Any:
    return self._file.values.get(f'tokenizer.ggml.{name}', default)

  def flag(self, name: str, default: bool) -> bool:
    return self.get(name, bool, default)

  def strings(self, name: str) -> list[str]:
    value = self.array(name)
    if not isinstance(value, list) or not value:
      raise self.refusal(name, type(value).__name__, 'an array of strings')
    return value

  def numbers(self, name: str, kinds: str, default: Any = None) -> np.ndarray:
    """One number a token."""
    value = self.array(name, default)
    fine = isinstance(value, np.ndarray) and value.dtype.kind in kinds
    if not fine or len(value) != len(self.tokens):
      found = f'{len(value)} values' if fine else type(value).__name__
      raise self.refusal(name, found, f'{len(self.tokens)}, one a token')
    return value

  def id_of(self, role: str) -> int | None:
    """An id that the file names."""
    name = f'{role}_token_id'
    place = self.get(name, int)
    if place is None:
      return None
    fine = 0 <= place < len(self.tokens)
    if not fine or self.types[place] == _UNUSED:
      raise self.refusal(name, place, f'a token of 0 to {len(self.tokens) - 1}')
    return place

  def refusal(self, name, found, expected) -> errors.UserError:
    found = found if isinstance(found, str) and ' ' in found else repr(found)
    return errors.UserError(
      f'{self._file.path}: tokenizer.ggml.{name} is {found}, expected '
      f'{expected}.'
    )


def _bpe(table: _Table, begins: bool) -> dict[str, Any]:
  """The object of a `tokenizer.json`."""
  added = [
    sentencepiece_json.added_token(
      table.tokens[place],
      place,
      special=int(table.types[place]) != _USER_DEFINED,
    )
    for place in np.flatnonzero(
      np.isin(table.types, (_UNKNOWN, _CONTROL, _USER_DEFINED))
    ).tolist()
  ]
  cuts = [_cut(name) for name in _CUTS[table.cut] if name != 'words']
  bytes_ = {
    'type': 'ByteLevel',
    'add_prefix_space': table.flag('add_space_prefix', False),
    'trim_offsets': True,
    'use_regex': 'words' in _CUTS[table.cut],
  }
  normalizer = {'type': 'NFC'} if table.cut in _NORMALIZED else None
  bos = table.special.get('bos')
  opening = (
    tokenizer_files.beginning(table.tokens[bos], table.places)
    if begins and bos is not None
    else None
  )
  tree = {
    'version': '1.0',
    'truncation': None,
    'padding': None,
    'added_tokens': added,
    'normalizer': normalizer,
    'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': [*cuts, bytes_]},
    'post_processor': opening,
    'decoder': {**bytes_, 'use_regex': True},
    'model': {
      'type': 'BPE',
      'dropout': None,
      'unk_token': None,
      'continuing_subword_prefix': None,
      'end_of_word_suffix': None,
      'fuse_unk': False,
      'byte_fallback': False,
      'ignore_merges': table.cut in _WHOLE_WORDS,
      'vocab': table.places,
      'merges': _merges(table),
    },
  }
  _check(table, tree)
  return tree


def _cut(name: str) -> dict[str, Any]:
  if name == 'digits':
    return {'type': 'Digits', 'individual_digits': True}
  return {
    'type': 'Split',
    'pattern': {'Regex': name},
    'behavior': 'Isolated',
    'invert': False,
  }


def _merges(table: _Table) -> list[list[str]]:
  merges = []
  for place, merge in enumerate(table.strings('merges')):
    parts = merge.split(' ')
    if len(parts) != 2 or any(
      token not in table.places for token in (*parts, ''.join(parts))
    ):
      raise table.refusal(
        'merges', f'{merge!r} at {place}', 'two tokens that make one'
      )
    merges.append(parts)
  return merges


def _check(table: _Table, tree: dict[str, Any]) -> None:
  """Every token must have the id that the file gives it."""
  import tokenizers

  found = tokenizers.Tokenizer.from_str(json.dumps(tree)).get_vocab()
  for token, place in table.places.items():
    if found.get(token) != place:
      raise table.refusal(
        'tokens', f'{token!r} at {place}', 'tokens that a BPE model can have'
      )


def _sentencepiece(table: _Table) -> bytes:
  """A serialised SentencePiece model."""
  from sentencepiece import sentencepiece_model_pb2

  scores = table.numbers('scores', 'f')
  if not np.isfinite(scores).all():
    raise table.refusal('scores', 'a NaN or infinite one', 'finite numbers')
  model = sentencepiece_model_pb2.ModelProto()
  types = table.types.copy()
  unknown = table.special.get('unk', 0)
  counted = collections.Counter(types.tolist())
  if not counted[_UNKNOWN]:
    types[unknown] = _UNKNOWN
  elif counted[_UNKNOWN] > 1:
    raise table.refusal(
      'token_type', f'{counted[_UNKNOWN]} unknown tokens', 'one'
    )
  for token, score, kind in zip(table.tokens, scores.tolist(), types.tolist()):
    model.pieces.add(piece=token, score=score, type=kind)
  trainer, normalizer = model.trainer_spec, model.normalizer_spec
  trainer.model_type = trainer.BPE
  trainer.vocab_size = len(table.tokens)
  trainer.byte_fallback = bool(counted[_BYTE])
  trainer.unk_id = int(np.flatnonzero(types == _UNKNOWN)[0])
  trainer.unk_piece = table.tokens[trainer.unk_id]
  for name in ('bos', 'eos', 'pad'):
    place = table.special.get(name, -1)
    setattr(trainer, f'{name}_id', place)
    if place >= 0:
      setattr(trainer, f'{name}_piece', table.tokens[place])
  normalizer.name = 'identity'
  normalizer.add_dummy_prefix = table.flag('add_space_prefix', True)
  normalizer.remove_extra_whitespaces = table.flag(
    'remove_extra_whitespaces', False
  )
  normalizer.escape_whitespaces = True
  return model.SerializeToString()
