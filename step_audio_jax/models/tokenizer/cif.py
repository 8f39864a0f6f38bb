"""Continuous integrate-and-fire: frames → one vector for each token.

    α_t = σ(w · relu(conv h)_t),  S_t = α_1 + … + α_t
    c_j = Σ_t |[S_{t−1}, S_t] ∩ [j, j + 1]| h_t

A frame has the weight α_t; weights are added up, and whenever the sum passes
an integer a token fires: its vector is the weighted sum of the frames since
the one before, a frame at the border being shared. This is Paraformer's
predictor (arXiv 2206.08317; CIF: arXiv 1905.11235), in closed form instead of
a loop over frames. In training α is scaled so that exactly as many tokens fire
as there are labels, and a quantity loss |Σα − labels| teaches the sum; at
inference a tail of weight `TAIL` behind the last frame lets a token fire that
is nearly complete. Two differences: where α > 1 several tokens fire in one
frame (the original's loop fires one a frame), and the last token of a row does
not depend on how the sum was rounded.

Paraformer reads the vectors with a parallel decoder, trained with a sampler of
its own outputs. `CifHead` reads them with one linear layer, this project's
choice: the tokenizer keeps only the encoder, and whatever a decoder learns is
thrown away with it.

Axes: B rows, T frames, N tokens, D width.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp

from step_audio_jax.models import layers

TAIL = 0.45


def scale_to_counts(alpha_BT: jax.Array, counts_B: jax.Array) -> jax.Array:
  """α of each row times what makes its sum `counts_B`."""
  total_B = jnp.maximum(alpha_BT.sum(axis=1), 1e-6)
  return alpha_BT * (counts_B / total_B)[:, None]


def token_weights(alpha_BT: jax.Array, tokens: int) -> jax.Array:
  """What of each frame goes to each of the first `tokens` tokens, (B, N, T).

  A row of the result sums to 1 where the token fired, to less where the
  weights ended before.
  """
  end_BT = jnp.cumsum(alpha_BT, axis=1)
  start_BT = jnp.pad(end_BT[:, :-1], ((0, 0), (1, 0)))
  token_1N1 = jnp.arange(tokens, dtype=alpha_BT.dtype)[None, :, None]
  upper = jnp.minimum(end_BT[:, None, :], token_1N1 + 1)
  lower = jnp.maximum(start_BT[:, None, :], token_1N1)
  return jnp.maximum(upper - lower, 0.0)


def integrate_and_fire(
  hidden_BTD: jax.Array, alpha_BT: jax.Array, tokens: int
) -> jax.Array:
  """Vectors of the first `tokens` tokens, (B, N, D)."""
  return jnp.einsum('BNT,BTD->BND', token_weights(alpha_BT, tokens), hidden_BTD)


def append_tail(
  hidden_BTD: jax.Array,
  alpha_BT: jax.Array,
  lengths_B: jax.Array,
  tail: float = TAIL,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Inference: a frame of zeros and weight `tail` behind each row's last one.

  Args:
    hidden_BTD: Frames.
    alpha_BT: Their weights, 0 behind a row's length.
    lengths_B: Frames of each row.
    tail: Weight.

  Returns:
    Frames (B, T + 1, D), weights (B, T + 1) and the tokens of each row (B,).
  """
  count = hidden_BTD.shape[1] + 1
  place_BT = jnp.arange(count)[None, :]
  alpha_BT = jnp.pad(alpha_BT, ((0, 0), (0, 1)))
  alpha_BT += jnp.where(place_BT == lengths_B[:, None], tail, 0.0)
  hidden_BTD = jnp.pad(hidden_BTD, ((0, 0), (0, 1), (0, 0)))
  inside = place_BT < lengths_B[:, None]
  hidden_BTD = jnp.where(inside[:, :, None], hidden_BTD, 0.0)
  counts_B = jnp.floor(alpha_BT.sum(axis=1)).astype(jnp.int32)
  return hidden_BTD, alpha_BT, counts_B


class CifHead(nn.Module):
  """Predictor of the weights, and a linear head on the fired vectors.

  Attributes:
    width: Of the frames.
    labels: Size of the label set, the blank (id 0, never a target) included.
    kernel: Taps of the convolution, odd; the original's is 3.
  """

  width: int
  labels: int
  kernel: int = 3

  def setup(self):
    # One matrix for all taps, (kernel · D, D).
    self.convolution = layers.dense(self.width, (None, 'embed'), None)
    self.weight = layers.dense(1, ('embed', None), None)
    self.head = layers.dense(self.labels, ('embed', 'vocab'), None)

  def alpha(self, hidden_BTD: jax.Array, lengths_B: jax.Array) -> jax.Array:
    """Weights (B, T) in 0 … 1, and 0 behind a row's length."""
    count, half = hidden_BTD.shape[1], self.kernel // 2
    inside_BT = jnp.arange(count)[None, :] < lengths_B[:, None]
    x = jnp.where(inside_BT[:, :, None], hidden_BTD, 0.0)
    x = jnp.pad(x, ((0, 0), (half, half), (0, 0)))
    taps = [x[:, tap : tap + count] for tap in range(self.kernel)]
    x = nn.relu(self.convolution(jnp.concatenate(taps, axis=-1)))
    alpha_BT = jax.nn.sigmoid(self.weight(x)[:, :, 0])
    return jnp.where(inside_BT, alpha_BT, 0.0)

  def __call__(
    self,
    hidden_BTD: jax.Array,
    lengths_B: jax.Array,
    counts_B: jax.Array,
    tokens: int,
  ) -> tuple[jax.Array, jax.Array]:
    """Training: as many tokens as labels.

    Args:
      hidden_BTD: Frames.
      lengths_B: Frames of each row.
      counts_B: Labels of each row.
      tokens: N, at least the largest of them.

    Returns:
      Logits (B, N, labels) and the weights before scaling (B, T).
    """
    alpha_BT = self.alpha(hidden_BTD, lengths_B)
    vectors = integrate_and_fire(
      hidden_BTD, scale_to_counts(alpha_BT, counts_B), tokens
    )
    return self.head(vectors), alpha_BT

  def spell(
    self, hidden_BTD: jax.Array, lengths_B: jax.Array, tokens: int
  ) -> tuple[jax.Array, jax.Array]:
    """Inference: labels (B, N) int32 and how many of them fired (B,)."""
    alpha_BT = self.alpha(hidden_BTD, lengths_B)
    hidden, alpha, counts_B = append_tail(hidden_BTD, alpha_BT, lengths_B)
    logits = self.head(integrate_and_fire(hidden, alpha, tokens))
    best = logits[..., 1:].argmax(-1).astype(jnp.int32) + 1
    return best, jnp.minimum(counts_B, tokens)


def losses(
  logits_BNL: jax.Array,
  alpha_BT: jax.Array,
  labels_BN: jax.Array,
  counts_B: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Cross-entropy of the labels and quantity loss |Σα − labels| of each row.

  Args:
    logits_BNL: Of `CifHead`.
    alpha_BT: Weights before scaling.
    labels_BN: Ids; what is behind a row's count does not matter.
    counts_B: Labels of each row.

  Returns:
    Two arrays (B,).
  """
  wanted_BN = jnp.arange(labels_BN.shape[1])[None, :] < counts_B[:, None]
  log_BNL = jax.nn.log_softmax(logits_BNL)
  picked = jnp.take_along_axis(log_BNL, labels_BN[:, :, None], axis=-1)[..., 0]
  entropy_B = -jnp.where(wanted_BN, picked, 0.0).sum(axis=1)
  return entropy_B, jnp.abs(alpha_BT.sum(axis=1) - counts_B)
