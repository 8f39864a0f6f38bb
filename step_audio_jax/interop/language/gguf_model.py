"""A GGUF file as the Hugging Face folder that it was made from.

Its values become a `config.json`, its tensors get their old names, its tables
of tokens become a tokenizer again (`gguf_tokenizer`); from there on it is
imported as any folder. Nothing that the file says of itself is believed before
the shapes of its tensors say the same.
"""

import contextlib
import math
import pathlib
import tempfile
from typing import Any, Iterator, Mapping

import numpy as np

from step_audio_jax import errors
from step_audio_jax.interop.formats import gguf_files
from step_audio_jax.interop.language import configs
from step_audio_jax.interop.language import gguf_tokenizer
from step_audio_jax.interop.language import weights
from step_audio_jax.storage import files
from step_audio_jax.storage import lazy

FAMILIES = {
  'llama': configs.LLAMA,
  'qwen2': configs.QWEN2,
  'qwen3': configs.QWEN3,
}
# Theirs, behind `model.layers.N.` → the file's, behind `blk.N.`.
_LAYER = {
  'input_layernorm': 'attn_norm',
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'self_attn.q_norm': 'attn_q_norm',
  'self_attn.k_norm': 'attn_k_norm',
  'post_attention_layernorm': 'ffn_norm',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
}
_ROOT = {
  weights.EMBEDDING: 'token_embd.weight',
  'model.norm.weight': 'output_norm.weight',
  weights.HEAD: 'output.weight',
}
_TURNS = 'rope_freqs.weight'
# llama3's ramp is published with these alone.
_LOW, _HIGH, _TRAINED = 1.0, 4.0, 8192


@contextlib.contextmanager
def opened_as_folder(
  path: pathlib.Path,
) -> Iterator[tuple[pathlib.Path, dict[str, Any]]]:
  """A temporary folder with all but weights, and the weights, unread.

  Args:
    path: The file.

  Raises:
    UserError: It is broken, contradicts itself, or is a model of another kind.
  """
  file = gguf_files.read(path)
  reader = _Reader(file)
  config = reader.config()
  tensors = reader.named(config)
  with tempfile.TemporaryDirectory() as name:
    folder = files.path(name)
    ids = gguf_tokenizer.write(file, folder, config['vocab_size'])
    files.write_json(folder / 'config.json', {**config, **ids})
    yield folder, tensors


class _Reader:
  """Values of one file, by the names that its architecture gives them."""

  def __init__(self, file: gguf_files.GgufFile):
    self._file = file
    self.architecture = file.get('general.architecture', str)
    if self.architecture not in FAMILIES:
      raise errors.UserError(
        f'{file.path}: general.architecture is {self.architecture!r}, expected '
        f'one of {", ".join(FAMILIES)}.'
      )
    parts = file.get('split.count', int, 1)
    if parts not in (0, 1):
      raise errors.UserError(
        f'{file.path}: split.count is {parts}, expected a whole model in one '
        'file; join them with `llama-gguf-split --merge`.'
      )

  def config(self) -> dict[str, Any]:
    """The `config.json`, without ids."""
    for name in ('expert_count', 'attention.sliding_window'):
      if self._get(name, int, 0):
        raise self._refusal(name, self._get(name, int), 0)
    width, heads = self._count('embedding_length'), self._heads('head_count')
    kv_heads = self._heads('head_count_kv', heads)
    if heads % kv_heads:
      raise self._refusal(
        'attention.head_count_kv', kv_heads, f'a divisor of {heads} heads'
      )
    if 'attention.key_length' in self:
      head_dim = self._count('attention.key_length')
    elif width % heads:
      raise self._refusal(
        'attention.head_count', heads, f'a divisor of {width}'
      )
    else:
      head_dim = width // heads
    for name in ('attention.value_length', 'rope.dimension_count'):
      if self._count(name, head_dim) != head_dim:
        raise self._refusal(name, self._count(name), f'{head_dim}, a head')
    rows = self._shape(_ROOT[weights.EMBEDDING], 2)[0]
    if self._count('vocab_size', rows) != rows:
      raise self._refusal(
        'vocab_size',
        self._count('vocab_size'),
        f'{rows}, the rows of token_embd.weight',
      )
    return {
      'architectures': [FAMILIES[self.architecture]],
      'model_type': self.architecture,
      'vocab_size': rows,
      'hidden_size': width,
      'num_hidden_layers': self._count('block_count'),
      'num_attention_heads': heads,
      'num_key_value_heads': kv_heads,
      'head_dim': head_dim,
      'intermediate_size': self._same('feed_forward_length'),
      'hidden_act': 'silu',
      'rms_norm_eps': self._number('attention.layer_norm_rms_epsilon'),
      'max_position_embeddings': self._count('context_length', 2048),
      'rope_theta': self._number('rope.freq_base', 10_000.0),
      'rope_scaling': self._scaling(head_dim),
      'tie_word_embeddings': _ROOT[weights.HEAD] not in self._file.tensors,
      'torch_dtype': 'float32',
    }

  def named(self, config: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors by their names in a folder, each of the shape that it must have.

    Raises:
      UserError: One is missing, too many, or of another shape.
    """
    model = configs.read(config, str(self._file.path))
    left = dict(self._file.tensors)
    left.pop(_TURNS, None)
    out = {}
    told = (
      f'embedding_length {model.width}, head_count {model.heads}, '
      f'head_count_kv {model.kv_heads}, a head of {model.head_dim}, '
      f'feed_forward_length {model.mlp_width}'
    )
    for entry in weights.entries(model):
      for layer in range(model.layers if entry.layered else 1):
        name = _name_there(entry.name, layer)
        tensor = left.pop(name, None)
        if tensor is None:
          raise errors.UserError(
            f'{self._file.path}: tensor {name!r} is missing, expected one of '
            f'shape {entry.matrix} ({self.architecture}.block_count is '
            f'{model.layers}).'
          )
        if tensor.shape != entry.matrix:
          raise errors.UserError(
            f'{self._file.path}: tensor {name!r} has shape {tensor.shape}, '
            f'expected {entry.matrix} by its {told}.'
          )
        if self.architecture == 'llama' and entry.path.startswith(
          ('blocks/attention/q/', 'blocks/attention/k/')
        ):
          tensor = InHalves(tensor, model.head_dim)
        out[entry.name.format(layer)] = tensor
    for name in left:
      raise errors.UserError(
        f'{self._file.path}: tensor {name!r} is unexpected; no '
        f'{self.architecture} of this configuration has it.'
      )
    return out

  def _scaling(self, head_dim) -> dict[str, Any] | None:
    """`rope_scaling` of a folder."""
    turns = self._file.tensors.get(_TURNS)
    kind = self._get('rope.scaling.type', str, 'none')
    old = self._number('rope.scale_linear', 1.0)
    if kind == 'none' and old != 1.0:
      return {'rope_type': 'linear', 'factor': old}
    if turns is not None and kind in ('none', 'llama3'):
      return self._llama3(turns, head_dim)
    if kind == 'none':
      return None
    if kind not in ('linear', 'yarn') or turns is not None:
      raise self._refusal('rope.scaling.type', kind, 'none, linear or yarn')
    out = {'rope_type': kind, 'factor': self._number('rope.scaling.factor')}
    if kind == 'yarn':
      if self._number('rope.scaling.attn_factor', 1.0) != 1.0:
        name = 'rope.scaling.attn_factor'
        raise self._refusal(name, self._number(name), 1.0)
      name = 'original_context_length'
      out['original_max_position_embeddings'] = self._count(
        f'rope.scaling.{name}'
      )
      for theirs in ('beta_fast', 'beta_slow'):
        if f'rope.scaling.yarn_{theirs}' in self:
          out[theirs] = self._number(f'rope.scaling.yarn_{theirs}')
    return out

  def _llama3(self, turns, head_dim) -> dict[str, Any] | None:
    """Which ramp made the divisors of the frequencies that a file holds."""
    if turns.shape != (head_dim // 2,):
      raise errors.UserError(
        f'{self._file.path}: tensor {_TURNS!r} has shape {turns.shape}, '
        f'expected ({head_dim // 2},), half a head.'
      )
    found = np.asarray(turns)
    if np.array_equal(found, np.ones_like(found)):
      return None
    trained = self._count('rope.scaling.original_context_length', _TRAINED)
    factor = float(found.max())
    theta = self._number('rope.freq_base', 10_000.0)
    waves = 2 * math.pi * theta ** (np.arange(0, head_dim, 2) / head_dim)
    ramp = (trained / waves - _LOW) / (_HIGH - _LOW)
    with np.errstate(all='ignore'):
      wanted = 1 / ((1 - np.clip(ramp, 0, 1)) / factor + np.clip(ramp, 0, 1))
      same = np.allclose(found, wanted, rtol=1e-4, atol=0)
    if not same or not math.isfinite(factor) or factor < 1:
      raise errors.UserError(
        f'{self._file.path}: tensor {_TURNS!r} stretches positions in a way of '
        f'its own, expected that of Llama 3 ({_LOW:g} to {_HIGH:g} turns over '
        f'{trained} tokens).'
      )
    return {
      'rope_type': 'llama3',
      'factor': factor,
      'low_freq_factor': _LOW,
      'high_freq_factor': _HIGH,
      'original_max_position_embeddings': trained,
    }

  def __contains__(self, name: str) -> bool:
    return f'{self.architecture}.{name}' in self._file.values

  def _get(self, name, kind, default=None):
    return self._file.get(f'{self.architecture}.{name}', kind, default)

  def _number(self, name, default=None) -> float:
    value = self._get(name, float, default)
    if value is None or not math.isfinite(value) or value <= 0:
      raise self._refusal(name, value, 'a number above 0')
    return float(str(np.float32(value)))  # 1e-05 was meant, not 9.9999997e-06

  def _count(self, name, default=None) -> int:
    value = self._get(name, int, default)
    if value is None or value < 1:
      raise self._refusal(name, value, 'a whole number above 0')
    return value

  def _heads(self, name, default=None) -> int:
    return self._same(f'attention.{name}', default)

  def _same(self, name, default=None) -> int:
    """A count that a file may give for each layer."""
    value = self._file.values.get(f'{self.architecture}.{name}')
    if not isinstance(value, np.ndarray) or value.dtype.kind not in 'iu':
      return self._count(name, default)
    different = sorted(set(value.tolist()))
    if len(different) != 1 or different[0] < 1:
      raise self._refusal(name, different, 'one number for all layers')
    return int(different[0])

  def _shape(self, name, axes) -> tuple[int, ...]:
    tensor = self._file.tensors.get(name)
    if tensor is None or len(tensor.shape) != axes:
      raise errors.UserError(
        f'{self._file.path}: tensor {name!r} is '
        f'{"missing" if tensor is None else f"of shape {tensor.shape}"}, '
        f'expected one of {axes} axes.'
      )
    return tensor.shape

  def _refusal(self, name, found, expected) -> errors.UserError:
    return errors.UserError(
      f'{self._file.path}: {self.architecture}.{name} is {found!r}, expected '
      f'{expected}.'
    )


class InHalves(lazy.LazyArray):
  """Rows of q or k whose rotary pairs lie in the two halves of a head.

  In files of the architecture `llama` the two rows of a pair are neighbours;
  here, as in folders, they are half a head apart.
  """

  def __init__(self, array: Any, head_dim: int):
    """Puts back the rows of `array`, whole heads of `head_dim` rows."""
    self._array, self._dim = array, head_dim
    self.shape, self.dtype = tuple(array.shape), np.dtype(array.dtype)
    self.file = array.file

  def read(self, spans):
    (start, stop), *rest = spans
    low, high = start // self._dim, -(-stop // self._dim)
    rows = slice(low * self._dim, high * self._dim)
    block = self._array[(rows, *lazy.slices(rest))]
    pairs = block.reshape(high - low, self._dim // 2, 2, *block.shape[1:])
    whole = pairs.swapaxes(1, 2).reshape(block.shape)
    first = start - low * self._dim
    return whole[first : first + stop - start].copy()


def _name_there(name: str, layer: int) -> str:
  """A folder's name of a tensor → the file's."""
  if name in _ROOT:
    return _ROOT[name]
  inner = name.removeprefix('model.layers.{}.')
  part, _, kind = inner.rpartition('.')
  return f'blk.{layer}.{_LAYER[part]}.{kind}'
