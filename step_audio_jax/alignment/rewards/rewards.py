"""Several scorers, one reward: a weighted sum that never lies about a failure.

A scorer that raises, or that gives NaN or infinity, has not said 0. What comes
of it is an option: the run stops, or the answers in question are dropped from
the step and counted. With nothing left of a step the run stops in any case.
"""

import dataclasses
import math
import sys
from typing import Mapping, NamedTuple, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax.alignment.rewards import sample as sample_lib

STOP, DROP = 'stop', 'drop'
TOTAL = 'judged'  # the weighted sum, among the numbers of an answer


class Verdicts(NamedTuple):
  """What is said of n answers.

  Attributes:
    rewards: Weighted sums, float32 (n,); 0 where `valid` is not.
    valid: Whether all scorers said something, bool (n,).
    scores: Scorer → its numbers, float32 (n,), NaN where it failed.
  """

  rewards: np.ndarray
  valid: np.ndarray
  scores: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Rewards:
  """A weighted sum of scorers.

  Attributes:
    scorers: Name → (weight, scorer).
    on_failure: 'stop' or 'drop'.
  """

  scorers: Mapping[str, tuple[float, sample_lib.Scorer]]
  on_failure: str = STOP

  def __post_init__(self):
    if not self.scorers:
      raise errors.UserError('rewards: no scorer, expected at least one.')
    if self.on_failure not in (STOP, DROP):
      raise errors.UserError(
        f'rewards: on_failure is {self.on_failure!r}, expected {STOP!r} or '
        f'{DROP!r}.'
      )
    for name, (weight, _) in self.scorers.items():
      if not math.isfinite(weight):
        raise errors.UserError(
          f'rewards: the weight of {name} is {weight}, expected a number.'
        )

  def __call__(self, samples: Sequence[sample_lib.Sample]) -> Verdicts:
    """Judges answers.

    Raises:
      UserError: A scorer failed and the run is to stop.
    """
    total = np.zeros(len(samples), np.float64)
    valid, scores = np.ones(len(samples), bool), {}
    for name, (weight, scorer) in self.scorers.items():
      found = self._ask(name, scorer, samples)
      scores[name] = found
      valid &= np.isfinite(found)
      with np.errstate(over='ignore', invalid='ignore'):  # told below
        total += weight * np.where(np.isfinite(found), found, 0.0)
    with np.errstate(over='ignore'):
      rewards = np.where(valid, total, 0.0).astype(np.float32)
    self._check('the weighted sum', rewards, samples)
    valid &= np.isfinite(rewards)
    rewards = np.where(valid, rewards, np.float32(0.0))
    return Verdicts(rewards, valid, scores)

  def _ask(self, name, scorer, samples) -> np.ndarray:
    try:
      found = np.asarray(scorer(samples), np.float64)
    except Exception as error:
      told = ' '.join(f'{type(error).__name__}: {error}'.split())
      if self.on_failure == STOP:
        raise errors.UserError(
          f'rewards: {name} failed ({told}); expected a score for every '
          "answer, or on_failure = 'drop'."
        ) from error
      print(
        f'note: rewards: {name} failed ({told}); its {len(samples)} answers '
        'are dropped.',
        file=sys.stderr,
        flush=True,
      )
      return np.full(len(samples), np.nan, np.float32)
    if found.shape != (len(samples),):
      raise errors.UserError(
        f'rewards: {name} gave {found.shape} scores, expected one for each of '
        f'{len(samples)} answers.'
      )
    with np.errstate(over='ignore'):
      scores = found.astype(np.float32)
    self._check(name, scores, samples, found)
    return scores

  def _check(self, name, found, samples, told=None) -> None:
    """Raises where one is no number and the run is to stop.

    Args:
      name: Who says it.
      found: What counts.
      samples: Of what.
      told: What was said, if that is more than float32 holds.
    """
    wrong = np.flatnonzero(~np.isfinite(found))
    if len(wrong) and self.on_failure == STOP:
      first = samples[wrong[0]]
      raise errors.UserError(
        f'rewards: {name} gave {(found if told is None else told)[wrong[0]]} '
        f'for an answer to {first.id} ({first.text[:40]!r}), expected a '
        "number that float32 holds, or on_failure = 'drop'."
      )
