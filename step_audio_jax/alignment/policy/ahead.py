"""A rollout that is drawn ahead: what a step leaves for the next one.

At staleness 1 the answers of step k + 1 are drawn with the parameters from
before the update of step k, beside it. Those parameters are gone by the time
that the answers are learnt from, so the rollout is part of the state, and with
it what the learner said of it while it still had them: a run that is killed
goes on to the same bits, and that sampler and learner agree is shown for the
parameters that sampled. How far the policy has moved since then is made up for
by truncated importance weights (`losses.truncated_importance`).

Axes: B answers, P places for prompts, N for answers, W bytes of a support.
"""

from typing import Any, Mapping, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp

from step_audio_jax.alignment.rollouts import rollout as rollout_lib
from step_audio_jax.training.objectives import objectives

_NEVER = -1  # step of a rollout that was not drawn yet


class Drawn(NamedTuple):
  """A rollout that is to be learnt from; a pytree.

  Attributes:
    rollout: The answers.
    log_sampler: What the learner said of them with the parameters that sampled,
      (B, N); None where those are the ones before the update.
  """

  rollout: rollout_lib.Rollout
  log_sampler: jax.Array | None = None

  def narrowed(self, prompt: int, answer: int) -> 'Drawn':
    """As `Rollout.narrowed`."""
    told = self.log_sampler
    return Drawn(
      self.rollout.narrowed(prompt, answer),
      None if told is None else told[:, :answer],
    )


def pending(
  rollout: rollout_lib.Rollout, log_sampler: jax.Array, step: Any, places: int
) -> dict[str, Any]:
  """A rollout as the state keeps it, prompts padded to so many places.

  Args:
    rollout: Answers to the prompts of a step.
    log_sampler: As of `Drawn`.
    step: Which step they are for.
    places: P.
  """
  return {
    'rollout': rollout.widened(places)._asdict(),
    'log_sampler': log_sampler,
    'step': jnp.asarray(step, jnp.int32),
  }


def nothing(rows: int, places: int, longest: int, ids: int) -> dict[str, Any]:
  """What the state holds in front of the first step, boxed.

  Args:
    rows: B.
    places: P.
    longest: N.
    ids: Of the vocabulary.
  """
  empty = rollout_lib.Rollout(
    tokens=jnp.zeros((rows, places + longest), jnp.int32),
    starts=jnp.zeros(rows, jnp.int32),
    lengths=jnp.zeros(rows, jnp.int32),
    stopped=jnp.zeros(rows, bool),
    log_probs=jnp.zeros((rows, longest)),
    support=jnp.zeros((rows, longest, -(-ids // 8)), jnp.uint8),
  )
  found = pending(empty, empty.log_probs, _NEVER, places)

  def boxed(array):
    if not array.ndim:
      return array
    names = ('batch', *[None] * (array.ndim - 1))
    return nn.LogicallyPartitioned(array, names)

  return jax.tree.map(boxed, found)


def drawn_for(told: Mapping[str, Any], step: int) -> Drawn | None:
  """The rollout that the state holds, if it is that of this step."""
  if int(told['step']) != step:
    return None
  return Drawn(rollout_lib.Rollout(**told['rollout']), told['log_sampler'])


def without(variables: Mapping[str, Any]) -> dict[str, Any]:
  """Variables as they draw and learn: what waits for its step is left out."""
  return {k: v for k, v in variables.items() if k != objectives.PENDING}
