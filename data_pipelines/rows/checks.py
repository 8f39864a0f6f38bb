"""What must hold in a built row, one check for each promise.

    arrays         L whole numbers or weights in each, as the row length says
    ids            in the embedding table
    segments       1, 2, … without holes, one a document; 0 only as the padding
                   at the end
    positions      rise from 0 in each segment, as the feed makes them
    loss_weights   finite and not negative
    padding        neither ids nor loss weights on it
    speech         groups of 2 linguistic and 3 semantic ids, none across the
                   border of a segment
    images         as many as slots; each slot at the first patch of a segment's
                   run of them
    pairs          two segments each that are learnt, or one and 0; none in two
                   of them; as many margins, zero or more, and categories that
                   have names

L is the row length.
"""

from typing import Iterator, Mapping, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.training.feeds import feed

CHECKS = (
  'arrays', 'ids', 'segments', 'positions', 'loss_weights', 'padding', 'speech',
  'images', 'pairs',
)  # fmt: skip
_KINDS = {'tokens': 'iu', 'segment_ids': 'iu', 'loss_weights': 'f'}
_PATCH = vocabulary.CONTROL['<im_patch>']

Row = Mapping[str, np.ndarray]
Fault = tuple[str, str]  # (field, what is wrong with it)


def faults(
  row: Row,
  documents: Sequence[str],
  table: vocabulary.Vocabulary,
  length: int,
  table_size: int,
  linguistic_alone: bool = False,
  categories: int = 0,
) -> Iterator[Fault]:
  """Yields what is wrong with a row, the first fault of each check.

  A check that needs what another found broken is passed over.

  Args:
    row: Arrays by name, as they are stored.
    documents: Ids of the documents, as they are stored.
    table: Tells ids of speech.
    length: Row length L.
    table_size: Ids must be below.
    linguistic_alone: Whether speech may be of linguistic ids alone.
    categories: How many of pairs have names.
  """
  wrong = _arrays(row, length)
  if wrong:
    yield wrong
    return
  tokens, segments = row['tokens'], row['segment_ids']
  bad = (tokens < 0) | (tokens >= table_size)
  if bad.any():
    yield (
      'tokens',
      f'id {tokens[bad][0]} at {_first(bad)}, expected 0..{table_size - 1}',
    )
  wrong = _segments(segments, documents)
  if wrong:
    yield wrong
  else:
    yield from _positions(row)
    yield from _padding(row)
  weights = row['loss_weights']
  bad = ~(np.isfinite(weights) & (weights >= 0))
  if bad.any():
    yield (
      'loss_weights',
      f'{weights[bad][0]} at {_first(bad)}, expected zero or more',
    )
  yield from _speech(tokens, segments, table, linguistic_alone)
  yield from _images(row, length)
  if 'pairs' in row and not wrong:
    yield from _pairs(row, categories)


def _first(mask: np.ndarray) -> int:
  return int(np.argmax(mask))


def _arrays(row: Row, length: int) -> Fault | None:
  for name, kinds in _KINDS.items():
    value = row.get(name)
    if value is None:
      return name, 'missing, expected an array'
    if value.shape != (length,):
      return name, f'{value.size} values, expected {length}'
    if value.dtype.kind not in kinds:
      what = 'weights' if 'f' in kinds else 'whole numbers'
      return name, f'found {value.dtype}, expected {what}'
  return None


def _segments(segments: np.ndarray, documents: Sequence[str]) -> Fault | None:
  before = np.concatenate([[0], segments[:-1]])
  steps = segments - before
  good = (segments == 0) | ((segments > 0) & ((steps == 0) | (steps == 1)))
  good[1:] &= ~((before[1:] == 0) & (segments[1:] > 0))  # behind padding
  good[0] = segments[0] == 1
  if not good.all():
    place = _first(~good)
    return (
      'segment_ids',
      f'{segments[place]} at {place} behind {before[place]}, expected 1, 2, … '
      'and 0 only at the end',
    )
  if segments.max() != len(documents):
    return (
      'segment_ids',
      f'{segments.max()} segments, expected {len(documents)}, the number of '
      'documents',
    )
  return None


def _positions(row: Row) -> Iterator[Fault]:
  """Each segment counted by itself, against what the feed computes."""
  segments = row['segment_ids']
  sizes = np.bincount(segments)[1:]
  expected = np.concatenate([np.arange(size) for size in sizes])
  given = row.get('positions')
  if given is None:
    given = feed.positions(segments)
  bad = given[: len(expected)] != expected
  if bad.any():
    place = _first(bad)
    yield (
      'positions',
      f'{given[place]} at {place}, expected {expected[place]}',
    )


def _padding(row: Row) -> Iterator[Fault]:
  pad = row['segment_ids'] == 0
  for name in ('tokens', 'loss_weights'):
    bad = pad & (row[name] != 0)
    if bad.any():
      yield name, f'padding holds {row[name][bad][0]} at {_first(bad)}'


def _speech(
  tokens: np.ndarray,
  segments: np.ndarray,
  table: vocabulary.Vocabulary,
  alone: bool,
) -> Iterator[Fault]:
  """The first stretch of speech that is not in groups.

  `alone`: the linguistic stream may stand alone, two ids a group.
  """
  speech = table.is_linguistic(tokens) | table.is_semantic(tokens)
  places = np.flatnonzero(speech)
  if not len(places):
    return
  fresh = (np.diff(places) != 1) | (np.diff(segments[places]) != 0)
  starts = np.concatenate([[0], np.flatnonzero(fresh) + 1])
  sizes = np.diff(np.append(starts, len(places)))
  phase = np.arange(len(places)) - np.repeat(starts, sizes)
  due = phase % vocabulary.GROUP < vocabulary.LINGUISTIC_PER_GROUP
  right = due == table.is_linguistic(tokens[places])
  if right.all() and not (sizes % vocabulary.GROUP).any():
    return
  for start, size in zip(places[starts].tolist(), sizes.tolist()):
    one = table.is_linguistic(tokens[start : start + size]).all()
    if alone and one and size % vocabulary.LINGUISTIC_PER_GROUP == 0:
      continue
    try:
      table.deinterleave(tokens[start : start + size])
    except errors.UserError as error:
      yield 'tokens', f'from {start} on: {str(error).rstrip(".")}'
      return


def _images(row: Row, length: int) -> Iterator[Fault]:
  slots = row.get('image_slots', np.zeros(0, np.int32))
  count = len(row.get('images', ()))
  if count != len(slots):
    yield 'image_slots', f'{len(slots)} of them, expected {count}, one an image'
    return
  tokens, segments = row['tokens'], row['segment_ids']
  for slot in slots.tolist():
    inside = 0 <= slot < length
    if not inside or tokens[slot] != _PATCH:
      yield 'image_slots', f'{slot} is not at an <im_patch>'
      return
    same = slot > 0 and segments[slot - 1] == segments[slot]
    if segments[slot] == 0 or (same and tokens[slot - 1] == _PATCH):
      yield (
        'image_slots',
        f'{slot} is not the first <im_patch> of an image in a segment',
      )
      return


def _pairs(row: Row, categories: int) -> Iterator[Fault]:
  pairs, segments = row['pairs'], row['segment_ids']
  if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in 'iu':
    yield 'pairs', f'{pairs.dtype} {pairs.shape}, expected whole numbers (K, 2)'
    return
  learnt = np.unique(segments[row['loss_weights'] > 0])
  there = pairs != 0
  lost = there & ~np.isin(pairs, learnt[learnt > 0])
  empty = ~there.any(-1)
  if lost.any():
    yield 'pairs', f'segment {pairs[lost][0]}, expected one that is learnt'
  elif empty.any():
    yield 'pairs', f'[0, 0] at {_first(empty)}, expected a segment'
  elif len(np.unique(pairs[there])) < there.sum():
    yield 'pairs', f'{pairs.tolist()!r:.80}, expected each segment once'
  for name, least, most in (
    ('margins', 0, np.inf),
    ('categories', -1, categories),
  ):
    value = row.get(name)
    if value is None or value.shape != (len(pairs),):
      found = 'none' if value is None else len(value)
      yield name, f'{found}, expected {len(pairs)}, one a pair'
      continue
    bad = ~((value >= least) & (value < most))
    if bad.any():
      yield (
        name,
        f'{value[bad][0]} of pair {_first(bad)}, expected {least} or more, '
        f'below {most:g}',
      )
