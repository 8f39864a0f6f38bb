"""The benchmarks of flow and vocoder, at a toy size."""

import json
import sys

import pytest

from benchmarks.decoder import flow
from benchmarks.decoder import vocoder


def run(monkeypatch, capsys, module, *flags):
  monkeypatch.setattr(sys, 'argv', ['benchmark', '--tiny', *flags])
  module.main()
  return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_flow_counts_the_audio_it_makes(monkeypatch, capsys):
  found = run(monkeypatch, capsys, flow, '--rounds=1', '--steps=1')
  assert found['audio_seconds'] == pytest.approx(10, abs=0.02)
  seconds = found['audio_seconds'] / found['seconds'][0]
  assert found['times_real_time'] == pytest.approx(seconds, rel=0.1)
  assert found['must'] == pytest.approx(0.444)


def test_vocoder_counts_the_audio_it_makes(monkeypatch, capsys):
  found = run(monkeypatch, capsys, vocoder, '--rounds=1')
  assert found['audio_seconds'] == pytest.approx(10, abs=0.02)
  assert found['times_real_time'] > 0 and len(found['seconds']) == 1


def test_the_stream_of_the_vocoder_compiles_nothing(monkeypatch, capsys):
  monkeypatch.setattr(vocoder, 'STREAM_SECONDS', 8.0)
  found = run(monkeypatch, capsys, vocoder, '--what=streaming')
  assert found['compilations'] == 0
  assert found['chunks'] == round(8 * 22050 / 256 / vocoder.CHUNK)
