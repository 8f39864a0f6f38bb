"""A batch of sampled answers, and their log-probabilities.

A row is a prompt, padded on the left up to P places, and an answer, padded on
the right up to N: answers begin in one column, so that the places where an id
was chosen are a slice of the row.

Sampler and learner agree on a probability only where they agree on what could
have been drawn. A grammar, a rule about repeated ids, top-k and top-p all take
ids away before one is drawn, so the sampler keeps the ids that were left (the
`support` of each place, one bit an id), and the learner takes its softmax over
the same ids at the same temperature. Without that, many ratios are far from 1
before anything is learnt.

Axes: B rows, P places for prompts, N for answers, T = P + N, V vocabulary,
W = ceil(V / 8) bytes, E width; G groups of R rows with one prompt.
"""

import dataclasses
import math
from typing import Any, Callable, Mapping, NamedTuple

import jax
import jax.numpy as jnp

from step_audio_jax import errors
from step_audio_jax.parallel import partition

_PLACES = 32  # of a row, whose logits exist at a time


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Group:
  """Rows side by side that have one prompt; a pytree without leaves."""

  size: int = 1


class Rollout(NamedTuple):
  """Sampled answers; a pytree of arrays.

  Attributes:
    tokens: int32 (B, T).
    starts: First place of each prompt, int32 (B,).
    lengths: Ids of each answer with the one that ends it, int32 (B,); 0 for a
      row that does not count.
    stopped: Whether an answer came to its end, not to its limit, bool (B,).
    log_probs: Of the ids as they were drawn, float32 (B, N).
    support: Which ids could have been drawn, packed uint8 (B, N, W).
    group: Rows that are computed together, as they have one prompt.
  """

  tokens: jax.Array
  starts: jax.Array
  lengths: jax.Array
  stopped: jax.Array
  log_probs: jax.Array
  support: jax.Array
  group: Group = Group()

  @property
  def answer_places(self) -> int:
    """N."""
    return self.log_probs.shape[1]

  @property
  def prompt_places(self) -> int:
    """P."""
    return self.tokens.shape[1] - self.answer_places

  @property
  def mask(self) -> jax.Array:
    """Places of answers, bool (B, N)."""
    places_N = jnp.arange(self.answer_places)
    return places_N[None] < self.lengths[:, None]

  def rows(self) -> dict[str, jax.Array]:
    """segment_ids_BT and positions_BT, as models take them."""
    places_T = jnp.arange(self.tokens.shape[1])[None]
    ends_B = self.prompt_places + self.lengths
    inside_BT = (places_T >= self.starts[:, None]) & (
      places_T < ends_B[:, None]
    )
    return {
      'segment_ids_BT': inside_BT.astype(jnp.int32),
      'positions_BT': jnp.maximum(places_T - self.starts[:, None], 0),
    }

  def narrowed(self, prompt: int, answer: int) -> 'Rollout':
    """With so many places for prompts and answers; all must fit."""
    first = self.prompt_places - prompt
    return self._replace(
      tokens=self.tokens[:, first : first + prompt + answer],
      starts=self.starts - first,
      log_probs=self.log_probs[:, :answer],
      support=self.support[:, :answer],
    )

  def widened(self, prompt: int) -> 'Rollout':
    """With so many places for prompts; `narrowed` takes them away again."""
    more = prompt - self.prompt_places
    return self._replace(
      tokens=jnp.pad(self.tokens, ((0, 0), (more, 0))),
      starts=self.starts + more,
    )

  @property
  def answers(self) -> jax.Array:
    """Ids of the answers, int32 (B, N); pads behind them."""
    return self.tokens[:, self.prompt_places :]

  def behind(self, prompts: Mapping[str, jax.Array]) -> 'Rollout':
    """The same answers behind other prompts.

    Args:
      prompts: tokens int32 (B, P) and starts int32 (B,).
    """
    tokens_BT = jnp.concatenate([prompts['tokens'], self.answers], axis=1)
    return self._replace(tokens=tokens_BT, starts=prompts['starts'])


class Scored(NamedTuple):
  """What the learner says of a rollout, float32 (B, N).

  Attributes:
    log_probs: Of the ids, on the support and at the temperature of the sampler.
    entropy: Of the distribution that each was drawn from.
  """

  log_probs: jax.Array
  entropy: jax.Array


def on_support(
  logits_V: jax.Array, support_W: jax.Array, temperature: float
) -> jax.Array:
  """Log-probabilities over the ids that could have been drawn.

  Args:
    logits_V: Float32 (…, V).
    support_W: Packed, uint8 (…, W).
    temperature: Of the sampler.

  Returns:
    float32 (…, V), -inf outside of the support.
  """
  allowed_V = jnp.unpackbits(
    support_W, axis=-1, count=logits_V.shape[-1]
  ).astype(bool)
  scaled_V = jnp.where(allowed_V, logits_V / temperature, -jnp.inf)
  return jax.nn.log_softmax(scaled_V)


def score(
  model: Any,
  variables: Mapping[str, Any],
  rollout: Rollout,
  *,
  temperature: float = 1.0,
) -> Scored:
  """Log-probabilities of a rollout by the learner's own forward pass.

  Differentiable in `variables`; logits of only some places exist at a time, and
  are computed again for the gradient.

  Args:
    model: With `features_and_head`, as `models.language.speech_text`.
    variables: Its variables.
    rollout: What was drawn.
    temperature: At which.

  Raises:
    UserError: The temperature is 0: then nothing was drawn.
  """
  if not temperature > 0:
    raise errors.UserError(
      f'rollout: temperature is {temperature}, expected more than 0; who '
      'always takes the best id explores nothing.'
    )
  N = rollout.answer_places
  rows, of_answers = answering(rollout, N)
  hidden, head_VE = model.apply(variables, method='features_and_head', **rows)
  hidden_BNE = of_answers(hidden)
  # Gathered once, not once for each chunk.
  head_VE = partition.regather(head_VE, ('vocab', 'embed'), ('vocab', None))
  count = N // math.gcd(N, _PLACES)

  def chunks(x):
    parts = x.reshape(len(x), count, N // count, *x.shape[2:])
    return parts.swapaxes(0, 1)

  @jax.checkpoint
  def part(chunk):
    hidden_BCE, ids_BC, support_BCW = chunk
    logits_BCV = jnp.einsum(
      'bce,ve->bcv',
      hidden_BCE,
      head_VE,
      preferred_element_type=jnp.float32,
    )
    logits_BCV = partition.constrain(logits_BCV, ('batch', None, 'vocab'))
    log_probs_BCV = on_support(logits_BCV, support_BCW, temperature)
    ids_BC1 = ids_BC[..., None]
    found_BC = jnp.take_along_axis(log_probs_BCV, ids_BC1, axis=-1)[..., 0]
    # 0 log 0 is 0, and has no gradient.
    finite_BCV = jnp.where(jnp.isfinite(log_probs_BCV), log_probs_BCV, 0.0)
    entropy_BC = -(jnp.exp(log_probs_BCV) * finite_BCV).sum(-1)
    return found_BC, entropy_BC

  found, entropy = jax.lax.map(
    part, tuple(map(chunks, (hidden_BNE, rollout.answers, rollout.support)))
  )

  def joined(x):
    x_BN = x.swapaxes(0, 1).reshape(-1, N)
    return jnp.where(rollout.mask, x_BN, 0.0)

  return Scored(joined(found), joined(entropy))


def answering(
  rollout: Rollout, places: int
) -> tuple[dict[str, Any], Callable[[jax.Array], jax.Array]]:
  """What a network is given to look at answers, each prompt once.

  Args:
    rollout: The answers.
    places: How many of each, from the last id of the prompt on: N where ids
      were chosen, N + 1 with the last id.

  Returns:
    Keywords of a network, and what makes (B, places, …) of the (…, T, …) that
    it gives.
  """
  first, size = rollout.prompt_places - 1, rollout.group.size
  rows: dict[str, Any] = {'tokens_BT': rollout.tokens, **rollout.rows()}
  if size == 1:
    return rows, lambda x_BT: x_BT[:, first : first + places]

  def together(x_BT):
    x_GRT = x_BT.reshape(-1, size, x_BT.shape[1])
    own = x_GRT[:, :, first : first + places].reshape(len(x_GRT), -1)
    return jnp.concatenate([x_GRT[:, 0, :first], own], axis=1)

  rows = {**jax.tree.map(together, rows), 'branches': (size, places)}
  return rows, lambda x_GT: x_GT[:, first:].reshape(-1, places, *x_GT.shape[2:])


def by_parts(tree: Any, count: int, size: int, back: bool = False) -> Any:
  """Rows in the order in which parts of a batch have whole groups.

  Part m of a batch has the rows m, m + count, …, as it is cut everywhere.

  Args:
    tree: Arrays (B, …); `count` times `size` divides B.
    count: Parts.
    size: Rows of a group, which lie side by side, and then do so in their part.
    back: Whether rows are brought back to where they were.
  """
  if count == 1 or size == 1:
    return tree

  def moved(x):
    inner = (size, count) if back else (count, size)
    rows = len(x)  # -1 means nothing where x is empty
    x = x.reshape(rows // (count * size), *inner, *x.shape[1:])
    return x.swapaxes(1, 2).reshape(rows, *x.shape[3:])

  return jax.tree.map(moved, tree)


def gap(rollout: Rollout, log_learner: jax.Array) -> dict[str, jax.Array]:
  """How far sampler and learner are apart, over all places of answers.

  Args:
    rollout: With the sampler's log-probabilities.
    log_learner: The learner's, (B, N).

  Returns:
    mean: Mean absolute difference of log-probabilities, float32 ().
    rows: The same of each answer, float32 (B,).
    correlation: Pearson's, of the probabilities' logarithms; 1 where nothing
      varies.
    within: Share of the ratios in [0.99, 1.01].
  """
  mask = rollout.mask
  count = jnp.maximum(mask.sum(), 1)
  difference = jnp.where(mask, log_learner - rollout.log_probs, 0.0)
  apart = jnp.abs(difference)
  lengths = jnp.maximum(rollout.lengths, 1)
  pair = [
    jnp.where(mask, x - jnp.where(mask, x, 0.0).sum() / count, 0.0)
    for x in (log_learner, rollout.log_probs)
  ]
  product = (pair[0] * pair[1]).sum()
  scale = jnp.sqrt((pair[0] ** 2).sum() * (pair[1] ** 2).sum())
  ratio = jnp.exp(difference)
  near = mask & (ratio >= 0.99) & (ratio <= 1.01)
  return {
    'mean': apart.sum() / count,
    'rows': apart.sum(1) / lengths,
    'correlation': jnp.where(scale > 0, product / scale, 1.0),
    'within': near.sum() / count,
  }
