"""A voice of Piper's that no network stands behind."""

import json

import numpy as np

from data_pipelines.synthesis.voices import piper
from data_pipelines.synthesis.voices import sources
from step_audio_jax.storage import wire

INPUTS = ('input', 'input_lengths', 'scales')
PHONEMES = "_^$ !',-.:;?abdefhijklmnopstuvwzæðŋɐɑɔəɚɛɜɡɪɹɾʃʊʌʒˈˌːθᵻ"
FRAME = 64  # samples


def node(kind, sources, result):
  made = b''.join(wire.field(1, s) for s in sources) + wire.field(2, result)
  return wire.field(1, made + wire.field(3, result) + wire.field(4, kind))


def info(name, kind, size=None):
  """A ValueInfoProto: a vector of a kind of numbers, of a size or of any."""
  size = wire.field(1, size) if size else wire.field(2, f'{name}_n')
  shape = wire.field(1, size)
  tensor = wire.field(1, kind) + wire.field(2, shape)
  return wire.field(1, name) + wire.field(2, wire.field(1, tensor))


def onnx(inputs=INPUTS, rows=256, metadata=()):
  """output = noise + noise of another node + scales; lengths = ⌈scales⌉."""
  graph = node('RandomNormalLike', ['scales'], 'a')
  graph += node('RandomNormalLike', ['a'], 'b')
  graph += node('Add', ['a', 'b'], 'c') + node('Add', ['c', 'scales'], 'output')
  graph += node('Ceil', ['scales'], 'frames')
  graph += node('Gather', ['emb.weight', 'input'], 'embedded')
  table = np.zeros((rows, 2), np.float32)
  weight = b''.join(wire.field(1, n) for n in table.shape) + wire.field(2, 1)
  weight += wire.field(8, 'emb.weight') + wire.field(9, table.tobytes())
  graph += wire.field(2, 'main') + wire.field(5, weight)
  for name in inputs:
    graph += wire.field(11, info(name, 1 if name == 'scales' else 7))
  graph += wire.field(12, info('output', 1))
  model = wire.field(1, 8) + wire.field(7, graph)
  model += wire.field(8, wire.field(2, 15))
  for key, value in metadata:
    model += wire.field(14, wire.field(1, key) + wire.field(2, value))
  return model


def config(**changes):
  return {
    'dataset': 'tiny',
    'audio': {'sample_rate': 22050},
    'espeak': {'voice': 'en-us'},
    'inference': {'noise_scale': 0.5, 'length_scale': 2, 'noise_w': 0.25},
    'num_speakers': 1,
    'phoneme_id_map': {p: [k] for k, p in enumerate(PHONEMES)},
    **changes,
  }


def write(folder, name='tiny.onnx', model=None, **changes):
  """A voice's files; returns the model's path."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / name).write_bytes(onnx() if model is None else model)
  (folder / f'{name}.json').write_text(json.dumps(config(**changes)))
  return folder / name


class Session:
  """Says the noise, two frames an id at rate 1; `fed` is what it was given."""

  def __init__(self):
    self.fed = []

  def run(self, names, feed):
    assert names is None
    self.fed.append(feed)
    ids, length = feed['input'], feed['scales'][1]
    assert feed['input_lengths'].tolist() == [ids.shape[1]]
    frames = np.full((1, 1, ids.shape[1]), np.ceil(length), np.float32)
    count = int(frames.sum()) * FRAME
    if count > len(feed['noise_1']):
      raise RuntimeError('too little noise')
    return [0.1 * feed['noise_1'][:count].reshape(1, 1, 1, -1), frames]


def voice(folder, **changes):
  """A voice with `Session` behind it."""
  source = sources.find(str(write(folder, **changes)))
  loaded = piper.load(source)
  fields = {k: getattr(loaded, k) for k in ('noises', 'lengths')}
  return piper.Piper(source, loaded.config, session=Session(), **fields)
