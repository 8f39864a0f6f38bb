"""Pairs of answers in rows, as batches have them.

Axes: B rows of a batch, K pairs of a row at most.
"""

import collections
from typing import Any, Mapping, Sequence

import numpy as np

# In `stats.json`: names of their categories; how many are whole; the most of
# them in a row; and how many answers stand alone, of both kinds.
CATEGORIES, PAIRS, MOST = 'categories', 'pairs', 'pairs_per_row'
UNPAIRED = 'unpaired'


def most(stats: Sequence[Mapping[str, Any]]) -> int:
  """The most pairs that a row has of folders with such `stats.json`."""
  return max(int(told.get(MOST) or 0) for told in stats)


def whole(stats: Sequence[Mapping[str, Any]]) -> int:
  """How many pairs with both answers there are in all folders."""
  return sum(int(told.get(PAIRS) or 0) for told in stats)


def unpaired(stats: Sequence[Mapping[str, Any]]) -> dict[str, int]:
  """'chosen', 'rejected' → how many of those stand alone in all folders."""
  found: collections.Counter[str] = collections.Counter()
  for told in stats:
    found.update(told.get(UNPAIRED) or {})
  return dict(found)


def categories(stats: Sequence[Mapping[str, Any]]) -> list[str]:
  """Those of all folders, in the order of their numbers in batches."""
  return sorted({name for told in stats for name in told.get(CATEGORIES, ())})


def batch(
  rows: Sequence[Mapping[str, np.ndarray]],
  names: Sequence[Sequence[str]],
  width: int,
  known: Sequence[str],
) -> dict[str, np.ndarray]:
  """The pairs of rows.

  Args:
    rows: As they are stored.
    names: For each, the categories of its folder.
    width: K.
    known: Of `categories`.

  Returns:
    pairs int32 (B, K, 2), the segments of the better and of the worse answer,
    0 for none; margins float32 (B, K); categories int32 (B, K), places in
    `known`, -1 for none.
  """
  found = {
    'pairs': np.zeros((len(rows), width, 2), np.int32),
    'margins': np.zeros((len(rows), width), np.float32),
    CATEGORIES: np.full((len(rows), width), -1, np.int32),
  }
  for place, (row, told) in enumerate(zip(rows, names)):
    count = len(row.get('pairs', ()))
    if not count:
      continue
    found['pairs'][place, :count] = row['pairs']
    found['margins'][place, :count] = row['margins']
    numbers = np.array([*map(known.index, told), -1])  # -1 stays -1
    found[CATEGORIES][place, :count] = numbers[row[CATEGORIES]]
  return found
