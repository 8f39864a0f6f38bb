"""Recorded fixtures: where they lie, and their configurations as ours.

Every size comes from the fixture's own `config`; nothing here is a constant of
the released model.
"""

import functools
import json
import os
import pathlib

import numpy as np

from step_audio_jax import vocabulary
from step_audio_jax.audio import preparation
from step_audio_jax.audio.features import fbank
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.interop.decoder import flow as flow_interop
from step_audio_jax.interop.decoder import hift as hift_interop
from step_audio_jax.models.flow import flow
from step_audio_jax.models.speaker import campplus
from step_audio_jax.models.tokenizer import paraformer
from step_audio_jax.models.tokenizer import s3
from step_audio_jax.models.vocoder import hift

FOLDER = pathlib.Path(
  os.environ.get('GOLDEN_DIR', pathlib.Path(__file__).parents[1] / 'golden')
)


class Fixture:
  """One file.

  Attributes:
    name: Of the file, without its ending.
    kind: What stands before the first underscore.
    config: Parsed.
  """

  def __init__(self, path: pathlib.Path):
    """Opens `path`."""
    self.name, self.kind = path.stem, path.stem.partition('_')[0]
    with np.load(path, allow_pickle=False) as arrays:
      self._arrays = dict(arrays)
    self.config = json.loads(str(self._arrays['config']))
    self.keys = tuple(self._arrays)

  def __getitem__(self, key: str) -> np.ndarray:
    return self._arrays[key]

  def __contains__(self, key: str) -> bool:
    return key in self.keys

  def state(self) -> dict[str, np.ndarray]:
    """The weights under their original names."""
    return {k[2:]: self[k] for k in self.keys if k.startswith('w/')}


def paths(kind: str | None = None) -> list[pathlib.Path]:
  """The fixtures in `FOLDER`, of one kind or all."""
  return sorted(FOLDER.glob(f'{kind or ""}*.npz'))


@functools.cache
def fixture(path: pathlib.Path) -> Fixture:
  """The fixture of a file, opened once."""
  return Fixture(path)


def front_end(config) -> fbank.FrontEnd:
  """Of a linguistic fixture."""
  c, rate = config['frontend'], config['frontend']['fs']
  return fbank.FrontEnd(
    sample_rate=rate,
    bands=c['n_mels'],
    frame=int(c['frame_length'] * rate / 1000),
    hop=int(c['frame_shift'] * rate / 1000),
    stack=c['lfr_m'],
    stride=c['lfr_n'],
    chunk_samples=config['stream']['chunk_stride_samples'],
    window=c['window'],
  )


def speaker_front_end(config) -> fbank.FrontEnd:
  """Of a speaker fixture: Kaldi's default frames, as its networks have."""
  c = config['fbank']
  rate = c['sample_frequency']
  return fbank.FrontEnd(
    sample_rate=rate,
    bands=c['num_mel_bins'],
    frame=int(c.get('frame_length', 25) * rate / 1000),
    hop=int(c.get('frame_shift', 10) * rate / 1000),
    window=c['window_type'],
    scale=1.0 if c['waveform_scale'] == '[-1,1]' else 32768.0,
  )


def hift_config(config, state) -> hift.HiftConfig:
  """Of a vocoder fixture."""
  tree = {**config['hift'], 'f0_predictor': config['f0_predictor']}
  shapes = {name: array.shape for name, array in state.items()}
  return hift_interop.config_from(tree, shapes, 'fixture')


def vocoder_front_end(config) -> vocoder_mel.VocoderMel:
  """Of a vocoder fixture."""
  c = config['mel']
  assert not c['center']
  return vocoder_mel.VocoderMel(
    sample_rate=c['sampling_rate'],
    bands=c['num_mels'],
    fft=c['n_fft'],
    window=c['win_size'],
    hop=c['hop_size'],
    low_hz=c['fmin'],
    high_hz=c['fmax'],
  )


def flow_config(config, padded: str = 'in') -> flow.FlowConfig:
  """Of a flow fixture; the recorded networks let padding in."""
  sizes = config['flow']
  tree = {
    **sizes,
    'encoder': config['encoder'],
    'length_regulator': config['length_regulator'],
    'decoder': {**config['cfm'], 'estimator': config['estimator']},
  }
  table = sizes['vocab_size'], sizes['input_size']
  return flow_interop.config_from(
    tree, {'input_embedding.weight': table}, 'fixture', padded
  )


def frame_rate(config) -> float:
  """Mel frames a second of a flow fixture."""
  c = config['mel_feat_conf']
  return c['sampling_rate'] / c['hop_size']


def sanm(config, frames: int) -> paraformer.ParaformerConfig:
  """Of a linguistic fixture, whose longest input has `frames` frames."""
  c, stream = config['encoder'], config['stream']
  before, chunk, behind = stream['chunk_size']
  assert before == 0, 'frames that the window repeats, but not the cache'
  assert not c['sanm_shfit'] and c['normalize_before']
  look_back = stream['encoder_chunk_look_back']
  return paraformer.ParaformerConfig(
    input_size=c['input_size'],
    width=c['output_size'],
    heads=c['attention_heads'],
    mlp_width=c['linear_units'],
    layers=c['num_blocks'],
    kernel=c['kernel_size'],
    chunk=chunk,
    overlap=behind,
    # -1 keeps everything.
    look_back=look_back if look_back > 0 else -(-frames // chunk),
  )


def s3_config(config) -> s3.S3Config:
  """Of a semantic fixture."""
  c = config['model']
  assert config['conv2_stride'] == 2
  return s3.S3Config(
    bands=c['n_mels'],
    width=c['n_audio_state'],
    heads=c['n_audio_head'],
    layers=c['n_audio_layer'],
    positions=c['n_audio_ctx'],
    codes=c['n_codebook_size'],
    first_stride=config['conv1_stride'],
  )


def trimming(config) -> preparation.Trimming:
  """Of a preparation fixture."""
  rate = config['sample_rate']
  left = int(config['keep_left_time'] * rate)
  both = int((config['keep_left_time'] + config['keep_right_time']) * rate)
  return preparation.Trimming(
    top_db=config['top_db'],
    frame=config['frame_length'],
    hop=config['trim_hop_length'],
    block=config['hop_size'],
    keep_left=left,
    keep_right=both - left,
  )


def packing(config) -> vocabulary.Vocabulary:
  """Of a preparation fixture."""
  first, second = config['vq02_offset'], config['vq06_offset']
  return vocabulary.Vocabulary(text_size=first, linguistic_size=second - first)


def campplus_config(config) -> campplus.CampplusConfig:
  """Of a speaker fixture."""
  c = config['campplus']
  assert c['config_str'] == 'batchnorm-relu'
  assert c['output_level'] == 'segment'
  return campplus.CampplusConfig(
    bands=c['feat_dim'],
    embedding=c['embedding_size'],
    growth=c['growth_rate'],
    bottleneck=c['bn_size'],
    initial=c['init_channels'],
    head_width=config['fcm']['m_channels'],
    head_blocks=tuple(config['fcm']['num_blocks']),
    layers=tuple(config['block_layers']),
    kernels=tuple(config['block_kernels']),
    dilations=tuple(config['block_dilations']),
  )
