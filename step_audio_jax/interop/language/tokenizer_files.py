"""What a Hugging Face folder says of ids: names of rows, beginning and end.

Behind a text tokenizer of others lie rows that it does not know (`rows`):

    [text][<audio_0> … <audio_5119>][<|reserved_k|>…][control pieces]

Each gets its piece here as an added token with its id, in `tokenizer.json`,
`tokenizer_config.json` and `added_tokens.json`. A model that was trained begins
with `<s>` and ends with `<|EOT|>`, and all files that name those say so:
otherwise `generate` would run on. A control piece whose name is taken by the
tokenizer itself (`<s>` of Llama 2) is called `<|step_audio:s|>`.
"""

import json
import pathlib
from typing import Any, Mapping

import tokenizers

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.chats import template as template_lib
from step_audio_jax.interop.formats import sentencepiece_json
from step_audio_jax.interop.language import chat_marks
from step_audio_jax.interop.language import rows as rows_lib
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.text import text_models as text_lib

JSON, CONFIG = 'tokenizer.json', 'tokenizer_config.json'
SPECIAL, ADDED = 'special_tokens_map.json', 'added_tokens.json'
GENERATION, TEMPLATE = 'generation_config.json', 'chat_template.jinja'
# Ours → what the files call it.
_ROLES = {'<s>': 'bos', '<|EOT|>': 'eos', '<unk>': 'pad'}
# Settings of `generate` that name ids or strings of the base.
_OF_THE_BASE = (
  *('bad_words_ids', 'begin_suppress_tokens', 'decoder_start_token_id'),
  *('force_words_ids', 'forced_bos_token_id', 'forced_eos_token_id'),
  *('sequence_bias', 'stop_strings', 'suppress_tokens'),
)


def special_ids(rows: rows_lib.Rows) -> dict[str, int]:
  """`bos_token_id`, `eos_token_id` and `pad_token_id` of what was trained."""
  return {
    f'{role}_token_id': rows.control_starts + vocabulary_lib.CONTROL[piece]
    for piece, role in _ROLES.items()
  }


def generation_config(
  rows: rows_lib.Rows, origin: Mapping[str, Any] | None
) -> dict[str, Any]:
  """`generation_config.json`: of the base what names none of its ids."""
  origin = origin if isinstance(origin, Mapping) else {}
  kept = {k: v for k, v in origin.items() if k not in _OF_THE_BASE}
  return {**kept, **special_ids(rows)}


def missing_pieces(
  rows: rows_lib.Rows, known: Mapping[str, int]
) -> dict[str, int]:
  """The piece of every row that a tokenizer does not name, and its id.

  Args:
    rows: Of the exported tables.
    known: Pieces of the text tokenizer, with their ids.
  """
  taken = set(known.values())
  found = {}

  def name(piece, place):
    if place in taken:  # the tokenizer knows this row
      return
    if piece in known or piece in found:
      piece = f'<|step_audio:{piece.strip("<>|")}|>'
    found[piece] = place

  control = {v: k for k, v in vocabulary_lib.CONTROL.items()}
  for place in range(max(taken, default=-1) + 1, rows.named):
    k = place - rows.speech_starts
    control_k = place - rows.control_starts
    if 0 <= k < rows.speech_size:
      name(f'<audio_{k}>', place)
    elif 0 <= control_k < vocabulary_lib.CONTROL_SIZE:
      name(control.get(control_k, f'<spare_{control_k}>'), place)
    else:
      name(text_lib.FILLER.format(place), place)
  return found


def write(
  folder: pathlib.Path,
  rows: rows_lib.Rows,
  text_model: pathlib.Path,
  *,
  trained: bool,
  longest: int | None = None,
  starts: bool = False,
) -> dict[str, Any]:
  """Writes the tokenizer of an export; says what was written.

  Args:
    folder: With the files that came along with the base.
    rows: Of the exported tables.
    text_model: `tokenizer.json` or SentencePiece `.model` of the run.
    trained: Whether texts begin and end as the run's documents do, and turns
      are laid out as there; else the tokenizer only learns the names of rows.
    longest: Tokens that the model was made for.
    starts: Whether its turns have `<s>` behind every `<|BOT|>`.

  Raises:
    UserError: A row cannot have its id there.
  """
  tree = _tree(text_model)
  if tree is None:
    return {'tokenizer': 'none: tokenizer.json cannot say what it does'}
  known = tokenizers.Tokenizer.from_str(json.dumps(tree)).get_vocab()
  new = missing_pieces(rows, known)
  if not (new or trained):
    return {'tokenizer': text_model.name}
  pieces = {**known, **new}
  tree = _with(tree, new, known, text_model)
  special = {}
  if trained:
    by_id = {place: piece for piece, place in pieces.items()}
    special = {
      f'{role.removesuffix("_id")}': by_id[place]
      for role, place in special_ids(rows).items()
    }
    cuts = chat_marks.joins(tree)
    tree = chat_marks.marked(tree, cuts) | {
      'truncation': None,
      'padding': None,
      'post_processor': beginning(special['bos_token'], pieces),
    }
  files.write_json(folder / JSON, tree)
  files.write_json(folder / ADDED, {**_beyond(folder, known), **new})
  _write_config(folder, tree, special, longest)
  if trained:
    _write_template(folder, rows, by_id, tree, cuts, starts)
  return {'tokenizer': JSON, 'added_tokens': len(new)}


def _tree(path: pathlib.Path) -> dict[str, Any] | None:
  if path.suffix == '.json':
    return files.read_json(path)
  return sentencepiece_json.convert(files.read_bytes(path))


def _with(tree, new: Mapping[str, int], known, path) -> dict[str, Any]:
  """The tokenizer with new pieces at their ids."""
  tokens = [
    sentencepiece_json.added_token(
      piece, place, special=not piece.startswith('<audio_')
    )
    for piece, place in sorted(new.items(), key=lambda item: item[1])
  ]
  old = [dict(token) for token in tree.get('added_tokens') or ()]
  made = {**tree, 'added_tokens': [*old, *tokens]}
  if not _placed(made, {**known, **new}):
    # The library counts on from the number of its pieces, which is not the
    # last id where ids have holes. A table takes any id.
    table = tree['model'].get('vocab')
    if isinstance(table, dict):
      made['model'] = {**tree['model'], 'vocab': {**table, **new}}
    if not _placed(made, {**known, **new}):
      raise errors.UserError(
        f'{path}: its ids have holes, so that the {len(new)} pieces of speech '
        'and control rows cannot follow; expected ids without holes.'
      )
  return made


def _placed(tree, wanted: Mapping[str, int]) -> bool:
  found = tokenizers.Tokenizer.from_str(json.dumps(tree)).get_vocab()
  return all(found.get(piece) == place for piece, place in wanted.items())


def beginning(bos: str, pieces: Mapping[str, int]) -> dict[str, Any]:
  """The post-processor that puts `<s>` in front."""

  def template(*parts):
    head = {'SpecialToken': {'id': bos, 'type_id': 0}}
    return [head, *({'Sequence': {'id': p, 'type_id': 0}} for p in parts)]

  token = {'id': bos, 'ids': [pieces[bos]], 'tokens': [bos]}
  return {
    'type': 'TemplateProcessing',
    'single': template('A'),
    'pair': template('A', 'B'),
    'special_tokens': {bos: token},
  }


def _beyond(folder, known: Mapping[str, int]) -> dict[str, int]:
  """Of the `added_tokens.json` that came along what the tokenizer knows too."""
  found = _object(folder / ADDED)
  return {k: v for k, v in found.items() if known.get(k) == v}


def _object(path: pathlib.Path) -> dict[str, Any]:
  """A JSON object that came along; {} where there is none."""
  found = files.read_json(path) if files.is_file(path) else {}
  return found if isinstance(found, dict) else {}


def _write_config(folder, tree, special: Mapping[str, str], longest) -> None:
  path = folder / CONFIG
  old = _object(path)
  decoder = {
    str(token['id']): {k: v for k, v in token.items() if k != 'id'}
    for token in tree['added_tokens']
  }
  if not special:
    if old:
      files.write_json(path, {**old, 'added_tokens_decoder': decoder})
    return
  written = {
    'added_tokens_decoder': decoder,
    'clean_up_tokenization_spaces': False,
    'tokenizer_class': 'PreTrainedTokenizerFast',
    **special,
  }
  longest = old.get('model_max_length') or longest
  if longest:
    written['model_max_length'] = longest
  files.write_json(path, written)
  files.write_json(folder / SPECIAL, dict(special))
  # They are of the base's own tokenizer class.
  for name in ('vocab.json', 'merges.txt'):
    files.remove(folder / name)


def _write_template(folder, rows, by_id, tree, cuts, starts) -> None:
  """The chat template of our documents; that of the base was not trained."""
  pieces = {
    piece: by_id[rows.control_starts + place]
    for piece, place in vocabulary_lib.CONTROL.items()
  }
  escaped = chat_marks.first_characters(tree)
  with files.atomic(folder / TEMPLATE, 'w') as handle:
    handle.write(template_lib.write(pieces, escaped, cuts=cuts, starts=starts))
