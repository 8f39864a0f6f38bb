"""Both speech tokenizers at full size against s3tokenizer and FunASR.

Random weights, the same on both sides; frames are compared in units of their
own standard deviation, codes for equality.
"""

import jax
import numpy as np
import pytest

from step_audio_jax.audio.features import log_mel
from step_audio_jax.interop.tokenizer import paraformer as paraformer_interop
from step_audio_jax.interop.tokenizer import s3 as s3_interop
from step_audio_jax.models.tokenizer import paraformer
from step_audio_jax.models.tokenizer import s3
from step_audio_jax.tokenizers.speech import linguistic
from step_audio_jax.tokenizers.speech import semantic
from tests.parity import speech_peers

pytestmark = pytest.mark.skipif(
  not speech_peers.installed(),
  reason='s3tokenizer, funasr or torch is not installed (make parity)',
)


def test_linguistic_at_full_size(parity):
  config = paraformer.ParaformerConfig()
  state = speech_peers.weights(paraformer_interop.shapes(config))
  width = config.input_size
  cmvn = np.stack([np.full(width, -12.0), np.full(width, 0.25)])
  rng = np.random.default_rng(2)
  centroids = rng.standard_normal((1024, config.width), np.float32)
  wave = speech_peers.sound(3.84)
  hidden, codes = speech_peers.Linguistic(state, cmvn, centroids)(wave[0])
  ours = linguistic.LinguisticTokenizer(
    config,
    paraformer_interop.encoder_params(state),
    dict(zip(('shift', 'scale'), cmvn.astype(np.float32))),
    centroids,
  )
  samples = np.array([wave.shape[1]], np.int32)
  got, counts = ours.encode_padded(wave, samples)
  frames, _ = ours.frames_padded(wave, samples)
  count, scale = int(counts[0]), hidden.std()
  parity(
    'FunASR, 158M: frames / their deviation',
    frames[0, :count] / scale,
    hidden / scale,
    2e-4,
  )
  parity('FunASR, 158M: codes', got[0, :count], codes, 0)


@pytest.mark.parametrize('rows', [1, 2])
def test_semantic_at_full_size(parity, rows):
  config = s3.S3Config()
  state = speech_peers.weights(s3_interop.shapes(config), 1)
  wave = speech_peers.sound(6.0, rows)
  peer = speech_peers.Semantic(state)
  hidden, _ = peer(wave)
  params, table = s3_interop.encoder_params(state)
  # Of drawn rows one or two would be nearest to everything.
  frames = hidden.reshape(-1, config.width)
  table[: len(frames)] = frames / np.linalg.norm(frames, axis=1, keepdims=True)
  rng = np.random.default_rng(3)
  table[: len(frames)] += 0.002 * rng.standard_normal(
    frames.shape, dtype=np.float32
  )
  peer.set_codebook(table)
  _, codes = peer(wave)
  assert len(np.unique(codes)) > 20
  samples = np.full(rows, wave.shape[1], np.int32)

  @jax.jit
  def run(params, wave, samples):
    mel, frames = log_mel.log_mel(wave, samples)
    return s3.S3Encoder(config).apply({'params': params}, mel, frames)[0]

  scale = hidden.std()
  got = run(params, wave, samples)
  name = f's3tokenizer, 131M, {rows} rows'
  parity(f'{name}: frames / their deviation', got / scale, hidden / scale, 2e-4)
  ours = semantic.SemanticTokenizer(config, params, table)
  got, counts = ours.encode_padded(wave, samples)
  assert counts.reshape(-1).tolist() == [codes.shape[1]] * rows
  parity(f'{name}: codes', np.asarray(got)[:, 0], codes, 0)
