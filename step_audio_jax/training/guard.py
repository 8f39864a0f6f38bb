"""The spike guard: what a step with an extraordinary gradient may do.

    not finite                      <=>  norm or loss is not finite
    spike                           <=>  norm > limit = factor * median
    skipped                         <=>  not finite, or a spike with less than
                                         `patience` skipped steps before it
    taken, gradient * limit / norm  <=>  a spike behind `patience` skipped
                                         steps, or behind another such step

`norm` is the global gradient norm, the median that of the last `window`
accepted ones. A median, unlike a mean, is not dragged along by the spikes that
just fitted under the limit. A batch or two that spike are bad batches, and
skipping them costs nothing (PaLM, arXiv 2204.02311, section 5.1). When batch
after batch spikes, the parameters stand at a sharp point, and a run that only
skips would stay there for ever: the next steps are taken, no longer than the
longest ordinary gradient, until one is ordinary again.

All of it lives in the step and in the optimizer's state, so a run that
continues from a checkpoint judges as if it had never stopped.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors
from step_audio_jax import settings


@dataclasses.dataclass(frozen=True)
class SpikeConfig:
  """When a step is skipped, and when a run is given up.

  Attributes:
    factor: Norms above this many medians are spikes.
    window: Accepted norms that the median is of.
    warmup: Accepted norms before any finite norm can be a spike: the first
      steps of a run have the largest gradients.
    give_up: Skipped steps in a row that stop the run. A larger number passes
      over more batches.
    patience: Spikes in a row that are skipped; those behind them are taken
      with their gradient cut to the limit. 0 only cuts; where it is not below
      `stop_error`, spikes stop the run.
  """

  factor: float = settings.free(10.0)
  window: int = 128
  warmup: int = settings.free(64)
  give_up: int = settings.free(10)
  patience: int = settings.free(3)

  def __post_init__(self):
    if self.factor <= 1:
      raise errors.UserError(
        f'spikes: factor is {self.factor}, expected more than 1.'
      )
    if not 1 <= self.warmup <= self.window:
      raise errors.UserError(
        f'spikes: warmup is {self.warmup}, expected 1 to window '
        f'({self.window}).'
      )
    if self.give_up < 1:
      raise errors.UserError(
        f'spikes: give_up is {self.give_up}, expected at least 1.'
      )
    if self.patience < 0:
      raise errors.UserError(
        f'spikes: patience is {self.patience}, expected at least 0.'
      )


class History(NamedTuple):
  """What the guard remembers.

  Attributes:
    norms: float32 (window,), a ring of accepted norms, as they were cut.
    skipped: int32 (), skipped steps.
    in_a_row: int32 (), how many steps up to the last one were skipped; minus
      how many were cut; 0 behind an ordinary one.
  """

  norms: jax.Array
  skipped: jax.Array
  in_a_row: jax.Array


class Verdict(NamedTuple):
  """What became of a step; read by the host.

  Attributes:
    skipped: Steps that were skipped so far.
    in_a_row: Up to this one, skipped steps, or minus those that were cut; 0 if
      it was ordinary.
    norm: Its gradient norm.
    limit: What that was held against.
    taken: Whether it changed the parameters.
  """

  skipped: int
  in_a_row: int
  norm: float
  limit: float
  taken: bool


def empty_history(config: SpikeConfig) -> History:
  """The history before the first step."""
  zero = jnp.zeros((), jnp.int32)
  return History(jnp.zeros(config.window), zero, zero)


def norm_limit(
  config: SpikeConfig, history: History, accepted: jax.Array
) -> jax.Array:
  """The largest norm that is no spike after `accepted` steps, float32 ()."""
  count = jnp.minimum(accepted, config.window)
  place = jnp.arange(config.window)
  norms = jnp.where(place < count, history.norms, jnp.inf)
  # The rank of each by counting: faster than a sort on every kind of device.
  before = place[:, None] < place[None, :]
  smaller = norms[:, None] < norms[None, :]
  equal = norms[:, None] == norms[None, :]
  rank = (smaller | (equal & before)).sum(0)
  median = jnp.where(rank == jnp.maximum(count - 1, 0) // 2, norms, 0.0).sum()
  # Where nothing learns all norms are 0, and a first one above is no spike.
  judged = (accepted >= config.warmup) & (median > 0)
  return jnp.where(judged, config.factor * median, jnp.inf)


def judge(
  config: SpikeConfig,
  history: History,
  accepted: jax.Array,
  norm: jax.Array,
  loss: jax.Array,
) -> tuple[jax.Array, jax.Array, History, jax.Array]:
  """Whether a step is accepted; traceable.

  Args:
    config: The limits.
    history: Of the steps before.
    accepted: How many of those were accepted, int32 ().
    norm: Global gradient norm, float32 ().
    loss: Loss, float32 ().

  Returns:
    (accepted bool (), what its gradient is multiplied by float32 (), the new
    history, what `read` makes a `Verdict` of).
  """
  limit = norm_limit(config, history, accepted)
  finite = jnp.isfinite(norm) & jnp.isfinite(loss)
  ordinary = finite & (norm <= limit)
  before = history.in_a_row
  ok = ordinary | (finite & ((before < 0) | (before >= config.patience)))
  in_a_row = jnp.where(
    ok, jnp.minimum(before, 0) - 1, jnp.maximum(before, 0) + 1
  )
  in_a_row = jnp.where(ordinary, 0, in_a_row)
  scale = jnp.where(ok & ~ordinary, limit / norm, 1.0)
  place = accepted % config.window
  kept = jnp.where(ok, jnp.minimum(norm, limit), history.norms[place])
  new = History(
    history.norms.at[place].set(kept),
    history.skipped + 1 - ok.astype(jnp.int32),
    in_a_row,
  )
  told = jnp.stack(
    [
      new.skipped.astype(jnp.float32),
      new.in_a_row.astype(jnp.float32),
      norm,
      limit,
      ok.astype(jnp.float32),
    ]
  )
  return ok, scale, new, told


def read(told: Any) -> Verdict:
  """What `judge` told, for the host."""
  skipped, in_a_row, norm, limit, taken = np.asarray(told).tolist()
  return Verdict(int(skipped), int(in_a_row), norm, limit, bool(taken))


def must_stop(config: SpikeConfig, verdict: Verdict) -> bool:
  """Whether a run is given up at a step."""
  return not verdict.taken and verdict.in_a_row >= config.give_up


def reason(verdict: Verdict) -> str:
  """Why a step was extraordinary."""
  if not np.isfinite(verdict.norm):
    return f'its gradient norm is {verdict.norm}'
  if verdict.norm <= verdict.limit:
    return 'its loss is not finite'
  return (
    f'its gradient norm is {verdict.norm:.4g}, expected at most '
    f'{verdict.limit:.4g}'
  )


def notice(config: SpikeConfig, step: int, verdict: Verdict) -> str:
  """What is said of a step as it passes; '' for an ordinary one.

  Of a stretch of steps that are cut, the first is told.

  Args:
    config: The limits.
    step: Counted from 1.
    verdict: Of that step.
  """
  if not verdict.in_a_row:
    return ''
  if not verdict.taken:
    return f'warning: step {step} is skipped: {reason(verdict)}.'
  if verdict.in_a_row < -1:
    return ''
  return (
    f'note: from step {step} on gradients are cut to {verdict.limit:.4g}, as '
    f'{config.patience} batches in a row had more ({verdict.norm:.4g} now): '
    'the parameters stand at a sharp point, not the batches.'
  )


def stop_error(step: int, verdict: Verdict, feed: Any) -> errors.UserError:
  """The error that ends a run.

  Args:
    step: The last skipped step, counted from 1.
    verdict: Of that step.
    feed: Where its batch came from; `row_ids` names the rows if it can.
  """
  ids = getattr(feed, 'row_ids', None)
  batch = f'the rows {", ".join(ids(step - 1))}' if ids else 'another'
  return errors.UserError(
    f'step {step}: skipped, the last of {verdict.in_a_row} in a row, because '
    f'{reason(verdict)}; expected a batch that can be learnt from, found '
    f'{batch}. To pass over more batches raise '
    'loop.LoopConfig.spikes.give_up.'
  )
