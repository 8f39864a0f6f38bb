"""Phases are timed behind each other, and nobody waits for that."""

import threading
import time

import pytest

from step_audio_jax.alignment.policy import clock


class Result:
  """Is there so many seconds after the one before it."""

  def __init__(self, seconds, ready):
    self.seconds, self.ready = seconds, ready

  def block_until_ready(self):
    assert self.ready.wait(10)
    time.sleep(self.seconds)
    return self


def test_phases():
  it, ready = clock.Clock(), threading.Event()
  given = time.monotonic()
  for step in range(2):
    it.until(step, 'rollout', given, Result(0.06, ready))
    it.spent(step, 'judging', 0.25)
    last = Result(0.02, ready)
    it.until(step, 'update', given, last)
    it.until(step, clock.STEP, given, Result(0.0, ready))
  it.until(2, 'rollout', given, Result(0.0, ready))
  ready.set()  # nothing above has waited for it
  found = it.read(2)
  assert found['time/judging'] == 0.25
  assert 0.06 <= found['time/rollout'] < 0.2
  assert 0.02 <= found['time/update'] < found['time/rollout']
  whole = found['time/step']
  assert found['time/rollout'] + found['time/update'] == pytest.approx(
    whole, abs=0.05
  )
  assert found['time/rollout_share'] == found['time/rollout'] / whole
  assert list(it.read(3)) == ['time/rollout']
  assert it.read(3) == {}
