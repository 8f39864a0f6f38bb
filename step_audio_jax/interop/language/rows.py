"""Which row of an open model's vocabulary is which of ours.

A text vocabulary that does not keep Step-Audio's control pieces at ids 0..67
has all its ids moved up by 68 (`tokenizers.text`). So over such a model our
table is

    [68 control rows][text rows][speech rows][padding]

where theirs is [text rows][padding]. Going out, speech and control rows are
put behind the text, so that the model's own tokenizer stays right; a note in
config.json (`NOTE`) lets them find back, and `tokenizer_files` names them.
"""

import dataclasses
from typing import Any, Mapping

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.storage import lazy
from step_audio_jax.training.transfer import transfer

NOTE = 'step_audio_jax'
_TABLES = ('embedding', 'head')


@dataclasses.dataclass(frozen=True)
class Rows:
  """How rows lie.

  Attributes:
    moved: By how much text ids are moved up in our table.
    text_size: One past the last text id of ours.
    speech_size: Rows of the speech block behind it; 0 where there is none.
    table_size: Rows of our table.
    trained: Whether control rows are more than copies: documents begin and
      end with them.
  """

  moved: int = 0
  text_size: int = 0
  speech_size: int = 0
  table_size: int = 0
  trained: bool = False

  @property
  def go_out(self) -> bool:
    """Whether control rows that theirs has not are put behind it."""
    return bool(self.moved and (self.speech_size or self.trained))

  @property
  def speech_starts(self) -> int:
    """The row of `<audio_0>` in their table."""
    return self.text_size - self.moved

  @property
  def control_starts(self) -> int:
    """The row of the first control piece in their table."""
    return self.table_size - self.moved if self.moved else 0

  @property
  def named(self) -> int:
    """One past the last row of their table that some piece stands for."""
    end = self.speech_starts + self.speech_size
    return self.table_size if self.go_out else end

  @classmethod
  def of_vocabulary(
    cls, vocabulary: Mapping[str, Any], trained: bool = False
  ) -> 'Rows':
    """From the `vocabulary` of a run's config.json."""
    moved = 0
    if vocabulary.get('text_model'):
      from step_audio_jax.tokenizers.text import text_models as text

      moved = text.load(vocabulary['text_model']).moved
    speech = vocabulary['linguistic_size'] + vocabulary['semantic_size']
    sizes = vocabulary['text_size'], speech, vocabulary['table_size']
    return cls(moved, *sizes, trained)

  def note(self) -> dict[str, int] | None:
    """What an exported config.json says of the rows; None if nothing."""
    if not (self.go_out or self.trained and self.speech_size):
      return None
    note = {'control_rows': self.moved, 'speech_starts': self.speech_starts}
    return note if self.speech_size else {**note, 'speech_rows': 0}


def to_ours(
  tables: Mapping[str, Any],
  rows: Rows,
  config: Mapping[str, Any],
  where: str,
  seed: int = 0,
) -> dict[str, Any]:
  """Their tables as ours, short of rows that ours has behind.

  Of the control rows, `<s>`, `</s>` and `<|EOT|>` are the model's own begin
  and end; the others are drawn like its text rows.

  Args:
    tables: `embedding` and, untied, `head`, (V, E).
    rows: Of our vocabulary.
    config: Their config.json.
    where: Its path, for messages.
    seed: Of the rows that are drawn.

  Raises:
    UserError: The text tokenizer has more ids than the tables rows.
  """
  note = config.get(NOTE)
  own = _own_control_rows(config)
  out = {}
  for name, table in tables.items():
    count = table.shape[0]
    if note:
      moved = int(note['control_rows'])
      end = count - moved
      if rows.speech_size and note.get('speech_rows') == 0:
        end = int(note['speech_starts'])  # padding would be taken for speech
      pieces = [(table, count - moved, count), (table, 0, end)]
      out[name] = lazy.Rows(pieces)
      continue
    text = rows.text_size - rows.moved
    if text > count:
      raise errors.UserError(
        f'{where}: vocab_size is {count}, expected at least {text}, the ids '
        'of the text tokenizer.'
      )
    if not rows.moved:
      out[name] = table
      continue
    # Rows that pad their table would else be taken for speech.
    room = rows.table_size - rows.moved
    kept = text if rows.speech_size else min(count, room)
    path = f'params/transformer/{name}/control'
    control = transfer.DrawnRows(
      lazy.Rows([(table, 0, text)]),
      rows.moved,
      0,
      transfer.table_seed(path, seed),
    )
    control = lazy.Cast(control, table.dtype)
    pieces = [
      (table, own[row], own[row] + 1)
      if own.get(row, count) < text
      else (control, row, row + 1)
      for row in range(rows.moved)
    ]
    out[name] = lazy.Rows([*pieces, (table, 0, kept)])
  return out


def _own_control_rows(config) -> dict[int, int]:
  """Our control id → the open model's own id for the same thing."""
  out = {}
  for name, ids in (
    ('bos_token_id', (vocabulary_lib.BOS,)),
    ('eos_token_id', (vocabulary_lib.CONTROL['</s>'], vocabulary_lib.EOT)),
  ):
    value = config.get(name)
    value = value[0] if isinstance(value, list) and value else value
    if isinstance(value, int) and value >= 0:
      out |= dict.fromkeys(ids, value)
  return out


def to_theirs(tables: Mapping[str, Any], rows: Rows) -> dict[str, Any]:
  """Our tables as theirs; the inverse of `to_ours`."""
  out = {}
  for name, table in tables.items():
    pieces = [(table, rows.moved, table.shape[0])]
    if rows.go_out:
      pieces.append((table, 0, rows.moved))
    out[name] = lazy.Rows(pieces) if rows.moved else table
  return out


def vocabulary_tables(tree: Mapping[str, Any]) -> dict[str, Any]:
  """The vocabulary tables of a tree of variables."""
  backbone = tree['params']['transformer']
  return {name: backbone[name] for name in _TABLES if name in backbone}


def replace_tables(tree: Mapping[str, Any], tables: Mapping[str, Any]) -> dict:
  """The tree with other vocabulary tables."""
  params = tree['params']
  backbone = {**params['transformer'], **tables}
  return {**tree, 'params': {**params, 'transformer': backbone}}
