"""TurnBench: how well events are detected.

Rules of `turnbench/README.md` (SesameAILabs/turnbench; arXiv:2608.25218), for
one speaker and one kind of event:

    window of an event at t    [t − 0.25 s, min(t + 3 s, the next event)]
    hit                        a detection in it; in order of time each event
                               takes the earliest that is free, and no other
                               event takes that one
    false alarm                a trap, from 0.25 s before its start to its end,
                               with a detection that no event took and that is
                               in no window; one at most for each trap

Detections where gold is disputed do not count, nor do those anywhere else.

    recall                hits / events
    false_positive_rate   false alarms / traps
    latency               detection − event, of hits; below 0 where it is early
"""

from typing import NamedTuple

import numpy as np

from step_audio_jax.evaluation.dialogues import consensus
from step_audio_jax.evaluation.dialogues.timelines import spans

EARLY, LATEST = 0.25, 3.0  # s


class Detected(NamedTuple):
  """What came of detections.

  Attributes:
    latencies_K: Of hits, seconds.
    events: That there are.
    alarms: False ones.
    traps: That there are.
  """

  latencies_K: np.ndarray
  events: int
  alarms: int
  traps: int

  def __add__(self, other):  # a tuple's is not what is meant
    return Detected(
      np.concatenate([self.latencies_K, other.latencies_K]),
      self.events + other.events,
      self.alarms + other.alarms,
      self.traps + other.traps,
    )


NOTHING = Detected(np.zeros(0), 0, 0, 0)


def detect(gold: consensus.Gold, times_K: np.ndarray) -> Detected:
  """Scores detections.

  Args:
    gold: Events of a speaker.
    times_K: Detections, seconds, increasing.
  """
  times_K = times_K[~spans.hold(gold.ignored_N2, times_K)]
  events_N = np.sort(gold.times_N)
  later_N = np.r_[events_N, np.inf][
    np.searchsorted(events_N, events_N, side='right')
  ]
  windows_N2 = np.stack(
    [events_N - EARLY, np.minimum(events_N + LATEST, later_N)], axis=1
  )
  taken_N = _take(times_K, windows_N2)
  hit_N = taken_N >= 0
  free_K = ~spans.hold(windows_N2, times_K)
  traps_N2 = gold.traps_N2 - np.array([EARLY, 0.0])
  alarms = int(np.sum(spans.counts(times_K[free_K], traps_N2) > 0))
  return Detected(
    times_K[taken_N[hit_N]] - events_N[hit_N],
    len(events_N),
    alarms,
    len(traps_N2),
  )


def _take(times_K: np.ndarray, windows_N2: np.ndarray) -> np.ndarray:
  """Place of the detection that each window takes, −1 of none, (N,).

  Starts of windows increase, so what is free and earlier than what the last
  one took is earlier than the next window, too: nothing is gone back to.
  """
  first_N = np.searchsorted(times_K, windows_N2[:, 0], side='left')
  after_N = np.searchsorted(times_K, windows_N2[:, 1], side='right')
  taken_N = np.full(len(windows_N2), -1)
  free = 0
  for place, (first, after) in enumerate(zip(first_N, after_N, strict=True)):
    at = max(first, free)
    if at < after:
      taken_N[place], free = at, at + 1
  return taken_N
