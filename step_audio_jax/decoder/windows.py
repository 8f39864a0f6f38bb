"""The offline flow as a stream: overlapping windows of codes.

The flow of CosyVoice v1 looks at a whole sentence. Here it is run on windows of
`groups` groups of codes (120 ms each), each behind the voice's prompt:

    | context | overlap | new                     |
                        | context | overlap | new …

The mel of `context` is thrown away, that of `overlap` is faded into what the
window before made of the same frames, so `groups − context − overlap` groups of
120 ms come out of every window. Windows have two shapes. Their noise is that
of the one-shot decoder, frame by frame. The last window reaches back as far as
it is long; the first may be shorter, so that sound comes sooner.

It is this project's way to stream a network that was not made for it; the
figures of what it costs come from `benchmarks/decoder/windows.py`. A flow that
was made for streaming: `decoder.causal.flow`. Axes: T frames, M mel bands, S
samples.
"""

import dataclasses
from typing import Any, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.decoder import voice as voice_lib
from step_audio_jax.decoder.vocoder import piecewise
from step_audio_jax.decoder.vocoder import streaming

_GROUP = vocabulary_lib.GROUP


@dataclasses.dataclass(frozen=True)
class WindowConfig:
  """Sizes in groups of 120 ms.

  Attributes:
    groups: Of a window.
    context: At its left, only heard by the flow.
    overlap: Behind the context, faded.
    first: Of the first window, if it is to be shorter: sound comes sooner.
  """

  groups: int = 15
  context: int = 3
  overlap: int = 2
  first: int | None = None

  def __post_init__(self):
    errors.at_least_one('windows', self, ('groups', 'overlap'))
    if self.context < 0 or self.step < 1:
      raise errors.UserError(
        f'windows: context {self.context} and overlap {self.overlap} of '
        f'{self.groups} groups, expected some of the window to be new.'
      )
    if self.first is not None and not self.overlap < self.first <= self.groups:
      raise errors.UserError(
        f'windows: first is {self.first}, expected more than overlap '
        f'({self.overlap}) and at most groups ({self.groups}).'
      )

  @property
  def step(self) -> int:
    """Groups that a window adds."""
    return self.groups - self.context - self.overlap


class WindowStream:
  """Codes in, samples out, window by window.

  Attributes:
    mel: The first half, codes → mel.
  """

  def __init__(
    self,
    decoder: Any,
    voice: voice_lib.Voice | None = None,
    *,
    windows: WindowConfig = WindowConfig(),
    seed: int = 0,
    steps: int = 10,
  ):
    """Begins a stream; see `MelWindows`."""
    self.mel = MelWindows(
      decoder, voice, windows=windows, seed=seed, steps=steps
    )
    vocoder = decoder.vocoder
    if hasattr(vocoder, 'step'):
      self._vocoder = streaming.VocoderStream(vocoder, seed=seed)
    else:
      self._vocoder = piecewise.PiecewiseVocoder(vocoder, seed=seed)

  def warm_up(self) -> None:
    """Compiles all that speech of any length needs."""
    group = voice_lib.IDS.interleave([0, 0], [0, 0, 0])
    for groups in self.mel.sizes:
      self.push(np.tile(group, groups), True)

  def push(self, ids: Sequence[int], final: bool = False) -> np.ndarray:
    """Takes ids and returns the samples that they complete.

    Args:
      ids: Mixed ids, whole groups; none is allowed.
      final: Whether the speech ends here. The next ids begin another.

    Returns:
      Float32 (S,), S ≥ 0; joined as many as `SpeechDecoder.decode` gives.

    Raises:
      UserError: The ids are wrong, the speech ends without any, or a part
        makes numbers that are not finite.
    """
    return self._vocoder.push(self.mel.push(ids, final), final)


class MelWindows:
  """Codes in, mel frames out, window by window.

  Attributes:
    frames_computed: By the flow so far, those of the prompt included.
  """

  def __init__(
    self,
    decoder: Any,
    voice: voice_lib.Voice | None = None,
    *,
    windows: WindowConfig = WindowConfig(),
    seed: int = 0,
    steps: int = 10,
  ):
    """Begins a stream.

    Args:
      decoder: `decoder.speech.SpeechDecoder`.
      voice: Who speaks; by default the decoder's own voice.
      windows: Sizes.
      seed: Of the noise, as `SpeechDecoder.decode` takes it.
      steps: Of the flow's solver.

    Raises:
      UserError: There is no voice.
    """
    self._decoder, self._windows = decoder, windows
    self._voice, self._steps = decoder.chosen(voice), steps
    self._seed = seed
    group = voice_lib.IDS.interleave([0, 0], [0, 0, 0])
    self._per_group = len(decoder.tokens_of(group))
    self.frames_computed = 0
    self._restart()

  def _restart(self):
    bands = self._decoder.mel.bands
    self._ids = np.zeros(0, np.int32)  # from group `_first` on
    self._first = 0
    self._groups = 0  # all that were pushed
    self._out = 0  # groups whose mel is out
    self._tail_TM = np.zeros((0, bands), np.float32)  # behind what is out
    self._draws = np.random.Generator(np.random.Philox(self._seed))
    self._prompt_noise = self._drawn(len(self._voice.mel_TM))
    self._noise_TM, self._noise_first = self._drawn(0), 0

  def push(self, ids: Sequence[int], final: bool = False) -> np.ndarray:
    """Takes ids and returns the frames that they complete.

    Args:
      ids: Mixed ids, whole groups; none is allowed.
      final: Whether the speech ends here. The next ids begin another.

    Returns:
      Log-mel float32 (T, M), T ≥ 0.

    Raises:
      UserError: The ids are wrong, or the speech ends without any.
    """
    if len(ids):
      ids = voice_lib.check_ids(ids)
      self._ids = np.concatenate([self._ids, ids])
      self._groups += len(ids) // _GROUP
    if final and not self._groups:
      voice_lib.check_ids([])
    w = self._windows
    parts = [np.zeros((0, self._decoder.mel.bands), np.float32)]
    while self._groups - self._begin >= self._next + final:
      parts.append(self._window(self._begin, self._begin + self._next))
    if final:
      if self._out + w.overlap == self._groups and self._out:
        parts.append(self._tail_TM)  # the last window ended here
      else:
        begin = max(0, self._groups - w.groups)
        parts.append(self._window(begin, self._groups, True))
      self._restart()
    return np.concatenate(parts)

  @property
  def _begin(self) -> int:
    """Where the next window begins; the first has nothing before it."""
    return max(0, self._out - self._windows.context) if self._out else 0

  @property
  def _next(self) -> int:
    """Groups of the next window."""
    w = self._windows
    return w.groups if self._out else w.first or w.groups

  def _window(self, begin: int, end: int, last: bool = False) -> np.ndarray:
    """Frames of groups [begin, end) that may go out."""
    mel_TM = self._mel(begin, end)
    start = self._frames(begin)
    fresh_TM = mel_TM[self._frames(self._out) - start :]
    shared = min(len(self._tail_TM), len(fresh_TM))
    rising = (np.arange(shared, dtype=np.float32)[:, None] + 0.5) / max(
      1, shared
    )
    fresh_TM[:shared] *= rising
    fresh_TM[:shared] += self._tail_TM[:shared] * (1 - rising)
    out = end if last else end - self._windows.overlap
    count = self._frames(out) - self._frames(self._out)
    self._tail_TM = fresh_TM[count:].copy()
    self._out = out
    # What no later window reads is forgotten.
    keep = max(0, out - self._windows.groups)
    self._ids = self._ids[(keep - self._first) * _GROUP :]
    self._first = keep
    return fresh_TM[:count]

  def _mel(self, begin: int, end: int) -> np.ndarray:
    """The flow's frames of groups [begin, end), as many as they have."""
    decoder, voice = self._decoder, self._voice
    start, stop = self._frames(begin), self._frames(end)
    # Windows begin later and later: what is before is drawn and forgotten.
    kept_TM = self._noise_TM[start - self._noise_first :]
    more = self._drawn(max(0, stop - start - len(kept_TM)))
    self._noise_TM = np.concatenate([kept_TM, more])
    self._noise_first = start
    a, b = ((g - self._first) * _GROUP for g in (begin, end))
    size = next(s for s in self.sizes if s >= end - begin)
    mel_TM = decoder.flow.mel(
      decoder.tokens_of(self._ids[a:b]),
      prompt_tokens=decoder.tokens_of(voice.tokens),
      prompt_mel_TM=voice.mel_TM if len(voice.tokens) else None,
      speaker_D=voice.speaker_D,
      steps=self._steps,
      noise_TM=np.concatenate([self._prompt_noise, self._noise_TM]),
      width=len(voice.mel_TM) + self._frames(size) + 1,
    )
    if not np.isfinite(mel_TM).all():
      raise errors.UserError(
        'decoder: the flow made a mel that is not finite; its weights are '
        'broken.'
      )
    self.frames_computed += len(mel_TM) + len(voice.mel_TM)
    # Rounded down, a window may be a frame shorter than its place.
    missing = stop - start - len(mel_TM)
    mel_TM = np.concatenate([mel_TM, mel_TM[len(mel_TM) - missing :]])
    return mel_TM[: stop - start]

  @property
  def sizes(self) -> tuple[int, int]:
    """Groups that windows are computed as: two programs do for all."""
    return -(-self._windows.groups // 2), self._windows.groups

  def _frames(self, groups: int) -> int:
    """Frames before a group, in the whole speech."""
    return self._decoder.flow.frames(self._per_group * groups)

  def _drawn(self, count: int) -> np.ndarray:
    shape = (count, self._decoder.mel.bands)
    return self._draws.standard_normal(shape, np.float32)
