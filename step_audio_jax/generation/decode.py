"""Generation with a key/value cache: two compiled functions, reused.

A prompt is padded on the left into a bucket. `prefill` writes all of it but
its last id into the cache (so no logits are computed there at all); `decode`
is one `while_loop` that feeds one id a turn until every row has stopped. Both
are compiled once for each (model, batch size, cache length), `prefill` also
for each bucket: limits, stop ids, grammar and modes are arrays, not constants.

The draw of row n at turn t depends on (rng, n, t) alone, on no other prompt.

Letters: B batch, T tokens, S cache, N output, V vocabulary, K stop ids.
"""

import dataclasses
import functools
from typing import Any, Callable, Mapping, NamedTuple, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.generation import grammar as grammar_lib
from step_audio_jax.generation import queue
from step_audio_jax.generation import repetition
from step_audio_jax.generation import restore
from step_audio_jax.generation import rows as rows_lib
from step_audio_jax.generation import sampling
from step_audio_jax.generation import step

BUCKET = 32
_LADDER = 1.4  # from one length that is compiled for to the next


@dataclasses.dataclass(frozen=True)
class Output:
  """What one prompt gave.

  Attributes:
    tokens: New ids without the stop id, int32 (n,).
    logprobs: Log-probability of each under the grammar-masked logits at
      temperature 1, float32 (n,).
    stopped: Whether a stop id ended it (else the limit did).
  """

  tokens: np.ndarray
  logprobs: np.ndarray
  stopped: bool


def round_up(n: int, multiple: int = BUCKET) -> int:
  """The next multiple, at least one."""
  return max(1, -(-n // multiple)) * multiple


def rung(length: int) -> int:
  """The length that is compiled for: few of them, whatever is asked."""
  found = BUCKET
  while found < length:
    found = round_up(int(found * _LADDER))
  return found


@functools.partial(jax.jit, static_argnames=('model', 'cache_length', 'group'))
def prefill(
  model,
  variables,
  tokens_BT,
  starts_B,
  images,
  slots_BN,
  *,
  cache_length,
  group=1,
):
  """Left-padded prompts without their last id → a filled cache.

  Args:
    model: Flax module with the API of `models.language.speech_text`.
    variables: Its variables.
    tokens_BT: Ids, int32; row b begins at `starts_B[b]`.
    starts_B: First place that is no padding.
    images: uint8 (B, N, H, W, 3), or None.
    slots_BN: Place of each image in the unpadded prompt, -1 for none.
    cache_length: Places of the cache.
    group: Rows side by side that have one prompt, which is read once; without
      images.
  """
  if group > 1:
    tokens_BT = tokens_BT.reshape(-1, group, tokens_BT.shape[1])[:, 0]
    starts_B = starts_B.reshape(-1, group)[:, 0]
  B, T = tokens_BT.shape
  places_BT = jnp.arange(T)[None] - starts_B[:, None]
  keywords = {}
  if images is not None:
    keywords = {
      'images_BNHWC': images,
      'image_slots_BN': jnp.where(
        slots_BN < 0, -1, slots_BN + starts_B[:, None]
      ),
    }
  _, cache = model.apply(
    variables,
    tokens_BT,
    segment_ids_BT=(places_BT >= 0).astype(jnp.int32),
    positions_BT=jnp.maximum(places_BT, 0),
    cache=model.init_cache(B, cache_length),
    **keywords,
  )
  return model.repeat_cache(cache, group) if group > 1 else cache


@functools.partial(
  jax.jit,
  static_argnames=('model', 'sampler', 'longest', 'replay'),
  donate_argnames=('cache',),
)
def decode(
  model,
  variables,
  cache,
  last_B,
  positions_B,
  states_B,
  limits_B,
  keys_B,
  stop_ids_K,
  grammar,
  *,
  sampler,
  longest,
  replay=False,
):
  """Runs rows until each has stopped or met its limit.

  Args:
    model: As in `prefill`.
    variables: Its variables.
    cache: Of `prefill`; consumed.
    last_B: The last id of each prompt, not yet in the cache.
    positions_B: Its position in the prompt.
    states_B: `grammar.State` each row starts in.
    limits_B: New ids wanted at most; 0 for a filler row.
    keys_B: One random key a row.
    stop_ids_K: Ids that end a row.
    grammar: `grammar.Grammar`.
    sampler: `sampling.Sampler`.
    longest: N, length of the output buffers.
    replay: Whether what the sampler drew from is kept, so that somebody else
      can compute the probabilities again.

  Returns:
    tokens int32 (B, N), logprobs float32 (B, N), lengths int32 (B,), stopped
    bool (B,), and the cache, whose memory is the one that came in. Places at
    or past a row's length mean nothing, but that the id that ended it stands
    in the first. With `replay`, logprobs are those with which the ids were
    drawn, and behind them comes support uint8 (B, N, ceil(V / 8)): the ids that
    could have been, packed.

  Raises:
    UserError: As `Sampler.check_replayable`.
  """
  B = last_B.shape[0]
  if replay:
    sampler.check_replayable()

  def unfinished(carry):
    return (carry['turn'] < longest) & ~carry['done_B'].all()

  def body(carry):
    turn = carry['turn']
    logits_BV, cache = step.feed(
      model,
      variables,
      carry['cache'],
      carry['last_B'],
      positions_B + turn,
      None,
    )
    logits_BV = jnp.where(
      grammar_lib.Grammar.mask(grammar, carry['states_B']),
      logits_BV,
      sampling.FORBIDDEN,
    )
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys_B, turn)
    recent_BR = None
    if sampler.repetition.window:
      recent_BR = _recent(carry['tokens_BN'], turn, sampler.repetition.reach)
    ids_B, logprobs_B, support_BW = step.draw(
      logits_BV, keys, sampler, grammar, recent_BR, replay
    )
    kept = {}
    if replay:
      kept['support_BNW'] = carry['support_BNW'].at[:, turn].set(support_BW)
    stop_B = (ids_B[:, None] == stop_ids_K[None]).any(axis=1)
    writes_B = ~carry['done_B'] & ~stop_B
    lengths_B = carry['lengths_B'] + writes_B
    return {
      'turn': turn + 1,
      'cache': cache,
      'last_B': ids_B,
      'states_B': grammar_lib.Grammar.step(grammar, carry['states_B'], ids_B),
      'tokens_BN': carry['tokens_BN'].at[:, turn].set(ids_B),
      'logprobs_BN': carry['logprobs_BN'].at[:, turn].set(logprobs_B),
      'lengths_B': lengths_B,
      'stopped_B': carry['stopped_B'] | (~carry['done_B'] & stop_B),
      'done_B': carry['done_B'] | stop_B | (lengths_B >= limits_B),
      **kept,
    }

  kept = {}
  if replay:
    # Where nothing was drawn all ids could be: no softmax over none.
    bytes_W = -(-len(grammar.class_V) // 8)
    kept['support_BNW'] = jnp.full((B, longest, bytes_W), 255, jnp.uint8)
  end = jax.lax.while_loop(
    unfinished,
    body,
    {
      **kept,
      'turn': jnp.int32(0),
      'cache': cache,
      'last_B': last_B,
      'states_B': states_B,
      'tokens_BN': jnp.zeros((B, longest), jnp.int32),
      'logprobs_BN': jnp.zeros((B, longest), jnp.float32),
      'lengths_B': jnp.zeros(B, jnp.int32),
      'stopped_B': jnp.zeros(B, bool),
      'done_B': limits_B <= 0,
    },
  )
  names = ('tokens_BN', 'logprobs_BN', *kept, 'lengths_B', 'stopped_B', 'cache')
  return tuple(end[name] for name in names)


def _recent(tokens_BN, turn, reach):
  """The `reach` ids before `turn`, the newest last; before the first: -1."""
  places = turn - reach + jnp.arange(reach)
  ids_BR = jnp.take(tokens_BN, jnp.maximum(places, 0), axis=1)
  return jnp.where((places >= 0)[None], ids_BR, repetition.NOTHING)


@dataclasses.dataclass(frozen=True)
class Shapes:
  """What is compiled for.

  Attributes:
    batch_size: Rows of a batch; the last one is filled up.
    prompt: Places for prompts; 0 means the longest prompt of each batch in
      buckets of 32.
    output: Places for new ids; 0 means `max_new_tokens` in buckets of 32.
  """

  batch_size: int = 32
  prompt: int = 0
  output: int = 0


def generate_outputs(
  model: Any,
  variables: Mapping[str, Any],
  prompts: Sequence[Sequence[int]],
  *,
  max_new_tokens: int | Sequence[int],
  sampler: sampling.Sampler = sampling.Sampler(),
  grammar: grammar_lib.Grammar,
  start: grammar_lib.State | Sequence[grammar_lib.State] = (
    grammar_lib.State.FREE
  ),
  stop_ids: Sequence[int] = (vocabulary_lib.EOT,),
  rng: jax.Array | int | Sequence[int] = 0,
  shapes: Shapes = Shapes(),
  images: Sequence[Sequence[np.ndarray]] | None = None,
  image_slots: Sequence[Sequence[int]] | None = None,
  label: str | None = None,
  place: Callable[[Any], Any] | None = None,
) -> list[Output]:
  """Continues every prompt; outputs in the order of the prompts.

  Prompts of like length share a batch. Where there are more than its rows, a
  prompt takes the place of one that has ended (`generation.queue`), unless
  rows lie on several devices: then batches follow each other.

  Args:
    model: Flax module with the API of
      `models.language.speech_text.SpeechTextModel`.
    variables: Its variables, unboxed.
    prompts: Ids; each prompt has at least one.
    max_new_tokens: Limit, one for all or one a prompt.
    sampler: How ids are chosen.
    grammar: Which ids may be chosen.
    start: The mode, one for all or one a prompt.
    stop_ids: Ids that end a row; they are not returned.
    rng: Key or seed, or one seed a prompt, which then does not draw otherwise
      in other company; unused by the greedy sampler.
    shapes: What to compile for.
    images: uint8 (H, W, 3) images of each prompt, all of one size.
    image_slots: Place of each image in its prompt.
    label: Name of the progress bar; None for no bar.
    place: Puts arrays of rows (B, …) where they are decoded; None leaves that
      to JAX.

  Raises:
    UserError: A prompt is empty or longer than `shapes.prompt` allows, or
      a limit is above `shapes.output`.
  """
  limits = np.broadcast_to(np.asarray(max_new_tokens, np.int32), len(prompts))
  states = np.broadcast_to(np.asarray(start, np.int32), len(prompts))
  longest = shapes.output or round_up(int(limits.max(initial=1)))
  _check(prompts, limits, longest, shapes)
  if isinstance(rng, (list, tuple)):
    keys = jax.vmap(jax.random.key)(np.asarray(rng or (0,), np.uint32))
  else:
    rng = jax.random.key(rng) if isinstance(rng, int) else rng
    keys = jax.vmap(jax.random.fold_in, (None, 0))(
      rng, jnp.arange(max(1, len(prompts)))
    )
  order = sorted(range(len(prompts)), key=lambda n: len(prompts[n]))
  B = shapes.batch_size
  variables, laid = restore.laid_out(model, variables, B)
  asked = _Asked(
    model,
    variables,
    prompts,
    limits,
    states,
    keys,
    np.asarray(stop_ids, np.int32),
    images,
    image_slots,
    place or (lambda x: x),
  )
  joins = len(prompts) > B and place is None and queue.can_join(model)
  ended = (_joining if joins else _in_turn)(
    asked, laid, order, grammar, sampler, shapes, longest
  )
  outputs: list = [None] * len(prompts)
  if label:
    ended = progress.bar(ended, total=len(prompts), label=label, unit='prompt')
  for one in ended:
    outputs[one.number] = Output(one.tokens, one.logprobs, one.stopped)
  return outputs


class _Asked(NamedTuple):
  """Prompts and all that belongs to each, and the model that reads them."""

  model: Any
  variables: Mapping[str, Any]
  prompts: Sequence[Sequence[int]]
  limits: np.ndarray
  states: np.ndarray
  keys: jax.Array
  stop_ids: np.ndarray
  images: Sequence[Sequence[np.ndarray]] | None
  image_slots: Sequence[Sequence[int]] | None
  place: Callable[[Any], Any]

  def longest(self, numbers: Sequence[int]) -> int:
    """Ids of the longest of some prompts, without its last."""
    return max(len(self.prompts[n]) for n in numbers) - 1

  def read(self, numbers, T: int, cache_length: int, limits_A):
    """The cache of some prompts, padded to T, and `Joining` of their rows."""
    rows = len(numbers)
    tokens_AT = np.zeros((rows, T), np.int32)
    last_A, starts_A = np.zeros((2, rows), np.int32)
    for row, n in enumerate(numbers):
      *head, last_A[row] = self.prompts[n]
      starts_A[row] = T - len(head)
      tokens_AT[row, T - len(head) :] = head
    numbers = np.asarray(numbers)
    tokens_AT, *arrays = map(
      self.place,
      (
        tokens_AT,
        starts_A,
        last_A,
        T - starts_A,
        self.states[numbers],
        np.asarray(limits_A, np.int32),
        self.keys[numbers],
        np.broadcast_to(self.stop_ids, (rows, len(self.stop_ids))),
      ),
    )
    cache = prefill(
      self.model,
      self.variables,
      tokens_AT,
      arrays[0],
      *_pad_images(numbers, self.images, self.image_slots),
      cache_length=cache_length,
    )
    return cache, rows_lib.Joining(*arrays[1:])


def _in_turn(asked, laid, order, grammar, sampler, shapes, longest):
  """Batches one after another, each as long as its longest answer."""
  B = shapes.batch_size
  for begin in range(0, len(order), B):
    some = order[begin : begin + B]
    T = shapes.prompt or round_up(asked.longest(some))
    cache, joined = asked.read(
      [*some, *[some[0]] * (B - len(some))],
      T,
      T + longest,
      # A filler row has a limit of nothing.
      [*asked.limits[some], *[0] * (B - len(some))],
    )
    *found, _ = decode(
      asked.model,
      laid,
      cache,
      joined.last_A,
      joined.positions_A,
      joined.states_A,
      joined.limits_A,
      joined.keys_A,
      asked.stop_ids,
      grammar,
      sampler=sampler,
      longest=longest,
    )
    tokens_BN, logprobs_BN, lengths_B, stopped_B = map(np.asarray, found)
    for b, n in enumerate(some):
      length = int(lengths_B[b])
      yield queue.Ended(
        n, tokens_BN[b, :length], logprobs_BN[b, :length], bool(stopped_B[b])
      )


def _joining(asked, laid, order, grammar, sampler, shapes, longest):
  """Rows that come and go."""

  def begin(numbers, rows, places):
    numbers = [*numbers, *[numbers[0]] * (rows - len(numbers))]
    T = shapes.prompt or rung(asked.longest(numbers))
    return asked.read(numbers, T, max(T, places), asked.limits[numbers])

  return queue.run(
    asked.model,
    laid,
    order,
    [len(prompt) - 1 for prompt in asked.prompts],
    begin,
    grammar,
    sampler,
    batch_size=shapes.batch_size,
    longest=longest,
  )


def generate(
  model: Any,
  variables: Mapping[str, Any],
  prompts: Sequence[Sequence[int]],
  **keywords,
) -> list[np.ndarray]:
  """`generate_outputs`, the new ids only."""
  return [
    output.tokens
    for output in generate_outputs(model, variables, prompts, **keywords)
  ]


def _check(prompts, limits, longest, shapes):
  for n, prompt in enumerate(prompts):
    if not len(prompt):
      raise errors.UserError(f'prompt {n} is empty, expected at least one id.')
    if shapes.prompt and len(prompt) - 1 > shapes.prompt:
      raise errors.UserError(
        f'prompt {n} has {len(prompt)} ids, expected at most '
        f'{shapes.prompt + 1} (shapes.prompt + 1).'
      )
  if limits.max(initial=0) > longest:
    raise errors.UserError(
      f'max_new_tokens is {limits.max()}, expected at most {longest} '
      '(shapes.output).'
    )


def _pad_images(rows, images, image_slots):
  """(images (B, N, H, W, 3), slots (B, N)), or (None, None)."""
  if images is None:
    return None, None
  most = max(len(images[n]) for n in rows)
  shape = next(np.shape(image) for some in images for image in some)
  pixels = np.zeros((len(rows), most, *shape), np.uint8)
  slots = np.full((len(rows), most), -1, np.int32)
  for b, n in enumerate(rows):
    for i, image in enumerate(images[n]):
      pixels[b, i], slots[b, i] = image, image_slots[n][i]
  return pixels, slots
