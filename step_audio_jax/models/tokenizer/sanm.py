"""SAN-M blocks: self-attention with an FSMN memory branch.

    q, k, v = W_qkv LN(x)
    x ← x + W_o Attention(q, k, v) + v + Σ_j w_j ⊙ v_{t+j−5}     (FSMN)
    x ← x + W_2 relu(W_1 LN(x))

after FunASR's `SANMEncoderChunkOpt` (SAN-M, arXiv 2006.01713). They run on
windows of frames; which windows there are is the encoder's matter
(`paraformer`).

Axes: B rows, T frames, C chunks, W frames of a window, S keys (look-back, then
window), D width, H heads, K head width, J taps.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp

from step_audio_jax.kernels.attention import windows
from step_audio_jax.models import layers
from step_audio_jax.models.tokenizer import paraformer_config


def layer_norm(name: str, epsilon: float = 1e-12) -> nn.LayerNorm:
  """LayerNorm in float32 with named axes."""
  return layers.layer_norm(name, epsilon)


class Sanm(nn.Module):
  """Attention plus FSMN memory over windows; attributes as in `Block`."""

  config: paraformer_config.ParaformerConfig
  newest: int | None = None

  @nn.compact
  def __call__(self, qkv_BCWD, where, cache):
    """Args as `Block`; returns BCWD and the updated cache."""
    c = self.config
    q, k, v = jnp.split(qkv_BCWD, 3, axis=-1)
    v = jnp.where(where['valid_BCW'][..., None], v, 0.0)
    mask_BCWS = where['key_valid_BCS'][:, :, None]
    spec, look_back, kept, window = where.get('spec'), 0, 0, k.shape[2]
    if spec is not None:
      look_back, kept = spec.look_back, spec.stride
      k, v = (windows.pad_left_windows(x, look_back) for x in (k, v))
      mask_BCWS = mask_BCWS & spec.visible()[None, None]
    elif mask_BCWS.shape[-1] > window:
      look_back, kept = c.look_back, c.chunk
      before = cache or {'key': None, 'value': None}
      k, key = self._line(k, before['key'])
      v, value = self._line(v, before['value'])
      cache = cache and {'key': key, 'value': value}
    # Cut behind the reshape, or XLA reads the window's own frames from before
    # the padding and adds the projection's bias again for every query.
    keys, values = (
      windows.pieces(self._heads(x), look_back, kept, window) for x in (k, v)
    )
    memory_BCWHK = self._fsmn(values[-1], where['valid_BCW'])
    if self.newest is not None:
      q = q[:, :, -self.newest :]
      memory_BCWHK = memory_BCWHK[:, :, -self.newest :]
    out_BCWHK = windows.attention(self._heads(q), keys, values, mask_BCWS)
    flat = (*out_BCWHK.shape[:3], c.width)
    out_BCWD = out_BCWHK.reshape(flat)
    out_BCWD = layers.dense(c.width, ('heads', 'embed'), 'out')(out_BCWD)
    return out_BCWD + memory_BCWHK.reshape(flat), cache

  def _fsmn(self, v_BCWHK, valid_BCW):
    """Depthwise convolution over time as a sum of products.

    XLA's grouped convolution is several times slower on a CPU.
    """
    c = self.config
    kernel_JD = self.param(
      'fsmn',
      nn.with_logical_partitioning(
        nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform'),
        (None, 'heads'),
      ),
      (c.kernel, c.width),
    )
    kernel_JHK = kernel_JD.reshape(c.kernel, *v_BCWHK.shape[3:])
    half, window = c.kernel // 2, v_BCWHK.shape[2]
    memory = v_BCWHK
    if window <= c.kernel:
      # Frame by frame, for all that see it: nothing is padded or copied.
      rows = ((window, window), (0, 0), (0, 0))
      turned = jnp.pad(kernel_JHK[::-1], rows)
      for frame in range(window):
        begin = window + half - frame
        taps_WHK = turned[begin : begin + window]
        memory += v_BCWHK[:, :, frame, None] * taps_WHK[None, None]
    else:
      rows = ((0, 0), (0, 0), (half, half), (0, 0), (0, 0))
      padded = jnp.pad(v_BCWHK, rows)
      for tap in range(c.kernel):
        shifted = padded[:, :, tap : tap + window]
        memory += shifted * kernel_JHK[tap][None, None, None]
    return jnp.where(valid_BCW[..., None, None], memory, 0.0)

  def _line(self, x_BCWD, cached_BND):
    """Windows behind those that earlier ones put into the cache.

    Returns:
      (B, look_back + C, W', D), W' at least a chunk where there is a cache,
      and the cache (B, N, D) behind the last window.
    """
    c = self.config
    rows, _, window, width = x_BCWD.shape
    size = c.chunk * c.look_back
    if cached_BND is None:
      line = windows.pad_left_windows(x_BCWD, c.look_back)
    else:
      past = cached_BND.reshape(rows, c.look_back, c.chunk, width)
      longest = max(window, c.chunk)
      both = (
        jnp.pad(x, ((0, 0), (0, 0), (0, longest - x.shape[2]), (0, 0)))
        for x in (past, x_BCWD)
      )
      line = jnp.concatenate(list(both), axis=1)
      kept_BND = x_BCWD[:, :, : window - c.overlap].reshape(rows, -1, width)
      cached_BND = jnp.concatenate([cached_BND, kept_BND], axis=1)[:, -size:]
    return line, cached_BND

  def _heads(self, x):
    """Splits the last axis, (…, D) → (…, H, K)."""
    return x.reshape(*x.shape[:-1], self.config.heads, -1)


class Block(nn.Module):
  """One SAN-M block; the first one also cuts its projections into windows.

  Attributes:
    config: Of the encoder.
    first: Whether the block is the first.
    newest: Frames of each window, counted from its end, that are wanted of
      the block; all by default.
  """

  config: paraformer_config.ParaformerConfig
  first: bool = False
  newest: int | None = None

  @nn.compact
  def __call__(self, x, where, cache):
    """Runs the block.

    Args:
      x: (B, C, W, D), or in the first block the frames (B, T', input_size),
        or windows of them.
      where: `valid_BCW`, `key_valid_BCS`, and `spec` for training chunks.
      cache: `key` and `value` (B, look_back · chunk, D) or None.

    Returns:
      (B, C, W, D), or (B, C, newest, D), and the updated cache.
    """
    c = self.config
    h = layer_norm('attention_norm')(x)
    qkv = layers.dense(3 * c.width, ('embed', 'heads'), 'qkv')(h)
    if x.ndim == 3:
      # A frame of several windows is projected once.
      chunks = where['valid_BCW'].shape[1]
      qkv = cut_windows(qkv, c.chunk, c.overlap + c.chunk, chunks)
    out, cache = Sanm(c, self.newest, name='attention')(qkv, where, cache)
    x = out if self.first else x[:, :, -out.shape[2] :] + out
    h = layer_norm('mlp_norm')(x)
    h = nn.relu(layers.dense(c.mlp_width, ('embed', 'mlp'), 'up')(h))
    return x + layers.dense(c.width, ('mlp', 'embed'), 'down')(h), cache


def cut_windows(
  x_BTD: jax.Array, size: int, window: int, chunks: int
) -> jax.Array:
  """Cuts `chunks` windows, one every `size` frames; one window is all.

  Joined from slices: the gradient of a gather is a slow scatter on a CPU.
  """
  if chunks == 1:
    return x_BTD[:, None]
  parts = -(-window // size)
  rows, total, width = x_BTD.shape
  right = (chunks + parts - 1) * size - total
  x = jnp.pad(x_BTD, ((0, 0), (0, right), (0, 0)))
  x = x.reshape(rows, -1, size, width)
  joined = [x[:, i : i + chunks] for i in range(parts)]
  return jnp.concatenate(joined, axis=2)[:, :, :window]
