"""Pairs of answers in packed rows.

A segment is a prompt with one answer, whose ids alone weigh anything. `pairs`
(B, K, 2) names two segments of the same row, the preferred one first, by their
number in `segment_ids`; 0 is none. A pair with one side says that this answer
alone is wanted (first) or not (second). A segment may be in several pairs.

Axes: B rows, T tokens, K pairs a row, 2 sides of a pair.
"""

from typing import Any, Mapping

import jax
import jax.numpy as jnp

from step_audio_jax import errors
from step_audio_jax.training.objectives import objectives

KEY, MARGINS = 'pairs', 'margins'


def check(batch: Mapping[str, Any]) -> None:
  """Refuses rows that say nothing of what is preferred.

  Raises:
    UserError: There are no pairs.
  """
  if KEY not in batch:
    raise errors.UserError(
      f'rows: found no "{KEY}" in a batch, expected rows of preferences, which '
      'say which of two answers is the better one.'
    )


def check_whole(feed: Any) -> list[str]:
  """What an objective of whole pairs says to rows that have answers alone.

  Args:
    feed: Where batches come from. It may know `pairs`, how many are whole,
      `unpaired`, how many answers of each kind are in none, and its `name`.

  Returns:
    Sentences for the user.

  Raises:
    UserError: There is no whole pair.
  """
  alone = sum(getattr(feed, 'unpaired', {}).values())
  if not alone:
    return []
  if not feed.pairs:
    raise errors.UserError(
      f'{feed.name}: found {alone} answers alone and no pair, expected pairs: '
      'of single answers KTO learns (gin/alignment/kto.gin).'
    )
  return [
    f'{feed.name}: {alone} answers are in none of the {feed.pairs} pairs, and '
    'nothing is learnt of them; KTO would (gin/alignment/kto.gin).'
  ]


def places(segment_ids_BT: jax.Array, pairs_BK2: jax.Array) -> jax.Array:
  """Which places belong to each side, bool (B, K, 2, T); none to side 0."""
  sides = pairs_BK2[..., None]
  return (segment_ids_BT[:, None, None, :] == sides) & (sides > 0)


def sums(
  values_BT: jax.Array, segment_ids_BT: jax.Array, pairs_BK2: jax.Array
) -> jax.Array:
  """Sum of values over the places of each side, (B, K, 2); 0 of none."""
  here_BK2T = places(segment_ids_BT, pairs_BK2)
  return jnp.where(here_BK2T, values_BT[:, None, None, :], 0.0).sum(-1)


def ends(segment_ids_BT: jax.Array) -> jax.Array:
  """The last place of each segment, bool (B, T)."""
  T = segment_ids_BT.shape[1]
  last_1T = jnp.arange(T)[None] == T - 1
  other_BT = segment_ids_BT != jnp.roll(segment_ids_BT, -1, axis=1)
  return (segment_ids_BT > 0) & (other_BT | last_1T)


def metrics(
  name: str, values_BK2: jax.Array, pairs_BK2: jax.Array
) -> objectives.Metrics:
  """How values tell the preferred answers from the others.

  Args:
    name: Of the values, such as 'score'.
    values_BK2: One of each answer; the higher, the better.
    pairs_BK2: Which sides there are.

  Returns:
    Means of the chosen and of the rejected; of whole pairs also `margin`, the
    first minus the second, and `pair_accuracy`, where a tie is half right.
  """
  there_BK2 = pairs_BK2 > 0
  found = {}
  for side, kind in enumerate(('chosen', 'rejected')):
    here = there_BK2[..., side].astype(jnp.float32)
    found[f'{name}/{kind}'] = (values_BK2[..., side] * here).sum(), here.sum()
  both = there_BK2.all(-1).astype(jnp.float32)
  margins = values_BK2[..., 0] - values_BK2[..., 1]
  right = 0.5 * (1.0 + jnp.sign(margins))
  found[f'{name}/margin'] = (margins * both).sum(), both.sum()
  found['pair_accuracy'] = (right * both).sum(), both.sum()
  return found
