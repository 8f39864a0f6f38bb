"""Step-Audio-Tokenizer as released → this project's sealed tokenizer folder.

    FOLDER/linguistic_tokenizer.npy       centroids
    FOLDER/speech_tokenizer_v1.onnx       the semantic tokenizer
    FOLDER/**/{config.yaml, model.pt, am.mvn}     the Paraformer

Every array is checked by name and shape before anything is written, and no
code of the files is run (see `pickles`).
"""

import math
import os
import pathlib
import re
from typing import Any, Mapping

import numpy as np
import yaml

from step_audio_jax import errors
from step_audio_jax.audio.features import fbank
from step_audio_jax.interop.formats import checked
from step_audio_jax.interop.formats import onnx
from step_audio_jax.interop.formats import pickles
from step_audio_jax.interop.formats import state as state_lib
from step_audio_jax.interop.tokenizer import paraformer as paraformer_interop
from step_audio_jax.interop.tokenizer import s3 as s3_interop
from step_audio_jax.models.tokenizer import paraformer
from step_audio_jax.models.tokenizer import s3
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.speech import dual
from step_audio_jax.tokenizers.speech import linguistic
from step_audio_jax.tokenizers.speech import semantic

CENTROIDS = 'linguistic_tokenizer.npy'
SEMANTIC = 'speech_tokenizer_v1.onnx'
_PARTS = ('config.yaml', 'model.pt', 'am.mvn')
_HEAD_WIDTH = 64  # of the S3 family; the ONNX file does not say it
# `frontend_conf` → what the front end of this project computes.
_FRONT = {
  'fs': fbank.RELEASED.sample_rate,
  'window': fbank.RELEASED.window,
  'n_mels': fbank.RELEASED.bands,
  'frame_length': 25,
  'frame_shift': 10,
  'lfr_m': fbank.RELEASED.stack,
  'lfr_n': fbank.RELEASED.stride,
}
# `encoder_conf` → the only value that is implemented.
_FIXED = {
  'input_layer': 'pe_online',
  'selfattention_layer_type': 'sanm',
  'normalize_before': True,
  'sanm_shfit': 0,
}
_BLOCK = re.compile(
  r'(?:^|/)blocks\.(\d+)/'
  r'(?:(attn)/(query|key|value|out)|(mlp)/mlp\.(0|2)|(attn_ln|mlp_ln))'
  r'/(MatMul|Add|Mul|Add_1|LayerNormalization)$'
)


def is_folder(path: str | os.PathLike) -> bool:
  """Whether this is the released tokenizer, by its files."""
  path = files.path(path)
  return any(files.is_file(path / name) for name in (CENTROIDS, SEMANTIC))


def import_folder(
  source: pathlib.Path,
  target: pathlib.Path,
  *,
  dry_run: bool = False,
  allow_nonfinite: bool = False,
) -> dict[str, Any]:
  """Converts the released folder once.

  Args:
    source: As downloaded.
    target: Folder of `tokenizers.speech.dual`; must not exist.
    dry_run: Check everything, write nothing.
    allow_nonfinite: Take numbers that are not finite as they are.

  Returns:
    What was written.

  Raises:
    UserError: A file is missing, broken or another one.
  """
  tokenizer = read(source, allow_nonfinite)
  if not dry_run:
    with files.atomic_folder(target, last=dual.SEAL) as temporary:
      tokenizer.save(temporary)
  shapes = (
    *paraformer_interop.shapes(tokenizer.linguistic.config).values(),
    *s3_interop.shapes(tokenizer.semantic.config).values(),
  )
  return {
    'kind': 'tokenizer',
    'linguistic_codes': tokenizer.linguistic.size,
    'semantic_codes': tokenizer.semantic.size,
    'parameters': sum(map(math.prod, shapes)),
  }


def read(
  source: str | os.PathLike, allow_nonfinite: bool = False
) -> dual.DualTokenizer:
  """The released folder as a tokenizer.

  Raises:
    UserError: A file is missing, broken or another one.
  """
  source = files.path(source)
  return dual.DualTokenizer(
    _linguistic(source, allow_nonfinite),
    read_semantic(source / SEMANTIC, allow_nonfinite),
  )


def _linguistic(source, allow):
  folder = _paraformer_folder(source)
  path = source / CENTROIDS
  try:
    with files.open_read(path) as handle:
      centroids = np.load(handle, allow_pickle=False)
  except (OSError, ValueError, EOFError) as error:
    raise errors.UserError(
      f'{path}: cannot be read as an array: {error}.'
    ) from error
  config = read_config(folder / 'config.yaml')
  wanted = (len(centroids) if centroids.ndim else 0, config.width)
  if centroids.shape != wanted or centroids.dtype.kind != 'f':
    raise errors.UserError(
      f'{path}: found {centroids.shape} of {centroids.dtype}, expected '
      f'(codes, {config.width}) of float32.'
    )
  centroids = checked.read_checked(centroids, 'centroids', str(path), allow)
  shift, scale = read_cmvn(folder / 'am.mvn')
  for name, row in (('<AddShift>', shift), ('<Rescale>', scale)):
    if row.shape != (config.input_size,):
      raise errors.UserError(
        f'{folder / "am.mvn"}: {name}: found {row.size} numbers, expected '
        f'{config.input_size}.'
      )
  path = folder / 'model.pt'
  state = state_lib.State(
    pickles.Checkpoint(path),
    paraformer_interop.KIND,
    paraformer_interop.ROOTS,
    where=str(path),
    allow=allow,
  )
  found = {n: state.shape(n) for n in state if n.startswith('encoder.')}
  _same(path, found, paraformer_interop.shapes(config))
  params = paraformer_interop.encoder_params(state)
  return linguistic.LinguisticTokenizer(
    config, params, {'shift': shift, 'scale': scale}, centroids
  )


def _paraformer_folder(source):
  found = sorted({path.parent for path in files.glob(source, '**/am.mvn')})
  if len(found) != 1:
    raise errors.UserError(
      f'{source}: found {len(found)} folders with am.mvn, expected one (the '
      'Paraformer).'
    )
  for name in _PARTS:
    if not files.is_file(found[0] / name):
      raise errors.UserError(f'{found[0] / name}: no such file.')
  return found[0]


def read_config(path: pathlib.Path) -> paraformer.ParaformerConfig:
  """The encoder's shape from FunASR's `config.yaml`.

  Raises:
    UserError: It is no such file, or asks for another network or front end.
  """
  try:
    tree = yaml.safe_load(files.read_text(path))
  except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
    line = str(error).replace('\n', ' ')
    raise errors.UserError(f'{path}: cannot be read: {line}.') from error
  tree = tree if isinstance(tree, dict) else {}
  for part, wanted in (('frontend_conf', _FRONT), ('encoder_conf', _FIXED)):
    given = tree.get(part)
    if not isinstance(given, dict):
      raise errors.UserError(f'{path}: found no {part}.')
    for name, value in wanted.items():
      if given.get(name, value) != value:
        raise errors.UserError(
          f'{path}: {part}.{name}: found {given[name]!r}, expected {value!r}.'
        )
  names = {
    'output_size': 'width',
    'attention_heads': 'heads',
    'linear_units': 'mlp_width',
    'num_blocks': 'layers',
    'kernel_size': 'kernel',
  }
  sizes = {}
  for theirs, ours in names.items():
    sizes[ours] = tree['encoder_conf'].get(theirs)
    if type(sizes[ours]) is not int:
      raise errors.UserError(
        f'{path}: encoder_conf.{theirs}: found {sizes[ours]!r}, expected a '
        'whole number.'
      )
  return paraformer.ParaformerConfig(**sizes)


def read_cmvn(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
  """Negated means and inverse deviations of Kaldi's text format.

  Raises:
    UserError: It is no such file.
  """
  try:
    text = files.read_text(path, encoding='ascii')
  except (OSError, UnicodeDecodeError) as error:
    raise errors.UserError(f'{path}: cannot be read: {error}.') from error
  rows = []
  for name in ('<AddShift>', '<Rescale>'):
    # `<AddShift> 560 560` and, behind a learning rate, `[ numbers ]`.
    match = re.search(rf'{name}[^\[]*\[([^\]]*)\]', text)
    try:
      rows.append(np.array(match[1].split(), np.float32))
    except (TypeError, ValueError) as error:
      raise errors.UserError(
        f'{path}: found no numbers in brackets behind {name}.'
      ) from error
    if not np.isfinite(rows[-1]).all():
      raise errors.UserError(f'{path}: {name}: numbers that are not finite.')
  return rows[0], rows[1]


def read_semantic(
  path: pathlib.Path, allow_nonfinite: bool = False
) -> semantic.SemanticTokenizer:
  """The semantic tokenizer from its ONNX file.

  Args:
    path: Of the file.
    allow_nonfinite: Take numbers that are not finite as they are.

  Raises:
    UserError: The file is broken, or holds another network.
  """
  nodes, constants = onnx.read(path)
  state = _semantic_state(path, nodes, constants)
  need = ('encoder.conv1.weight', 'encoder.positional_embedding')
  for name in (*need, 'quantizer._codebook.embed'):
    if name not in state or state[name].ndim < 2:
      raise errors.UserError(
        f'{path}: found no {name}, expected the network '
        'speech_tokenizer_v1 at 25 Hz.'
      )
  width, bands = state['encoder.conv1.weight'].shape[:2]
  if width % _HEAD_WIDTH:
    raise errors.UserError(
      f'{path}: encoder.conv1.weight: found width {width}, expected a multiple '
      f'of {_HEAD_WIDTH}, the width of a head.'
    )
  config = s3.S3Config(
    bands=bands,
    width=width,
    heads=width // _HEAD_WIDTH,
    layers=1
    + max((int(n.split('.')[2]) for n in state if '.blocks.' in n), default=0),
    positions=len(state['encoder.positional_embedding']),
    codes=len(state['quantizer._codebook.embed']),
  )
  found = {name: value.shape for name, value in state.items()}
  _same(path, found, s3_interop.shapes(config))
  state = state_lib.State(
    state,
    s3_interop.KIND,
    s3_interop.ROOTS,
    where=str(path),
    allow=allow_nonfinite,
  )
  params, table = s3_interop.encoder_params(state)
  return semantic.SemanticTokenizer(config, params, table)


def _semantic_state(path, nodes, constants) -> dict[str, np.ndarray]:
  """Arrays under the names of `s3tokenizer`'s state dict.

  Matrices have numbers for names in the file, so each array is called after
  the node that reads it.
  """
  state, convolutions = {}, 0
  for node in nodes:
    arrays = [constants.get(name) for name in node.inputs]
    weights = [a for a in arrays if a is not None and a.dtype.kind == 'f']
    for name, array in zip(node.inputs, arrays):
      if name.endswith('positional_embedding') and array is not None:
        state['encoder.positional_embedding'] = array
    if node.kind == 'Conv':
      convolutions += 1
      if node.strides != (2,):
        raise errors.UserError(
          f'{path}: {node.name or "Conv"}: found strides {node.strides}, '
          'expected (2,): this is not the 25 Hz tokenizer.'
        )
      for kind, array in zip(('weight', 'bias'), weights):
        state[f'encoder.conv{convolutions}.{kind}'] = array
    elif node.name.endswith('/_codebook/Pow_1') and weights:
      state['quantizer._codebook.embed'] = weights[0].T
    elif (match := _BLOCK.search(node.name)) and weights:
      number, attn, own, mlp, place, norm, kind = match.groups()
      middle = f'{attn}.{own}' if attn else f'{mlp}.{place}' if mlp else norm
      name = f'encoder.blocks.{number}.{middle}'
      if kind == 'LayerNormalization':
        for ending, array in zip(('weight', 'bias'), weights):
          state[f'{name}.{ending}'] = array
      elif kind == 'MatMul':
        state[f'{name}.weight'] = weights[0].T
      elif kind == 'Mul' and norm:
        state[f'{name}.weight'] = weights[0]
      # The pieces of an exported norm add ε first (`Add`), then the bias.
      elif kind == ('Add_1' if norm else 'Add'):
        state[f'{name}.bias'] = weights[0]
  return state


def _same(
  path: pathlib.Path,
  found: Mapping[str, tuple[int, ...]],
  wanted: Mapping[str, tuple[int, ...]],
) -> None:
  """Refuses the first array that is missing, unknown or of another shape."""
  for name in sorted(found.keys() | wanted.keys()):
    pair = found.get(name, 'nothing'), wanted.get(name, 'nothing')
    if pair[0] != pair[1]:
      raise errors.UserError(
        f'{path}: {name}: found {pair[0]}, expected {pair[1]}.'
      )
