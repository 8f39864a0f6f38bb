"""Rows that decode side by side, each begun when it came and gone when done.

The cache is a ring: every turn all rows write at one and the same place, the
next one, so a row's ids lie in the last places, as many as it has; positions
and segments are kept beside each place, and what other rows wrote there before
is never seen. So no row has an index of its own, a turn writes one slice, and a
row that joins brings its prompt's keys and values as the places behind it. The
ring is as long as the longest row may become.

Every function is compiled once for each (model, rows, places); limits, stop
ids, settings of the sampler, grammar states and keys are arrays.

Letters: B rows, A rows that join, N turns of a call, W places of the ring, K
stop ids, R ids looked back at, V vocabulary.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from step_audio_jax.generation import grammar as grammar_lib
from step_audio_jax.generation import repetition
from step_audio_jax.generation import sampling
from step_audio_jax.generation import step

NO_ID = repetition.NOTHING  # fills rows of stop ids, and of ids looked back at


class Joining(NamedTuple):
  """What is known of rows that join, arrays (A, …).

  Attributes:
    last_A: The last id of each prompt, not yet in the cache.
    positions_A: Its position in the prompt.
    states_A: `grammar.State` each starts in.
    limits_A: New ids wanted at most; 0 for a filler row.
    keys_A: One random key each.
    stops_AK: Ids that end it; `NO_ID` where there are fewer.
  """

  last_A: Any
  positions_A: Any
  states_A: Any
  limits_A: Any
  keys_A: Any
  stops_AK: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
  """The state of all rows.

  Attributes:
    cache: The model's, a ring of W places.
    joined: `Joining` of all rows; last ids, positions and states move on.
    drawn_B: Ids drawn so far.
    live_B: Rows that go on.
    recent_BR: The last ids drawn, the newest last; None without a rule that
      looks back.
  """

  cache: Any
  joined: Joining
  drawn_B: jax.Array
  live_B: jax.Array
  recent_BR: jax.Array | None


def begun(cache: Any, joined: Joining, reach: int) -> Rows:
  """Rows that all begin now.

  Args:
    cache: Of `decode.prefill`, all prompts ending at its index.
    joined: Of all rows.
    reach: R; 0 without a rule that looks back.
  """
  limits_B = jnp.asarray(joined.limits_A)
  B = limits_B.shape[0]
  recent_BR = jnp.full((B, reach), NO_ID, jnp.int32) if reach else None
  W = cache['positions'].shape[1]
  return Rows(
    {**cache, 'index': cache['index'] % W},
    Joining(*map(jnp.asarray, joined)),
    jnp.zeros(B, jnp.int32),
    limits_B > 0,
    recent_BR,
  )


@functools.partial(jax.jit, static_argnames=('model', 'B', 'W', 'K', 'reach'))
def empty(model, *, B, W, K, reach=0) -> Rows:
  """Rows of which none is live.

  Args:
    model: Flax module with the API of `models.language.speech_text`.
    B: How many.
    W: Places of the ring.
    K: Stop ids of a row at most.
    reach: As `begun`.
  """
  cache = model.init_cache(B, W)
  none_B = jnp.zeros(B, jnp.int32)
  joined = Joining(
    none_B,
    none_B,
    none_B,
    none_B,
    jax.vmap(jax.random.key)(none_B),
    jnp.full((B, K), NO_ID, jnp.int32),
  )
  return begun({**cache, 'index': jnp.int32(0)}, joined, reach)


@functools.partial(
  jax.jit,
  static_argnames=('model', 'N'),
  donate_argnames=('rows',),
)
def turns(
  model, variables, rows, grammar, sampler, allowed_BV, most, free, *, N
):
  """Decodes until something has to be decided.

  Args:
    model: As in `empty`.
    variables: Its variables.
    rows: `Rows`; consumed.
    grammar: `grammar.Grammar`.
    sampler: `sampling.Sampler` for all rows, or `sampling.RowSampler`.
    allowed_BV: Ids that a row may have beside what the grammar says, bool, for
      one turn; None for no more than that.
    most: Turns at most, up to N.
    free: Ends as soon as so many rows are not live.
    N: Length of what is returned.

  Returns:
    The rows; ids int32 (B, N) and their logprobs float32 (B, N), of which a
    row has given the first `counts_B` int32 (B,), the id that stopped it not
    counted; stopped bool (B,), of rows that a stop id ended now.
  """
  B = rows.live_B.shape[0]
  joined = rows.joined
  W = rows.cache['positions'].shape[1]
  shapes = (B, N)

  def goes_on(carry):
    live_B = carry['rows'].live_B
    waits = (~live_B).sum() < free
    return (carry['turn'] < most) & live_B.any() & waits

  def body(carry):
    rows, turn = carry['rows'], carry['turn']
    at, live_B = rows.joined, rows.live_B
    logits_BV, cache = step.feed(
      model, variables, rows.cache, at.last_A, at.positions_A, live_B
    )
    allowed = grammar_lib.Grammar.mask(grammar, at.states_A)
    if allowed_BV is not None:
      allowed &= allowed_BV
    logits_BV = jnp.where(allowed, logits_BV, sampling.FORBIDDEN)
    keys_B = jax.vmap(jax.random.fold_in)(at.keys_A, rows.drawn_B)
    ids_B, logprobs_B, _ = step.draw(
      logits_BV, keys_B, sampler, grammar, rows.recent_BR
    )
    stop_B = live_B & (ids_B[:, None] == joined.stops_AK).any(axis=1)
    writes_B = live_B & ~stop_B
    drawn_B = rows.drawn_B + writes_B
    recent_BR = rows.recent_BR
    if recent_BR is not None:
      recent_BR = jnp.concatenate([recent_BR[:, 1:], ids_B[:, None]], axis=1)
    return {
      'turn': turn + 1,
      'rows': Rows(
        {**cache, 'index': cache['index'] % W},
        at._replace(
          last_A=jnp.where(live_B, ids_B, at.last_A),
          positions_A=at.positions_A + live_B,
          states_A=grammar_lib.Grammar.step(grammar, at.states_A, ids_B),
        ),
        drawn_B,
        writes_B & (drawn_B < at.limits_A),
        recent_BR,
      ),
      'ids_BN': carry['ids_BN'].at[:, turn].set(ids_B),
      'logprobs_BN': carry['logprobs_BN'].at[:, turn].set(logprobs_B),
      'counts_B': carry['counts_B'] + writes_B,
      'stopped_B': carry['stopped_B'] | stop_B,
    }

  end = jax.lax.while_loop(
    goes_on,
    body,
    {
      'turn': jnp.int32(0),
      'rows': rows,
      'ids_BN': jnp.zeros(shapes, jnp.int32),
      'logprobs_BN': jnp.zeros(shapes, jnp.float32),
      'counts_B': jnp.zeros(B, jnp.int32),
      'stopped_B': jnp.zeros(B, bool),
    },
  )
  names = ('rows', 'ids_BN', 'logprobs_BN', 'counts_B', 'stopped_B')
  return tuple(end[name] for name in names)


@functools.partial(
  jax.jit, static_argnames=('model',), donate_argnames=('rows',)
)
def join(model, rows, cache, joining, places_A):
  """Puts prompts into the places of rows that are done.

  Args:
    model: As in `empty`.
    rows: `Rows`; consumed.
    cache: Of `decode.prefill` or `prompts.extend`: A rows whose last ids end at
      its index, which is no more than the ring has places.
    joining: `Joining` of them; of one row twice the second counts.
    places_A: Which row each becomes, int32.
  """
  W = rows.cache['positions'].shape[1]
  A = places_A.shape[0]
  ring = rows.cache
  shift = ring['index'] - cache['index']
  some = model.move_cache(cache, jnp.arange(A), 0, W)
  some = model.move_cache(some, jnp.arange(A), shift, W)
  places = [places_A[n] for n in range(A)]
  put = jax.tree.map(
    lambda held, new: held.at[places_A].set(new),
    rows.joined,
    Joining(*map(jnp.asarray, joining)),
  )
  recent_BR = rows.recent_BR
  if recent_BR is not None:
    recent_BR = recent_BR.at[places_A].set(NO_ID)
  return Rows(
    model.put_cache(ring, some, places),
    put,
    rows.drawn_B.at[places_A].set(0),
    rows.live_B.at[places_A].set(jnp.asarray(joining.limits_A) > 0),
    recent_BR,
  )


@functools.partial(jax.jit, static_argnames=('model', 'W'))
def resized(model, rows, chosen_B, *, W):
  """Some of the rows, in a ring of another length.

  Args:
    model: As in `empty`.
    rows: `Rows`; none that is live has more ids than the new ring places.
    chosen_B: Which rows, int32.
    W: Places of the new ring.
  """
  old = rows.cache['positions'].shape[1]
  length = model.init_cache(1, W)['positions'].shape[1]
  # The newest place becomes the last of those that are kept.
  kept = min(old, length)
  cache = model.move_cache(
    rows.cache, chosen_B, kept - rows.cache['index'], kept
  )
  if kept < length:
    cache = model.move_cache(cache, jnp.arange(chosen_B.shape[0]), 0, length)
  cache['index'] = jnp.int32(kept % length)
  recent_BR = rows.recent_BR
  return Rows(
    cache,
    jax.tree.map(lambda x: x[chosen_B], rows.joined),
    rows.drawn_B[chosen_B],
    rows.live_B[chosen_B],
    None if recent_BR is None else recent_BR[chosen_B],
  )


@functools.partial(jax.jit, donate_argnames=('rows',))
def halted(rows, going_B) -> Rows:
  """Rows of which some go on no longer.

  Args:
    rows: `Rows`; consumed.
    going_B: False where a row is to end, bool.
  """
  return dataclasses.replace(rows, live_B=rows.live_B & going_B)
