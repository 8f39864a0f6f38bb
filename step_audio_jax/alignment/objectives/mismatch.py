"""Prompts with the answers of other prompts, for the baseline of KTO.

How far a policy is from its reference is told by answers that were not chosen
for their prompt (Ethayarajh et al., arXiv 2402.01306, 4.1). In packed rows an
answer is exchanged in its place: a prompt gets the longest answer of another
prompt that is no longer than its own, so that nothing moves and nothing is cut.
Among equals the digest of the answer decides. So who gets which answer depends
on what is in the batch, not on how it is packed or ordered; the shortest
answers, which find no shorter one, are left out.

Axes: B rows, T tokens, K pairs a row, N = B K.
"""

from typing import Any, Mapping

import jax
import jax.numpy as jnp

from step_audio_jax.alignment.objectives import pairs as pairs_lib

# Keys of the exchanged rows in a batch.
_PREFIX = 'mismatched/'
_NAMES = ('tokens', 'segment_ids', 'loss_weights')


def exchanged(batch: Mapping[str, Any]) -> dict[str, jax.Array]:
  """A batch with the rows of `rows_of` beside its own.

  Of each pair one side takes part: the answer that is wanted, if there is one.
  """
  tokens_BT, segments_BT = batch['tokens'], batch['segment_ids']
  B, T = tokens_BT.shape
  sides_BK = _sides(batch[pairs_lib.KEY])
  here_BKT = pairs_lib.places(segments_BT, sides_BK[..., None])[:, :, 0]
  answer_BKT = here_BKT & (batch['loss_weights'] > 0)[:, None]
  lengths_N = answer_BKT.sum(-1).reshape(-1)
  starts_BK = answer_BKT.argmax(-1)
  offsets_BKT = jnp.arange(T)[None, None] - starts_BK[..., None]
  mixed_BKT = _mixed(tokens_BT[:, None], offsets_BKT)
  answers_N, prompts_N = (
    jnp.where(mask_BKT, mixed_BKT, jnp.uint32(0)).sum(-1).reshape(-1)
    for mask_BKT in (answer_BKT, here_BKT & ~answer_BKT)
  )
  partners_N = _partners(lengths_N, prompts_N, answers_N)
  # Where the answer of each place's segment comes from.
  taken_BKT = answer_BKT & (partners_N.reshape(B, -1, 1) >= 0)
  number_BT = taken_BKT.argmax(1) + jnp.arange(B)[:, None] * sides_BK.shape[1]
  from_BT = partners_N[number_BT]
  offset_BT = jnp.arange(T)[None] - starts_BK.reshape(-1)[number_BT]
  inside_BT = offset_BT < lengths_N[from_BT]
  first_N = starts_BK + jnp.arange(B)[:, None] * T
  source_BT = first_N.reshape(-1)[from_BT] + offset_BT
  there_BT = taken_BKT.any(1)
  new = (
    jnp.where(
      there_BT & inside_BT,
      tokens_BT.reshape(-1)[jnp.clip(source_BT, 0, B * T - 1)],
      tokens_BT,
    ),
    jnp.where(there_BT & ~inside_BT, 0, segments_BT),
    (there_BT & inside_BT).astype(jnp.float32),
  )
  return {**batch, **{_PREFIX + n: rows for n, rows in zip(_NAMES, new)}}


def rows_of(batch: Mapping[str, Any]) -> dict[str, jax.Array]:
  """The exchanged rows as a batch; those without a partner weigh nothing."""
  return {**batch, **{name: batch[_PREFIX + name] for name in _NAMES}}


def count(rows: Mapping[str, jax.Array]) -> jax.Array:
  """How many answers of such rows weigh anything, float32 ()."""
  weighs_BT = rows['loss_weights'] > 0
  before_BT = jnp.roll(weighs_BT, 1, axis=1).at[:, 0].set(False)
  segments_BT = rows['segment_ids']
  same_BT = jnp.roll(segments_BT, 1, axis=1) == segments_BT
  return (weighs_BT & ~(before_BT & same_BT)).sum().astype(jnp.float32)


def _sides(pairs_BK2: jax.Array) -> jax.Array:
  """One segment of each pair, each once a row; 0 for none. (B, K)."""
  sides_BK = jnp.where(
    pairs_BK2[..., 0] > 0, pairs_BK2[..., 0], pairs_BK2[..., 1]
  )
  K = sides_BK.shape[1]
  same_BKK = sides_BK[:, :, None] == sides_BK[:, None, :]
  earlier_1KK = jnp.tril(jnp.ones((1, K, K), bool), -1)
  return jnp.where((same_BKK & earlier_1KK).any(-1), 0, sides_BK)


def _mixed(tokens: jax.Array, offsets: jax.Array) -> jax.Array:
  """32 bits of an id at a place, whose sums tell texts apart (Murmur3)."""
  x = tokens.astype(jnp.uint32) * jnp.uint32(0xCC9E2D51)
  x ^= offsets.astype(jnp.uint32) * jnp.uint32(0x9E3779B1)
  for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
    x = (x ^ (x >> shift)) * jnp.uint32(factor)
  return x ^ (x >> 16)


def _partners(
  lengths_N: jax.Array, prompts_N: jax.Array, answers_N: jax.Array
) -> jax.Array:
  """Whose answer each gets, int32 (N,); -1 where there is none."""
  fits_NN = (
    (lengths_N[None] <= lengths_N[:, None])
    & (lengths_N[None] > 0)
    & (prompts_N[None] != prompts_N[:, None])
  )
  longest_N1 = jnp.where(fits_NN, lengths_N[None], 0).max(1, keepdims=True)
  best_NN = fits_NN & (lengths_N[None] == longest_N1)
  digests_NN = jnp.where(best_NN, answers_N[None], jnp.uint32(0))
  first_NN = best_NN & (digests_NN == digests_NN.max(1, keepdims=True))
  return jnp.where(best_NN.any(1), first_NN.argmax(1), -1)
