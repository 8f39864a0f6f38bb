"""One turn of decoding: an id into the cache, and the next one drawn.

What every loop that decodes has in common: the loop over a batch that begins
and ends together (`generation.decode`, also of rollouts), and the one whose
rows come and go (`generation.rows`).

Letters: B batch, V vocabulary, R ids looked back at, W bytes of V bits.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from step_audio_jax.generation import grammar as grammar_lib
from step_audio_jax.generation import sampling


class Drawn(NamedTuple):
  """What a turn drew.

  Attributes:
    ids_B: The next id of each row, int32.
    logprobs_B: Of each under the masked logits at temperature 1; with `replay`
      those with which it was drawn. float32.
    support_BW: With `replay`, the ids that could have been, packed; else None.
  """

  ids_B: jax.Array
  logprobs_B: jax.Array
  support_BW: jax.Array | None


def feed(model: Any, variables: Any, cache: Any, ids_B, positions_B, live_B):
  """Writes an id of each row → (logits BV of the next, cache).

  Args:
    model: Flax module with the API of `models.language.speech_text`.
    variables: Its variables.
    cache: What came before.
    ids_B: The ids.
    positions_B: Their positions.
    live_B: Rows that mean it; what the others write is seen by nobody. None
      means all.
  """
  B = ids_B.shape[0]
  if live_B is None:
    segments_B1 = jnp.ones((B, 1), jnp.int32)
  else:
    segments_B1 = live_B.astype(jnp.int32)[:, None]
  logits_B1V, cache = model.apply(
    variables,
    ids_B[:, None],
    segment_ids_BT=segments_B1,
    positions_BT=positions_B[:, None],
    cache=cache,
  )
  return logits_B1V[:, 0], cache


def draw(
  logits_BV: jax.Array,
  keys_B: jax.Array,
  sampler: sampling.Sampler | sampling.RowSampler,
  grammar: grammar_lib.Grammar,
  recent_BR: jax.Array | None = None,
  replay: bool = False,
) -> Drawn:
  """The next ids.

  Args:
    logits_BV: `sampling.FORBIDDEN` where an id may not come.
    keys_B: One key a row, of this turn.
    sampler: How ids are chosen.
    grammar: Tells classes of ids.
    recent_BR: As `Sampler.choose`; None where no rule looks back.
    replay: As in `decode.decode`.
  """
  support_BW = None
  if replay:
    logits_BV = sampler.cut(sampler.ruled(logits_BV, recent_BR))
    ids_B = jax.vmap(jax.random.categorical)(keys_B, logits_BV)
    ids_B = ids_B.astype(jnp.int32)
    support_BW = jnp.packbits(logits_BV > -jnp.inf, axis=-1)
  elif recent_BR is not None:
    ids_B = sampler.choose(logits_BV, keys_B, recent_BR, grammar.class_V)
  else:
    ids_B = sampler(logits_BV, keys_B)
  logprobs_B = jnp.take_along_axis(
    jax.nn.log_softmax(logits_BV), ids_B[:, None], axis=1
  )[:, 0]
  return Drawn(ids_B, logprobs_B, support_BW)
