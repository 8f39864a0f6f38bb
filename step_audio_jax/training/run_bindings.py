"""What the ids of a run belong to: its rows, its sources, its own past.

Everything is compared before a step is made. A run carries what it was told
(`bindings.VOCABULARY`, `bindings.TOKENIZER`) in its `config.json`.
"""

import os
import pathlib
from typing import Any, Mapping, NamedTuple, Sequence

from step_audio_jax import errors
from step_audio_jax.chats import habits
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files
from step_audio_jax.training.checkpoints import checkpoints
from step_audio_jax.training.transfer import own_vocabulary
from step_audio_jax.training.transfer import remap

_FLOW_BLOCK = {'linguistic_size': 1024, 'semantic_size': 4096}


class Start(NamedTuple):
  """How a run starts from another.

  Attributes:
    path: Of the other.
    rows: Where the rows of its tables go; None if it has none.
    told: A sentence for the user, or ''.
    tokenizer: Whose codes its speech rows are.
  """

  path: str
  rows: remap.RowMap | None = None
  told: str = ''
  tokenizer: bindings.Described = None


def bindings_of_run(
  description: Mapping[str, Any], feed: Any
) -> dict[str, Any]:
  """What a run carries, after its rows were compared with its model.

  Args:
    description: `describe()` of the objective.
    feed: Where batches come from. It may have `vocabulary` and
      `speech_tokenizer`, those of its rows, `tags`, `edits`, `turns`,
      `speech`, whether speech is among them, `name`, and `table_size`, which is
      set.

  Raises:
    UserError: The rows belong to another vocabulary than the model, or hold
      ids that its table has no row for.
  """
  found: dict[str, Any] = {}
  tokenizer = getattr(feed, 'speech_tokenizer', None)
  if tokenizer:
    found[bindings.TOKENIZER] = dict(tokenizer)
  if tags := getattr(feed, 'tags', None):
    found[bindings.TAGS] = list(tags)
  if edits := getattr(feed, 'edits', None):
    found[bindings.EDITS] = list(edits)
  if turns := getattr(feed, 'turns', None):
    found[habits.KEY] = dict(turns)
  mine = description.get(bindings.VOCABULARY)
  if not mine:
    return found
  rows = getattr(feed, 'vocabulary', None)
  bindings.check_vocabulary(
    getattr(feed, 'name', 'rows'),
    rows,
    'this run',
    mine,
    'set TEXT_MODEL to the text model that the rows were built with, or build '
    'rows with this one',
    speech=getattr(feed, 'speech', True),
  )
  largest = getattr(feed, 'largest_id', None)
  if largest is not None and largest >= mine['table_size']:
    raise errors.UserError(
      f'{feed.name}: has the id {largest}, but the table of this run has '
      f'{mine["table_size"]} rows; build rows with the text model of the run.'
    )
  if hasattr(feed, 'table_size'):
    feed.table_size = mine['table_size']
  # Rows know their text model even where a run is told none.
  digests = (bindings.PIECES, bindings.ENCODER)
  known = {k: rows[k] for k in digests if k in (rows or {})}
  return found | {bindings.VOCABULARY: {**known, **mine}}


def bindings_of_resumed(
  folder: pathlib.Path, ids: dict[str, Any]
) -> dict[str, Any]:
  """What a run carries that goes on; nothing changes where it is new.

  Args:
    folder: The run directory.
    ids: Of `bindings_of_run`.

  Raises:
    UserError: It began with another vocabulary or other codes.
  """
  path = folder / 'config.json'
  before = _object_in(path)
  if not checkpoints.steps_of(folder):
    return ids
  old, new = before.get(bindings.VOCABULARY), ids.get(bindings.VOCABULARY)
  if bindings.same_pieces(old, new) is False:
    text_model = str(new.get('text_model'))
    raise errors.UserError(
      f'{path}: this run began with the vocabulary '
      f'{bindings.vocabulary_name(old)}, but finds '
      f'{bindings.vocabulary_name(new)}; put the text model back (its copy is '
      f'{own_vocabulary.path_in(folder, text_model)}), or start another run '
      'directory from this one with INIT_FROM.'
    )
  one = bindings.tokenizer_of(before, path)
  two = bindings.tokenizer_of(ids, path)
  if one and two:
    bindings.check_tokenizer(
      'the rows or codes of this run',
      two,
      str(path),
      one,
      'put them back, or start another run directory from this one with '
      'INIT_FROM',
    )
  return {bindings.TOKENIZER: one, **ids} if one else ids


def table_starts(
  init_from: Sequence[str | os.PathLike],
  description: Mapping[str, Any],
  ids: Mapping[str, Any],
  speech_rows: str,
) -> list[Start]:
  """How the tables of runs become those of a new one.

  Args:
    init_from: Run directories, and other folders, which are passed over.
    description: `describe()` of the objective.
    ids: Of `bindings_of_run`.
    speech_rows: Of `remap.POLICIES`.

  Raises:
    UserError: Rows cannot be matched by what they mean, or the codes of a run
      are those of another tokenizer and `speech_rows` does not allow it.
  """
  if speech_rows not in remap.POLICIES:
    raise errors.UserError(
      f'speech_rows: found {speech_rows!r}, expected one of '
      f'{", ".join(remap.POLICIES)}.'
    )
  return [
    _start(str(path), description, ids, speech_rows) for path in init_from
  ]


def _start(path, description, ids, policy) -> Start:
  folder = files.path(path)
  ours = any(
    files.exists(folder / name) for name in ('config.gin', 'checkpoints')
  )
  if not ours:
    return _exported(folder, ids, policy)
  config = checkpoints.run_config(folder)
  tokenizer = bindings.tokenizer_of(config, folder / 'config.json')
  old = _sizes(config)
  new = _sizes(description)
  if old is None or new is None:
    return Start(path)
  mine = ids.get(bindings.TOKENIZER) or tokenizer
  pieces = [None, None]
  if bindings.same_pieces(old, new) is not True and old['text_size']:
    pieces = [_pieces(folder, old), _pieces(None, new)]
  rows = remap.rows_between(
    remap.VocabularySide(path, old, pieces[0], tokenizer),
    remap.VocabularySide('this run', new, pieces[1], mine),
    policy,
  )
  return Start(path, rows, _sentence(path, rows), tokenizer)


def _exported(folder: pathlib.Path, ids, policy) -> Start:
  """A folder that a reader knows; it may say whose codes its rows are."""
  path = folder / 'config.json'
  told = bindings.of_export(_object_in(path), path)
  tokenizer = told.get(bindings.TOKENIZER)
  mine = ids.get(bindings.TOKENIZER)
  if tokenizer and mine and policy != remap.KEEP:
    bindings.check_tokenizer(
      f'the speech rows of {folder}',
      tokenizer,
      'this run',
      mine,
      "set SPEECH_ROWS to 'keep' to start from them all the same, or convert "
      "the folder to a run, of which 'fresh' draws them anew",
    )
  return Start(str(folder), None, '', tokenizer)


def configs(
  init_from: Sequence[str | os.PathLike],
) -> dict[str, dict[str, Any]]:
  """Folder → its `config.json`; {} where it has none."""
  return {
    str(path): _object_in(files.path(path) / 'config.json')
    for path in init_from
  }


def _object_in(path: pathlib.Path) -> dict[str, Any]:
  """The JSON object in a file; {} where there is none, or half of one."""
  try:
    value = files.read_json(path)
  except errors.UserError:
    return {}
  return value if isinstance(value, dict) else {}


def _sizes(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
  """The vocabulary of a language model or, as if it were one, of a flow."""
  model = config.get('model')
  if not isinstance(model, Mapping):
    return None
  if config.get(bindings.VOCABULARY):
    return config[bindings.VOCABULARY]
  rows = model.get('vocabulary')  # what a flow calls its rows of ids
  if 'decoder' not in config or not isinstance(rows, int):
    return None
  block = dict(_FLOW_BLOCK)
  if rows < sum(block.values()):  # semantic codes alone
    block = {'linguistic_size': 0, 'semantic_size': rows}
  return {'text_size': 0, 'table_size': rows, **block}


def _pieces(folder: pathlib.Path | None, described: Mapping[str, Any]):
  """The pieces of a run's text model; None where the file is gone."""
  path = described.get('text_model')
  if folder is not None:
    path = own_vocabulary.text_model_of(folder, described)
  if not path or not files.is_file(path):
    return None
  from step_audio_jax.tokenizers.text import text_models

  return text_models.load(path).pieces


def _sentence(path: str, rows: remap.RowMap) -> str:
  told = rows.told
  if rows.is_identity():
    return ''
  said = f'{path}: {told["text_taken"]} text rows by their piece'
  if told['text_drawn']:
    said += f', {told["text_drawn"]} new ones drawn'
  if told['text_left_out']:
    said += f', {told["text_left_out"]} old ones without a place here'
  return said + (
    f'; of the speech rows {told["speech_taken"]} by their code, '
    f'{told["speech_drawn"]} drawn.'
  )
