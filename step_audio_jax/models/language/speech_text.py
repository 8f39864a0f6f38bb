"""The speech-text-image language model.

A transformer over one id space (text, linguistic and semantic codes); images
enter as projected patch features in the places of `<im_patch>` ids.

Axes as in `transformer` and `vision`.
"""

import dataclasses
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from step_audio_jax.models.language import decoding_layout
from step_audio_jax.models.language import transformer
from step_audio_jax.models.language import vision

TransformerConfig = transformer.TransformerConfig
VisionConfig = vision.VisionConfig


@dataclasses.dataclass(frozen=True)
class SpeechTextConfig:
  """A backbone and, where images are read, an encoder.

  Attributes:
    transformer: The backbone.
    vision: The image encoder; None for a model without eyes.
  """

  transformer: TransformerConfig
  vision: VisionConfig | None = None


class SpeechTextModel(nn.Module):
  """Tokens and images in, next-token logits out."""

  config: SpeechTextConfig

  def setup(self):
    self.transformer = transformer.Transformer(self.config.transformer)
    if self.config.vision is not None:
      self.vision = vision.VisionEncoder(self.config.vision)
      self.projector = vision.Projector(self.config.transformer.width)

  def __call__(
    self,
    tokens_BT: jax.Array,
    *,
    segment_ids_BT: jax.Array | None = None,
    positions_BT: jax.Array | None = None,
    images_BNHWC: jax.Array | None = None,
    image_slots_BN: jax.Array | None = None,
    cache: transformer.Cache | None = None,
  ):
    """Runs the model over packed rows.

    Args:
      tokens_BT: Ids, int32.
      segment_ids_BT: Document of each token, 0 for padding; all 1 if None.
      positions_BT: Place of each token in its document; 0..T-1 if None.
      images_BNHWC: uint8 pixels.
      image_slots_BN: First place of each image in its row; -1 for no image.
      cache: Of `init_cache`; the tokens are written behind what it holds.

    Returns:
      Logits BTV, float32; with a cache, (logits, updated cache).
    """
    x_BTE, new_cache = self.features(
      tokens_BT,
      segment_ids_BT=segment_ids_BT,
      positions_BT=positions_BT,
      images_BNHWC=images_BNHWC,
      image_slots_BN=image_slots_BN,
      cache=cache,
    )
    logits_BTV = self.transformer.logits(x_BTE)
    return logits_BTV if cache is None else (logits_BTV, new_cache)

  def features(
    self,
    tokens_BT: jax.Array,
    *,
    segment_ids_BT: jax.Array | None = None,
    positions_BT: jax.Array | None = None,
    images_BNHWC: jax.Array | None = None,
    image_slots_BN: jax.Array | None = None,
    cache: transformer.Cache | None = None,
    branches: tuple[int, int] | None = None,
  ) -> tuple[jax.Array, transformer.Cache | None]:
    """As `__call__`, up to the head: (normed BTE, updated cache).

    With `branches`, (count, length), each row ends in so many continuations of
    what comes before, which do not see each other.
    """
    B, T = tokens_BT.shape
    if segment_ids_BT is None:
      segment_ids_BT = jnp.ones((B, T), jnp.int32)
    if positions_BT is None:
      positions_BT = jnp.broadcast_to(jnp.arange(T, dtype=jnp.int32), (B, T))
    x_BTE = self.transformer.embed(tokens_BT)
    if self.config.vision is not None and (
      self.is_initializing() or images_BNHWC is not None
    ):
      if images_BNHWC is None:
        side = self.config.vision.image_size
        images_BNHWC = jnp.zeros((B, 1, side, side, 3), jnp.uint8)
        image_slots_BN = jnp.full((B, 1), -1, jnp.int32)
      x_BTE = self._see(x_BTE, images_BNHWC, image_slots_BN)
    return self.transformer(
      x_BTE,
      segment_ids_BT=segment_ids_BT,
      positions_BT=positions_BT,
      cache=cache,
      branches=branches,
    )

  def features_and_head(
    self, tokens_BT: jax.Array, **rows: Any
  ) -> tuple[jax.Array, jax.Array]:
    """(normed BTE, rows VE of the head): what a chunked loss multiplies."""
    x_BTE, _ = self.features(tokens_BT, **rows)
    return x_BTE, self.transformer.head_table()

  def _see(self, x_BTE, images_BNHWC, image_slots_BN):
    """Writes projected patches over the places that the images take."""
    B, T, _ = x_BTE.shape
    N, P = images_BNHWC.shape[1], self.config.vision.patches
    pixels = images_BNHWC.reshape(B * N, *images_BNHWC.shape[2:])
    features = jax.lax.stop_gradient(self.vision(pixels))
    patches_BME = self.projector(features).reshape(B, N * P, -1)
    places_BNP = image_slots_BN[:, :, None] + jnp.arange(P)[None, None]
    # A place past the row is dropped by the scatter: that is "no image".
    places_BNP = jnp.where(image_slots_BN[:, :, None] < 0, T, places_BNP)
    rows_B1 = jnp.arange(B)[:, None]
    return x_BTE.at[rows_B1, places_BNP.reshape(B, N * P)].set(
      patches_BME.astype(x_BTE.dtype), mode='drop'
    )

  def for_decoding(self, variables, tiles: bool = False):
    """Variables as a decoding loop reads them, see `decoding_layout`."""
    params, c = variables['params'], self.config.transformer
    laid = decoding_layout.for_decoding(
      nn.unbox(params['transformer']),
      c.layers,
      tied_head=c.tied_head,
      tiles=tiles,
    )
    return {**variables, 'params': {**params, 'transformer': laid}}

  def init_cache(self, batch: int, length: int) -> transformer.Cache:
    """An empty cache for `length` tokens a row."""
    return transformer.init_cache(self.config.transformer, batch, length)

  def move_cache(self, cache: transformer.Cache, rows_B, shift, length: int):
    """As `transformer.move_cache`."""
    return transformer.move_cache(
      self.config.transformer, cache, rows_B, shift, length
    )

  def put_cache(self, cache: transformer.Cache, some, rows):
    """As `transformer.put_cache`."""
    return transformer.put_cache(cache, some, rows)

  def repeat_cache(self, cache: transformer.Cache, count: int):
    """A cache in which each row stands `count` times, side by side."""
    return transformer.repeat_cache(cache, count)
