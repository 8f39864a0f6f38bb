"""Paraformer's encoder: blocks of `sanm`, and the heads that train it.

After FunASR's `SANMEncoderChunkOpt` (Paraformer, arXiv 2206.08317; SAN-M,
arXiv 2006.01713). The first block maps the input width to the model's and has
no residual around its attention. The encoder runs in three ways that share
their parameters:

* over the whole utterance, with padding masked;
* in windows: each chunk of 4 new frames behind the 5 frames before it, with
  keys and values of the 4 chunks before. This is what streaming computes.
  Cached keys come from the chunk windows of the same layer, so all chunks of a
  layer run at once;
* the same from caches on: one chunk at a time for live audio, or many at once
  for long recordings.

Step-Audio's linguistic codes are taken from the windowed form.

Axes: B rows, T frames, C chunks, W frames of a window, S keys (look-back, then
window), D width.
"""

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax.models import blocks as blocks_lib
from step_audio_jax.models import layers
from step_audio_jax.models.tokenizer import chunk_masked as chunk_masked_lib
from step_audio_jax.models.tokenizer import cif as cif_lib
from step_audio_jax.models.tokenizer import paraformer_config
from step_audio_jax.models.tokenizer import sanm

ParaformerConfig = paraformer_config.ParaformerConfig
Cache = dict[str, jax.Array]


def positions(start_B: jax.Array, count: int, width: int) -> jax.Array:
  """Sinusoids, sines then cosines, (B, count, width), from `start_B` on.

  The first frame of an utterance stands at position 1.
  """
  half = width // 2
  step = np.log(10000.0) / (half - 1)
  rates_D = np.exp(-step * np.arange(half)).astype(np.float32)
  place_BT = start_B[:, None] + jnp.arange(count)[None, :]
  angle_BTD = place_BT[:, :, None].astype(jnp.float32) * rates_D[None, None, :]
  return jnp.concatenate([jnp.sin(angle_BTD), jnp.cos(angle_BTD)], axis=-1)


class SanmEncoder(nn.Module):
  """The encoder; see the module's text for its three ways to run.

  Parameters of the blocks behind the first may be those of `blocks.unstack`.
  """

  config: ParaformerConfig

  def setup(self):
    c = self.config
    self.first_block = sanm.Block(c, first=True)
    self.blocks = nn.scan(
      sanm.Block,
      variable_axes={'params': 0, 'intermediates': 0},
      split_rngs={'params': True},
      in_axes=(nn.broadcast, 0),
      out_axes=0,
      length=c.layers - 1,
      unroll=c.scan_unroll,
      metadata_params={nn.PARTITION_NAME: 'layers'},
    )(c)
    self.final_norm = sanm.layer_norm(None)

  def __call__(self, features_BTF: jax.Array, lengths_B: jax.Array):
    """Runs over whole utterances.

    Args:
      features_BTF: Stacked features after CMVN.
      lengths_B: Frames of each row; what is behind does not matter.

    Returns:
      (B, T, D); rows behind a row's length hold nothing of use.
    """
    x_BTF = self._embed(features_BTF, jnp.ones_like(lengths_B))
    valid_B1T = _before(lengths_B, x_BTF.shape[1])[:, None]
    out, _ = self._run(x_BTF, valid_B1T, valid_B1T)
    return out[:, 0]

  def windowed(self, features_BTF: jax.Array, lengths_B: jax.Array):
    """Runs all streaming windows of the utterances at once.

    Same arguments, results and numbers as feeding `step` chunk by chunk.
    """
    c = self.config
    rows, total, _ = features_BTF.shape
    x_BTF = self._embed(features_BTF, jnp.ones_like(lengths_B))
    right = -total % c.chunk
    # The frames before the first are zeros that are attended to.
    x_BTF = jnp.pad(x_BTF, ((0, 0), (c.overlap, right), (0, 0)))
    filled_B = jnp.zeros((rows,), jnp.int32)
    out, _ = self._run_windows(x_BTF, lengths_B, filled_B, newest=c.chunk)
    return out.reshape(rows, total + right, c.width)[:, :total]

  def chunk_masked(
    self,
    features_BTF: jax.Array,
    lengths_B: jax.Array,
    spec: chunk_masked_lib.ChunkSpec,
  ) -> jax.Array:
    """Runs overlapping training chunks; see `models.tokenizer.chunk_masked`.

    Returns:
      (B, T, D), zeros behind a row's length.
    """
    out_BCWD = self.training_chunks(features_BTF, lengths_B, spec)
    return spec.joined(out_BCWD, lengths_B, features_BTF.shape[1])

  def training_chunks(self, features_BTF, lengths_B, spec):
    """As `chunk_masked`, with all that the chunks hold, (B, C, W, D)."""
    total = features_BTF.shape[1]
    x_BTF = self._embed(features_BTF, jnp.ones_like(lengths_B))
    x_BTF = spec.padded(x_BTF, lengths_B)
    x_BCWF = sanm.cut_windows(x_BTF, spec.stride, spec.size, spec.chunks(total))
    valid_BCW = spec.valid(lengths_B, total)
    keys_BCS = spec.keys_valid(valid_BCW)
    out_BCWD, _ = self._run(x_BCWF, valid_BCW, keys_BCS, spec=spec)
    return out_BCWD

  def resume(self, features_BTF: jax.Array, lengths_B: jax.Array, cache: Cache):
    """Runs the windows that follow those behind `cache`, all at once.

    Args:
      features_BTF: T new frames, whole chunks.
      lengths_B: Frames of each row; a row with fewer than T ends with them.
      cache: Of `init_cache` or of an earlier call.

    Returns:
      (B, T, D), the same numbers as from `step`, and the next cache; that of
      a row that has ended is of no use.
    """
    newest = min(self.config.chunk, features_BTF.shape[1])
    out_BCWD, cache = self._resume(features_BTF, lengths_B, cache, newest)
    return out_BCWD.reshape(*features_BTF.shape[:2], -1), cache

  def step(self, features_BTF: jax.Array, cache: Cache):
    """Runs one chunk of 1 … `chunk` new frames.

    Returns:
      (B, T, D) of the new frames and the cache for the next chunk.
    """
    rows, count, _ = features_BTF.shape
    return self.resume(features_BTF, jnp.full((rows,), count), cache)

  def step_window(self, features_BTF: jax.Array, cache: Cache):
    """As `step`, with the outputs of the whole window (B, overlap + T, D)."""
    rows, count, _ = features_BTF.shape
    lengths_B = jnp.full((rows,), count, jnp.int32)
    out_BCWD, cache = self._resume(features_BTF, lengths_B, cache)
    return out_BCWD[:, 0], cache

  def _resume(self, features_BTF, lengths_B, cache, newest=None):
    c, count = self.config, features_BTF.shape[1]
    x_BTF = self._embed(features_BTF, cache['position'])
    x_BTF = jnp.concatenate([cache['frames'], x_BTF], axis=1)
    layers = {name: cache[name] for name in ('key', 'value')}
    out, layers = self._run_windows(
      x_BTF, lengths_B, cache['filled'], layers, newest
    )
    size = c.chunk * c.look_back
    return out, {
      **layers,
      'frames': x_BTF[:, -c.overlap :],
      'position': cache['position'] + count,
      'filled': jnp.minimum(cache['filled'] + count, size),
    }

  def _run_windows(self, x_BTF, lengths_B, filled_B, layers=None, newest=None):
    """Frames behind `overlap` earlier ones → windows (B, C, W, D), caches."""
    c = self.config
    chunks = -(-(x_BTF.shape[1] - c.overlap) // c.chunk)
    valid = _before(lengths_B + c.overlap, x_BTF.shape[1])
    window = c.overlap + c.chunk
    cut = sanm.cut_windows(valid[:, :, None], c.chunk, window, chunks)
    valid_BCW = cut[..., 0]
    size = c.chunk * c.look_back
    place_CS = np.arange(chunks)[:, None] * c.chunk + np.arange(size)[None, :]
    past_BCS = place_CS[None] >= size - filled_B[:, None, None]
    key_valid_BCS = jnp.concatenate([past_BCS, valid_BCW], axis=2)
    return self._run(x_BTF, valid_BCW, key_valid_BCS, layers, newest=newest)

  def _embed(self, features_BTF, start_B):
    """Scales by √width (the model's, not the input's), adds positions."""
    _, count, width = features_BTF.shape
    scaled = features_BTF * np.float32(self.config.width**0.5)
    return scaled + positions(start_B, count, width)

  def _run(
    self, x_BTF, valid_BCW, key_valid_BCS, cache=None, spec=None, newest=None
  ):
    """All blocks → windows, or their `newest` frames; and the caches."""
    where = {
      'valid_BCW': valid_BCW,
      'key_valid_BCS': key_valid_BCS,
      'spec': spec,
    }
    first = jax.tree.map(lambda x: x[0], cache)
    rest = jax.tree.map(lambda x: x[1:], cache)
    x, first = self.first_block(x_BTF, where, first)
    apart = blocks_lib.unstacked(self, 'blocks')
    if apart is None:
      x, rest = self.blocks(x, where, rest)
    else:
      x, rest = self._run_apart(apart, x, where, rest, newest)
    if newest is not None:
      x = x[:, :, -newest:]
    cache = jax.tree.map(
      lambda a, b: jnp.concatenate([a[None], b]), first, rest
    )
    return self.final_norm(x), cache

  def _run_apart(self, params, x, where, caches, newest):
    """As the scan over blocks; of the last only the wanted frames are run."""
    new = []
    for number, one in enumerate(params):
      last = number == len(params) - 1
      block = sanm.Block(
        self.config, newest=newest if last else None, parent=None
      )
      cache = jax.tree.map(lambda x, n=number: x[n], caches)
      x, cache = block.apply({'params': one}, x, where, cache)
      new.append(cache)
    return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *new)


def _before(lengths_B: jax.Array, count: int) -> jax.Array:
  return jnp.arange(count)[None, :] < lengths_B[:, None]


def init_cache(config: ParaformerConfig, rows: int) -> Cache:
  """The cache of `rows` utterances that have not begun."""
  size = config.chunk * config.look_back
  shape = (config.layers, rows, size, config.width)
  return {
    'key': jnp.zeros(shape, jnp.float32),
    'value': jnp.zeros(shape, jnp.float32),
    'frames': jnp.zeros((rows, config.overlap, config.input_size)),
    'position': jnp.ones((rows,), jnp.int32),
    'filled': jnp.zeros((rows,), jnp.int32),
  }


class ParaformerCTC(nn.Module):
  """The encoder with its heads: how the linguistic tokenizer is trained.

  Paraformer's own training (CIF predictor and decoder) supervises the same
  encoder. Here CTC and, where asked for, a CIF head do, in any mixture.

  Attributes:
    config: Of the encoder.
    labels: Size of the label set, the blank (id 0) included.
    windowed: Train on the streaming windows, the form that yields codes.
    cif: Whether there is a CIF head.
  """

  config: ParaformerConfig
  labels: int
  windowed: bool = True
  cif: bool = False

  def setup(self):
    self.encoder = SanmEncoder(self.config)
    self.head = layers.dense(self.labels, ('embed', 'vocab'), None)
    if self.cif:
      self.cif_head = cif_lib.CifHead(self.config.width, self.labels)

  def __call__(
    self,
    features_BTF: jax.Array,
    lengths_B: jax.Array,
    spec: chunk_masked_lib.ChunkSpec | None = None,
  ) -> tuple[Any, Any]:
    """Returns hidden states (B, T, D) and CTC logits (B, T, labels).

    Args:
      features_BTF: Stacked features after CMVN.
      lengths_B: Frames of each row.
      spec: Train on overlapping chunks instead.
    """
    if spec is not None:
      hidden_BTD = self.encoder.chunk_masked(features_BTF, lengths_B, spec)
    elif self.windowed:
      hidden_BTD = self.encoder.windowed(features_BTF, lengths_B)
    else:
      hidden_BTD = self.encoder(features_BTF, lengths_B)
    return hidden_BTD, self.head(hidden_BTD)

  def both(
    self,
    features_BTF: jax.Array,
    lengths_B: jax.Array,
    counts_B: jax.Array,
    tokens: int,
    spec: chunk_masked_lib.ChunkSpec | None = None,
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """CTC logits, and logits and weights of the CIF head; see there."""
    hidden_BTD, logits_BTL = self(features_BTF, lengths_B, spec)
    token_BNL, alpha_BT = self.cif_head(hidden_BTD, lengths_B, counts_B, tokens)
    return logits_BTL, token_BNL, alpha_BT
