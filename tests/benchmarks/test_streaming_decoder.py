"""The streaming benchmark's own logic, at a toy size."""

import json
import pathlib

import numpy as np
import pytest

from benchmarks.decoder import streaming_decoder
from step_audio_jax.decoder.causal import layout
from step_audio_jax.models.causal_flow import causal_config
from tests.benchmarks import scripts


def run(*flags):
  return scripts.run('decoder/streaming_decoder', *flags)


def test_a_session_compiles_nothing_and_loses_no_sample():
  done = run('--size=tiny', '--seconds=6', '--sessions=2', '--steps=2')
  assert done.returncode == 0, done.stderr
  result = json.loads(done.stdout.splitlines()[-1])
  assert result['compiled_after_warm_up'] == 0
  assert result['chunks'] == 5  # 0.6, 0.96, 1.92, 1.92 and what is left
  assert set(result['chunk_ms']) == {'15', '24', '48'}
  assert 0 < result['first_audio_ms']['p50'] <= result['first_audio_ms']['p95']
  assert result['first_audio_of_ms'] == 480 and result['rtf']['p50'] > 0


def test_every_push_makes_one_chunk():
  config = causal_config.CausalFlowConfig()
  groups = 500
  ends = np.cumsum(streaming_decoder.asked(config, groups)) * 3
  assert ends[-1] == 3 * groups
  bounds = np.unique(layout.chunk_ends(config, 3 * groups)[:, 1])
  assert len(ends) == len(bounds)
  # Enough for this chunk and its look-ahead, too little for the next.
  ready = bounds[:-1] + config.look_ahead
  assert (ends[:-1] >= ready).all() and (ends[:-2] < ready[1:]).all()


def test_the_slope_does_not_see_outliers():
  values = 5.0 + 0.25 * np.arange(30)
  values[[3, 17]] = 100.0
  assert streaming_decoder.slope(values) == pytest.approx(0.25)
  assert streaming_decoder.slope(values[:1]) == 0.0


@pytest.mark.skipif(
  pathlib.Path('/dev/nvidia0').exists(), reason='there is a GPU'
)
def test_without_a_gpu_one_sentence_says_so():
  done = run('--device=gpu')
  assert done.returncode == 1 and not done.stdout
  assert '--device=gpu: ' in done.stderr.splitlines()[-1]
