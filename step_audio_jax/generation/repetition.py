"""What is done about ids that come again and again.

A speech model that has lost its thread says one code for ever. Two known rules:

* `resample`, repetition-aware sampling (VALL-E 2, arXiv 2406.05370): an id that
  was drawn and makes up more than a share of the last ids of its own codebook
  is drawn once more, from the whole distribution, without top-k and top-p;
* `forbid`, what Step-Audio's released TTS does: where the last id makes up more
  than a share of the last ids of any kind, it may not come next.

Letters: B batch, V vocabulary, R ids looked back at.
"""

import dataclasses

import jax
import jax.numpy as jnp

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib

ACTIONS = ('resample', 'forbid')
NOTHING = -1  # where there is no earlier id


@dataclasses.dataclass(frozen=True)
class Repetition:
  """Static settings of the rule.

  Attributes:
    window: How many of the last ids count; 0 switches the rule off.
    share: An id repeats where more than this share of the window is the id.
    action: 'resample' or 'forbid'; see the module.
  """

  window: int = 0
  share: float = 0.1
  action: str = 'resample'

  def __post_init__(self):
    if self.window < 0:
      raise errors.UserError(
        f'repetition: window is {self.window}, expected 0 (off) or more.'
      )
    if not 0 <= self.share < 1:
      raise errors.UserError(
        f'repetition: share is {self.share}, expected a number in [0, 1).'
      )
    if self.action not in ACTIONS:
      raise errors.UserError(
        f'repetition: action is {self.action!r}, expected one of '
        f'{", ".join(ACTIONS)}.'
      )

  @property
  def reach(self) -> int:
    """R: as far back as `window` ids of one codebook lie in 2:3 groups."""
    if self.action == 'forbid':
      return self.window
    per_group = vocabulary_lib.LINGUISTIC_PER_GROUP
    return -(-self.window // per_group) * vocabulary_lib.GROUP

  def repeats(self, ids_B, recent_BR, classes_V=None) -> jax.Array:
    """Whether each id makes up more than its share of the window, bool (B,).

    Args:
      ids_B: One id a row.
      recent_BR: The ids before it, the newest last, `NOTHING` where there are
        fewer than R.
      classes_V: Class of each id: only ids of the same one count. None counts
        all.
    """
    counted_BR = recent_BR != NOTHING
    if classes_V is not None:
      classes_V = jnp.asarray(classes_V)
      same_BR = classes_V[recent_BR] == classes_V[ids_B][:, None]
      counted_BR &= same_BR
    newest_first = jnp.cumsum(counted_BR[:, ::-1], axis=1)[:, ::-1]
    counted_BR &= newest_first <= self.window
    found_B = (counted_BR & (recent_BR == ids_B[:, None])).sum(axis=1)
    # 0.1 · 10 must be 1, whatever the rounding.
    return found_B > int(self.share * self.window + 1e-6)

  def forbidden(self, logits_BV, recent_BR, value) -> jax.Array:
    """Logits in which a repeated last id has `value`.

    A row whose last id is the only one above `value` is left as it is.
    """
    last_B = recent_BR[:, -1]
    ids_V = jnp.arange(logits_BV.shape[1])
    hit_BV = (ids_V[None] == last_B[:, None]) & self.repeats(last_B, recent_BR)[
      :, None
    ]
    cut_BV = jnp.where(hit_BV, value, logits_BV)
    left_B1 = (cut_BV > value).any(axis=1, keepdims=True)
    return jnp.where(left_B1, cut_BV, logits_BV)
