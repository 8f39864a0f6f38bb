"""How much memory and time a configuration takes, without a compiler.

Rough on purpose (15 % either way, docs/plan.md): it orders candidates and says
which are not worth a compilation. The compiler has the last word.
"""

import dataclasses
import math
from typing import Any, Iterator, Mapping

from step_audio_jax.parallel import topology
from step_audio_jax.plan import roofline

# From little kept and much computed twice to the contrary.
REMATS: tuple[str | tuple[str, ...], ...] = (
  'full',
  ('attention_out', 'attention_lse'),
  ('query', 'key', 'value', 'attention_out', 'attention_lse'),
  (
    *('query', 'key', 'value', 'attention_out', 'attention_lse'),
    *('attention_projected', 'mlp_gate'),
  ),
  (
    *('query', 'key', 'value', 'attention_out', 'attention_lse'),
    *('attention_projected', 'mlp_gate', 'mlp_up'),
  ),
)
_SLACK = 1.15  # fragmentation


@dataclasses.dataclass(frozen=True)
class Candidate:
  """A way to run a model on some chips.

  Attributes:
    tensor: Size of the mesh's tensor axis; `fsdp` takes the rest of a slice.
    remat: Of the transformer.
    microbatches: Of the loop.
    batch_size: Rows of a step, over all chips.
  """

  tensor: int
  remat: str | tuple[str, ...]
  microbatches: int
  batch_size: int

  def overrides(self) -> dict[str, str]:
    """Macro → value, as gin writes it."""
    return {
      'TENSOR': str(self.tensor),
      'REMAT': repr(self.remat),
      'MICROBATCHES': str(self.microbatches),
      'BATCH_SIZE': str(self.batch_size),
    }

  @property
  def flags(self) -> str:
    """For a command line."""
    return ' '.join(
      f'--gin.{name}={value}' if "'" not in value else f'"--gin.{name}={value}"'
      for name, value in self.overrides().items()
    )


def kept_bytes(config: Any, remat: str | tuple[str, ...]) -> float:
  """Bytes a token and layer that the backward pass finds, unsharded."""
  D, E, F = config.head_dim, config.width, config.mlp_width
  sizes = {
    'query': 2 * config.heads * D,
    'key': 2 * config.kv_heads * D,
    'value': 2 * config.kv_heads * D,
    'attention_out': 2 * config.heads * D,
    'attention_lse': 4 * config.heads,
    'attention_projected': 2 * E,
    'mlp_gate': 2 * F,
    'mlp_up': 2 * F,
    'mlp_projected': 2 * E,
  }
  if remat == 'none':
    return 2 * E + sum(sizes.values()) + 6 * E + 2 * F
  names = () if remat == 'full' else remat
  return 2 * E + sum(sizes[name] for name in names)


def recomputed_share(config: Any, remat: str | tuple[str, ...]) -> float:
  """Share of the forward pass that is computed twice."""
  if remat == 'none':
    return 0.0
  D, E, F = config.head_dim, config.width, config.mlp_width
  costs = {
    'query': E * config.heads * D,
    'key': E * config.kv_heads * D,
    'value': E * config.kv_heads * D,
    # Its values are needed only where what follows is computed again.
    'attention_projected': E * config.heads * D,
    'mlp_gate': E * F,
    'mlp_up': E * F,
  }
  names = () if remat == 'full' else remat
  again = sum(cost for name, cost in costs.items() if name not in names)
  whole = 2 * E * D * (config.heads + config.kv_heads) + 3 * E * F
  return again / whole


def estimate(
  config: Any,
  candidate: Candidate,
  length: int,
  found: topology.Slice,
  slices: int,
) -> tuple[float, float]:
  """(HBM bytes, seconds of a step) of one chip.

  Args:
    config: `models.language.transformer.TransformerConfig`.
    candidate: How it runs.
    length: Tokens of a row.
    found: One slice.
    slices: How many.
  """
  tensor, chip = candidate.tensor, found.chip
  fsdp = found.chips // tensor
  P, E, F = config.parameters, config.width, config.mlp_width
  rows = candidate.batch_size / (fsdp * slices * candidate.microbatches)
  tokens = rows * length
  state = 12 * P / found.chips
  copies = (4 if candidate.microbatches == 1 else 8) * P / found.chips
  kept = config.layers * tokens * kept_bytes(config, candidate.remat) / tensor
  heads = config.heads * config.head_dim
  block = 10 * tokens * E + 8 * tokens * (F + heads) / tensor
  block += 12 * E * F / tensor
  head = 4 * (config.vocab_size * E / tensor + tokens * E)
  memory = state + _SLACK * (copies + kept + max(block, head) + 0.2 * head)

  step_tokens = candidate.batch_size * length / (found.chips * slices)
  flops = config.flops_per_token(length) * step_tokens
  share = recomputed_share(config, candidate.remat)
  compute = flops * (1 + share / 3) / (chip.flops * roofline.MXU)
  gathered = 2 * P / tensor * (2 + (share > 0)) * candidate.microbatches
  fsdp_seconds = gathered / (0.6 * chip.ici_bytes_per_second)
  passes = 3 + (share > 0)
  moved = config.layers * 2 * E * step_tokens * tensor * 2 * passes
  tensor_seconds = (
    moved * (tensor - 1) / tensor / (2 * found.link_bytes_per_second)
    if tensor > 1
    else 0.0
  )
  return memory, max(compute, fsdp_seconds) + 0.5 * tensor_seconds


def candidates(
  config: Any,
  length: int,
  batch_size: int,
  found: topology.Slice,
  slices: int,
) -> Iterator[Candidate]:
  """Meshes, remats and microbatches that divide everything they must."""
  for tensor in (2**k for k in range(8)):
    groups = config.kv_heads
    if found.chips % tensor or config.heads % tensor or tensor > found.chips:
      continue
    if groups % tensor and tensor % groups:
      continue
    if config.mlp_width % tensor or length % tensor:
      continue
    shards = found.chips // tensor * slices
    if batch_size % shards or config.width % (found.chips // tensor):
      continue
    rows = batch_size // shards
    for micro in (m for m in range(1, rows + 1) if rows % m == 0):
      for remat in REMATS:
        yield Candidate(tensor, remat, micro, batch_size)


def frontier(
  items: Mapping[Candidate, tuple[float, float]],
) -> list[Candidate]:
  """Candidates than which none is both smaller and faster; smallest first."""
  best, found = math.inf, []
  for candidate in sorted(items, key=lambda c: items[c]):
    if items[candidate][1] < best:
      best = items[candidate][1]
      found.append(candidate)
  return found
