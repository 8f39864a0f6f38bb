"""The released tokenizer's files in small, written without torch or onnx."""

import collections
import io
import pickle
import zipfile

import numpy as np

from step_audio_jax.interop.tokenizer import paraformer as paraformer_interop
from step_audio_jax.interop.tokenizer import s3 as s3_interop
from step_audio_jax.models.tokenizer import paraformer
from step_audio_jax.models.tokenizer import s3

INSIDE = 'dengcunqin/speech_paraformer-online'
PARAFORMER = paraformer.ParaformerConfig(
  width=16, heads=2, mlp_width=24, layers=3, kernel=5
)
S3 = s3.S3Config(width=64, heads=1, layers=2, positions=20, codes=11)
_KINDS = {
  'float32': 'FloatStorage',
  'float16': 'HalfStorage',
  'bfloat16': 'BFloat16Storage',
  'int64': 'LongStorage',
}


def arrays(shapes, seed=0):
  """Random float32 arrays of these shapes."""
  rng = np.random.default_rng(seed)
  return {
    name: (rng.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)
    for name, shape in shapes.items()
  }


class _Named:
  """Pickles as the global `module.name`."""

  def __init__(self, module, name):
    self.module, self.name = module, name


def named(module, name):
  """Pickles as the global `module.name`."""
  return _Named(module, name)


class Build:
  """Pickles as something whose state is set afterwards."""

  def __init__(self, value, state):
    self.value, self.state = value, state


class Call:
  """Pickles as a call of any function: what a hostile file holds."""

  def __init__(self, module, name, *arguments):
    self.function, self.arguments = _Named(module, name), arguments


class _Writer(pickle._Pickler):
  """Writes what torch.save writes, of arrays."""

  dispatch = dict(pickle._Pickler.dispatch)

  def __init__(self, handle):
    super().__init__(handle, protocol=2)
    self.storages = {}

  def persistent_id(self, value):
    if isinstance(value, tuple) and value[:1] == ('storage',):
      return value
    return None

  def save_named(self, value):
    self.write(
      pickle.GLOBAL + f'{value.module}\n{value.name}\n'.encode('ascii')
    )

  dispatch[_Named] = save_named

  def save_array(self, value):
    key = str(len(self.storages))
    flat = np.array(value, order='C')
    self.storages[key] = flat.tobytes()
    kind = _Named('torch', _KINDS[value.dtype.name])
    strides = tuple(n // value.itemsize for n in flat.strides)
    storage = ('storage', kind, key, 'cpu', value.size)
    self.save_named(_Named('torch._utils', '_rebuild_tensor_v2'))
    hooks = collections.OrderedDict()
    self.save((storage, 0, tuple(value.shape), strides, False, hooks))
    self.write(pickle.REDUCE)

  dispatch[np.ndarray] = save_array

  def save_call(self, value):
    self.save_named(value.function)
    self.save(value.arguments)
    self.write(pickle.REDUCE)

  dispatch[Call] = save_call

  def save_build(self, value):
    self.save(value.value)
    self.save(value.state)
    self.write(pickle.BUILD)

  dispatch[Build] = save_build


def save_pt(path, tree):
  """A `.pt` file of dicts, arrays and `Call`s."""
  handle = io.BytesIO()
  writer = _Writer(handle)
  writer.dump(tree)
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('archive/data.pkl', handle.getvalue())
    archive.writestr('archive/byteorder', 'little')
    for key, raw in writer.storages.items():
      archive.writestr(f'archive/data/{key}', raw)
    archive.writestr('archive/version', '3\n')


def _varint(number):
  out = b''
  while number > 127:
    out += bytes([number & 127 | 128])
    number >>= 7
  return out + bytes([number])


def field(number, value):
  """One field of a protobuf message."""
  if isinstance(value, int):
    return _varint(number << 3) + _varint(value)
  value = value.encode() if isinstance(value, str) else value
  return _varint(number << 3 | 2) + _varint(len(value)) + value


def tensor(name, array, raw=True):
  """A TensorProto."""
  kinds = {'float32': 1, 'int64': 7, 'float16': 10}
  out = b''.join(field(1, n) for n in array.shape)
  out += field(2, kinds[array.dtype.name])
  data = array.tobytes()
  return out + field(8, name) + field(9 if raw else 4, data)


def node(name, kind, inputs, strides=None):
  """A NodeProto with one output named after it."""
  out = b''.join(field(1, i) for i in inputs) + field(2, f'{name}_out')
  out += field(3, name) + field(4, kind)
  if strides:
    packed = b''.join(map(_varint, strides))
    out += field(5, field(1, 'strides') + field(8, packed))
  return out


def onnx_parts(state, *, pieces=False, stride=2):
  """Nodes and initialisers as the released file has them.

  Matrices are transposed and called `onnx::MatMul_NNN`.
  """
  nodes, weights = [], []

  def constant(array, name=None):
    name = name or f'onnx::MatMul_{1519 + len(weights)}'
    raw = len(weights) % 3 != 2  # both ways in which floats are stored
    weights.append(tensor(name, np.ascontiguousarray(array), raw))
    return name

  for conv in ('conv1', 'conv2'):
    inputs = [
      constant(state[f'encoder.{conv}.{kind}'], f'encoders.{conv}.{kind}')
      for kind in ('weight', 'bias')
    ]
    nodes.append(node(f'/{conv}/Conv', 'Conv', ['x', *inputs], (stride,)))
  table = constant(
    state['encoder.positional_embedding'], 'encoders.positional_embedding'
  )
  nodes.append(node('/Slice', 'Slice', [table, 'n']))
  layers = len({n.split('.')[2] for n in state if '.blocks.' in n})
  for layer in range(layers):
    own = f'encoder.blocks.{layer}.'

    def dense(name, path, own=own, layer=layer):
      path = f'/blocks.{layer}/{path}'
      kernel = constant(state[f'{own}{name}.weight'].T)
      nodes.append(node(f'{path}/MatMul', 'MatMul', ['x', kernel]))
      if f'{own}{name}.bias' in state:
        bias = constant(state[f'{own}{name}.bias'])
        nodes.append(node(f'{path}/Add', 'Add', [bias, 'x']))

    def norm(name, own=own, layer=layer):
      path = f'/blocks.{layer}/{name}'
      scale, bias = (
        constant(state[f'{own}{name}.{kind}']) for kind in ('weight', 'bias')
      )
      if pieces:
        epsilon = constant(np.array(1e-5, np.float32))
        nodes.append(node(f'{path}/Add', 'Add', ['x', epsilon]))
        nodes.append(node(f'{path}/Mul', 'Mul', ['x', scale]))
        nodes.append(node(f'{path}/Add_1', 'Add', ['x', bias]))
      else:
        kind = 'LayerNormalization'
        nodes.append(node(f'{path}/{kind}', kind, ['x', scale, bias]))

    norm('attn_ln')
    factor = constant(np.array(64**-0.25, np.float32))
    nodes.append(node(f'/blocks.{layer}/attn/Mul', 'Mul', ['x', factor]))
    for name in ('query', 'key', 'value', 'out'):
      dense(f'attn.{name}', f'attn/{name}')
    norm('mlp_ln')
    for place in (0, 2):
      dense(f'mlp.{place}', f'mlp/mlp.{place}')
  book = '/quantizer/rq/model/layers.0/_codebook'
  two = constant(np.array(2, np.float32))
  nodes.append(node(f'{book}/Pow', 'Pow', ['x', two]))
  table = constant(state['quantizer._codebook.embed'].T)
  nodes.append(node(f'{book}/Pow_1', 'Pow', [table, two]))
  return nodes, weights


def save_onnx(path, state, **changes):
  """An ONNX file as the exporter writes it."""
  nodes, weights = onnx_parts(state, **changes)
  graph = b''.join(field(1, n) for n in nodes) + field(2, 'torch-jit-export')
  graph += b''.join(field(5, w) for w in weights)
  model = field(1, 8) + field(2, 'pytorch') + field(7, graph)
  path.write_bytes(model + field(8, field(2, 17)))


CONFIG = """\
model: ParaformerStreaming
frontend_conf:
    fs: 16000
    window: hamming
    n_mels: 80
    frame_length: 25
    frame_shift: 10
    lfr_m: 7
    lfr_n: 6
encoder_conf:
    output_size: {width}
    attention_heads: {heads}
    linear_units: {mlp_width}
    num_blocks: {layers}
    dropout_rate: 0.1
    input_layer: pe_online
    normalize_before: true
    kernel_size: {kernel}
    sanm_shfit: 0
    selfattention_layer_type: sanm
"""


def am_mvn(shift, scale):
  """Kaldi's text."""
  size = len(shift)
  own = [' '.join(f'{x:.8g}' for x in row) for row in (shift, scale)]
  return (
    f'<Nnet> \n<Splice> {size} {size} \n[ 0 ]\n'
    f'<AddShift> {size} {size} \n<LearnRateCoef> 0 [ {own[0]} ]\n'
    f'<Rescale> {size} {size} \n<LearnRateCoef> 0 [ {own[1]} ]\n</Nnet> \n'
  )


def write(folder, *, nested=False, **changes):
  """The whole folder; returns what was written into it."""
  inside = folder / INSIDE
  inside.mkdir(parents=True)
  one = arrays(paraformer_interop.shapes(PARAFORMER), 1)
  two = arrays(s3_interop.shapes(S3), 2)
  rng = np.random.default_rng(3)
  cmvn = rng.normal(-8, 1, 560), rng.uniform(0.1, 0.4, 560)
  centroids = rng.normal(size=(9, 16)).astype(np.float32)
  decoder = {'decoder.embed.0.weight': np.zeros((3, 2), np.float32)}
  tree = collections.OrderedDict({**one, **decoder})
  save_pt(inside / 'model.pt', {'state_dict': tree} if nested else tree)
  (inside / 'am.mvn').write_text(am_mvn(*cmvn))
  sizes = vars(PARAFORMER)
  (inside / 'config.yaml').write_text(CONFIG.format(**sizes))
  np.save(folder / 'linguistic_tokenizer.npy', centroids)
  save_onnx(folder / 'speech_tokenizer_v1.onnx', two, **changes)
  return {
    'encoder': one,
    'semantic': two,
    'cmvn': np.float32(cmvn),
    'centroids': centroids,
  }
