"""HiFT: log-mel → waveform, a harmonic source shaped by an iSTFT network.

    f0 = |predict(mel)|,  source = tanh(w · sines(f0))        models.harmonics
    x  = conv(mel)
    x  = blocks(up(leaky(x)) + block(down(STFT(source))))     at each level
    magnitude, phase = exp, sin of conv(leaky(x))
    wave = iSTFT(min(magnitude, 100), phase), cut to ±limit

as in HiFTNet (arXiv 2309.09493) and CosyVoice (arXiv 2407.05407). The random
initial phases and the noise are inputs. The released layouts are 22.05 kHz
(the defaults) and 24 kHz, 480 samples a frame (`HIFT_24K`).

A causal variant, this project's: convolutions are padded on the left, only the
first ones see `look_ahead` mel frames ahead, and the transforms are laid so
that the samples of a mel frame wait for no later one. Its parameters have the
same names and shapes.

Axes: B rows, W mel frames of a window, T frames, M mel bands, S samples, H
harmonics, K bins, C channels.
"""

from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax.models.vocoder import harmonic_source
from step_audio_jax.models.vocoder import hift_config
from step_audio_jax.models.vocoder import layers
from step_audio_jax.models.vocoder import stft

HiftConfig = hift_config.HiftConfig
HIFT_24K = HiftConfig(
  sample_rate=24000,
  upsample_rates=(8, 5, 3),
  upsample_kernels=(16, 11, 7),
  source_resblock_kernels=(7, 7, 11),
  source_resblock_dilations=((1, 3, 5),) * 3,
)
_LOUDEST = 100.0
_LAST_SLOPE = 0.01  # before the last convolution, whatever the levels have


class Part(NamedTuple):
  """The wanted frames of a window, for `Hift.wave`.

  Attributes:
    first_B: Index of the first wanted mel frame in the window.
    size: How many are wanted, the same of every row.
  """

  first_B: jax.Array
  size: int


class Hift(nn.Module):
  """The vocoder."""

  config: HiftConfig

  def setup(self):
    c = self.config
    self.f0_predictor = layers.F0Predictor(c)
    self.merge = nn.Dense(1)
    self.conv_pre = layers.Conv(c.channels, 7, c.pre_pads)
    ups, downs, source_blocks, blocks = [], [], [], []
    for i, rate in enumerate(c.upsample_rates):
      width = c.width(i)
      ups.append(layers.Upsample(width, c.upsample_kernels[i], rate, c.cut(i)))
      kernel, stride, pads = c.down(i)
      downs.append(layers.Conv(width, kernel, pads, stride=stride))
      source_blocks.append(
        layers.ResBlock(
          c, c.source_resblock_kernels[i], c.source_resblock_dilations[i]
        )
      )
      blocks.append(
        [
          layers.ResBlock(c, kernel, dilations)
          for kernel, dilations in zip(c.resblock_kernels, c.resblock_dilations)
        ]
      )
    self.up, self.source_down = ups, downs
    self.source_block, self.block = source_blocks, blocks
    self.conv_post = layers.Conv(c.istft_fft + 2, 7, c.post_pads)

  def __call__(
    self, mel_BTM: jax.Array, phase_BH: jax.Array, noise_BSH: jax.Array
  ) -> jax.Array:
    """Mel → waveform (B, S) in one go; see `source` and `wave`."""
    f0_BT = self.f0(mel_BTM)
    return self.wave(mel_BTM, self.source(f0_BT, phase_BH, noise_BSH))

  def f0(
    self, mel_BTM: jax.Array, frames_B: jax.Array | None = None
  ) -> jax.Array:
    """Hz of each frame (B, T), not negative."""
    return self.f0_predictor(mel_BTM, frames_B)

  def sines(
    self,
    f0_BT: jax.Array,
    phase_BH: jax.Array,
    noise_BSH: jax.Array,
    begin_BH: jax.Array | None = None,
  ) -> jax.Array:
    """Harmonics and noise before they are merged, (B, S, H)."""
    c = self.config
    return harmonic_source.harmonics_and_noise(
      f0_BT,
      phase_BH,
      noise_BSH,
      rate=c.sample_rate,
      hop=c.hop,
      amplitude=c.sine_amplitude,
      deviation=c.noise_deviation,
      voiced_hz=c.voiced_hz,
      begin_BH=begin_BH,
    )

  def source(
    self,
    f0_BT: jax.Array,
    phase_BH: jax.Array,
    noise_BSH: jax.Array,
    begin_BH: jax.Array | None = None,
  ) -> jax.Array:
    """The excitation.

    Args:
      f0_BT: Hz of each frame.
      phase_BH: Initial phases in radians, uniform in ±π; the fundamental's
        counts as 0. H = harmonics + 1.
      noise_BSH: Standard normal.
      begin_BH: Phases before the first sample, of
        `models.vocoder.harmonic_source.advance_phases`; by default 0.

    Returns:
      Samples (B, S), S = T · hop.
    """
    x_BSH = self.sines(f0_BT, phase_BH, noise_BSH, begin_BH)
    return jnp.tanh(self.merge(x_BSH)[..., 0])

  def wave(
    self,
    mel_BTM: jax.Array,
    source_BS: jax.Array,
    frames_B: jax.Array | None = None,
    part: Part | None = None,
  ) -> jax.Array:
    """The waveform.

    Args:
      mel_BTM: Log-mel.
      source_BS: Excitation, hop samples a frame.
      frames_B: Frames of each row; None means all. Samples behind a row's end
        mean nothing.
      part: The frames whose samples are wanted; None means all. Each level
        computes only what they need, which has to be in the window: `context`
        of the configuration says how much, where the signal does not begin or
        end.

    Returns:
      Samples (B, S) in ±limit, S = hop times the wanted frames.
    """
    wave_BS = self.unclamped(mel_BTM, source_BS, frames_B, part)
    return jnp.clip(wave_BS, -self.config.limit, self.config.limit)

  def unclamped(self, mel_BTM, source_BS, frames_B=None, part=None):
    """As `wave`, before the samples are cut to ±limit."""
    c = self.config
    log_magnitude, phase, frames, cut = self._spectrum(
      mel_BTM, source_BS, frames_B, part
    )
    counts = None
    if frames is not None:
      counts = frames * c.units[-1] + (not c.causal)
    wave_BS = stft.inverse_stft(
      # Cut before exp: one that overflows has no finite gradient.
      jnp.exp(jnp.minimum(log_magnitude, np.float32(np.log(_LOUDEST)))),
      phase,
      c.istft_hop,
      counts,
      c.causal,
    )
    return cut(wave_BS)

  def spectrum(
    self, mel_BTM: jax.Array, source_BS: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Magnitudes, before they are cut, and phases (B, T, K) of the head."""
    log_magnitude, phase, _, _ = self._spectrum(mel_BTM, source_BS, None, None)
    return jnp.exp(log_magnitude), phase

  def _spectrum(self, mel_BTM, source_BS, frames_B, part):
    c = self.config
    x, first_B = mel_BTM, None  # of what x holds, in frames of the window
    fourier = None
    for i, unit in enumerate(c.units):
      source = source_BS
      if part is not None:
        before = None if first_B is None else first_B
        left, right = c.levels[i]
        first_B = jnp.maximum(part.first_B - left, 0)
        size = min(left + part.size + right, mel_BTM.shape[1])
        shift_B = first_B if before is None else first_B - before
        x = _cut(x, shift_B, size, c.units[i - 1] if i else 1)
        source = _cut(source_BS[..., None], first_B, size, c.hop)[..., 0]
      counts_B = frames_B
      if frames_B is not None and first_B is not None:
        counts_B = jnp.maximum(frames_B - first_B, 0)

      def level(per_frame, more=0, counts_B=counts_B):
        return None if counts_B is None else counts_B * per_frame + more

      if i == 0:
        x = self.conv_pre(layers.mask_padding(x, counts_B))
      if fourier is None or part is not None:
        fourier = stft.stft(
          source, c.istft_fft, c.istft_hop, level(c.hop), c.causal
        )
      last = i + 1 == len(c.units)
      x = nn.leaky_relu(x, c.slope)
      x = self.up[i](layers.mask_padding(x, level(c.units[i - 1] if i else 1)))
      more = int(last and not c.causal)
      if more:
        x = jnp.pad(x, ((0, 0), (1, 0), (0, 0)), mode='reflect')
      finest = level(c.units[-1], int(not c.causal))
      s = self.source_down[i](layers.mask_padding(fourier, finest))
      # The transform has one frame more than the levels before the last.
      s = s[:, : x.shape[1]]
      s = self.source_block[i](s, level(unit, more))
      x = x + s
      x = sum(b(x, level(unit, more)) for b in self.block[i]) / len(
        self.block[i]
      )
    x = nn.leaky_relu(x, _LAST_SLOPE)
    x = self.conv_post(layers.mask_padding(x, level(c.units[-1], more)))
    bins = c.istft_fft // 2 + 1

    def cut(wave_BS):
      if part is None:
        return wave_BS
      shift_B = part.first_B - first_B
      return _cut(wave_BS[..., None], shift_B, part.size, c.hop)[..., 0]

    return x[..., :bins], jnp.sin(x[..., bins:]), counts_B, cut


def _cut(x_BTC, first_B, size, unit):
  """`size` mel frames from `first` on, of arrays of `unit` places a frame."""
  total = size * unit
  return jax.vmap(
    lambda x, start: jax.lax.dynamic_slice_in_dim(x, start, total)
  )(x_BTC, first_B * unit)
