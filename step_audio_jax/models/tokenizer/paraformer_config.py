"""The shape of Paraformer's encoder and of its streaming windows."""

import dataclasses

from step_audio_jax import errors
from step_audio_jax import settings


@dataclasses.dataclass(frozen=True)
class ParaformerConfig:
  """Shape of the encoder; the defaults are the released model's.

  Attributes:
    input_size: Width of a stacked feature frame.
    width: Model width D.
    heads: Attention heads; divides width.
    mlp_width: Feed-forward width.
    layers: Blocks, the first included; at least 2.
    kernel: Taps of the FSMN convolution, odd.
    chunk: New frames of a streaming window.
    overlap: Frames before them that the window repeats.
    look_back: Chunks whose keys and values are kept.
    scan_unroll: Blocks unrolled per step of the scan over layers.
  """

  input_size: int = 560
  width: int = 512
  heads: int = 4
  mlp_width: int = 2048
  layers: int = 50
  kernel: int = 11
  chunk: int = 4
  overlap: int = 5
  look_back: int = 4
  scan_unroll: int = settings.free(1)

  def __post_init__(self):
    errors.at_least_one(
      'paraformer',
      self,
      ('heads', 'kernel', 'chunk', 'overlap', 'look_back'),
    )
    if self.width % self.heads:
      raise errors.UserError(
        f'paraformer: width is {self.width} and heads {self.heads}; heads '
        'must divide width.'
      )
    if self.layers < 2:
      raise errors.UserError(
        f'paraformer: layers is {self.layers}, expected at least 2.'
      )
    if self.kernel % 2 == 0:
      raise errors.UserError(
        f'paraformer: kernel is {self.kernel}, expected an odd number.'
      )
    if self.input_size % 2:
      raise errors.UserError(
        f'paraformer: input_size is {self.input_size}, expected an even '
        'number (half sines, half cosines).'
      )
