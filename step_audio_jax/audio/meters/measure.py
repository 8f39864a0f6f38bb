"""All meters of a recording at once, with units; what cannot be told is None.

    speed    characters of the text a second of speech, pauses left out; without
             a text syllable nuclei a second
    pitch    median F0 in semitones above 100 Hz, 12 log2(F0 / 100)
    volume   level of the active frames, dB of the mean square (`activity`)
    pause    share of pauses between the first and the last sound

Beside them: the range of F0 (5th to 95th percentile), jitter and shimmer
(`cycles`). F0 is `features.pitch`'s, after Boersma (1993). Syllable nuclei are
those of De Jong & Wempe, "Praat script to detect syllable nuclei and measure
speech rate automatically" (Behavior Research Methods 41, 2009): voiced peaks of
the level, 2 dB above the dips around them, within 25 dB of the loudest.

Axes: S samples, T frames.
"""

import dataclasses
import math
from typing import Any, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio.augmentation import base
from step_audio_jax.audio.features import pitch
from step_audio_jax.audio.meters import activity as activity_lib
from step_audio_jax.audio.meters import cycles

# Axis of tags → the field that tells its levels apart.
METERS = {
  'speed': 'rate',
  'pitch': 'f0_semitones',
  'volume': 'level_db',
  'pause': 'pause_share',
}
UNITS = {
  'rate': '1/s',
  'f0_semitones': 'semitones above 100 Hz',
  'level_db': 'dBFS',
  'pause_share': '',
}
_LOWEST_RATE = 4000  # Hz
_LEAST_VOICED = 5  # frames, for a figure of F0
# Of the quartiles of F0: what is below or above is another sound. After De
# Looze & Hirst, "Detecting changes in key and range for the automatic modelling
# and coding of intonation" (Speech Prosody 2008); wider, for lively speech.
_FLOOR, _CEILING = 0.5, 2.5
_DIP_DB, _NUCLEUS_DB = 2.0, 25.0
_SMOOTHING = 7  # frames of a Hann window, 70 ms


@dataclasses.dataclass(frozen=True)
class Measured:
  """What was measured.

  Attributes:
    seconds: Of the recording.
    speech_seconds: From the first to the last sound, without pauses.
    rate: `unit` a second of speech.
    unit: 'characters' or 'nuclei'.
    f0_hz: Median of F0 over voiced frames.
    f0_semitones: The same above 100 Hz.
    f0_range: Semitones from the 5th to the 95th percentile.
    level_db: dBFS of the active frames.
    pauses: How many.
    pause_seconds: Of all of them.
    pause_share: Their share of the time from the first to the last sound.
    jitter: A fraction.
    shimmer: A fraction.
    notes: Why something is None.
  """

  seconds: float
  speech_seconds: float = 0.0
  rate: float | None = None
  unit: str = 'nuclei'
  f0_hz: float | None = None
  f0_semitones: float | None = None
  f0_range: float | None = None
  level_db: float | None = None
  pauses: int = 0
  pause_seconds: float = 0.0
  pause_share: float | None = None
  jitter: float | None = None
  shimmer: float | None = None
  notes: tuple[str, ...] = ()

  def to_json(self) -> dict[str, Any]:
    """A JSON object, numbers in five digits."""
    value = dataclasses.asdict(self)
    for name, one in value.items():
      if isinstance(one, float):
        value[name] = float(f'{one:.5g}')
    return {**value, 'notes': list(self.notes)}


def measure(
  wave_S: np.ndarray,
  sample_rate: int,
  text: str | None = None,
  words: Sequence[tuple[str, float, float]] | None = None,
) -> Measured:
  """Measures one recording.

  Args:
    wave_S: Floating-point samples of one channel.
    sample_rate: Hz, at least 4,000.
    text: What is said, without tags.
    words: (word, start, end) in seconds: where speech begins and ends, and,
      without a text, what is said.

  Raises:
    UserError: A sample is not finite, or these are no samples of one channel.
  """
  wave_S = base.check_wave(wave_S, sample_rate)
  if sample_rate < _LOWEST_RATE:
    raise errors.UserError(
      f'sample_rate: found {sample_rate} Hz, expected at least {_LOWEST_RATE}: '
      'nothing of a voice is left below.'
    )
  seconds = len(wave_S) / sample_rate
  active = activity_lib.find(wave_S, sample_rate)
  if not active.active_T.any():
    why = 'nothing computed: no sound of 30 ms or more is above -60 dBFS'
    return Measured(seconds, notes=(why,))
  hop = round(activity_lib.HOP_SECONDS * sample_rate)
  hz_T = pitch.track(wave_S, sample_rate, hop)
  notes = []
  said = text if text is not None else ''.join(word for word, *_ in words or ())
  spoken = _spoken_seconds(active, words)
  count = sum(map(str.isalnum, said))
  unit = 'characters' if count else 'nuclei'
  if not count:
    count = nuclei(active, hz_T)
  if not spoken:
    notes.append('rate: no time left between the pauses')
  jitter, shimmer = cycles.jitter_and_shimmer(wave_S, sample_rate, hz_T, hop)
  if jitter is None or shimmer is None:
    notes.append(f'jitter, shimmer: fewer than {cycles.LEAST} pairs of cycles')
  span = active.end - active.begin
  return Measured(
    seconds=seconds,
    speech_seconds=active.speech_seconds,
    rate=count / spoken if spoken else None,
    unit=unit,
    **_melody(hz_T, notes),
    level_db=float(
      activity_lib.decibels(active.power_T[active.active_T].mean())
    ),
    pauses=len(active.pauses),
    pause_seconds=active.pause_seconds,
    pause_share=active.pause_seconds / span if span > 0 else None,
    jitter=jitter,
    shimmer=shimmer,
    notes=tuple(notes),
  )


def nuclei(active: activity_lib.Activity, hz_T: np.ndarray) -> int:
  """How many syllable nuclei there are.

  Args:
    active: Of the recording.
    hz_T: Its F0 every 10 ms.
  """
  window = np.hanning(_SMOOTHING + 2)[1:-1]
  power_T = np.convolve(active.power_T, window / window.sum(), 'same')
  level_T = activity_lib.decibels(power_T)
  least = level_T.max() - _NUCLEUS_DB
  # The middle of a frame of the level, in frames of the track.
  shift = activity_lib.WINDOW_SECONDS / activity_lib.HOP_SECONDS / 2
  count, top, dip, rising = 0, 0, level_T[0], True
  for t, level in enumerate(level_T):
    if rising:
      if level > level_T[top]:
        top = t
      elif level < level_T[top] - _DIP_DB:
        count += _is_nucleus(level_T[top], least, hz_T, int(top + shift))
        rising, dip = False, level
    elif level > dip + _DIP_DB:
      rising, top = True, t
    else:
      dip = min(dip, level)
  if rising:
    count += _is_nucleus(level_T[top], least, hz_T, int(top + shift))
  return count


def _is_nucleus(level, least, hz_T, place) -> bool:
  return level > least and hz_T[min(place, len(hz_T) - 1)] > 0


def _spoken_seconds(active, words) -> float:
  """Time of speech without pauses, between the first and the last word."""
  if not words:
    return max(active.speech_seconds, 0.0)
  begin, end = words[0][1], words[-1][2]
  inside = sum(
    max(0.0, min(stop, end) - max(start, begin))
    for start, stop in active.pauses
  )
  return max(end - begin - inside, 0.0)


def _melody(hz_T, notes) -> dict[str, float | None]:
  voiced = hz_T[hz_T > 0].astype(np.float64)
  if len(voiced) < _LEAST_VOICED:
    notes.append(
      f'f0: {len(voiced)} voiced frames, expected at least {_LEAST_VOICED}'
    )
    return {}
  # A few frames of noise or creak are tracked octaves away from the voice.
  lower, upper = np.percentile(voiced, (25, 75))
  voiced = voiced[(voiced >= _FLOOR * lower) & (voiced <= _CEILING * upper)]
  semitones = 12 * np.log2(voiced / 100)
  low, high = np.percentile(semitones, (5, 95))
  median = float(np.median(semitones))
  return {
    'f0_hz': 100 * math.exp2(median / 12),
    'f0_semitones': median,
    'f0_range': float(high - low),
  }
