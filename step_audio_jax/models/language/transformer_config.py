"""The shape of a backbone, its size and what a token costs."""

import dataclasses

from step_audio_jax import errors
from step_audio_jax import settings
from step_audio_jax.models import rope

# What `remat` may keep; everything else is computed again.
TENSORS = (
  *('query', 'key', 'value', 'attention_out', 'attention_lse'),
  *('attention_projected', 'mlp_gate', 'mlp_up', 'mlp_projected'),
)


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
  """Shape of a backbone.

  Attributes:
    vocab_size: Rows of the embedding table.
    width: Residual width E.
    layers: Number of blocks.
    heads: Query heads H.
    kv_heads: Key/value groups G; divides `heads`.
    head_dim: D; 0 means width / heads.
    mlp_width: F.
    position: 'sqrt_alibi' or 'rope'.
    rope_theta: Base of the rotary frequencies.
    rope_scaling: How they are stretched; None for not at all.
    qkv_bias: Bias on q, k and v (Qwen2).
    qk_norm: RMSNorm on each head's q and k (Qwen3).
    tied_head: The head is the embedding table.
    norm_eps: Epsilon of RMSNorm.
    dtype: Of the matmuls; parameters are float32.
    remat: 'none' keeps every activation for the backward pass, 'full' only
      the input of each block, a tuple of `TENSORS` those as well.
    attention: Kernel: 'auto', 'dense', 'blockwise', 'pallas' or 'interpret'.
    scan_unroll: Blocks unrolled per step of the scan over layers.
  """

  vocab_size: int
  width: int
  layers: int
  heads: int
  kv_heads: int
  mlp_width: int
  head_dim: int = 0
  position: str = 'sqrt_alibi'
  rope_theta: float = 10_000.0
  rope_scaling: rope.RopeScaling | None = None
  qkv_bias: bool = False
  qk_norm: bool = False
  tied_head: bool = False
  norm_eps: float = 1e-5
  dtype: str = 'float32'
  remat: str | tuple[str, ...] = settings.free('none')
  attention: str = settings.free('auto')
  scan_unroll: int = settings.free(1)

  def __post_init__(self):
    errors.at_least_one(
      'transformer',
      self,
      ('vocab_size', 'width', 'layers', 'heads', 'kv_heads', 'mlp_width'),
    )
    if self.heads % self.kv_heads:
      raise errors.UserError(
        f'transformer: heads is {self.heads} and kv_heads {self.kv_heads}; '
        'kv_heads must divide heads.'
      )
    if not self.head_dim:
      if self.width % self.heads:
        raise errors.UserError(
          f'transformer: width {self.width} is no multiple of heads '
          f'{self.heads}; give head_dim.'
        )
      object.__setattr__(self, 'head_dim', self.width // self.heads)
    if self.position not in ('sqrt_alibi', 'rope'):
      raise errors.UserError(
        f"transformer: position is {self.position!r}, expected 'sqrt_alibi' "
        "or 'rope'."
      )
    if self.position == 'rope' and self.head_dim % 2:
      raise errors.UserError(
        f'transformer: head_dim is {self.head_dim}, expected an even number: '
        'rotary positions turn pairs.'
      )
    if isinstance(self.rope_scaling, dict):  # read from a run's JSON
      scaling = rope.RopeScaling(**self.rope_scaling)
      object.__setattr__(self, 'rope_scaling', scaling)
    if not isinstance(self.remat, str):
      object.__setattr__(self, 'remat', tuple(self.remat))
    wrong = (
      self.remat not in ('none', 'full')
      if isinstance(self.remat, str)
      else set(self.remat) - set(TENSORS)
    )
    if wrong:
      raise errors.UserError(
        f"transformer: remat is {self.remat!r}, expected 'none', 'full' or "
        f'names of {TENSORS}.'
      )

  @property
  def parameters(self) -> int:
    """Number of parameters, in closed form."""
    E, D = self.width, self.head_dim
    attention = 2 * E * D * (self.heads + self.kv_heads)
    if self.qkv_bias:
      attention += D * (self.heads + 2 * self.kv_heads)
    if self.qk_norm:
      attention += 2 * D
    block = attention + 3 * E * self.mlp_width + 2 * E
    tables = self.vocab_size * E * (1 if self.tied_head else 2)
    return self.layers * block + tables + E

  def flops_per_token(self, length: int) -> float:
    """Model FLOPs of one training token, forward and backward.

    2 FLOPs a multiply-add, backward twice the forward, embedding look-up free,
    attention counted row-causal (half of length x length).
    """
    D = self.head_dim
    matmuls = self.layers * (
      2 * self.width * D * (self.heads + self.kv_heads)
      + 3 * self.width * self.mlp_width
    )
    matmuls += self.vocab_size * self.width
    scores = self.layers * self.heads * D * length  # QK and AV, halved
    return 6.0 * (matmuls + scores)
