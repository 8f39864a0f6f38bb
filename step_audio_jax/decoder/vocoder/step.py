"""HiFT window by window: one compiled step for whole mels and for streams.

A step makes the samples of `size` frames from a window of the mel,

    ← before →|← size →|← right →

and moves on by `chunk` ≤ `size` frames. With the right context that the
network needs (`HiftConfig.context`) the samples are those of the whole mel at
once, whatever the chunk: what a step cannot compute from its window it carries.
These are the phases of the source and its last samples; the noise of a frame is
drawn from the seed and the frame's number alone.

Phases add up over a whole recording, and with them the rounding of F0. So F0 is
computed in blocks of `BLOCK` frames that lie where they lie in the recording,
one after the other in one shape: the same bits for every way to cut it.

Axes: B rows, W frames of a window, M mel bands, T frames, S samples, H
harmonics.
"""

import functools
from typing import Any, Mapping, NamedTuple

from flax import linen as nn
from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors
from step_audio_jax.models.vocoder import harmonic_source
from step_audio_jax.models.vocoder import hift
from step_audio_jax.models.vocoder import winograd

BLOCK = 16


def leading_frames(config: hift.HiftConfig) -> int:
  """Done frames at the beginning of a window, if there are as many."""
  return max(config.context[0], BLOCK - 1 + config.f0_context[0])


class State(NamedTuple):
  """What goes from step to step.

  Attributes:
    keys_B: Of the noise.
    offset_BH: Initial phases, radians.
    phase_BH: Phases before the next frame, of
      `models.vocoder.harmonic_source.advance_phases`.
    source_BS: The source of the next window's frames that are done.
  """

  keys_B: jax.Array
  offset_BH: jax.Array
  phase_BH: jax.Array
  source_BS: jax.Array


class HiftStep:
  """The network with its weights.

  Attributes:
    config: Shape.
  """

  def __init__(self, config: hift.HiftConfig, params: Mapping[str, Any]):
    """Holds the weights on the device.

    On a CPU the residual blocks' convolutions are turned into
    `models.vocoder.winograd`'s.

    Raises:
      UserError: The weights are of another vocoder.
    """
    self.config = config
    self._model = hift.Hift(config)
    _check(config, params)
    if jax.default_backend() == 'cpu':
      params = _fast(params)
    self._variables = {'params': jax.tree.map(jnp.asarray, dict(params))}

  def begin(self, seeds: tuple[int, ...]) -> State:
    """The state before the first frame of rows with these seeds."""
    c = self.config
    rows, width = len(seeds), c.harmonics + 1
    keys_B = jnp.stack([jax.random.key(seed) for seed in seeds])
    offset_BH = jax.vmap(
      lambda key: jax.random.uniform(
        # No frame has this number.
        jax.random.fold_in(key, np.uint32(2**32 - 1)),
        (width,),
        minval=-np.pi,
        maxval=np.pi,
      )
    )(keys_B)
    return State(
      keys_B,
      offset_BH,
      jnp.zeros((rows, width), jnp.uint32),
      jnp.zeros((rows, leading_frames(c) * c.hop)),
    )

  def __call__(
    self,
    state: State,
    mel_BWM: np.ndarray,
    first_B: np.ndarray,
    frames_B: np.ndarray,
    number_B: np.ndarray,
    *,
    chunk: int,
    size: int,
  ) -> tuple[State, jax.Array]:
    """Makes samples.

    Args:
      state: Of `begin` or of the step before.
      mel_BWM: Window: at most `leading_frames` frames that are done (all that
        there are, if fewer), then `size` and some of right context. W is the
        same for every step.
      first_B: How many of each row are done.
      frames_B: Frames of each row in the window, done ones included, int32;
        what is behind the end of a signal does not count.
      number_B: Frames done since the beginning, int32.
      chunk: Frames by which the state moves on.
      size: Frames of samples that are wanted.

    Returns:
      The next state, and samples (B, size · hop).
    """
    return _step(
      self._model,
      self._variables,
      state,
      mel_BWM,
      first_B,
      frames_B,
      number_B,
      chunk=chunk,
      size=size,
    )


@functools.partial(jax.jit, static_argnames=('model', 'chunk', 'size'))
def _step(
  model, variables, state, mel_BWM, first_B, frames_B, number_B, *, chunk, size
):
  c, hop = model.config, model.config.hop
  done = leading_frames(c)
  new = mel_BWM.shape[1] - done  # frames whose source is made here
  with jax.default_matmul_precision('highest'):
    f0_BT = _f0(model, variables, mel_BWM, first_B, frames_B, number_B, new)
    noise_BSH = jax.vmap(
      lambda key, number: _noise(key, number + jnp.arange(new), c)
    )(state.keys_B, number_B)
    source_BS = model.apply(
      variables,
      f0_BT,
      state.offset_BH,
      noise_BSH,
      state.phase_BH,
      method='source',
    )
    # The done frames lie in front of the new ones, which move with them.
    whole_BS = jnp.pad(state.source_BS, ((0, 0), (0, new * hop)))
    whole_BS = jax.vmap(
      lambda x, part, first: jax.lax.dynamic_update_slice_in_dim(
        x, part, first * hop, 0
      )
    )(whole_BS, source_BS, first_B)
    wave_BS = model.apply(
      variables,
      mel_BWM,
      whole_BS,
      frames_B,
      hift.Part(first_B, size),
      method='wave',
    )
  steps_BTH = harmonic_source.phase_steps(
    f0_BT[:, :chunk], c.sample_rate, c.harmonics
  )
  moved_B = jnp.maximum(first_B + chunk - done, 0)
  kept_BS = _slices(whole_BS, moved_B * hop, done * hop)
  state = State(
    state.keys_B,
    state.offset_BH,
    harmonic_source.advance_phases(steps_BTH, hop, state.phase_BH),
    kept_BS,
  )
  return state, wave_BS


def _slices(x, starts_B, size):
  """From each row (B, T, …) `size` places from its start on."""
  return jax.vmap(
    lambda row, start: jax.lax.dynamic_slice_in_dim(row, start, size)
  )(x, starts_B)


def _f0(model, variables, mel_BWM, first_B, frames_B, number_B, count):
  """F0 of the `count` frames that begin at `first`, (B, count)."""
  left, right = model.config.f0_context
  over_B = number_B % BLOCK
  begin_B = first_B - over_B  # of the block that the first frame lies in
  blocks = -(-(count + BLOCK - 1) // BLOCK)
  x = jnp.pad(mel_BWM, ((0, 0), (0, blocks * BLOCK + right), (0, 0)))

  def one(number):
    at_B = begin_B + number * BLOCK
    from_B = jnp.maximum(at_B - left, 0)
    part = _slices(x, from_B, left + BLOCK + right)
    f0 = model.apply(variables, part, frames_B - from_B, method='f0')
    return _slices(f0, at_B - from_B, BLOCK)

  f0_NBT = jax.lax.map(one, jnp.arange(blocks))
  f0_BT = f0_NBT.swapaxes(0, 1).reshape(len(mel_BWM), -1)
  return _slices(f0_BT, over_B, count)


def _noise(key, numbers_T, c):
  """Standard normal (S, H) of frames, each from its number."""

  def frame(number):
    shape = (c.hop, c.harmonics + 1)
    return jax.random.normal(jax.random.fold_in(key, number), shape)

  return jax.vmap(frame)(numbers_T).reshape(-1, c.harmonics + 1)


def _fast(params):
  """Kernels of residual blocks → what `winograd` multiplies with."""
  found = {}
  for path, array in traverse_util.flatten_dict(dict(params)).items():
    if (
      path[-1] == 'kernel'
      and 'block_' in path[0]
      and winograd.is_worthwhile(array)
    ):
      path = (*path[:-1], winograd.NAME)
      array = winograd.transform_kernel(np.asarray(array))
    found[path] = array
  return traverse_util.unflatten_dict(found)


def _check(config, params):
  wanted = traverse_util.flatten_dict(shapes(config), sep='/')
  found = traverse_util.flatten_dict(dict(params), sep='/')
  for name in sorted(wanted.keys() | found.keys()):
    have = tuple(np.shape(found[name])) if name in found else 'nothing'
    want = wanted[name].shape if name in wanted else 'nothing'
    if have != want:
      raise errors.UserError(
        f'vocoder: {name}: found {have}, expected {want}: these are weights of '
        'another vocoder.'
      )


def shapes(config: hift.HiftConfig) -> dict[str, Any]:
  """The tree of the vocoder's parameters, as shapes."""
  c, frames = config, 4
  boxed = jax.eval_shape(
    hift.Hift(c).init,
    jax.random.key(0),
    jnp.zeros((1, frames, c.bands)),
    jnp.zeros((1, c.harmonics + 1)),
    jnp.zeros((1, frames * c.hop, c.harmonics + 1)),
  )
  return nn.unbox(boxed)['params']
