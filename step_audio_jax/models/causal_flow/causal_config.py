"""Shape of the causal flow, and how its ids lie in time.

A group of 120 ms is two linguistic ids and three semantic ones; it becomes
three steps of 40 ms, (a, x) (b, y) (pad, z), each of two mel frames of 20 ms.

Axes: B rows, N ids, S steps.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors
from step_audio_jax import settings

LINGUISTIC_PER_GROUP = 2
SEMANTIC_PER_GROUP = 3  # also steps
GROUP = LINGUISTIC_PER_GROUP + SEMANTIC_PER_GROUP
FRAMES_PER_STEP = 2
FRAMES_PER_SECOND = 50


@dataclasses.dataclass(frozen=True)
class CausalFlowConfig:
  """Shape of the causal flow.

  Attributes:
    linguistic: Linguistic codes; the pad id lies behind them.
    semantic: Semantic codes.
    bands: Mel bands M.
    speaker_size: Of the speaker embedding that comes in.
    width: D, of the encoder and the estimator; half of it each embedding.
    heads: Attention heads.
    mlp_width: Of the MLPs.
    step_layers: Encoder blocks at 25 Hz.
    frame_layers: Encoder blocks at 50 Hz.
    estimator_layers: Blocks of the velocity network.
    look_ahead: Steps that a step waits for.
    window: Frames before a chunk that it sees, besides the prompt; even.
    chunks: Steps of the first, the second, … chunk; the last size goes on.
    guidance: Of classifier-free guidance.
    sigma: Noise that is left at the end of the path.
    prompt_steps: Longest prompt; of a longer one only the end is used.
    remat: Whether training computes blocks twice to save memory.
  """

  linguistic: int = 1024
  semantic: int = 4096
  bands: int = 80
  speaker_size: int = 192
  width: int = 512
  heads: int = 8
  mlp_width: int = 2048
  step_layers: int = 6
  frame_layers: int = 4
  estimator_layers: int = 16
  look_ahead: int = 3
  window: int = 96
  chunks: tuple[int, ...] = (15, 24, 48)
  guidance: float = 0.7
  sigma: float = 1e-6
  prompt_steps: int = 250
  remat: bool = settings.free(False)

  def __post_init__(self):
    object.__setattr__(self, 'chunks', tuple(self.chunks))
    errors.at_least_one(
      'causal flow',
      self,
      (
        *('linguistic', 'semantic', 'bands', 'speaker_size', 'width', 'heads'),
        *('mlp_width', 'step_layers', 'frame_layers', 'estimator_layers'),
        *('look_ahead', 'prompt_steps'),
      ),
    )
    if self.width % (2 * self.heads):
      raise errors.UserError(
        f'causal flow: width is {self.width} and heads {self.heads}; expected '
        'heads of an even width that fill the model.'
      )
    if self.window < 2 or self.window % FRAMES_PER_STEP:
      raise errors.UserError(
        f'causal flow: window is {self.window} frames, expected an even number '
        'of at least 2.'
      )
    if not self.chunks or min(self.chunks) < 1:
      raise errors.UserError(
        f'causal flow: chunks are {self.chunks}, expected one size or more of '
        'at least 1 step.'
      )

  @property
  def vocabulary(self) -> int:
    """Mixed ids."""
    return self.linguistic + self.semantic

  @property
  def head_dim(self) -> int:
    return self.width // self.heads

  @property
  def step_window(self) -> int:
    return self.window // FRAMES_PER_STEP


def steps_of(ids_BN, pad: int):
  """Whole groups of mixed ids → the two ids of every step, (B, S, 2).

  Mixed ids are linguistic codes, and semantic codes behind them. In the one
  table of both, the pad id lies between: semantic ids move up by one. Numpy or
  JAX arrays.
  """
  xp = jnp if isinstance(ids_BN, jax.Array) else np
  groups = ids_BN.reshape(len(ids_BN), -1, GROUP)
  missing = ((0, 0), (0, 0), (0, SEMANTIC_PER_GROUP - LINGUISTIC_PER_GROUP))
  linguistic = xp.pad(
    groups[..., :LINGUISTIC_PER_GROUP], missing, constant_values=pad
  )
  semantic = groups[..., LINGUISTIC_PER_GROUP:] + 1
  pairs = xp.stack([linguistic, semantic], axis=-1)
  return pairs.reshape(len(ids_BN), -1, 2).astype(xp.int32)
