"""s3tokenizer and FunASR's networks, around weights that we draw.

The chunk loop is Step-Audio's: 240 ms at a time through `WavFrontendOnline` and
`SANMEncoderChunkOpt.forward_chunk`, the new frames kept, nearest centroid by
`torch.cdist`. Nothing but this file imports these packages.
"""

import importlib.machinery
import importlib.util
import logging
import math
import sys
import types

import numpy as np

CHUNK_SAMPLES = 3840
CHUNK = (0, 4, 5)
LOOK_BACK = 4


def installed() -> bool:
  """Whether both packages are here."""
  names = ('torch', 's3tokenizer', 'funasr', 'kaldi_native_fbank')
  return all(importlib.util.find_spec(name) for name in names)


def weights(shapes, seed=0):
  """Random float32 arrays that keep activations near one, by name."""
  rng, found = np.random.default_rng(seed), {}
  for name, shape in shapes.items():
    value = rng.standard_normal(shape, np.float32)
    if len(shape) > 1:
      value /= math.sqrt(math.prod(shape[1:]))
    elif 'norm' in name or '_ln' in name:
      value = 0.1 * value + (1 if name.endswith('weight') else 0)
    else:
      value *= 0.1
    found[name] = value
  return found


def sound(seconds: float, rows: int = 1, seed: int = 0) -> np.ndarray:
  """Noise whose loudness and spectrum change, peak 0.999, (rows, samples)."""
  rng = np.random.default_rng(seed)
  count = round(seconds * 16000)
  noise = rng.standard_normal((rows, count + 1), np.float32)
  time = np.arange(count, dtype=np.float32) / 16000
  tilt = 0.9 * np.sin(2 * np.pi * 0.7 * time, dtype=np.float32)
  wave = (noise[:, 1:] + tilt * noise[:, :-1]) * (
    1.1 + np.sin(2 * np.pi * 2.3 * time, dtype=np.float32)
  )
  return 0.999 * wave / np.abs(wave).max(axis=1, keepdims=True)


def _without_torchaudio():
  """s3tokenizer imports torchaudio, which only its file reader needs."""
  stub = types.ModuleType('torchaudio')
  stub.__spec__ = importlib.machinery.ModuleSpec('torchaudio', None)
  sys.modules['torchaudio'] = stub


class Semantic:
  """s3tokenizer's class with the given state dict."""

  def __init__(self, state):
    # FunASR asks whether torchaudio is there: it must not meet the stub.
    from funasr.utils import fbank as _  # noqa: F401
    import torch

    _without_torchaudio()
    from s3tokenizer import model
    from s3tokenizer import utils

    del sys.modules['torchaudio']
    self._torch, self._log_mel = torch, utils.log_mel_spectrogram
    self._model = model.S3Tokenizer('speech_tokenizer_v1_25hz').eval()
    state = {name: torch.from_numpy(value) for name, value in state.items()}
    self._model.load_state_dict(state)

  def set_codebook(self, table):
    """Another codebook (codes, D)."""
    table = self._torch.from_numpy(table)
    self._model.quantizer._codebook.embed.copy_(table)

  def __call__(self, wave_BS):
    """Hidden frames (B, T, D) and codes (B, T) of rows of one length."""
    torch = self._torch
    with torch.inference_mode():
      mel = torch.stack([self._log_mel(torch.from_numpy(w)) for w in wave_BS])
      lengths = torch.full((len(mel),), mel.shape[2])
      hidden, _ = self._model.encoder(mel, lengths)
      codes = self._model.quantizer.encode(hidden)
    return hidden.numpy(), codes.numpy()


class Linguistic:
  """FunASR's front end and encoder in Step-Audio's loop."""

  def __init__(self, state, cmvn, centroids):
    import torch

    logging.disable(logging.WARNING)
    from funasr.frontends import wav_frontend
    from funasr.models.scama import encoder

    self._torch = torch
    own = 'encoder.'
    layers = 1 + len(
      {n.split('.')[2] for n in state if n.startswith('encoder.encoders.')}
    )
    width = len(state['encoder.after_norm.weight'])
    first = 'encoder.encoders0.0.'
    self._encoder = encoder.SANMEncoderChunkOpt(
      input_size=len(cmvn[0]),
      output_size=width,
      attention_heads=4,
      linear_units=len(state[f'{first}feed_forward.w_1.bias']),
      num_blocks=layers,
      kernel_size=state[f'{first}self_attn.fsmn_block.weight'].shape[2],
      input_layer='pe_online',
      selfattention_layer_type='sanm',
      chunk_size=(12, 15),
      stride=(8, 10),
      pad_left=(0, 0),
      encoder_att_look_back_factor=(4, 4),
      decoder_att_look_back_factor=(1, 1),
    ).eval()
    self._encoder.load_state_dict(
      {n.removeprefix(own): torch.from_numpy(v) for n, v in state.items()}
    )
    self._front = wav_frontend.WavFrontendOnline(lfr_m=7, lfr_n=6, dither=0.0)
    self._front.cmvn_file = 'given'
    self._front.cmvn = torch.from_numpy(np.asarray(cmvn, np.float32))
    self._centroids = torch.from_numpy(centroids)

  def __call__(self, wave):
    """Encoder frames (T, D) and codes (T,) of samples in whole chunks."""
    torch = self._torch
    heard, hidden, codes = {}, [], []
    cache = {
      'start_idx': 0,
      'chunk_size': list(CHUNK),
      'encoder_chunk_look_back': LOOK_BACK,
      'opt': None,
      'feats': torch.zeros(1, CHUNK[0] + CHUNK[2], self._front.output_size()),
      'tail_chunk': False,
    }
    chunks = torch.from_numpy(wave).reshape(-1, 1, CHUNK_SAMPLES)
    lengths = torch.tensor([CHUNK_SAMPLES])
    with torch.inference_mode():
      for chunk in chunks:
        feats, count = self._front(chunk, lengths, cache=heard)
        new = feats.shape[1]
        out, _, _ = self._encoder.forward_chunk(feats, count, cache=cache)
        hidden.append(out[0, -new:])
        distance = torch.cdist(hidden[-1], self._centroids)
        codes.append(distance.argmin(dim=1))
    return torch.cat(hidden).numpy(), torch.cat(codes).numpy()


class Speaker:
  """FunASR's CAM++ with the given state dict."""

  def __init__(self, state, config):
    import torch

    # FunASR imports it for files of features, which nothing here reads.
    sys.modules.setdefault('kaldiio', types.ModuleType('kaldiio'))
    from funasr.models.campplus import model

    self._torch = torch
    self._model = model.CAMPPlus(
      feat_dim=config.bands,
      embedding_size=config.embedding,
      growth_rate=config.growth,
      bn_size=config.bottleneck,
      init_channels=config.initial,
      memory_efficient=False,
    ).eval()
    found = self._model.load_state_dict(
      {name: torch.from_numpy(value) for name, value in state.items()},
      strict=False,
    )
    counters = all(n.endswith('num_batches_tracked') for n in found[0])
    assert counters and not found[1]

  def __call__(self, x_BTM):
    """Vectors (B, D) of features of one length."""
    with self._torch.inference_mode():
      return self._model(self._torch.from_numpy(x_BTM)).numpy()

  def export(self, path, x_BTM):
    """Writes an ONNX file, norms folded as the exporter does it."""
    self._torch.onnx.export(
      self._model,
      self._torch.from_numpy(x_BTM),
      path,
      dynamo=False,
      do_constant_folding=True,
      input_names=['feats'],
      output_names=['embs'],
      dynamic_axes={'feats': {0: 'B', 1: 'T'}},
    )
