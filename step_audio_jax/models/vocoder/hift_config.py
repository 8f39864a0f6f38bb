"""The shape of a HiFT vocoder, and how far its outputs look.

Everything that a window of a long mel needs is worked out here, once, from the
kernels: `levels` says how many mel frames around the wanted ones each level has
to compute, `context` how many of them the whole network reads.
"""

import dataclasses
import math

from step_audio_jax import errors

_PRE, _POST, _F0 = 7, 7, 3  # kernels that no released layout varies
F0_LAYERS = 5


@dataclasses.dataclass(frozen=True)
class HiftConfig:
  """Shape; the defaults are the released 22.05 kHz vocoder's.

  Attributes:
    bands: Mel bands M.
    channels: Width before the first up-sampling; each level halves it.
    sample_rate: Hz.
    harmonics: Sines above the fundamental.
    upsample_rates: Of the levels.
    upsample_kernels: Of the levels' transposed convolutions.
    istft_fft: Points of the head's transform.
    istft_hop: Samples between its frames; divides `istft_fft`.
    resblock_kernels: Of the parallel residual blocks of every level.
    resblock_dilations: Of each of them.
    source_resblock_kernels: Of the block on the source, one a level.
    source_resblock_dilations: Of each of them.
    sine_amplitude: Of every harmonic.
    noise_deviation: Of the noise in voiced frames; in unvoiced ones it is
      `sine_amplitude` / 3.
    voiced_hz: A frame whose F0 is above is voiced.
    slope: Of the leaky ReLU before each up-sampling.
    limit: Of the samples' absolute values.
    f0_channels: Width of the F0 predictor.
    causal: Whether no layer looks ahead but the first ones. The released
      vocoder is not causal.
    look_ahead: Mel frames that a causal vocoder sees ahead, at most 3.
  """

  bands: int = 80
  channels: int = 512
  sample_rate: int = 22050
  harmonics: int = 8
  upsample_rates: tuple[int, ...] = (8, 8)
  upsample_kernels: tuple[int, ...] = (16, 16)
  istft_fft: int = 16
  istft_hop: int = 4
  resblock_kernels: tuple[int, ...] = (3, 7, 11)
  resblock_dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5),) * 3
  source_resblock_kernels: tuple[int, ...] = (7, 11)
  source_resblock_dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5),) * 2
  sine_amplitude: float = 0.1
  noise_deviation: float = 0.003
  voiced_hz: float = 10.0
  slope: float = 0.1
  limit: float = 0.99
  f0_channels: int = 512
  causal: bool = False
  look_ahead: int = 3

  def __post_init__(self):
    for field in dataclasses.fields(self):  # JSON and gin know lists only
      value = getattr(self, field.name)
      if isinstance(value, list | tuple):
        object.__setattr__(self, field.name, _tuples(value))
    errors.at_least_one(
      'hift',
      self,
      (
        *('bands', 'channels', 'sample_rate', 'istft_fft', 'istft_hop'),
        'f0_channels',
      ),
    )
    levels = len(self.upsample_rates)
    for name, wanted in (
      ('upsample_kernels', levels),
      ('source_resblock_kernels', levels),
      ('source_resblock_dilations', levels),
      ('resblock_dilations', len(self.resblock_kernels)),
    ):
      if len(getattr(self, name)) != wanted or not wanted:
        raise errors.UserError(
          f'hift: {name}: found {len(getattr(self, name))}, expected {wanted} '
          'and at least 1.'
        )
    for name in ('resblock_kernels', 'source_resblock_kernels'):
      if not all(k > 0 and k % 2 for k in getattr(self, name)):
        raise errors.UserError(
          f'hift: {name}: found {getattr(self, name)}, expected odd sizes.'
        )
    for rate, kernel in zip(self.upsample_rates, self.upsample_kernels):
      if not 1 <= rate <= kernel:
        raise errors.UserError(
          f'hift: upsample_kernels: found {kernel} for a rate of {rate}, '
          'expected at least the rate.'
        )
    if self.istft_fft % self.istft_hop or self.istft_fft % 2:
      raise errors.UserError(
        f'hift: istft_fft is {self.istft_fft} and istft_hop {self.istft_hop}; '
        'expected an even transform that is a multiple of its hop.'
      )
    if self.channels % 2**levels:
      raise errors.UserError(
        f'hift: channels is {self.channels}, expected a multiple of '
        f'{2**levels}.'
      )
    if self.harmonics < 0 or not 0 <= self.look_ahead <= _PRE // 2:
      raise errors.UserError(
        f'hift: harmonics is {self.harmonics} and look_ahead '
        f'{self.look_ahead}; expected at least 0, and 0 … {_PRE // 2}.'
      )
    if not 0 < self.limit <= 1:
      raise errors.UserError(
        f'hift: limit is {self.limit}, expected above 0 and at most 1.'
      )

  @property
  def hop(self) -> int:
    """Samples of a mel frame."""
    return math.prod(self.upsample_rates) * self.istft_hop

  @property
  def units(self) -> tuple[int, ...]:
    """Of each level: its frames in a mel frame."""
    rates = self.upsample_rates
    return tuple(math.prod(rates[: i + 1]) for i in range(len(rates)))

  def width(self, level: int) -> int:
    """Channels of a level."""
    return self.channels >> (level + 1)

  def pads(self, kernel: int, dilation: int = 1) -> tuple[int, int]:
    """Padding of a convolution that keeps the length."""
    whole = dilation * (kernel - 1)
    return (whole, 0) if self.causal else (whole // 2, whole - whole // 2)

  @property
  def pre_pads(self) -> tuple[int, int]:
    """Of the first convolution."""
    right = self.look_ahead if self.causal else _PRE // 2
    return _PRE - 1 - right, right

  @property
  def post_pads(self) -> tuple[int, int]:
    """Of the last convolution."""
    return self.pads(_POST)

  def f0_pads(self, layer: int) -> tuple[int, int]:
    """Of a convolution of the F0 predictor."""
    centred = not self.causal or layer < self.look_ahead
    return (1, 1) if centred else (_F0 - 1, 0)

  def down(self, level: int) -> tuple[int, int, tuple[int, int]]:
    """Kernel, stride and padding of a level's convolution on the source."""
    stride = math.prod(self.upsample_rates[level + 1 :])
    if stride == 1:
      return 1, 1, (0, 0)
    if self.causal:
      return 2 * stride, stride, (stride, 0)
    return 2 * stride, stride, (stride // 2, stride // 2)

  def cut(self, level: int) -> int:
    """What a transposed convolution's output loses at its left end."""
    if self.causal:
      return 0
    return (self.upsample_kernels[level] - self.upsample_rates[level]) // 2

  @property
  def levels(self) -> tuple[tuple[int, int], ...]:
    """Of each level: mel frames to compute before and behind the wanted ones.

    The first entry holds for everything before the first up-sampling too.
    """
    fft, hop = self.istft_fft, self.istft_hop
    left = -(-fft // hop) if self.causal else fft // 2 // hop
    right = 0 if self.causal else fft // 2 // hop
    edge = (fft - hop, 0) if self.causal else (fft // 2, fft // 2)
    left, right = left + self.post_pads[0], right + self.post_pads[1]
    found = []
    for level in reversed(range(len(self.units))):
      unit = self.units[level]
      # The blocks side by side: the widest counts.
      blocks = [
        self._block(k, d)
        for k, d in zip(self.resblock_kernels, self.resblock_dilations)
      ]
      left += max(b[0] for b in blocks)
      right += max(b[1] for b in blocks)
      source = self._block(
        self.source_resblock_kernels[level],
        self.source_resblock_dilations[level],
      )
      kernel, stride, pads = self.down(level)
      # In samples, from the level's frames through the source's transform.
      reach = [
        ((side + block) * stride + pad) * hop + end
        for side, block, pad, end in zip(
          (left, right), source, (pads[0], kernel - pads[0]), edge
        )
      ]
      # The reflected frame of the last level moves everything by one.
      left += level + 1 == len(self.units)
      found.append(
        (
          max(-(-left // unit), -(-reach[0] // self.hop)),
          max(-(-right // unit), -(-reach[1] // self.hop)),
        )
      )
      kernel, rate = self.upsample_kernels[level], self.upsample_rates[level]
      left = -(-(left + kernel - 1 - self.cut(level)) // rate)
      right = 0 if self.causal else -(-(right + self.cut(level)) // rate)
    left, right = left + self.pre_pads[0], right + self.pre_pads[1]
    found[-1] = (max(left, found[-1][0]), max(right, found[-1][1]))
    if self.causal:
      # A source frame reaches into no later mel frame (see `vocoder.hift`).
      found = [(one, 0) for one, _ in found[:-1]] + [(found[-1][0], right)]
    # A level is computed from what the level before has computed.
    for i in range(1, len(found)):
      found[i] = tuple(map(max, found[i], found[i - 1]))
    return tuple(reversed(found))

  @property
  def f0_context(self) -> tuple[int, int]:
    """Mel frames before and behind one that its F0 depends on."""
    pads = [self.f0_pads(i) for i in range(F0_LAYERS)]
    return sum(p[0] for p in pads), sum(p[1] for p in pads)

  @property
  def context(self) -> tuple[int, int]:
    """Mel frames before and behind one that its samples depend on."""
    left, right = self.levels[0]
    f0 = self.f0_context
    if self.causal:
      return left + f0[0], max(right, f0[1])
    return left + f0[0], right + f0[1]

  def _block(self, kernel, dilations):
    """Reach of a residual block, in its own frames."""
    pads = [self.pads(kernel, d) for d in dilations]
    pads += [self.pads(kernel)] * len(dilations)
    return sum(p[0] for p in pads), sum(p[1] for p in pads)


def _tuples(value):
  if isinstance(value, list | tuple):
    return tuple(_tuples(one) for one in value)
  return value
