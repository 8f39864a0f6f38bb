"""A causal flow of some thousand weights, none of them zero."""

import functools

import jax
import numpy as np

from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.decoder import voice as voice_lib
from step_audio_jax.decoder.causal import flow
from step_audio_jax.decoder.vocoder import vocoder
from step_audio_jax.models.causal_flow import causal_config
from step_audio_jax.models.vocoder import hift
from tests.decoder import tiny_decoder

CONFIG = causal_config.CausalFlowConfig(
  bands=6,
  speaker_size=5,
  width=16,
  heads=2,
  mlp_width=24,
  step_layers=1,
  frame_layers=1,
  estimator_layers=2,
  window=8,
  chunks=(2, 5),
  prompt_steps=9,
)
MEL = vocoder_mel.VocoderMel(
  sample_rate=24000, fft=1920, window=1920, hop=480, bands=CONFIG.bands
)
STEPS = 3  # of the solver
HIFT = hift.HiftConfig(
  bands=CONFIG.bands,
  channels=8,
  sample_rate=24000,
  harmonics=2,
  upsample_rates=(12, 10),
  upsample_kernels=(24, 20),
  resblock_kernels=(3,),
  resblock_dilations=((1,),),
  source_resblock_kernels=(3, 3),
  source_resblock_dilations=((1,), (1,)),
  f0_channels=8,
  causal=True,
  look_ahead=1,
)


@functools.cache
def params():
  """Weights that matter everywhere: as training begins, gates are zero."""
  tree = tiny_decoder.drawn(flow.shapes(CONFIG))
  # Its rows are what comes in, however many there are.
  table = tree['embedding']['embedding']
  return {**tree, 'embedding': {'embedding': table * len(table) ** 0.5}}


def fresh():
  """The same, but with closed gates, as training begins."""
  zeros = {
    name: jax.tree.map(np.zeros_like, params()[name])
    for name in ('modulation', 'last_modulation', 'last')
  }
  return {**params(), **zeros}


@functools.cache
def decoder():
  """The decoder that all tests share, and with it what it has compiled."""
  return flow.CausalFlowDecoder(CONFIG, params(), MEL)


@functools.cache
def hift_vocoder():
  """A vocoder that fits, causal, with a look-ahead of one frame."""
  return vocoder.HiftVocoder(HIFT, tiny_decoder.drawn(vocoder.shapes(HIFT)))


def ids(groups, seed=0):
  """Mixed ids of whole groups."""
  rng = np.random.default_rng(seed)
  pairs = [
    rng.integers(0, 1024, (groups, 2)),
    rng.integers(1024, 5120, (groups, 3)),
  ]
  return np.concatenate(pairs, axis=1).reshape(-1).astype(np.int32)


def voice(groups, seed=0, more_frames=0):
  """A voice whose prompt has so many groups."""
  rng = np.random.default_rng(seed + 100)
  mel = rng.normal(size=(6 * groups + more_frames, CONFIG.bands))
  speaker = rng.normal(size=CONFIG.speaker_size)
  return voice_lib.Voice(
    ids(groups, seed + 50),
    mel.astype(np.float32),
    speaker.astype(np.float32),
  )


def one_shot(tokens, who, seed=0, **settings):
  """`CausalFlowDecoder.mel` of a voice."""
  return decoder().mel(
    tokens,
    prompt_tokens=who.tokens,
    prompt_mel_TM=who.mel_TM if len(who.tokens) else None,
    speaker_D=who.speaker_D,
    seed=seed,
    steps=STEPS,
    **settings,
  )
