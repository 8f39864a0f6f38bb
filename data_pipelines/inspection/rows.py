"""Rows as people read them: decoded text, speech in seconds, what is learnt."""

import dataclasses
import itertools
import pathlib
from typing import Any, Iterator, Mapping, Sequence

import numpy as np

from data_pipelines import records
from data_pipelines.rows import folders as rows_lib
from data_pipelines.tasks import text_models
from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.chats import preferences
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files
from step_audio_jax.training.feeds import pairs as pairs_lib

KINDS = ('text', 'linguistic', 'semantic', 'image', 'special')
_TEXT, _LINGUISTIC, _SEMANTIC, _IMAGE, _SPECIAL = range(len(KINDS))
_NAMES = {place: piece for piece, place in vocabulary.CONTROL.items()}
_PATCH = vocabulary.CONTROL['<im_patch>']


@dataclasses.dataclass(frozen=True)
class Segment:
  """One document of a row, or a piece of one.

  Attributes:
    id: Of the document.
    start: Its first place in the row.
    tokens: (n,).
    weights: (n,), loss weights.
    images: uint8 (k, H, W, 3).
    answer: Of a pair, which of its two this is; '' of none.
  """

  id: str
  start: int
  tokens: np.ndarray
  weights: np.ndarray
  images: np.ndarray
  answer: str = ''

  def summary(self, table: vocabulary.Vocabulary) -> dict[str, Any]:
    """For JSON: id, tokens, loss_tokens, text; of a pair which answer."""
    answer = {'answer': self.answer} if self.answer else {}
    return {
      'id': self.id,
      **answer,
      'tokens': len(self.tokens),
      'loss_tokens': int((self.weights > 0).sum()),
      'text': show_tokens(self.tokens, table),
    }


def segments(
  row: dict[str, np.ndarray], names: list[str], categories: Sequence[str] = ()
) -> list[Segment]:
  """The documents of a row as it is stored.

  Args:
    row: Arrays by name.
    names: Ids of the documents.
    categories: Those of pairs, as `stats.json` names them.
  """
  found, answers = [], _answers(row, categories)
  slots = row.get('image_slots', np.zeros(0, np.int32))
  for number, name in enumerate(names, start=1):
    places = np.flatnonzero(row['segment_ids'] == number)
    inside = np.isin(slots, places)
    found.append(
      Segment(
        id=name,
        start=int(places[0]) if len(places) else 0,
        tokens=row['tokens'][places],
        weights=row['loss_weights'][places],
        images=row['images'][inside]
        if inside.any()
        else np.zeros((0, 1, 1, 3), np.uint8),
        answer=answers.get(number, ''),
      )
    )
  return found


def _answers(row, categories: Sequence[str]) -> dict[int, str]:
  """Segment → which answer of which pair it is."""
  found = {}
  for number, pair in enumerate(row.get('pairs', ()), start=1):
    margin, kind = row['margins'][number - 1], row['categories'][number - 1]
    both = all(pair.tolist())
    told = [f'margin {margin:g}'] if both else []
    if 0 <= kind < len(categories):
      told.append(str(categories[kind]))
    for segment, name in zip(pair.tolist(), preferences.ANSWERS):
      what = f'{name} of pair {number}' if both else f'{name} alone'
      found[segment] = ', '.join([what, *told])
  found.pop(0, None)  # is none
  return found


def kinds_of(tokens: np.ndarray, table: vocabulary.Vocabulary) -> np.ndarray:
  """Place in `KINDS` of every id, int (n,)."""
  kinds = np.full(len(tokens), _TEXT)
  kinds[table.is_linguistic(tokens)] = _LINGUISTIC
  kinds[table.is_semantic(tokens)] = _SEMANTIC
  kinds[np.isin(tokens, list(_NAMES))] = _SPECIAL
  kinds[tokens == _PATCH] = _IMAGE
  return kinds


def runs(*columns: np.ndarray) -> Iterator[tuple[int, int]]:
  """(start, stop) of the stretches in which no column changes."""
  changes = [np.diff(column) != 0 for column in columns]
  edges = np.flatnonzero(np.logical_or.reduce(changes)) + 1
  size = len(columns[0])
  if size:
    yield from itertools.pairwise([0, *edges.tolist(), size])


def piece_name(token: int) -> str:
  """A control piece as it is written."""
  return _NAMES[token]


def show_tokens(tokens: np.ndarray, table: vocabulary.Vocabulary) -> str:
  """Ids as people read them: pieces, text, and speech as a count of groups."""
  out, run, kind = [], [], None

  def close():
    if kind == 'text':
      out.append(repr(table.decode(run)) if table.text else f'{len(run)} text')
    elif kind == 'speech':
      groups = len(run) / vocabulary.GROUP
      seconds = groups * vocabulary.GROUP_SECONDS
      first = ' '.join(map(str, run[: vocabulary.GROUP]))
      out.append(f'[{seconds:.2f} s of speech: {first} …]')
    elif kind is not None:
      out.append(kind if len(run) == 1 else f'{kind}x{len(run)}')

  for token in map(int, tokens):
    new = _NAMES.get(token) or ('text' if token < table.text_size else 'speech')
    if new != kind:
      close()
      run, kind = [], new
    run.append(token)
  close()
  return ' '.join(out)


def table_of(
  stats: dict[str, Any], text_model: str | None
) -> vocabulary.Vocabulary:
  """The id space of a folder of rows; without text if its model is gone.

  Raises:
    UserError: `text_model` is not the one that the rows were built with.
  """
  described = stats[bindings.VOCABULARY]
  if text_model:
    table = text_models.load(text_model)
    bindings.check_vocabulary(
      'these rows',
      described,
      '--text_model',
      table.describe(),
      'leave the flag out, or name the text model that they were built with',
    )
    return table
  recorded = stats.get('text_model')
  if recorded and files.is_file(recorded):
    table = text_models.load(recorded)
    if bindings.same_pieces(described, table.describe()) is not False:
      return table
    bindings.warn_once(
      f'{recorded}: not the text model that these rows were built with '
      f'({bindings.vocabulary_name(table.describe())}, expected '
      f'{bindings.vocabulary_name(described)}); text is shown as its length.'
    )
  return vocabulary.Vocabulary.of_sizes(described)


def read(
  folder: rows_lib.Folder, first: int, count: int = 1
) -> Iterator[list[Segment]]:
  """The segments of `count` rows from `first` on, or of those that are there.

  Raises:
    UserError: There is no row `first`.
  """
  rows = folder.stats['rows']
  if not 0 <= first < rows:
    raise errors.UserError(
      f'--row: found {first}, expected 0..{rows - 1} in {folder.path}.'
    )
  for row, names in itertools.islice(folder.start_at(first), count):
    categories = folder.stats.get(pairs_lib.CATEGORIES, ())
    yield segments(row, names, categories)


def pairs_told(stats: Mapping[str, Any]) -> list[tuple[str, int]]:
  """What rows of preferences hold → how many."""
  found = [('pairs', pairs_lib.whole([stats]))]
  for name, count in pairs_lib.unpaired([stats]).items():
    found.append((f'{name} alone', count))
  return [one for one in found if one[1]]


def headline(folder: rows_lib.Folder) -> str:
  """One line about a folder of rows."""
  stats = folder.stats
  return (
    f'{folder.path}: task {stats["task"]}, split {stats["split"]}, '
    f'{stats["rows"]} rows of {stats["length"]}, padding '
    f'{100 * stats["padding"]:.2f} %, {stats["dropped"]} left out; '
    + ''.join(f'{count} {what}; ' for what, count in pairs_told(stats))
    + bindings.origin_name(stats)
  )


def show(
  path: pathlib.Path, number: int, text_model: str | None
) -> dict[str, Any]:
  """Prints one row; returns it as JSON-able documents."""
  folder = rows_lib.open_folder(path)
  table = table_of(folder.stats, text_model)
  (found,) = read(folder, number)
  print(headline(folder))
  documents = [segment.summary(table) for segment in found]
  for one in documents:
    answer = f', {one["answer"]}' if 'answer' in one else ''
    print(
      f'  {one["id"]} ({one["tokens"]} tokens, {one["loss_tokens"]} learnt'
      f'{answer})'
    )
    print(f'    {one["text"]}')
  return {'row': number, 'documents': documents}


def folders_below(path: pathlib.Path) -> list[pathlib.Path]:
  """The row folders `TASK/SPLIT` of a folder that `build` wrote."""
  found = (p.parent for p in files.glob(path, '*/*/stats.json'))
  shards = f'{rows_lib.STEM}-*{records.SUFFIX}'
  return sorted(p for p in found if any(files.glob(p, shards)))


def show_tree(path: pathlib.Path) -> dict[str, Any]:
  """Prints a line for each row folder; returns figures of `stats.json`."""
  found = {}
  for folder in map(rows_lib.open_folder, folders_below(path)):
    print(headline(folder))
    found[str(folder.path.relative_to(path))] = {
      key: folder.stats.get(key)
      for key in (
        'rows', 'length', 'tokens', 'padding', 'loss_tokens',
        'tokens_by_kind', 'documents', 'dropped', pairs_lib.PAIRS,
        pairs_lib.UNPAIRED, bindings.VOCABULARY, bindings.TOKENIZER,
      )
    }  # fmt: skip
  return found
