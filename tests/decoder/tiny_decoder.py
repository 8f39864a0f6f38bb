"""A small random speech decoder, and parts of one whose answers are known."""

import dataclasses
import functools
import types

import jax
import numpy as np

from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.decoder import speech
from step_audio_jax.decoder import voice as voice_lib
from step_audio_jax.decoder.flow import offline as flow_lib
from step_audio_jax.decoder.speaker import encoder as speaker_lib
from step_audio_jax.decoder.vocoder import vocoder
from step_audio_jax.models.flow import flow as flow_model
from step_audio_jax.models.speaker import campplus

MEL = vocoder_mel.VocoderMel(
  sample_rate=8000, bands=16, fft=256, window=256, hop=64, high_hz=None
)
FLOW = flow_model.FlowConfig(
  input_width=16,
  speaker_size=8,
  encoder=flow_model.EncoderConfig(width=16, heads=2, mlp_width=16, layers=1),
  estimator=flow_model.EstimatorConfig(
    bands=16, channels=16, heads=2, head_width=8, blocks=1, middle=1
  ),
)
SPEAKER = campplus.CampplusConfig(
  bands=16,
  embedding=8,
  growth=4,
  bottleneck=2,
  initial=8,
  head_width=4,
  head_blocks=(1, 1),
  layers=(2, 2, 2),
)


def drawn(shapes, seed=0):
  """A tree of random arrays, of a size that keeps activations near one."""
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    name = path[-1].key
    if name in ('scale', 'var'):
      return np.float32(1 + 0.1 * rng.random(leaf.shape))
    inner = int(np.prod(leaf.shape[:-1])) if leaf.ndim > 1 else 100
    return np.float32(rng.normal(size=leaf.shape) / np.sqrt(inner))

  return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.cache
def flow(seed=0):
  """A random flow, without compiling its initialisation."""
  tree = drawn(flow_model.shapes(FLOW), seed)
  return flow_lib.FlowDecoder(FLOW, tree, MEL)


@functools.cache
def speaker(seed=0):
  """A random speaker encoder."""
  tree = drawn(speaker_lib.shapes(SPEAKER), seed)
  return speaker_lib.SpeakerEncoder(SPEAKER, tree)


def voice(groups=0, seed=0):
  """A voice, with a prompt of some groups."""
  rng = np.random.default_rng(seed)
  frames = int(groups * 0.12 * MEL.sample_rate / MEL.hop)
  return speech.Voice(
    ids(groups, seed),
    rng.normal(size=(frames, MEL.bands)).astype(np.float32),
    rng.normal(size=FLOW.speaker_size).astype(np.float32),
    'a b' if groups else '',
  )


def ids(groups, seed=0):
  """Random mixed ids."""
  rng = np.random.default_rng(seed)
  return voice_lib.IDS.interleave(
    rng.integers(0, 1024, 2 * groups), rng.integers(0, 4096, 3 * groups)
  )


def decoder(own_voice=None):
  """The random decoder; Griffin-Lim speaks."""
  return speech.SpeechDecoder(
    flow(), vocoder.GriffinLim(MEL), speaker(), MEL, own_voice
  )


@dataclasses.dataclass
class Painted:
  """A flow whose every frame is the id that stands for it, plus noise.

  Frames know nothing of their neighbours, so windows of it can be compared
  with the whole.
  """

  noise: float = 0.0
  broken: bool = False
  vocabulary: int = 5120
  rate: float = 125 / 3

  def __post_init__(self):
    self.config = types.SimpleNamespace(
      vocabulary=self.vocabulary, speaker_size=FLOW.speaker_size
    )
    self.calls = []

  def frames(self, tokens):
    return int(tokens / self.rate * MEL.sample_rate / MEL.hop)

  def mel(
    self,
    tokens_n,
    *,
    prompt_tokens=(),
    prompt_mel_TM=None,
    speaker_D,
    seed=0,
    steps=10,
    noise_TM=None,
    width=0,
  ):
    given = 0 if prompt_mel_TM is None else len(prompt_mel_TM)
    self.calls.append((len(prompt_tokens), len(tokens_n)))
    total = self.frames(len(tokens_n))
    if noise_TM is None:
      noise_TM = flow_lib.prior_noise(seed, given + total, MEL.bands)
    place = (np.arange(total) + 0.5) * MEL.hop / MEL.sample_rate * self.rate
    painted = np.asarray(tokens_n)[place.astype(int), None] / 5120.0
    mel_TM = painted + self.noise * noise_TM[given : given + total]
    if self.broken:
      mel_TM[0, 0] = np.nan
    return mel_TM.astype(np.float32)


@dataclasses.dataclass
class Steps:
  """A vocoder that holds the mean of each frame for a hop."""

  name: str = 'steps'
  sample_rate: int = MEL.sample_rate
  hop: int = MEL.hop
  bands: int = MEL.bands
  broken: bool = False

  def wave(self, mel_TM, *, seed=0):
    wave_S = np.repeat(np.tanh(mel_TM.mean(axis=1)), self.hop)
    return np.full_like(wave_S, np.inf) if self.broken else wave_S


class Ruler:
  """A tokenizer whose codes count the groups of a recording."""

  def encode(self, wave_S):
    groups = len(wave_S) // 1920
    return np.arange(2 * groups) % 5, np.arange(3 * groups) % 5

  def encode_batch(self, waves, mode='pieces'):
    return [self.encode(wave) for wave in waves]

  def encode_file(self, path, channel=None):
    from step_audio_jax.audio import io

    return self.encode(io.read_audio(path, channel=channel)[0])
