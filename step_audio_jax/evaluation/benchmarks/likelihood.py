"""Log-likelihoods of continuations: which of several a model finds likeliest.

The ids of context and continuation are encoded together where the context ends
at a space, so that a continuation's first word is the piece that it is in
running text (as lm-evaluation-harness has it).

Axes: B rows, T ids.
"""

import functools
from typing import Any, Callable, Mapping, Sequence

import jax
import numpy as np

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.evaluation.benchmarks import benchmark
from step_audio_jax.evaluation.benchmarks import choices as choices_lib
from step_audio_jax.training.feeds import feed
from step_audio_jax.training.objectives import objectives

CHOICES = choices_lib.CONTINUATIONS
_ROWS = 32
Row = tuple[Sequence[int], int]  # ids, and how many of them are the context


def rows_of(
  item: benchmark.Item,
  encode: Callable[[str], Sequence[int]],
  opening: Sequence[int] = (vocabulary_lib.BOS,),
) -> list[Row]:
  """One row for each continuation of an item.

  Args:
    item: Its text is the context.
    encode: Text → ids.
    opening: Ids that a text of the model begins with.

  Raises:
    UserError: It has no continuations, or one of them has no ids.
  """
  choices = item.about.get(CHOICES)
  if not choices:
    raise errors.UserError(
      f'{item.id}: about: found no {CHOICES}, expected some.'
    )
  context = item.text
  rows = []
  for text in choices:
    head, whole = list(encode(context)), list(encode(context + text))
    # A piece may span the border: where it does not, this is the same.
    shared = 0
    while shared < min(len(head), len(whole)) and head[shared] == whole[shared]:
      shared += 1
    if shared == len(whole):
      raise errors.UserError(
        f'{item.id}: the continuation {text!r} has no ids of its own.'
      )
    # The first id of all is predicted by nothing.
    known = max(1, len(opening) + shared)
    rows.append(([*opening, *whole], known))
  return rows


def sums(
  model: Any,
  variables: Mapping[str, Any],
  rows: Sequence[Row],
  rung: Callable[[int], int],
) -> list[tuple[float, int]]:
  """(log-likelihood in nats, ids) of each row's continuation.

  Args:
    model: Flax module with the API of `models.language.speech_text`.
    variables: Its variables.
    rows: Of `rows_of`.
    rung: Length → the length that is compiled for.
  """
  found = []
  for start in range(0, len(rows), _ROWS):
    some = rows[start : start + _ROWS]
    length = rung(max(len(ids) for ids, _ in some))
    tokens_BT = np.zeros((_ROWS, length), np.int32)
    segments_BT = np.zeros((_ROWS, length), np.int32)
    weights_BT = np.zeros((_ROWS, length), np.float32)
    for b, (ids, context) in enumerate(some):
      tokens_BT[b, : len(ids)] = ids
      segments_BT[b, : len(ids)] = 1
      weights_BT[b, context : len(ids)] = 1
    batch = {
      'tokens': tokens_BT,
      'segment_ids': segments_BT,
      'loss_weights': weights_BT,
      'positions': feed.positions(segments_BT),
    }
    nats_B = np.asarray(_nats(model, variables, batch), np.float64)
    found += [
      (-float(nats_B[b]), len(ids) - context)
      for b, (ids, context) in enumerate(some)
    ]
  return found


@functools.partial(jax.jit, static_argnames='model')
def _nats(model, variables, batch):
  _, place = objectives.next_token_losses(model, variables, batch)
  return (place.losses * place.weights).sum(1)
