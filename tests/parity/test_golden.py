"""Every fixture of $GOLDEN_DIR (default tests/golden), quantity by quantity.

    GOLDEN_DIR=/some/folder pytest tests/parity

The networks of the decoder have files of their own beside this one.
"""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax.audio import preparation
from step_audio_jax.audio.features import fbank
from step_audio_jax.audio.features import log_mel
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.interop.tokenizer import paraformer as paraformer_interop
from step_audio_jax.interop.tokenizer import s3 as s3_interop
from step_audio_jax.models.tokenizer import paraformer
from step_audio_jax.models.tokenizer import s3
from step_audio_jax.models.tokenizer import sanm
from step_audio_jax.tokenizers.speech import codebook
from tests.parity import fixtures

_KINDS = (
  *('linguistic', 'semantic', 'preprocess'),
  *('campplus', 'flow', 'vocoder'),
)


def each(kind):
  """Runs a test for every fixture of a kind."""
  return pytest.mark.parametrize(
    'path', fixtures.paths(kind), ids=lambda path: path.stem
  )


def garbage(rows, extra=333):
  """Ragged rows as one array whose padding is loud garbage, and lengths."""
  lengths = np.array([len(row) for row in rows], np.int32)
  shape = (len(rows), lengths.max() + extra, *rows[0].shape[1:])
  out = np.full(shape, 0.7, np.float32)
  for place, row in zip(out, rows):
    place[: len(row)] = row
  return out, lengths


def test_there_are_fixtures_and_each_is_of_a_known_kind(parity):
  names = [path.stem for path in fixtures.paths()]
  assert names, f'{fixtures.FOLDER}: found no *.npz'
  for path in fixtures.paths():
    one = fixtures.fixture(path)
    if one.kind not in _KINDS:
      parity.note(f'{one.name}: not compared: no such kind is known')


class Linguistic:
  """Compiled functions and shared values of one fixture."""

  def __init__(self, path):
    self.golden = z = fixtures.fixture(path)
    self.front = fixtures.front_end(z.config)
    frames = max(len(z['out/stream_feat']), z['in/offline_feats'].shape[1])
    self.config = c = fixtures.sanm(z.config, frames)
    assert self.front.features == c.input_size
    self.variables = {'params': paraformer_interop.encoder_params(z.state())}
    self.model = paraformer.SanmEncoder(c)
    self.step = jax.jit(
      functools.partial(self.model.apply, method='step_window')
    )
    self.windowed = jax.jit(
      functools.partial(self.model.apply, method='windowed')
    )
    self.stacked = jax.jit(
      functools.partial(fbank.stacked_features, config=self.front)
    )

  def chunk_lengths(self, samples):
    """Stacked frames of each chunk that streaming hands over."""
    full = samples // self.front.chunk_samples
    heard = np.arange(full + 1) * self.front.chunk_samples
    ends = fbank.emitted_count(heard, self.front).tolist()
    ends.append(int(fbank.stacked_count(samples, self.front)))
    return [n for n in np.diff(ends).tolist() if n]

  def features(self, samples):
    """CMVN features of the first `samples` samples, one row each, padded."""
    wave, (shift, scale) = self.golden['in/wav'], self.golden['in/cmvn']
    waves, lengths = garbage([wave[:n] for n in samples])
    x, counts = self.stacked(waves, lengths)
    return fbank.normalise(x, shift, scale), counts

  def streamed(self, feats, lengths):
    """Feeds chunks to `step`; yields (window outputs, cache) of each."""
    cache, begin = paraformer.init_cache(self.config, 1), 0
    for count in lengths:
      part = feats[None, begin : begin + count]
      out, cache = self.step(self.variables, part, cache)
      begin += count
      yield out[0], cache


@functools.cache
def linguistic(path):
  return Linguistic(path)


@each('linguistic')
def test_linguistic_front_end(path, parity):
  own = linguistic(path)
  z, name, front = own.golden, own.golden.name, own.front
  wave, (shift, scale) = z['in/wav'], z['in/cmvn']
  waves, lengths = garbage([wave, wave[: len(wave) // 3]])
  feats, frames = jax.jit(functools.partial(fbank.fbank, config=front))(
    waves, lengths
  )
  got = feats[0, : frames[0]]
  parity(f'{name} fbank', got, z['out/fbank'], 2e-3)
  parity(f'{name} fbank, 99.9 % of it', got, z['out/fbank'], 5e-4, 0.999)
  whole = fbank.stack(feats[:1, : frames[0]], frames[:1], front)
  whole = fbank.normalise(whole, shift, scale)[0]
  for key in ('feat_oneshot', 'feat_offline'):
    parity(f'{name} {key}', whole, z[f'out/{key}'], 1e-3)
  heard = [len(wave), *z['in/tail_samples'].tolist()]
  x, counts = own.features(heard)
  parity(f'{name} stream_feat', x[0, : counts[0]], z['out/stream_feat'], 1e-3)
  parity(f'{name} tail_frames', counts[1:], z['out/tail_frames'], 0)
  lens = own.chunk_lengths(len(wave))
  want = z['out/stream_chunk_lens']
  parity(f'{name} stream_chunk_lens', lens, want[want > 0], 0)
  cuts, size = z['in/session_cuts'], front.chunk_samples
  ends = fbank.emitted_count(cuts[1:-1] // size * size, front)
  last = fbank.stacked_count(cuts[-1:], front)
  lens = np.diff(np.concatenate([[0], ends, last]))
  parity(f'{name} session_lens', lens, z['out/session_lens'], 0)


@each('linguistic')
def test_linguistic_whole_utterances(path, parity):
  own = linguistic(path)
  z, c, name = own.golden, own.config, own.golden.name
  feats, lengths = z['in/offline_feats'], z['in/offline_lens']

  @jax.jit
  def run(variables, x, lengths):
    return own.model.apply(
      variables,
      x,
      lengths,
      capture_intermediates=lambda m, _: isinstance(m, sanm.Block),
      mutable=['intermediates'],
    )

  out, kept = run(own.variables, feats, lengths)
  kept = kept['intermediates']
  layers = [
    kept['first_block']['__call__'][0][0],
    *kept['blocks']['__call__'][0][0],
  ]
  scaled = feats * np.float32(c.width**0.5)
  start = jnp.ones(len(feats), jnp.int32)
  placed = scaled + paraformer.positions(start, *feats.shape[1:])

  def check(key, got, want):
    for row, count in enumerate(lengths):
      parity(
        f'{name} {key} row {row}', got[row, :count], want[row, :count], 1e-4
      )

  check('offline_pos_in', placed, z['out/offline_pos_in'])
  for key in z.keys:
    if match := re.fullmatch(r'out/offline_layer(\d+)', key):
      check(key[4:], layers[int(match[1])][:, 0], z[key])
  check('offline_enc', out, z['out/offline_enc'])
  parity(f'{name} offline_olens', lengths, z['out/offline_olens'], 0)


@each('linguistic')
def test_linguistic_streaming(path, parity):
  own = linguistic(path)
  z, c, name = own.golden, own.config, own.golden.name
  feats, lens = z['out/stream_feat'], z['out/stream_chunk_lens']
  shown = {int(m[1]) for k in z.keys if (m := re.match(r'out/chunk(\d+)/', k))}

  def heads(x_SD):  # as it is recorded: (head, frame, head_dim)
    return np.asarray(x_SD).reshape(len(x_SD), c.heads, -1).swapaxes(0, 1)

  outs, begin = [], 0
  lens = lens[lens > 0]
  for number, (out, cache) in enumerate(own.streamed(feats, lens.tolist())):
    count = lens[number]
    outs.append(out[c.overlap :])
    if number in shown:
      key = f'chunk{number}'
      part = feats[begin : begin + count]
      parity(f'{name} {key}/feat', part, z[f'out/{key}/feat'], 0)
      parity(f'{name} {key}/out', out, z[f'out/{key}/out'], 1e-4)
      filled = int(cache['filled'][0])
      for kind in ('key', 'value'):
        for layer, place in ((0, '0'), (-1, 'last')):
          got = heads(cache[kind][layer, 0][-filled:])
          place = f'{key}/{kind[0]}{place}'
          parity(f'{name} {place}', got, z[f'out/{place}'], 1e-4)
      want = z[f'out/{key}/cfeats']
      parity(f'{name} {key}/cfeats', cache['frames'][0], want, 1e-4)
    begin += count
  outs = np.concatenate(outs)
  parity(f'{name} stream_enc, chunk by chunk', outs, z['out/stream_enc'], 1e-4)
  parity(f'{name} session_enc', outs, z['out/session_enc'], 1e-4)
  codes, _ = codebook.assign(jnp.asarray(outs), z['in/kmeans'])
  parity(f'{name} vq02', codes, z['out/vq02'], 0)


@each('linguistic')
def test_linguistic_from_the_waveform(path, parity):
  own = linguistic(path)
  z, name = own.golden, own.golden.name
  tails = {
    int(m[1]): k for k in z.keys if (m := re.fullmatch(r'out/tail(\d+)_enc', k))
  }
  heard = [len(z['in/wav']), *tails]
  wants = [z['out/stream_enc'], *(z[key] for key in tails.values())]
  names = ['stream_enc', *(key[4:] for key in tails.values())]
  x, counts = own.features(heard)
  x, counts = np.asarray(x), np.asarray(counts)
  lens = [own.chunk_lengths(samples) for samples in heard]
  if all(n == own.config.chunk for part in lens for n in part[:-1]):
    # All chunks at once, from our features and from the recorded ones.
    feats = z['out/stream_feat']
    padded, _ = garbage([*x, feats], 0)
    out = own.windowed(
      own.variables, padded, np.append(counts, len(feats)).astype(np.int32)
    )
    whole = out[-1, : len(feats)]
    parity(f'{name} stream_enc, all at once', whole, wants[0], 1e-4)
    ours = list(out[:-1])
  else:
    ours = [
      np.concatenate([o[own.config.overlap :] for o, _ in own.streamed(r, n)])
      for r, n in zip(x, lens)
    ]
  for key, got, count, want in zip(names, ours, counts, wants):
    parity(f'{name} {key}, from the waveform', got[:count], want, 5e-3)
  codes, _ = codebook.assign(ours[0][: counts[0]], z['in/kmeans'])
  parity(f'{name} vq02, from the waveform', codes, z['out/vq02'], 0)


@each('semantic')
def test_semantic_front_end(path, parity):
  z = fixtures.fixture(path)
  c = z.config['mel']
  sizes = dict(
    bands=c['n_mels'],
    fft=c['n_fft'],
    hop=c['hop'],
    sample_rate=c['sample_rate'],
  )
  filters = log_mel.mel_matrix(c['n_mels'], c['n_fft'], c['sample_rate'])
  parity(f'{z.name} mel_filters', filters.T, z['out/mel_filters'], 1e-6)
  names = [k[6:] for k in z.keys if k.startswith('in/wav')]
  waves, lengths = garbage([z[f'in/wav{n}'] for n in names])
  mel, counts = jax.jit(functools.partial(log_mel.log_mel, **sizes))(
    waves, lengths
  )
  for row, number in enumerate(names):
    got = mel[row, : counts[row]].T
    key = f'log_mel{number}'
    parity(f'{z.name} {key}', got, z[f'out/{key}'], 1e-4)


@each('semantic')
def test_semantic_network(path, parity):
  z = fixtures.fixture(path)
  config = fixtures.s3_config(z.config)
  params, table = s3_interop.encoder_params(z.state())
  model = s3.S3Encoder(config)

  @jax.jit
  def run(params, mel, lengths):
    (hidden, counts), kept = model.apply(
      {'params': params},
      mel,
      lengths,
      capture_intermediates=lambda m, _: isinstance(
        m, (s3.StridedConv, s3.Block)
      ),
      mutable=['intermediates'],
    )
    codes = s3.nearest_code(s3.l2_normalise(hidden), table)
    return hidden, counts, codes, kept['intermediates']

  mel, lengths = z['in/mel'].swapaxes(1, 2), z['in/mel_len']
  hidden, counts, codes, kept = run(params, mel, lengths)
  parity(f'{z.name} code_len', counts, z['out/code_len'], 0)
  halves = -(-lengths // config.first_stride)
  blocks = kept['blocks']['__call__'][0][0]
  found = {f'block{i}': x for i, x in enumerate(blocks)}
  for row in range(len(mel)):

    def check(key, got, want, count, tolerance=1e-4, row=row):
      label = f'{z.name} {key} row {row}'
      parity(label, got[row, :count], want[row, :count], tolerance)

    for key, count in (('conv1', halves[row]), ('conv2', counts[row])):
      want = z[f'out/{key}'].swapaxes(1, 2)
      check(key, kept[key]['__call__'][0], want, count)
    for key, got in {**found, 'hidden': hidden}.items():
      if f'out/{key}' in z:
        check(key, got, z[f'out/{key}'], counts[row])
    check('codes', codes, z['out/codes'], counts[row], 0)
  for key in z.keys:
    if match := re.fullmatch(r'out/codes_single(\d*)', key):
      row = int(match[1] or 1) - 1
      part = mel[row : row + 1, : lengths[row]]
      _, count, alone, _ = run(params, part, lengths[row : row + 1])
      label = f'{z.name} {key[4:]}, alone'
      parity(label, alone[:, : count[0]], z[key], 0)


@each('preprocess')
def test_preparation(path, parity):
  z = fixtures.fixture(path)
  trimming = fixtures.trimming(z.config)
  names = [k[3:] for k in z.keys if k.startswith('in/')]
  waves, lengths = garbage([z[f'in/{n}'] for n in names])
  trim = jax.jit(functools.partial(preparation.trim_silence, trimming=trimming))
  normal = jax.jit(preparation.normalise_energy)(waves, lengths)
  found = {
    'energy_norm': (normal, lengths),
    'trimmed': trim(normal, lengths),
    'trim_only': trim(waves, lengths),
  }
  for row, name in enumerate(names):
    for key, (got, counts) in found.items():
      want = z[f'out/{name}/{key}']
      label = f'{z.name} {name}/{key}'
      parity(label, got[row, : counts[row]], want, 1e-6)


@each('preprocess')
def test_packing(path, parity):
  z = fixtures.fixture(path)
  table = fixtures.packing(z.config)
  for case, want in json.loads(str(z['out/packing_json'])).items():
    ids = table.interleave(want['vq02'], want['vq06'])
    parity(f'{z.name} packing {case}: ids', ids, want['ids'], 0)
    text = table.to_audio_string(ids)
    equal = text == want['text']
    parity(f'{z.name} packing {case}: text', [equal], [True], 0)
    back = table.from_audio_string(want['text'])
    parity(f'{z.name} packing {case}: text → ids', back, want['ids'], 0)


@each('campplus')
def test_speaker_front_end(path, parity):
  z = fixtures.fixture(path)
  front = fixtures.speaker_front_end(z.config)
  wave = z['in/wav']
  got, _ = jax.jit(functools.partial(fbank.fbank, config=front))(
    wave[None], np.array([len(wave)])
  )
  parity(f'{z.name} fbank', got[0], z['out/fbank'], 2e-3)
  parity(f'{z.name} fbank, 99.9 % of it', got[0], z['out/fbank'], 5e-4, 0.999)
  feat = got[0] - got[0].mean(axis=0, keepdims=True)
  parity(f'{z.name} feat', feat, z['out/feat'], 2e-3)


@each('vocoder')
def test_vocoder_front_end(path, parity):
  z = fixtures.fixture(path)
  front = fixtures.vocoder_front_end(z.config)
  want = z['out/mel_basis']
  parity(f'{z.name} mel_basis', front.filters.T, want, 1e-6)
  waves, lengths = garbage([z['in/wav22'], z['in/wav22'][:9000]])
  mel, counts = jax.jit(
    functools.partial(vocoder_mel.vocoder_mel, config=front)
  )(waves, lengths)
  got, want = mel[0, : counts[0]].T, z['out/mel22']
  parity(f'{z.name} mel22', got, want, 1e-3)
  parity(f'{z.name} mel22, 99.9 % of it', got, want, 1e-4, 0.999)
