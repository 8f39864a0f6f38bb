"""How much better an answer was than expected: GAE, whitening, groups.

Only places of `mask` count: pads enter no sum, no mean and no return.

Axes: B answers, N places of an answer, G answers to one prompt.
"""

import jax
import jax.numpy as jnp

from step_audio_jax import errors


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
  """Mean over the places of a mask, float32 (); 0 where it is empty."""
  total = jnp.where(mask, values, 0.0).sum()
  return total / jnp.maximum(mask.sum(), 1)


def generalized_advantages(
  rewards_BN: jax.Array,
  values_BN: jax.Array,
  mask_BN: jax.Array,
  *,
  discount: float = 1.0,
  smoothing: float = 0.95,
) -> tuple[jax.Array, jax.Array]:
  """Generalized advantage estimation (Schulman et al., arXiv 1506.02438).

      delta_t = r_t + discount V_{t+1} - V_t
      A_t = delta_t + discount smoothing A_{t+1}        R_t = A_t + V_t

  Behind the last place of an answer value and advantage are 0, wherever in its
  row the answer lies.

  Args:
    rewards_BN: Reward of each place, float32.
    values_BN: What the critic expected there, float32.
    mask_BN: Places of the answers, bool; those of a row have no gap.
    discount: gamma.
    smoothing: lambda.

  Returns:
    (advantages, returns), float32 (B, N), 0 outside of the mask.
  """
  rewards_BN, values_BN = (
    jnp.where(mask_BN, x, 0.0).astype(jnp.float32)
    for x in (rewards_BN, values_BN)
  )

  def back(carry, column):
    advantage_B, value_B = carry
    rewards_B, values_B, mask_B = column
    delta_B = rewards_B + discount * value_B - values_B
    advantage_B = delta_B + discount * smoothing * advantage_B
    advantage_B = jnp.where(mask_B, advantage_B, 0.0)
    return (advantage_B, values_B), advantage_B

  zeros_B = jnp.zeros(rewards_BN.shape[:1], jnp.float32)
  _, advantages_NB = jax.lax.scan(
    back,
    (zeros_B, zeros_B),
    (rewards_BN.T, values_BN.T, mask_BN.T),
    reverse=True,
  )
  advantages_BN = advantages_NB.T
  return advantages_BN, advantages_BN + values_BN


def whiten(
  values_BN: jax.Array, mask_BN: jax.Array, *, shift: bool = True
) -> jax.Array:
  """Values with a variance of 1 over a mask, and a mean of 0 where `shift`.

  Returns:
    float32 (B, N), 0 outside of the mask.
  """
  mean = masked_mean(values_BN, mask_BN)
  variance = masked_mean(jnp.square(values_BN - mean), mask_BN)
  white = (values_BN - mean) * jax.lax.rsqrt(variance + 1e-8)
  if not shift:
    white += mean
  return jnp.where(mask_BN, white, 0.0)


def group_advantages(
  rewards_B: jax.Array,
  group: int,
  *,
  leave_one_out: bool = False,
  scale: bool = True,
  valid_B: jax.Array | None = None,
) -> jax.Array:
  """Rewards against those of the other answers to the same prompt.

      A_i = r_i - mean(r)               GRPO, arXiv 2402.03300
      A_i = r_i - mean(r without r_i)   leave-one-out, arXiv 2402.14740

  both divided by the group's standard deviation where `scale`. Dividing makes
  prompts weigh more on which answers hardly differ. Rewards are shifted before
  they are averaged, so that those of equal answers give 0 and not what is left
  of rounding; nothing is ever divided by such a remainder.

  Args:
    rewards_B: Of answers that lie group by group, float32.
    group: G, answers to one prompt.
    leave_one_out: Which baseline.
    scale: Whether the standard deviation is divided by.
    valid_B: Answers that count; the others have advantage 0 and are no part of
      their group. None means all.

  Returns:
    Advantages, float32 (B,).

  Raises:
    UserError: The group does not divide the answers, or has only one.
  """
  if group < 2 or len(rewards_B) % group:
    raise errors.UserError(
      f'group: found {group} answers to a prompt, expected at least 2 and a '
      f'divisor of {len(rewards_B)}, the answers of a batch.'
    )
  rewards = rewards_B.astype(jnp.float32).reshape(-1, group)
  valid = jnp.ones(rewards.shape, bool)
  if valid_B is not None:
    valid = valid_B.reshape(-1, group)
  # One that counts, so that what is left out (a NaN, say) touches nothing.
  first = jnp.take_along_axis(rewards, valid.argmax(1)[:, None], axis=1)
  shifted = jnp.where(valid, rewards - first, 0.0)
  count = valid.sum(1, keepdims=True)
  centred = shifted - shifted.sum(1, keepdims=True) / jnp.maximum(count, 1)
  centred = jnp.where(valid, centred, 0.0)
  found = centred
  if leave_one_out:
    found = centred * (count / jnp.maximum(count - 1, 1))
  if scale:
    variance = jnp.square(centred).sum(1, keepdims=True)
    variance /= jnp.maximum(count - 1, 1)
    found = found / (jnp.sqrt(variance) + 1e-4)
  return jnp.where(count > 1, found, 0.0).reshape(-1)
