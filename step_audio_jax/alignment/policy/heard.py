"""Whether a reward model listens: what it makes of silence.

A reward model that scores an answer alike, whether its question was said or
nobody spoke, has read the answer alone; a policy that learns from it finds out
(arXiv 2502.11946, section 5.2.6).
"""

from typing import Any, Callable, Mapping

import jax
import jax.numpy as jnp

from step_audio_jax.alignment.rollouts import rollout as rollout_lib

GAP = 'reward/heard_gap'


def gap(
  scores_of: Callable[[rollout_lib.Rollout], jax.Array],
  rollout: rollout_lib.Rollout,
  scores_B: jax.Array,
  silenced: Mapping[str, jax.Array],
) -> dict[str, Any]:
  """Score less that of the same answer behind silence, as a metric; traceable.

  Args:
    scores_of: Rollout → what the reward model gives its answers, (B,).
    rollout: The answers.
    scores_B: What it gave them.
    silenced: Their prompts with silence, as `PromptFeed.silenced`.
  """
  silent_B = scores_of(rollout.behind(silenced))
  # Prompts in which nothing is heard have no silence of their own.
  counted_B = silenced['starts'] < silenced['tokens'].shape[1]
  counted_B &= rollout.lengths > 0
  counted_B &= jnp.isfinite(scores_B) & jnp.isfinite(silent_B)
  gaps_B = jnp.where(counted_B, scores_B - silent_B, 0.0)
  return {GAP: (gaps_B.sum(), counted_B.sum().astype(jnp.float32))}
