"""Low-rank adapters around any objective (Hu et al., arXiv 2106.09685).

    W' = W + alpha / rank * A B,    A ~ N(0, 1 / fan_in),  B = 0

Only A and B are parameters; W lies in the collection `base`, which takes no
gradient and no optimizer state. W' is formed before the objective sees it, in
the sharding of W, so this works for any model on any mesh. Models whose kernels
are those of `kernels.projections` can have `factored` adapters instead, which
cost a third less: the gradient of W' is not formed. `init_from` fills
`base` from the `params` of a run or of an open model.

Axes: L layers, r rank; `in` and `out` are the axes of a kernel.
"""

import dataclasses
import math
import re
from typing import Any, Mapping, Sequence

from flax import linen as nn
from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors
from step_audio_jax import settings
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.kernels import projections
from step_audio_jax.storage import lazy
from step_audio_jax.training.objectives import objectives

# Axes of one side of a kernel that stand for one dimension of its matrix.
_HEADS = ('heads', 'kv_heads')


@dataclasses.dataclass(frozen=True)
class Lora:
  """An objective whose parameters stay, but for low-rank adapters.

  Attributes:
    objective: What is minimised.
    rank: r.
    alpha: Scale of the adapters is alpha / rank.
    targets: Pattern of the paths that get an adapter (searched in
      'transformer/blocks/attention/q/kernel').
    whole: Pattern of the paths that are trained in full instead, such as
      'embedding|head' where speech rows are new; '' for none.
    base_dtype: Of the parameters that stay; bfloat16 halves their memory.
    text_rows: Whether text rows of tables in `whole` are trained; else only
      control rows and those of speech are, and what reads and writes text stays
      bit for bit. The objective then has a `vocabulary`.
    factored: Whether adapters are multiplied beside their kernels.
  """

  objective: objectives.Objective
  rank: int = 16
  alpha: float = 32.0
  targets: str = r'transformer/blocks/attention/(q|k|v|out)/kernel$'
  whole: str = ''
  base_dtype: str = 'float32'
  text_rows: bool = True
  factored: bool = settings.free(False)

  def __post_init__(self):
    errors.patterns('lora: targets, whole', (self.targets, self.whole))
    if not self.text_rows and not self.whole:
      raise errors.UserError(
        'lora: text_rows is False, which means nothing without tables in '
        '`whole`.'
      )
    if self.rank < 1:
      raise errors.UserError(f'lora: rank is {self.rank}, expected >= 1.')
    if self.base_dtype not in ('float32', 'bfloat16'):
      raise errors.UserError(
        f"lora: base_dtype is {self.base_dtype!r}, expected 'float32' or "
        "'bfloat16'."
      )

  def init(self, rng, batch):
    variables = dict(self.objective.init(rng, batch))
    base = _flat(variables.pop('params'))
    start = _flat(variables.pop(objectives.REFERENCE, {}))
    adapters, kept = {}, {}
    for number, (path, leaf) in enumerate(sorted(base.items())):
      if self.whole and re.search(self.whole, path):
        adapters[path] = base.pop(path)
        if path in start:
          kept[path] = start[path]
        continue
      if re.search(self.targets, path):
        key = jax.random.fold_in(rng, number)
        adapters[f'{path}/a'], adapters[f'{path}/b'] = self._pair(
          path, leaf, key
        )
      base[path] = jax.tree.map(lambda x: x.astype(self.base_dtype), leaf)
    if not any(path.endswith('/a') for path in adapters):
      raise errors.UserError(
        f'lora: targets {self.targets!r} matches no parameter; there are '
        f'{", ".join(sorted(base)[:4])} and others.'
      )
    if kept:
      variables[objectives.REFERENCE] = _nested(kept)
    return {
      **variables,
      'params': _nested(adapters),
      'base': _nested(base),
    }

  def _pair(self, path, leaf, key):
    """Initial A and B of one kernel, boxed with its axis names."""
    names = getattr(leaf, 'names', ())
    value = leaf.value if names else leaf
    layers, inputs, outputs = kernel_axes(path, names)
    shape = dict(zip(('layers', 'in', 'out'), (layers, inputs, outputs)))
    lead, fan_in, fan_out = (
      tuple(value.shape[axis] for axis in axes) for axes in shape.values()
    )
    lead_names, in_names, out_names = (
      tuple(names[axis] for axis in axes) for axes in shape.values()
    )
    a = jax.random.normal(key, (*lead, *fan_in, self.rank), jnp.float32)
    a /= math.sqrt(math.prod(fan_in))
    b = jnp.zeros((*lead, self.rank, *fan_out), jnp.float32)
    return (
      nn.LogicallyPartitioned(a, (*lead_names, *in_names, None)),
      nn.LogicallyPartitioned(b, (*lead_names, None, *out_names)),
    )

  def effective(self, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Variables of the objective within: adapters merged into `params`."""
    base = {
      path: leaf.astype(jnp.float32) if leaf.dtype == jnp.bfloat16 else leaf
      for path, leaf in _flat(variables['base']).items()
    }
    params = {**base, **full_parameters(variables['params'])}
    for path, a, b in adapter_pairs(variables['params']):
      delta = _product(a, b, _layered(params[path], a, b))
      params[path] = params[path] + (self.alpha / self.rank) * delta
    inner = {k: v for k, v in variables.items() if k not in ('base', 'params')}
    if self.keeps_start:
      # What is trained in full has its own copy; the rest never moved.
      kept = _flat(inner.get(objectives.REFERENCE, {}))
      inner[objectives.REFERENCE] = _nested({**base, **kept})
    return {**inner, 'params': _nested(params)}

  def _beside(self, variables: Mapping[str, Any]) -> dict[str, Any]:
    """As `effective`, the adapters beside their kernels."""
    names = projections.FACTORS
    plain = _nested(full_parameters(variables['params']))
    inner = self.effective({**variables, 'params': plain})
    params = traverse_util.flatten_dict(inner['params'], sep='/')
    scale = self.alpha / self.rank
    for path, a, b in adapter_pairs(variables['params']):
      module = path.removesuffix('/kernel')
      if module == path:
        raise errors.UserError(
          f'lora: {path} is no kernel of a projection, and cannot be factored.'
        )
      params |= {f'{module}/{names[0]}': a, f'{module}/{names[1]}': scale * b}
    return {**inner, 'params': _nested(params)}

  def _fixed(self, params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that are trained, without the gradient of text rows."""
    flat = _flat(params)
    table = self.objective.vocabulary
    for path, rows in full_parameters(params).items():
      if rows.ndim != 2 or len(rows) != table.table_size:
        continue
      ids = jnp.arange(len(rows))[:, None]
      text = (ids >= vocabulary_lib.CONTROL_SIZE) & (ids < table.text_size)
      flat[path] = jnp.where(text, jax.lax.stop_gradient(rows), rows)
    return _nested(flat)

  def loss(self, variables, batch, rng):
    return self.objective.loss(self._whole(variables), batch, rng)

  def _whole(self, variables):
    """Variables of the objective within, for a loss."""
    if not self.text_rows:
      variables = {**variables, 'params': self._fixed(variables['params'])}
    form = self._beside if self.factored else self.effective
    return form(variables)

  @property
  def keeps_start(self) -> bool:
    """Whether the objective within compares with where the run started."""
    return getattr(self.objective, 'keeps_start', False)

  def check_feed(self, feed):
    """As the objective within."""
    return getattr(self.objective, 'check_feed', lambda feed: [])(feed)

  def check_sources(self, configs):
    """As that of what is adapted."""
    getattr(self.objective, 'check_sources', lambda configs: None)(configs)

  def arrange(self, batch):
    """That of the objective within."""
    return getattr(self.objective, 'arrange', lambda batch: batch)(batch)

  def survey(self, variables, batch):
    """That of the objective within."""
    survey = getattr(self.objective, 'survey', None)
    return survey(self._whole(variables), batch) if survey else {}

  def flops(self, batch) -> float:
    """Model FLOPs of one step: those of the objective within, 0 if unknown."""
    flops = getattr(self.objective, 'flops', None)
    return flops(batch) if flops else 0.0

  def heads(self):
    """Those of the objective within."""
    return getattr(self.objective, 'heads', tuple)()

  def all_or_nothing(self):
    """That of the objective within."""
    return getattr(self.objective, 'all_or_nothing', tuple)()

  def describe(self):
    return {
      **self.objective.describe(),
      'lora': {
        'rank': self.rank,
        'alpha': self.alpha,
        'targets': self.targets,
      },
    }


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
  return traverse_util.flatten_dict(dict(tree), sep='/')


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
  return traverse_util.unflatten_dict(dict(flat), sep='/')


def kernel_axes(
  path: str, names: Sequence[str | None]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
  """Places of a kernel's layer axis, input axes and output axes.

  Raises:
    UserError: The axes do not make a matrix.
  """
  layers = tuple(i for i, name in enumerate(names) if name == 'layers')
  groups: list[tuple[int, ...]] = []
  for place, name in enumerate(names):
    if name == 'layers':
      continue
    if name == 'head_dim' and place and names[place - 1] in _HEADS:
      groups[-1] += (place,)
    else:
      groups.append((place,))
  if len(groups) != 2:
    raise errors.UserError(
      f'lora: {path} with axes {tuple(names)} is no matrix; targets must match '
      'kernels alone.'
    )
  return layers, groups[0], groups[1]


def adapter_pairs(adapters: Mapping[str, Any]):
  """(path of the kernel, A, B) of every adapter."""
  flat = _flat(adapters)
  for path in flat:
    if path.endswith('/a'):
      kernel = path.removesuffix('/a')
      yield kernel, flat[path], flat[f'{kernel}/b']


def full_parameters(adapters: Mapping[str, Any]) -> dict[str, Any]:
  """What is trained in full, by path."""
  flat = _flat(adapters)
  return {
    path: leaf for path, leaf in flat.items() if path[-2:] not in ('/a', '/b')
  }


def _layered(kernel, a, b) -> bool:
  """Whether kernel, A and B all start with the layers."""
  return a.ndim + b.ndim == kernel.ndim + 3


def _product(a, b, layered):
  """A ([L,] in…, r) times B ([L,] r, out…), float32."""
  batch = ((0,), (0,)) if layered else ((), ())
  contract = ((a.ndim - 1,), (1 if layered else 0,))
  return jax.lax.dot_general(
    a, b, (contract, batch), preferred_element_type=jnp.float32
  )


class MergedKernel(lazy.LazyArray):
  """A kernel with its adapter, of which only slices are formed."""

  def __init__(self, kernel: Any, a: Any, b: Any, scale: float):
    """The array kernel + scale * A B, float32 as in training."""
    self._kernel, self._scale = kernel, scale
    self._a, self._b = np.asarray(a), np.asarray(b)
    self.shape, self.dtype = tuple(kernel.shape), np.dtype(np.float32)

  def read(self, spans):
    old = np.asarray(self._kernel[lazy.slices(spans)], np.float32)
    layered = _layered(self, self._a, self._b)
    lead, rest = (spans[:1], spans[1:]) if layered else ([], spans)
    count = self._a.ndim - len(lead) - 1
    a = self._a[lazy.slices([*lead, *rest[:count]])]
    rank = (0, self._a.shape[-1])
    b = self._b[lazy.slices([*lead, rank, *rest[count:]])]
    rows = a.reshape(*a.shape[: len(lead)], -1, a.shape[-1])
    columns = b.reshape(*b.shape[: len(lead) + 1], -1)
    delta = (rows @ columns).reshape(old.shape)
    return old + np.float32(self._scale) * delta


def merge(
  variables: Mapping[str, Any], description: Mapping[str, Any]
) -> dict[str, Any]:
  """Plain variables from those of an adapted run, lazily.

  Args:
    variables: With `params` (adapters) and `base`, arrays or lazy arrays.
    description: The `lora` entry of the run's config.json.
  """
  params = _flat(variables['base'])
  scale = description['alpha'] / description['rank']
  params |= full_parameters(variables['params'])
  for path, a, b in adapter_pairs(variables['params']):
    params[path] = MergedKernel(params[path], a, b, scale)
  inner = {k: v for k, v in variables.items() if k not in ('base', 'params')}
  return {**inner, 'params': _nested(params)}
