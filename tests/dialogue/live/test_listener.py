"""Sound → turns: by any pieces, of muted microphones, of noises."""

import numpy as np
import pytest

from step_audio_jax.dialogue.live import listener as listener_lib
from step_audio_jax.dialogue.turns import controller
from step_audio_jax.dialogue.turns import events as ev
from tests.dialogue import fakes

RATE = 16000


def loud(frame_S):
  return float(np.abs(frame_S).mean() > 0.1)


def heard(ear=None, **settings):
  return listener_lib.Listener(
    ear or fakes.ScriptedEar(), loud, controller.Settings(**settings)
  )


def sound(*seconds):
  """Speech and silence by turns, silence first."""
  parts = [
    np.full(round(one * RATE), 0.5 * (n % 2), np.float32)
    for n, one in enumerate(seconds)
  ]
  return np.concatenate(parts)


def ended(actions):
  return [one for one in actions if isinstance(one, ev.EndTurn)]


@pytest.mark.parametrize('size', [160, 1600, 5000, 10**6])
def test_turns_are_the_same_in_any_pieces(size):
  ear = fakes.ScriptedEar()
  listener = heard(ear, replies=False)
  said_S = sound(1.0, 1.0, 2.0, 0.6, 2.0)
  found = []
  for begin in range(0, len(said_S), size):
    found += ended(listener.push(said_S[begin : begin + size]))
  assert [round(one.until, 1) for one in found] == [2.0, 4.6]
  first, second = ear.heard
  # Each ear has its turn, with what is in front of it, and not the other's.
  for one, seconds in ((first, 1.0), (second, 0.6)):
    voice_S = np.concatenate(one.samples)
    assert (voice_S > 0).sum() == pytest.approx(seconds * RATE, abs=512)
    assert voice_S[0] == 0


def test_a_muted_microphone_ends_its_turn():
  listener = heard(replies=False)
  assert not ended(listener.push(sound(0.5, 1.0, 0.3)))
  assert listener.is_waiting
  (turn,) = ended(action for _ in range(30) for action in listener.wait(0.1))
  assert listener.place(turn.until) == pytest.approx(1.5, abs=0.05)
  assert not listener.is_waiting
  # What comes later is later, and its sound is found.
  (later,) = ended(listener.push(sound(0.5, 1.0, 2.0)))
  assert later.until > turn.until + 2
  assert listener.place(later.until) == pytest.approx(3.3, abs=0.05)


def test_a_noise_is_let_go():
  ear = fakes.ScriptedEar()
  listener = heard(ear, least=0.5)
  found = list(listener.push(sound(0.5, 0.2, 3.0)))
  assert any(isinstance(one, ev.DropTurn) for one in found)
  assert not ended(found)
  assert ear.heard[0].is_cancelled and listener.hearing is None


def test_a_turn_without_an_end_is_cut():
  listener = heard(replies=False)
  found = ended(listener.push(sound(0.0, listener_lib.LONGEST + 10)))
  assert len(found) == 1
  assert found[0].until == pytest.approx(listener_lib.LONGEST, abs=1)
