"""The causal flow's solver: whole utterances, prompts, and single chunks.

Three compiled functions share one solver. `solve_utterances` runs an utterance
at once, with masks in the place of caches; `run_prompts` runs a voice's prompt
and keeps what the blocks need of it; `solve_chunk` runs one chunk behind it.
What every solver step keeps is apart from what the others keep: a chunk at step
n sees earlier frames as they were at step n.

The conditional and the unconditional branch are one batch of 2 B rows. Times
are the same for all rows, so what they do to the blocks is computed once.

Axes: B rows, S steps of 40 ms, T = 2 S frames, P steps of the prompt, M mel
bands, E speaker embedding, N solver steps.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from step_audio_jax.decoder.flow import matching
from step_audio_jax.models.causal_flow import blocks
from step_audio_jax.models.causal_flow import causal_config
from step_audio_jax.models.causal_flow import causal_flow


class Cache(NamedTuple):
  """What is kept between chunks, or of a prompt.

  Attributes:
    steps: Of the encoder's blocks at 25 Hz, a
      `causal_flow.blocks.KeyValueCache` each.
    frames: Of its blocks at 50 Hz.
    estimator: Of the velocity's blocks, arrays (N, 2 B, …).
  """

  steps: tuple[blocks.KeyValueCache, ...]
  frames: tuple[blocks.KeyValueCache, ...]
  estimator: tuple[blocks.KeyValueCache, ...]


class Voices(NamedTuple):
  """Speakers and their prompts, one a row.

  Attributes:
    speaker_BM: Projected speakers.
    counts_B: Steps of the prompts, at most P.
    memory: Of the prompts; None if no row has one.
  """

  speaker_BM: jax.Array
  counts_B: jax.Array
  memory: Cache | None

  @property
  def places(self) -> int:
    """P."""
    return self.memory.steps[0].key.shape[1] if self.memory else 0


def _twice(tree, rows):
  """Rows for both branches; what is one for all rows stays one."""

  def twice(array):
    return jnp.concatenate([array, array]) if len(array) == rows else array

  return jax.tree.map(twice, tree)


def _solve(
  model, variables, steps, noise_BTM, mu, speaker, condition, mask, **memory
):
  """Noise → mel (B, T, M), and what the blocks keep, (N, 2 B, …)."""
  B = len(noise_BTM)
  times, _ = matching.time_grid(steps)
  modulation = model.apply(variables, jnp.asarray(times), method='modulations')

  def with_nothing(array):
    return jnp.concatenate([array, jnp.zeros_like(array)])

  given = tuple(map(with_nothing, (mu, speaker, condition)))
  mask, keep = _twice(mask, B), memory.pop('keep', False)

  def velocity(x_BTM, t, inputs):
    del t  # is in the modulation
    modulation, inner = inputs
    v, kept = model.apply(
      variables,
      jnp.concatenate([x_BTM, x_BTM]),
      jax.tree.map(lambda m: m[None], modulation),
      *given,
      mask,
      **inner,
      keep=keep,
      method='velocity',
    )
    return matching.apply_guidance(v, model.config.guidance), kept

  return matching.euler_scan(velocity, noise_BTM, steps, (modulation, memory))


def _ahead(model, array, value=0):
  """Room for the steps that the last ones look for."""
  more = ((0, 0), (0, model.config.look_ahead))
  return jnp.pad(array, (*more, *((0, 0),) * (array.ndim - 2)))


@functools.partial(jax.jit, static_argnames=('model', 'steps'))
def solve_utterances(
  model,
  variables,
  noise_BTM,
  ids_BS2,
  segment_BS,
  position_BS,
  first_BS,
  end_BS,
  condition_BTM,
  speaker_BE,
  *,
  steps,
):
  """Utterances behind their prompts, at once → mel (B, T, M).

  Args:
    model: `models.causal_flow.causal_flow.CausalFlow`.
    variables: Its variables.
    noise_BTM: Standard normal.
    ids_BS2: Steps.
    segment_BS: See `CausalFlow.encode`.
    position_BS: See `models.causal_flow.attention_masks.full_mask`, in steps.
    first_BS: Likewise.
    end_BS: Likewise.
    condition_BTM: Mel of the prompt in its frames, else 0.
    speaker_BE: Speaker embeddings.
    steps: Of the solver.
  """
  masks = causal_flow.full_masks(
    model.config, position_BS, segment_BS, first_BS, end_BS
  )
  mu, _ = model.apply(
    variables,
    _ahead(model, ids_BS2),
    _ahead(model, segment_BS),
    *masks,
    method='encode',
  )
  speaker = model.apply(variables, speaker_BE, method='voice')
  mel, _ = _solve(
    model,
    variables,
    steps,
    noise_BTM,
    mu,
    speaker,
    condition_BTM,
    masks[1],
  )
  return mel


@functools.partial(jax.jit, static_argnames=('model', 'steps'))
def run_prompts(
  model, variables, noise_BTM, ids_BP2, counts_B, mel_BTM, speaker_BE, *, steps
):
  """Runs prompts, which stand at the right of their places → `Voices`."""
  speaker = model.apply(variables, speaker_BE, method='voice')
  P = ids_BP2.shape[1]
  if not P:
    return Voices(speaker, counts_B, None)
  place_BP = jnp.broadcast_to(jnp.arange(-P, 0)[None], ids_BP2.shape[:2])
  segment = (place_BP >= -counts_B[:, None]).astype(jnp.int32)
  masks = causal_flow.full_masks(
    model.config, place_BP, segment, place_BP, place_BP
  )
  mu, (of_steps, of_frames) = model.apply(
    variables,
    _ahead(model, ids_BP2),
    _ahead(model, segment),
    *masks,
    keep=True,
    method='encode',
  )
  _, of_estimator = _solve(
    model,
    variables,
    steps,
    noise_BTM,
    mu,
    speaker,
    mel_BTM,
    masks[1],
    keep=True,
  )
  return Voices(speaker, counts_B, Cache(of_steps, of_frames, of_estimator))


@functools.partial(
  jax.jit, static_argnames=('model', 'steps'), donate_argnames=('memory',)
)
def solve_chunk(
  model,
  variables,
  voices,
  memory,
  noise_BTM,
  ids_BS2,
  known_B,
  counts_B,
  start_B,
  *,
  steps,
):
  """One chunk of every row that has one.

  Args:
    model: `models.causal_flow.causal_flow.CausalFlow`.
    variables: Its variables.
    voices: Of `run_prompts`.
    memory: Of the chunk before, or of `empty_cache`; its buffers are used up.
    noise_BTM: Standard normal; its T says the size of the chunk.
    ids_BS2: The chunk's steps, then those it looks ahead to.
    known_B: How many of these there are; fewer only at an utterance's end.
    counts_B: Steps of the chunk; 0 leaves a row's memory as it is.
    start_B: Steps of the utterance before the chunk.
    steps: Of the solver.

  Returns:
    Mel (B, T, M), of which the first 2 counts_B frames count, and the memory.
  """
  masks = causal_flow.chunk_masks(
    model.config,
    start_B,
    counts_B,
    noise_BTM.shape[1] // causal_config.FRAMES_PER_STEP,
    voices.counts_B,
    voices.places,
  )
  prompt = voices.memory or Cache(None, None, None)
  past = _begun(memory, prompt, start_B)
  known = jnp.arange(ids_BS2.shape[1])[None] < known_B[:, None]
  mu, (of_steps, of_frames) = model.apply(
    variables,
    ids_BS2,
    2 * known.astype(jnp.int32),
    *masks,
    (past.steps, past.frames),
    (prompt.steps, prompt.frames),
    method='encode',
  )
  mel, of_estimator = _solve(
    model,
    variables,
    steps,
    noise_BTM,
    mu,
    voices.speaker_BM,
    jnp.zeros_like(noise_BTM),
    masks[1],
    past=past.estimator,
    prompt=prompt.estimator,
  )
  new = Cache(of_steps, of_frames, of_estimator)
  return mel, _chosen(counts_B > 0, new, memory)


def _flags(flags_B, array, part):
  """Flags of rows in the shape of what a part keeps."""
  flags = jnp.tile(flags_B, 2)[None] if part == 'estimator' else flags_B
  return flags.reshape(*flags.shape, *(1,) * (array.ndim - flags.ndim))


def _chosen(flags_B, new, old):
  return Cache(
    *(
      jax.tree.map(
        lambda n, o, part=part: jnp.where(_flags(flags_B, n, part), n, o),
        getattr(new, part),
        getattr(old, part),
      )
      for part in Cache._fields
    )
  )


def _begun(memory, prompt, start_B):
  """Convolutions of a new utterance begin where its prompt has ended."""

  def begun(part):
    given = getattr(prompt, part)
    out = []
    for n, past in enumerate(getattr(memory, part)):
      fresh = _flags(start_B == 0, past.tail, part)
      before = 0.0 if given is None else given[n].tail
      out.append(past._replace(tail=jnp.where(fresh, before, past.tail)))
    return tuple(out)

  return Cache(*map(begun, Cache._fields))


@functools.partial(jax.jit, static_argnames=('config', 'rows', 'steps'))
def empty_cache(
  config: causal_config.CausalFlowConfig, rows: int, steps: int
) -> Cache:
  """Memory in which nothing is remembered."""

  def block(window, *lead):
    heads = (*lead, window, config.heads, config.head_dim)
    tail = (*lead, blocks.TAPS - 1, config.width)
    return blocks.KeyValueCache(*(map(jnp.zeros, (heads, heads, tail))))

  return Cache(
    tuple(block(config.step_window, rows) for _ in range(config.step_layers)),
    tuple(block(config.window, rows) for _ in range(config.frame_layers)),
    tuple(
      block(config.window, steps, 2 * rows)
      for _ in range(config.estimator_layers)
    ),
  )
