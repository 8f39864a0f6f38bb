"""A listener beside the loudspeaker that it plays through."""

import numpy as np
import pytest
import soxr

from step_audio_jax.dialogue.live import listener as listener_lib
from step_audio_jax.dialogue.turns import controller
from step_audio_jax.dialogue.turns import events as ev
from tests.dialogue import fakes
from tests.dialogue.turns import voices

RATE, SAID = 16000, 24000  # Hz
BEGAN, LATE = 100.0, 0.04  # of the clock: second 0, and of what is sent
PIECE, LEAD = 0.2, 0.6  # seconds that are sent at once, and ahead


def loud(frame_S):
  return float(np.abs(frame_S).mean() > 3e-4)


def plays(delay, gain_db, user_S=None, at=1.5, seconds=3.0):
  """A reply through a room; all that a listener wanted done.

  Args:
    delay: Seconds from what is played to the microphone.
    gain_db: Of the way.
    user_S: What a person says over it.
    at: Second at which they begin.
    seconds: Of all.
  """
  rng = np.random.default_rng(0)
  room_S = rng.standard_normal(1200) * np.exp(-np.arange(1200) / 100)
  room_S[0] = 6.0
  room_S *= 10 ** (gain_db / 20) / 6
  said_S = voices.voice(1, seconds, 120)
  back_S = np.convolve(said_S, room_S)[: len(said_S)]
  first = round(delay * RATE)
  heard_S = 1e-4 * rng.standard_normal(round(seconds * RATE))
  heard_S[first:] += back_S[: len(heard_S) - first]
  if user_S is not None:
    heard_S[round(at * RATE) :][: len(user_S)] += user_S
  listener = listener_lib.Listener(
    fakes.ScriptedEar(), loud, controller.Settings()
  )
  found, sent = [], 0.0
  out_S = soxr.resample(said_S, RATE, SAID)
  for begin in range(0, len(heard_S), 320):
    part_S = heard_S[begin : begin + 320]
    now = BEGAN + (begin + len(part_S)) / RATE + rng.uniform(LATE, 2 * LATE)
    found += listener.push(part_S, now)
    if begin == 0:
      found += listener.feed(ev.Asked(listener.at))
    while sent < now - BEGAN + LEAD:
      piece_S = out_S[round(sent * SAID) : round((sent + PIECE) * SAID)]
      listener.plays(piece_S, SAID, BEGAN + sent)
      sent += PIECE
  return found


@pytest.mark.parametrize(
  'delay, gain_db', [(0.05, -6), (0.3, -20), (0.15, -12)]
)
def test_a_reply_that_comes_back_is_not_taken_for_a_voice(delay, gain_db):
  found = plays(delay, gain_db)
  assert [type(one) for one in found] == [ev.Reply]


def test_who_speaks_over_it_is():
  user_S = voices.voice(2, 1.4, 205)
  found = plays(0.15, -10, user_S)
  hold, begin, stop = found[1:4]
  assert isinstance(hold, ev.Hold) and isinstance(stop, ev.Stop)
  assert isinstance(begin, ev.BeginTurn)
  assert 1.5 < hold.at <= 1.5 + 0.2
  assert begin.since == hold.since <= 1.5
