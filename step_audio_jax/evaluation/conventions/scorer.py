"""Scores utterances under one convention or several.

Every row that is given has a row in the result. Those that a convention does
not count are there with the reason, and the reasons are counted.
"""

import collections
import concurrent.futures
import itertools
import math
import multiprocessing
from typing import Iterable, Sequence

from step_audio_jax import errors as errors_lib
from step_audio_jax import languages
from step_audio_jax.evaluation.conventions import base
from step_audio_jax.evaluation.conventions import edits

# (id, reference, hypothesis, language)
Utterance = tuple[str, str | None, str | None, str]

_FIELDS = ('id', 'reference', 'hypothesis', 'language')
_CHUNK = 2000  # utterances that a process is given at once


def score_row(convention: base.Convention, utterance: Utterance) -> base.Row:
  """One utterance; what the convention drops has a reason."""
  name, reference, hypothesis, language = utterance
  dropped = None
  if reference is None:
    dropped = 'no reference'
  elif hypothesis is None:
    dropped = 'no hypothesis'
  else:
    try:
      pair = convention.pair(
        reference, hypothesis, languages.normalise(language)
      )
    except base.Dropped as reason:
      dropped = str(reason)
  if dropped:
    return base.Row(name, reference, hypothesis, reason=dropped)
  ours, theirs = pair.reference_tokens, pair.hypothesis_tokens
  counts = (0, 0, 0) if ours == theirs else convention.count(ours, theirs)
  length = len(ours)
  return base.Row(
    name,
    pair.reference,
    pair.hypothesis,
    length,
    *counts,
    rate=sum(counts) / length if length else None,
    reason=None if length else 'the reference is empty',
    counted=True,
  )


def collect(
  convention: base.Convention, rows: Iterable[base.Row]
) -> base.Scored:
  """Totals, average and reasons of rows; an id counts once."""
  seen: set[str] = set()
  kept, rates = [], []
  totals = [0, 0, 0, 0]
  excluded: collections.Counter[str] = collections.Counter()
  for row in rows:
    if row.id in seen:
      reason = 'the id was there before'
      row = base.Row(row.id, row.reference, row.hypothesis, reason=reason)
    seen.add(row.id)
    kept.append(row)
    if not row.counted:
      excluded[row.reason] += 1
      continue
    totals[0] += row.length
    totals[1] += row.substitutions
    totals[2] += row.deletions
    totals[3] += row.insertions
    if row.rate is not None:
      rates.append(row.rate)
  errors = edits.Errors(*totals)
  rate = reason = None
  if not errors.reference:
    reason = 'no utterance has a reference' if kept else 'no utterance'
  elif convention.average == base.MACRO:
    rate = math.fsum(rates) / len(rates)
  else:
    rate = errors.rate
  return base.Scored(
    convention.name,
    convention.version,
    convention.average,
    tuple(kept),
    errors,
    rate,
    reason,
    dict(excluded.most_common()),
  )


def score(
  conventions: Sequence[base.Convention],
  utterances: Iterable[Utterance],
  processes: int = 1,
) -> dict[str, base.Scored]:
  """All utterances under each of the conventions.

  Args:
    conventions: At least one.
    utterances: (id, reference, hypothesis, language) of each.
    processes: More than one share the work; worth it from some thousands on.

  Returns:
    Name of the convention → `Scored`.

  Raises:
    UserError: An utterance is no such tuple.
  """
  utterances = list(utterances)
  for place, utterance in enumerate(utterances, start=1):
    _check(place, utterance)
  chunks = [
    utterances[i : i + _CHUNK] for i in range(0, len(utterances), _CHUNK)
  ]
  if processes > 1 and len(chunks) > 1:
    with concurrent.futures.ProcessPoolExecutor(
      min(processes, len(chunks)), multiprocessing.get_context('spawn')
    ) as pool:
      done = list(pool.map(_rows, [conventions] * len(chunks), chunks))
  else:
    done = [_rows(conventions, utterances)]
  return {
    convention.name: collect(
      convention, itertools.chain.from_iterable(part[i] for part in done)
    )
    for i, convention in enumerate(conventions)
  }


def _check(place: int, utterance: Utterance) -> None:
  """Refuses what a table with holes gives for a text: a number, NaN."""
  if isinstance(utterance, str) or len(utterance) != len(_FIELDS):
    raise errors_lib.UserError(
      f'scoring: utterance {place}: found {utterance!r:.80}, expected '
      f'({", ".join(_FIELDS)}).'
    )
  for field, value in zip(_FIELDS[1:], utterance[1:], strict=True):
    optional = field != 'language'
    if not isinstance(value, str) and not (optional and value is None):
      raise errors_lib.UserError(
        f'scoring: utterance {utterance[0]!r:.80}: {field}: found {value!r}, '
        f'expected a text{" or None" if optional else ""}.'
      )


def _rows(
  conventions: Sequence[base.Convention], utterances: Sequence[Utterance]
) -> list[list[base.Row]]:
  """Convention by convention; utterance by utterance, for the caches."""
  rows: list[list[base.Row]] = [[] for _ in conventions]
  for utterance in utterances:
    for convention, its in zip(conventions, rows, strict=True):
      its.append(score_row(convention, utterance))
  return rows
