"""One optimizer step: sums over microbatches, the guard, the update, the mean.

    g = sum_m grad(total_m) / sum_m weight_m
    ema <- d * ema + (1 - d) * params

Loss, weight, gradients and metrics are summed in fp32 and divided once, so M
microbatches give what the large batch gives, whatever each one weighs.
"""

from typing import Any, Callable, NamedTuple

import jax
import jax.numpy as jnp
import optax

from step_audio_jax.training import guard as guard_lib


class State(NamedTuple):
  """What a step carries besides the variables.

  Attributes:
    accepted: Steps that changed the parameters, int32 ().
    chain: State of the Optax chain.
    guard: History of the spike guard, None if it is off.
    ema: Mean of the parameters, None if it is off.
  """

  accepted: jax.Array
  chain: Any
  guard: guard_lib.History | None
  ema: Any


def batch_gradients(objective: Any, variables: Any, batch: Any, key: jax.Array):
  """(total, weight, metrics, updates, gradients of total) of one batch."""

  def scalar(params):
    total, weight, metrics, updates = objective.loss(
      {**variables, 'params': params}, batch, key
    )
    return total, (weight, metrics, updates)

  (total, (weight, metrics, updates)), grads = jax.value_and_grad(
    scalar, has_aux=True
  )(variables['params'])
  return total, weight, metrics, updates, grads


def _surveyed(objective, variables, batch, count, place):
  """A batch with what its loss asks of the whole of it; most ask nothing.

  An objective with `survey` gets the batch as its `arrange` leaves it, which
  may move things between rows; the sums that `survey` gives of all microbatches
  are scalars of the batch, which every microbatch then shares.
  """
  if getattr(objective, 'survey', None) is None:
    return batch
  batch = objective.arrange(batch)
  if count == 1:
    return {**batch, **objective.survey(variables, batch)}
  rows = jax.tree.map(lambda array: part(array, count, place), batch)
  sums = jax.lax.map(lambda some: objective.survey(variables, some), rows)
  return {**batch, **jax.tree.map(lambda x: x.sum(0), sums)}


def part(array, count: int, place):
  """An array (B, …) as (count, B / count, …); a scalar as (count,)."""
  if not jnp.ndim(array):
    return jnp.broadcast_to(array, (count,))
  rows = len(array) // count
  array = array.reshape(rows, count, *array.shape[1:])
  return place(array.swapaxes(0, 1))


def accumulate_gradients(
  objective: Any,
  variables: Any,
  batch: Any,
  key: jax.Array,
  count: int,
  place: Callable[[jax.Array], jax.Array],
  shard: Callable[[Any], Any],
):
  """As `batch_gradients`, over `count` microbatches one after the other.

  Microbatch m holds the rows m, m + count, …: every device cuts its own rows.
  Other collections than the parameters go from one microbatch to the next.
  What the loss asks of the whole batch is summed before (`_surveyed`).

  Args:
    objective: What is minimised.
    variables: Parameters and other collections.
    batch: Arrays (B, …), and scalars, which all microbatches share.
    key: Random key; microbatch m gets its fold with m.
    count: Microbatches.
    place: Pins an array (count, B / count, …) to where its rows lie.
    shard: Pins a tree of gradients to where the parameters lie.
  """
  batch = _surveyed(objective, variables, batch, count, place)
  if count == 1:
    return batch_gradients(objective, variables, batch, key)

  def one(collections, index, rows):
    total, weight, metrics, updates, grads = batch_gradients(
      objective,
      {**collections, 'params': variables['params']},
      rows,
      jax.random.fold_in(key, index),
    )
    return {**collections, **updates}, (total, weight, metrics, grads)

  def body(carry, inputs):
    collections, sums = carry
    collections, more = one(collections, *inputs)
    # The TPU compiler would move the gradients' all-reduce out of this loop,
    # and fails on sums of sharded float32 (or would keep whole gradients).
    more = jax.lax.optimization_barrier(more)
    sums = jax.tree.map(lambda a, b: a + b.astype(a.dtype), sums, more)
    return (collections, (*sums[:3], shard(sums[3]))), None

  inputs = (
    jnp.arange(count),
    jax.tree.map(lambda array: part(array, count, place), batch),
  )
  collections = {k: v for k, v in variables.items() if k != 'params'}
  first = jax.tree.map(lambda x: x[0], inputs)
  _, shapes = jax.eval_shape(one, collections, *first)
  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, jnp.float32), shapes)
  zeros = (*zeros[:3], shard(zeros[3]))
  (collections, sums), _ = jax.lax.scan(body, (collections, zeros), inputs)
  total, weight, metrics, grads = sums
  return total, weight, metrics, collections, grads


def weighted_mean(total: jax.Array, weight: jax.Array, grads: Any):
  """(loss, its gradients) of sums."""
  scale = 1.0 / jnp.maximum(weight, 1e-8)
  return total * scale, jax.tree.map(lambda g: g * scale, grads)


def initial_state(
  chain: optax.GradientTransformation,
  spikes: guard_lib.SpikeConfig | None,
  ema_decay: float,
  params: Any,
) -> State:
  """The state before the first step; traceable."""
  return State(
    jnp.zeros((), jnp.int32),
    chain.init(params),
    guard_lib.empty_history(spikes) if spikes else None,
    # A copy: both are donated, and no buffer can be given away twice.
    jax.tree.map(jnp.copy, params) if ema_decay else None,
  )


def update(
  chain: optax.GradientTransformation,
  spikes: guard_lib.SpikeConfig | None,
  ema_decay: float,
  variables: Any,
  state: State,
  loss: jax.Array,
  metrics: Any,
  updates: Any,
  grads: Any,
):
  """(variables, state, metrics) after a step; traceable.

  A step that the guard skips leaves everything but its history as it was, and
  its metrics weigh nothing; of one that it takes in spite of a spike, the
  gradient is cut to the limit. The mean's decay grows from 0 with the accepted
  steps n, min(ema_decay, n / (n + 9)), so that the start is soon forgotten.
  """
  norm = optax.global_norm(grads)
  if spikes:
    ok, scale, history, told = guard_lib.judge(
      spikes, state.guard, state.accepted, norm, loss
    )
    grads = jax.tree.map(lambda g: g * scale.astype(g.dtype), grads)
  deltas, moments = chain.update(grads, state.chain, variables['params'])
  params = optax.apply_updates(variables['params'], deltas)
  new = {**variables, **updates, 'params': params}
  metrics = {**metrics, 'gradient_norm': (norm, jnp.ones(()))}
  accepted = state.accepted + 1
  ema = None
  if ema_decay:
    n = accepted.astype(jnp.float32)
    rate = 1.0 - jnp.minimum(ema_decay, n / (n + 9.0))
    ema = jax.tree.map(lambda m, p: m + rate * (p - m), state.ema, params)
  if not spikes:
    return new, State(accepted, moments, None, ema), metrics

  def chosen(after, before):
    return jax.tree.map(lambda a, b: jnp.where(ok, a, b), after, before)

  new, state = chosen(
    (new, State(accepted, moments, None, ema)),
    (variables, state._replace(guard=None)),
  )
  metrics = chosen(metrics, jax.tree.map(jnp.zeros_like, metrics))
  return new, state._replace(guard=history), {**metrics, 'guard': told}
