"""Live linguistic codes: golden sessions, any cuts, any rows, flat cost."""

import json
import pathlib

import jax
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.audio import fbank
from step_audio_jax.interop import paraformer as import_paraformer
from step_audio_jax.models import paraformer
from step_audio_jax.tokenizers import linguistic
from step_audio_jax.tokenizers import streaming

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'
SIZE = fbank.CHUNK_SAMPLES


@pytest.fixture(scope='module')
def golden():
  return np.load(GOLDEN / 'linguistic_A.npz')


@pytest.fixture(scope='module')
def original(golden):
  c = json.loads(str(golden['config']))['encoder']
  config = paraformer.ParaformerConfig(
    input_size=c['input_size'],
    width=c['output_size'],
    heads=c['attention_heads'],
    mlp_width=c['linear_units'],
    layers=c['num_blocks'],
  )
  shift, scale = golden['in/cmvn']
  state = {k[2:]: golden[k] for k in golden.files if k.startswith('w/')}
  return linguistic.LinguisticTokenizer(
    config,
    import_paraformer.encoder_params(state),
    {'shift': shift, 'scale': scale},
    golden['in/kmeans'],
  )


@pytest.fixture(scope='module')
def stream(original):
  """One stream for all tests of a row: its function is compiled once."""
  return streaming.LinguisticStream(original)


def test_a_session_matches_golden_call_by_call(golden, stream):
  """Samples in pieces, only the last call final; raw, as recorded."""
  wave, cuts = golden['in/wav'], [*golden['in/session_cuts']]
  cuts = sorted({0, *map(int, cuts), len(wave)})
  codes, frames = [], []
  for begin, end in zip(cuts, cuts[1:]):
    one, two = stream.push_frames(wave[begin:end], final=end == len(wave))
    assert len(one) == len(two)
    codes.append(one)
    frames.append(two)
  lens = [len(c) for c in codes]
  assert lens == golden['out/session_lens'].tolist()
  np.testing.assert_allclose(
    np.concatenate(frames), golden['out/session_enc'], atol=5e-3
  )
  np.testing.assert_array_equal(np.concatenate(codes), golden['out/vq02'])


def test_chunk_by_chunk_matches_golden(golden, stream):
  wave = golden['in/wav']
  out = [
    stream.push_frames(wave[b : b + SIZE], final=b + SIZE >= len(wave))
    for b in range(0, len(wave), SIZE)
  ]
  lens = [len(codes) for codes, _ in out]
  assert lens == golden['out/stream_chunk_lens'].tolist()
  frames = np.concatenate([frames for _, frames in out])
  np.testing.assert_allclose(frames, golden['out/stream_enc'], atol=5e-3)


def test_tails_match_golden(golden, stream):
  """Each is a signal of its own: `final` begins the stream anew."""
  wave = golden['in/wav']
  for samples, count in zip(
    golden['in/tail_samples'].tolist(), golden['out/tail_frames'].tolist()
  ):
    codes, frames = stream.push_frames(wave[:samples], final=True)
    assert len(codes) == count, samples
    if f'out/tail{samples}_enc' in golden.files:
      np.testing.assert_allclose(
        frames, golden[f'out/tail{samples}_enc'], atol=5e-3
      )
