import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from step_audio_jax.evaluation.dialogues import consensus
from step_audio_jax.evaluation.dialogues import detections
from step_audio_jax.evaluation.dialogues.timelines import spans


def detect(times, events=(), traps=(), ignored=()):
  gold = consensus.Gold(
    np.array(events, np.float64), spans.array(traps), spans.array(ignored)
  )
  found = detections.detect(gold, np.array(times, np.float64))
  return np.round(found.latencies_K, 6).tolist(), found.alarms


@pytest.mark.parametrize(
  'times, latencies',
  [
    ([10], [0]),
    ([9.75], [-0.25]),  # what annotators may be apart
    ([9.74], []),
    ([13], [3]),
    ([13.01], []),
    ([10.5, 11], [0.5]),  # a burst is one
    ([9.0, 9.9, 10.2], [-0.1]),
  ],
)
def test_windows(times, latencies):
  assert detect(times, [10]) == (latencies, 0)


def test_a_detection_is_of_one_event():
  assert detect([11.5], [10, 11]) == ([0.5], 0)
  # Not of the first: it is later than the second.
  assert detect([11.5], [10, 11, 20]) == ([0.5], 0)
  # Two ways for one: the first takes it.
  assert detect([10.9], [10, 11]) == ([0.9], 0)
  assert detect([10.9, 10.95], [10, 11]) == ([0.9, -0.05], 0)
  assert detect([10.1], [10, 10]) == ([0.1], 0)


def test_traps():
  traps = [(5, 6), (8, 9)]
  assert detect([5.1, 5.5, 5.9], traps=traps) == ([], 1)
  assert detect([4.75], traps=traps) == ([], 1)
  assert detect([4.74, 6.01], traps=traps) == ([], 0)
  # What is in the window of an event is no alarm, whoever takes it.
  assert detect([5.1, 5.2], [4.5], traps) == ([0.6], 0)


def test_what_is_disputed_does_not_count():
  assert detect([10.1], [10], ignored=[(10, 10.2)]) == ([], 0)
  assert detect([10.1, 10.3], [10], ignored=[(10, 10.2)]) == ([0.3], 0)
  assert detect([5.5], traps=[(5, 6)], ignored=[(5.4, 5.6)]) == ([], 0)


def test_sums():
  one = detections.Detected(np.array([0.1]), 2, 1, 3)
  total = detections.NOTHING + one + one
  assert total.latencies_K.tolist() == [0.1, 0.1]
  assert total[1:] == (4, 2, 6)


TICKS = st.lists(st.integers(0, 400), max_size=25, unique=True).map(sorted)


def one_by_one(times, events):
  """Latencies as the rule says it, with nothing but loops."""
  free, latencies = list(times), []
  for event in events:
    later = [other for other in events if other > event]
    end = min([event + detections.LATEST, *later[:1]])
    for time in free:
      if event - detections.EARLY <= time <= end:
        free.remove(time)
        latencies.append(time - event)
        break
  return latencies


@hypothesis.given(TICKS, TICKS, st.integers(0, 99))
def test_each_event_takes_the_earliest_that_is_free(times, events, seconds):
  times, events = np.array(times) / 16, np.array(events) / 16
  latencies, _ = detect(times, events)
  assert latencies == np.round(one_by_one(times, events), 6).tolist()
  assert detect(times + seconds, events + seconds)[0] == latencies
