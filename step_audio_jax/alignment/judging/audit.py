"""How scores move under changes that leave question and answer as they are.

Shifts are in units of the standard deviation of all scores as they are, so that
reward models whose scales differ can be compared; see `figures.shift`.
"""

from typing import Any, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax.alignment.judging import changes
from step_audio_jax.alignment.judging import examples as examples_lib
from step_audio_jax.alignment.judging import figures
from step_audio_jax.alignment.judging import scorer as scorer_lib


def audit(
  scorer: scorer_lib.Scorer,
  layout: examples_lib.Layout,
  before_N2: np.ndarray,
  changed: Sequence[changes.Changed],
  codes: examples_lib.Codes,
) -> list[dict[str, Any]]:
  """A row of the table for each change.

  Args:
    scorer: Is audited.
    layout: How examples become ids.
    before_N2: Scores of all examples as they are.
    changed: What is done to which of them.
    codes: Id of a recording → its codes as they are.

  Returns:
    What `figures.shift` tells, with the `change`.

  Raises:
    UserError: All scores are the same.
  """
  deviation = float(np.std(before_N2))
  if not deviation > 0:
    raise errors.UserError(
      f'{scorer.run}: all {before_N2.size} answers have the score '
      f'{before_N2.flat[0]:g}, expected a reward model that tells them apart.'
    )
  rows = []
  for one in changed:
    places = sorted(one.examples)
    heard = {**codes, **one.codes}
    after_N2 = scorer.pairs(
      [layout.scored(one.examples[place], heard) for place in places]
    )
    after_N2 = np.where(np.asarray(one.sides)[None], after_N2, np.nan)
    told = figures.shift(before_N2[places], after_N2, deviation)
    rows.append({'change': one.name, **told})
  return rows
