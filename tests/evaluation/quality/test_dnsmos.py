"""DNSMOS against its authors' own function, and what is missing is told."""

import numpy as np
import pytest

from step_audio_jax.evaluation.quality import dnsmos
from step_audio_jax.evaluation.quality import reasons
from tests.evaluation.quality import sounds


def theirs(count):
  """Windows of the authors' loop, over samples that say where they were."""
  audio = np.arange(count) % count
  length = int(9.01 * 16000)
  while len(audio) < length:
    audio = np.append(audio, audio)
  found = []
  for n in range(int(np.floor(len(audio) / 16000) - 9.01) + 1):
    part = audio[int(n * 16000) : int((n + 9.01) * 16000)]
    if len(part) >= length:
      found.append(part)
  return found


@pytest.mark.parametrize(
  'count', [1, 1600, 16000, 144159, 144160, 160000, 176000, 16000 * 23 + 7]
)
def test_windows_are_those_of_the_authors(count):
  ours = [np.arange(a, b) % count for a, b in dnsmos.windows(count)]
  expected = theirs(count)
  assert len(ours) == len(expected) >= 1
  for one, two in zip(ours, expected):
    np.testing.assert_array_equal(one, two)


def test_scores_are_those_of_the_authors():
  pytest.importorskip('onnxruntime', reason="the extra 'quality' is absent")
  theirs = pytest.importorskip(
    'speechmos.dnsmos', reason="the extra 'quality' is absent"
  )
  wave_S = sounds.voice(3) + sounds.noise(3)
  expected = theirs.run(wave_S, 16000)
  found = dnsmos.opened().score(wave_S)
  assert tuple(found) == dnsmos.SCORES
  for name, value in found.items():
    their_name = name.removeprefix('dnsmos_') + '_mos'
    assert value == pytest.approx(float(expected[their_name]), abs=1e-4), name


def test_what_is_missing_is_told(tmp_path, monkeypatch):
  monkeypatch.setattr(dnsmos.onnx, 'require', lambda: None)
  with pytest.raises(reasons.NotComputed, match='ovr.onnx cannot be read'):
    dnsmos.Dnsmos(tmp_path)
  (tmp_path / dnsmos.P835).write_bytes(b'another model')
  with pytest.raises(reasons.NotComputed, match='not the model that was pub'):
    dnsmos.Dnsmos(tmp_path)
  monkeypatch.setattr(dnsmos, 'PACKAGE', 'no-package-of-that-name')
  with pytest.raises(reasons.NotComputed, match='is not installed: req'):
    dnsmos.locate()

  def missing():
    raise dnsmos.onnx.Missing('onnxruntime is not installed')

  monkeypatch.setattr(dnsmos.onnx, 'require', missing)
  with pytest.raises(reasons.NotComputed) as told:
    dnsmos.Dnsmos(tmp_path)
  assert told.value.reason.startswith('onnxruntime is not installed')
