"""What was played by now, in closed form."""

import pytest

from step_audio_jax.dialogue.live import playback


def test_a_listener_plays_what_comes_and_waits_where_nothing_does():
  found = playback.Playback(0.5)
  assert found.wait(10.0) == 0 and found.played(10.0) == 0
  found.send(0.4, 10.0)
  found.send(0.4, 10.0)
  assert found.wait(10.0) == pytest.approx(0.3)
  assert found.played(10.3) == pytest.approx(0.3)
  assert found.left(10.3) == pytest.approx(0.5)
  assert found.played(12.0) == pytest.approx(0.8)  # it stood still
  found.send(1.0, 12.0)
  assert found.played(12.25) == pytest.approx(1.05)
  assert found.stop(12.25) == pytest.approx(1.05)
  assert found.played(20.0) == pytest.approx(1.05)
  assert found.left(12.25) == 0


def test_what_was_sent_before_is_played_before():
  found = playback.Playback(0.5, end=13.0)
  assert found.wait(10.0) == pytest.approx(2.5)
  found.send(1.0, 10.0)
  assert found.played(12.9) == 0
  assert found.played(13.4) == pytest.approx(0.4)
  assert found.end == pytest.approx(14.0)
