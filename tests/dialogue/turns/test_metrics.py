"""Figures of a conversation that is known."""

import pytest

from step_audio_jax.dialogue.turns import events as ev
from step_audio_jax.dialogue.turns import metrics as metrics_lib
from tests.dialogue.turns import streams


class _Counted(streams.Stream):
  def __init__(self):
    super().__init__()
    self.metrics = metrics_lib.Metrics()

  def feed(self, event):
    found = super().feed(event)
    self.metrics.observe(event, found)
    return found


def test_a_conversation_in_figures():
  stream = _Counted()
  m = stream.metrics
  assert m.commit_rate is None
  stream.speech(1.0)
  stream.silence(0.3)  # reply 0 is begun
  stream.speech(0.5)  # and given up
  spoken = stream.at
  stream.silence(0.26)  # reply 1 is begun at 0.03
  stream.now(ev.Ready, 1)
  stream.silence(0.5)  # and heard from 0.6 on
  heard = stream.actions[-1].at
  assert (m.turns, m.speculated, m.committed, m.discarded) == (1, 2, 1, 1)
  assert m.commit_rate == 0.5
  assert m.first_audio.total == pytest.approx(heard - spoken)
  assert m.saved.total == pytest.approx(0.256 - 0.03, abs=streams.FRAME)
  stream.speech(0.2)
  stream.silence(1.0)
  assert (m.held, m.false_interruptions, m.interruptions) == (1, 1, 0)
  stream.speech(1.2)
  assert (m.held, m.false_interruptions, m.interruptions) == (2, 1, 1)
  assert m.stop.count == 2 and m.stop.total / 2 <= 0.1


def test_a_reply_whose_sound_comes_late_is_counted_from_the_speech():
  stream = _Counted()
  stream.speech(1.0)
  spoken = stream.at
  stream.silence(1.5)
  assert stream.metrics.first_audio.count == 0
  stream.now(ev.Ready, 0)
  assert stream.metrics.first_audio.total == pytest.approx(stream.at - spoken)


def test_a_histogram_sums_up():
  histogram = metrics_lib.Histogram((0.1, 1.0))
  for seconds in (0.05, 0.1, 0.5, 3.0):
    histogram.observe(seconds)
  assert histogram.cumulative() == [(0.1, 2), (1.0, 3), (float('inf'), 4)]
  assert histogram.count == 4 and histogram.total == pytest.approx(3.65)
