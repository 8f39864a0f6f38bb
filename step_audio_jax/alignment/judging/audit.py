"""How scores move under changes: of what should not matter, and of what should.

Shifts are in units of the standard deviation of all scores as they are, so that
reward models whose scales differ can be compared; see `figures.shift`. What
silence does instead of a question is told in scores; see `figures.heard`.
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


def heard(
  scorer: scorer_lib.Scorer,
  layout: examples_lib.Layout,
  before_N2: np.ndarray,
  silence: changes.Changed,
  codes: examples_lib.Codes,
) -> dict[str, dict[str, Any]]:
  """Whether a reward model listens to questions.

  Args:
    scorer: Is audited.
    layout: How examples become ids.
    before_N2: Scores of all examples as they are.
    silence: Of `changes.of_silence`.
    codes: Id of a recording → its codes as they are.

  Returns:
    Category → what `figures.heard` tells of it, sorted by name; {} where
    nothing is asked aloud.
  """
  places = np.asarray(sorted(silence.examples), int)
  if not len(places):
    return {}
  some = [silence.examples[place] for place in places]
  both = {**codes, **silence.codes}
  after_N2 = scorer.pairs([layout.scored(one, both) for one in some])
  names = np.asarray([one.category for one in some], object)
  found = {}
  for name in sorted(set(names)):
    here = names == name
    found[name] = figures.heard(before_N2[places[here]], after_N2[here])
  return found
