"""Backchannels of Full-Duplex-Bench v1: how many, and when.

Of the segments of speech in an output, in order (public script
`eval_backchannel.py`; arXiv:2503.04721):

    longer than 3 s    the turn is taken, and nothing later is looked at
    else               a backchannel, of the words that share time with it:
                       the turn is taken unless it is shorter than 1 s with two
                       words or fewer

As there, the last segment that is looked at says whether the turn is taken, and
each that is 3 s or shorter counts as a backchannel.

    frequency  backchannels / seconds of output
    JSD        √ of the Jensen-Shannon divergence (in nats) between two
               distributions over time: of backchannels, in windows of 0.2 s
               with 1e-10 in each, and of people's, stretched to as many
               windows. 1 where there are no backchannels.

Axes: N segments, B windows.
"""

from typing import Any, Mapping

import numpy as np

from step_audio_jax import errors
from step_audio_jax.evaluation.dialogues.timelines import recordings
from step_audio_jax.evaluation.dialogues.timelines import words as words_lib
from step_audio_jax.storage import files

FILE = 'icc_gt_distribution.json'
WHY_NOT = f'when people give backchannels is not known ({FILE})'
_LONGEST, _SHORT, _FEW, _MOST = 3.0, 1.0, 2, 3
_WINDOW = 0.2  # s
_EPSILON = 1e-10


def measure(
  output: recordings.Channel,
  words: words_lib.Words | None,
  people_B: np.ndarray | None,
) -> dict[str, Any]:
  """What is measured of one output.

  Args:
    output: The system's channel.
    words: What it says.
    people_B: People's distribution; None where it is not known.
  """
  segments_N2 = output.segments_N2
  seconds_N = segments_N2[:, 1] - segments_N2[:, 0]
  long_N = seconds_N > _LONGEST
  stop = int(np.argmax(long_N)) if long_N.any() else len(segments_N2)
  given_N2 = segments_N2[:stop]
  row: dict[str, Any] = {
    'backchannels': len(given_N2),
    'frequency': len(given_N2) / output.seconds,
  }
  if words is None:
    row['takes_turn'] = None
  elif stop < len(segments_N2):
    row['takes_turn'] = True
  elif not len(given_N2):
    row['takes_turn'] = False
  else:
    said = words.within(*given_N2[-1])
    short = seconds_N[-1] < _SHORT and said <= _FEW
    row['takes_turn'] = said > _MOST or not short
  row['jsd'] = None
  if people_B is not None:
    row['jsd'] = divergence(given_N2, output.seconds, people_B)
  return row


def divergence(
  segments_N2: np.ndarray, seconds: float, people_B: np.ndarray
) -> float:
  """Distance between two distributions over time; see above.

  Args:
    segments_N2: Backchannels, seconds.
    seconds: Length of the output.
    people_B: People's distribution, in any number of windows.
  """
  if not len(segments_N2):
    return 1.0
  windows = int(seconds / _WINDOW) + 1
  first_N = np.minimum((segments_N2[:, 0] / _WINDOW).astype(int), windows)
  after_N = np.minimum((segments_N2[:, 1] / _WINDOW).astype(int) + 1, windows)
  steps = np.zeros(windows + 1)
  np.add.at(steps, first_N, 1)
  np.add.at(steps, after_N, -1)
  given_B = np.cumsum(steps)[:windows] + _EPSILON
  people_B = np.interp(
    np.linspace(0, 1, windows), np.linspace(0, 1, len(people_B)), people_B
  )
  return jensen_shannon(given_B, people_B)


def jensen_shannon(p_B: np.ndarray, q_B: np.ndarray) -> float:
  """√ of the Jensen-Shannon divergence of two weightings, in nats.

  0 of equal ones, √ln 2 of those that share nothing.
  """
  p_B, q_B = p_B / p_B.sum(), q_B / q_B.sum()
  middle_B = (p_B + q_B) / 2
  total = 0.0
  for one_B in (p_B, q_B):
    there_B = one_B > 0
    one_B = one_B[there_B]
    total += float(np.sum(one_B * np.log(one_B / middle_B[there_B])))
  return float(np.sqrt(max(total / 2, 0.0)))


def after(segments_N2: np.ndarray, seconds: float) -> np.ndarray:
  """What of the segments is later than a time."""
  kept_N2 = segments_N2[segments_N2[:, 1] > seconds]
  return np.maximum(kept_N2, seconds)


def read_people(path: files.AnyPath) -> Mapping[str, np.ndarray] | None:
  """People's distributions by dialogue; None where the file is not there.

  Raises:
    UserError: It is not of its form.
  """
  if not files.is_file(path):
    return None
  found = files.read_json(path)
  try:
    people = {
      name: np.asarray(weights, np.float64) for name, weights in found.items()
    }
    fine = all(
      one.ndim == 1 and len(one) > 1 and (one >= 0).all() and one.sum() > 0
      for one in people.values()
    )
  except (AttributeError, TypeError, ValueError):
    fine = False
  if not fine:
    raise errors.UserError(
      f'{path}: found {str(found)[:60]!r}, expected the weights of windows of '
      'each dialogue, 0 or more and not all 0.'
    )
  return people
