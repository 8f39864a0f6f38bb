"""ONNX graphs whose noise comes from outside, so that it can be repeated.

A graph draws the noise of its sampling itself (`RandomNormalLike`), from a
state that goes on from call to call: the same text never sounds the same
twice. Here each such node is replaced by an input, a long vector of which the
node's shape takes what it needs from the front. The lengths of phonemes, which
a graph keeps for itself, become an output.
"""

import dataclasses

from step_audio_jax import errors
from step_audio_jax.storage import files
from step_audio_jax.storage import wire

_FLOAT, _INT64 = 1, 7  # TensorProto.DataType
_NOISE = 'RandomNormalLike'


@dataclasses.dataclass(frozen=True)
class Graph:
  """A graph as it is run.

  Attributes:
    raw: The ONNX file, changed.
    inputs: Names of the inputs that it had.
    noises: Names of the inputs that noise goes into, float32 (n,).
    lengths: Name of the output with the frames of each phoneme, if it has one.
    rows: Rows of the first embedding, 0 if none was found.
    widths: Last size of each input that states it as a number.
    metadata: What its exporter wrote of it.
  """

  raw: bytes
  inputs: tuple[str, ...]
  noises: tuple[str, ...]
  lengths: str | None
  rows: int
  widths: dict[str, int]
  metadata: dict[str, str]


def read(path: files.Path, lengths: str = 'Ceil') -> Graph:
  """Reads a model and lets its noise come from outside.

  Args:
    path: Of the `.onnx`.
    lengths: Kind of the one node that makes the lengths of phonemes whole.

  Raises:
    UserError: No such file, or it is cut or no ONNX file.
  """
  with files.opened(path) as handle:
    raw = handle.read()
  try:
    return _changed(memoryview(raw), lengths)
  except (IndexError, TypeError, ValueError) as error:
    raise errors.UserError(
      f'{path}: not a whole ONNX file: {error}.'
    ) from error


def _changed(raw: memoryview, tells: str) -> Graph:
  out, metadata, found = [], {}, None
  for number, value in wire.fields(raw):
    if number == 7:
      found = _graph(value, tells)
      value = found.raw
    elif number == 14:
      pair = {n: wire.text(v) for n, v in wire.fields(value)}
      metadata[pair.get(1, '')] = pair.get(2, '')
    out.append(wire.field(number, value))
  if found is None:
    raise ValueError('no graph in it')
  return dataclasses.replace(found, raw=b''.join(out), metadata=metadata)


def _graph(graph: memoryview, tells: str) -> Graph:
  out, inputs, held, noises, lengths, rows = [], [], [], [], [], []
  gathered, widths = {}, {}
  for number, value in wire.fields(graph):
    if number == 1:
      kind, sources, results = _node(value)
      if kind == tells:
        lengths.append(results[0])
      if kind == 'Gather' and len(sources) == 2:
        gathered.setdefault(sources[0], len(gathered))
      if kind == _NOISE:
        noises.append(f'noise_{len(noises)}')
        out += _taken(noises[-1], sources[0], results[0])
        continue
    elif number == 5:
      name, shape = _shape(value)
      held.append(name)
      if len(shape) == 2:
        rows.append((name, shape[0]))
    elif number == 11:
      inputs.append(next(wire.text(v) for n, v in wire.fields(value) if n == 1))
      if width := _width(value):
        widths[inputs[-1]] = width
    out.append(wire.field(number, value))
  if noises:
    out += [_integers('noise_start', 0), _integers('noise_vector', 1)]
  out += [wire.field(11, _vector(name)) for name in noises]
  length = lengths[0] if len(lengths) == 1 else None
  if length:
    out.append(wire.field(12, wire.field(1, length)))
  tables = [(gathered[n], count) for n, count in rows if n in gathered]
  return Graph(
    b''.join(out),
    tuple(name for name in inputs if name not in held),
    tuple(noises),
    length,
    min(tables)[1] if tables else 0,
    widths,
    {},
  )


def _node(data: memoryview) -> tuple[str, list[str], list[str]]:
  """Kind, inputs and outputs of a NodeProto."""
  kind, sources, results = '', [], []
  for number, value in wire.fields(data):
    if number == 1:
      sources.append(wire.text(value))
    elif number == 2:
      results.append(wire.text(value))
    elif number == 4:
      kind = wire.text(value)
  return kind, sources, results


def _shape(data: memoryview) -> tuple[str, list[int]]:
  """Name and shape of a TensorProto."""
  name, shape = '', []
  for number, value in wire.fields(data):
    if number == 1:
      shape += wire.integers(value)
    elif number == 8:
      name = wire.text(value)
  return name, shape


def _width(data: memoryview) -> int:
  """Last size of a ValueInfoProto's tensor; 0 where it is no number."""
  for number in (2, 1, 2):  # type, of a tensor, its shape
    data = next((v for n, v in wire.fields(data) if n == number), b'')
  sizes = [size for n, size in wire.fields(data) if n == 1]
  found = dict(wire.fields(sizes[-1])) if sizes else {}
  return int(found.get(1, 0))


def _made(kind: str, sources: list[str], result: str) -> bytes:
  """A field with a NodeProto that has no attributes."""
  node = b''.join(wire.field(1, source) for source in sources)
  node += wire.field(2, result) + wire.field(3, result) + wire.field(4, kind)
  return wire.field(1, node)


def _taken(noise: str, like: str, result: str) -> list[bytes]:
  """Nodes: as much from the front of `noise` as `like` has, in its shape."""
  shape, size, stop, part = (
    f'{noise}_{what}' for what in ('shape', 'size', 'stop', 'part')
  )
  return [
    _made('Shape', [like], shape),
    _made('Size', [like], size),
    _made('Reshape', [size, 'noise_vector'], stop),
    _made('Slice', [noise, 'noise_start', stop], part),
    _made('Reshape', [part, shape], result),
  ]


def _integers(name: str, value: int) -> bytes:
  """A field with a constant, int64 (1,)."""
  raw = value.to_bytes(8, 'little')
  tensor = wire.field(1, 1) + wire.field(2, _INT64) + wire.field(8, name)
  return wire.field(5, tensor + wire.field(9, raw))


def _vector(name: str) -> bytes:
  """A ValueInfoProto: float32 (n,)."""
  dimension = wire.field(1, wire.field(2, f'{name}_count'))
  tensor = wire.field(1, _FLOAT) + wire.field(2, dimension)
  return wire.field(1, name) + wire.field(2, wire.field(1, tensor))
