"""All that is measured of a recording without people, in one dictionary.

    levels           peak and level (dBFS), share clipped, share silent
    voice            F0, its range, pace, pauses (`audio.meters`)
    dnsmos           `dnsmos`: speech, background, both, P.808
    intelligibility  STOI and ESTOI against the reference
    spectrum         log-mel distance and MCD against it (`metrics.distances`)
    pitch            F0 against it
    speaker          cosine of speaker embeddings with it
    repetition       n-grams of text and codes that were there before

A figure that cannot be had is `not_computed`, with the reason; it is never
replaced by another. Figures are those of 16 kHz, levels those of the recording
as it is. What is compared with a reference has to run beside it: nothing is
warped, and where lengths differ by more than 0.3 s only the voices are
compared.
"""

import functools
from typing import Any, Callable, Collection, Mapping, Sequence

import jax
import numpy as np
import soxr

from step_audio_jax import errors
from step_audio_jax.audio import levels
from step_audio_jax.audio.features import pitch
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.audio.meters import activity
from step_audio_jax.audio.meters import measure as meters
from step_audio_jax.decoder.speaker import encoder as speaker_lib
from step_audio_jax.evaluation.metrics import distances
from step_audio_jax.evaluation.quality import dnsmos
from step_audio_jax.evaluation.quality import intelligibility
from step_audio_jax.evaluation.quality import reasons
from step_audio_jax.evaluation.quality import repetition

# Axes: S samples, T frames, M mel bands.
SAMPLE_RATE = 16000
SHORTEST = 0.1  # seconds
APART = 0.3  # seconds that a reference may be longer or shorter
MEL = vocoder_mel.VocoderMel(sample_rate=SAMPLE_RATE, high_hz=None)
_PITCH_HOP = SAMPLE_RATE // 100
_PADDED = 2 * SAMPLE_RATE  # lengths that are compiled for are multiples of it

GROUPS: Mapping[str, tuple[str, ...]] = {
  'levels': ('peak_db', 'level_db', 'clipped', 'silence'),
  'voice': ('f0_hz', 'f0_range', 'rate', 'pause_share'),
  'dnsmos': dnsmos.SCORES,
  'intelligibility': intelligibility.SCORES,
  'spectrum': ('mel', 'mcd'),
  'pitch': ('f0_cents', 'f0_correlation', 'f0_voicing'),
  'speaker': ('speaker_similarity',),
}
ALONE = ('levels', 'voice', 'dnsmos')  # what needs no reference
NO_REFERENCE = 'no reference'
SILENT = 'silence'
_APART = f'the reference is more than {APART} s longer or shorter'


def measure(
  wave_S: np.ndarray,
  sample_rate: int,
  reference_S: np.ndarray | None = None,
  *,
  reference_rate: int | None = None,
  text: str | None = None,
  codes: Sequence[int] | None = None,
  groups: Collection[str] = tuple(GROUPS),
  encoder: speaker_lib.SpeakerEncoder | None = None,
  name: str = 'waveform',
) -> dict[str, Any]:
  """Measures one recording.

  Args:
    wave_S: Floating-point samples of one channel, full scale 1.
    sample_rate: Hz.
    reference_S: The recording that it should be like, or None.
    reference_rate: Hz of the reference; None means the same.
    text: What was to be said, or what was heard; adds its repetition.
    codes: Speech codes that it was made of; adds their repetition.
    groups: Of `GROUPS`.
    encoder: Who compares voices; None leaves that out.
    name: What messages call it.

  Returns:
    JSON-able: `seconds`, `sample_rate`, `figures` by name and `not_computed`:
    name → reason. Together they have every figure of the groups.

  Raises:
    Unfit: Either recording is no single channel of finite samples, or is
      shorter than 0.1 s.
    UserError: There is no such group.
  """
  check_groups(groups)
  wave_S = _checked(wave_S, sample_rate, name)
  if reference_S is not None:
    reference_rate = reference_rate or sample_rate
    reference_S = _checked(
      reference_S, reference_rate, f'{name}: its reference'
    )
  found = _Measured(name)
  silent = levels.is_silent(wave_S)
  heard_S = _resampled(wave_S, sample_rate)
  true_S = None
  if reference_S is not None:
    true_S = _resampled(reference_S, reference_rate)

  def with_wave(function, least_rate=SAMPLE_RATE):
    if silent:
      raise reasons.NotComputed(SILENT)
    if sample_rate < least_rate:
      raise reasons.NotComputed(f'sampled at less than {least_rate} Hz')
    return function()

  def with_both(function, least_rate=SAMPLE_RATE, side_by_side=True):
    if true_S is None:
      raise reasons.NotComputed(NO_REFERENCE)
    if levels.is_silent(true_S):
      raise reasons.NotComputed('the reference is silence')
    if side_by_side and abs(len(heard_S) - len(true_S)) > APART * SAMPLE_RATE:
      raise reasons.NotComputed(_APART)
    if reference_rate < least_rate:
      raise reasons.NotComputed(
        f'the reference is sampled at less than {least_rate} Hz'
      )
    return with_wave(function, least_rate)

  makers: dict[str, Callable[[], Mapping[str, Any]]] = {
    'levels': lambda: _levels(wave_S, sample_rate),
    'voice': lambda: with_wave(lambda: _voice(heard_S), 4000),
    'dnsmos': lambda: with_wave(lambda: dnsmos.opened().score(heard_S)),
    'intelligibility': lambda: with_both(
      lambda: intelligibility.score(*_cut(true_S, heard_S), SAMPLE_RATE),
      intelligibility.LEAST_RATE,
    ),
    'spectrum': lambda: with_both(lambda: _spectrum(true_S, heard_S)),
    'pitch': lambda: with_both(lambda: _pitch(true_S, heard_S), 4000),
    'speaker': lambda: with_both(
      lambda: _similarity(true_S, heard_S, encoder), side_by_side=False
    ),
  }
  for group in groups:
    found.add(GROUPS[group], makers[group])
  for kind, repeats in (
    ('text', None if text is None else repetition.of_text(text)),
    ('codes', None if codes is None else repetition.count(list(codes))),
  ):
    if repeats is not None:
      found.repeats(f'{kind}_repetition', repeats)
  return {
    'seconds': round(len(wave_S) / sample_rate, 4),
    'sample_rate': sample_rate,
    'figures': found.figures,
    'not_computed': found.not_computed,
  }


def check_groups(groups: Collection[str]) -> None:
  """Refuses what is no group.

  Raises:
    UserError: There is no such group, or none is named.
  """
  if not groups:
    raise errors.UserError(
      f'quality: groups: found none, expected some of {", ".join(GROUPS)}.'
    )
  for group in groups:
    if group not in GROUPS:
      raise errors.UserError(
        f'quality: groups: found {group!r}, expected some of '
        f'{", ".join(GROUPS)}.'
      )


class _Measured:
  """Figures and reasons of one recording."""

  def __init__(self, name: str):
    self.name = name
    self.figures: dict[str, float] = {}
    self.not_computed: dict[str, str] = {}

  def add(self, names, maker) -> None:
    """Figures of a group; one that is None or not finite has no value."""
    try:
      values = maker()
    except errors.UserError as error:
      reason = getattr(error, 'reason', str(error).rstrip('.'))
      self.not_computed |= dict.fromkeys(names, reason)
      return
    for name in names:
      value = values.get(name)
      if value is None or not np.isfinite(value):
        self.not_computed[name] = 'too little voice'
      else:
        self.figures[name] = float(value)

  def repeats(self, name, repeats) -> None:
    if repeats.share is None:
      self.not_computed[name] = f'fewer than {repetition.LENGTH} words or codes'
    else:
      self.figures[name] = repeats.share


def _checked(wave_S, sample_rate, name) -> np.ndarray:
  wave_S = np.asarray(wave_S)
  if wave_S.ndim != 1 or wave_S.dtype.kind != 'f':
    raise reasons.Unfit(
      'not one channel of floating-point samples',
      f'{name}: found {wave_S.dtype} of shape {wave_S.shape}, expected '
      'floating-point samples (S,) of one channel.',
    )
  if type(sample_rate) is not int or sample_rate < 1:
    raise reasons.Unfit(
      'no sample rate',
      f'{name}: sample_rate: found {sample_rate!r}, expected whole Hz.',
    )
  if not len(wave_S):
    raise reasons.Unfit('empty', f'{name}: 0 samples, expected some.')
  finite = np.isfinite(wave_S)
  if not finite.all():
    place = int(np.argmin(finite))
    raise reasons.Unfit(
      'samples that are not finite',
      f'{name}: sample {place} is {wave_S[place]}, expected finite numbers.',
    )
  if len(wave_S) < SHORTEST * sample_rate:
    raise reasons.Unfit(
      f'shorter than {SHORTEST} s',
      f'{name}: {len(wave_S) / sample_rate:.3f} s of audio, expected at least '
      f'{SHORTEST} s.',
    )
  return wave_S.astype(np.float32, copy=False)


def _resampled(wave_S, sample_rate) -> np.ndarray:
  if sample_rate == SAMPLE_RATE:
    return wave_S
  return soxr.resample(wave_S, sample_rate, SAMPLE_RATE, 'HQ')


def _levels(wave_S, sample_rate):
  active = activity.find(wave_S, sample_rate)
  loud_T = active.power_T[active.active_T]
  return {
    'peak_db': float(activity.decibels(np.abs(wave_S).max() ** 2)),
    'level_db': float(activity.decibels(loud_T.mean() if len(loud_T) else 0.0)),
    'clipped': levels.clipped_share(wave_S),
    'silence': 1.0 - float(active.active_T.mean()),
  }


def _voice(wave_S):
  found = meters.measure(wave_S, SAMPLE_RATE)
  return {name: getattr(found, name) for name in GROUPS['voice']}


def _spectrum(true_S, heard_S):
  mels = _log_mel(true_S), _log_mel(heard_S)
  return {
    'mel': distances.mel_distance(*mels),
    'mcd': distances.mel_cepstral_distortion(*mels),
  }


@functools.partial(jax.jit, static_argnums=2)
def _padded_mel(wave_BS, lengths_B, config):
  return vocoder_mel.vocoder_mel(wave_BS, lengths_B, config)[0]


def _log_mel(wave_S) -> np.ndarray:
  """Log-mel (T, M) of a recording of any length, by few compiled programs."""
  size = -(-len(wave_S) // _PADDED) * _PADDED
  padded_BS = np.pad(wave_S, (0, size - len(wave_S)))[None]
  lengths_B = np.asarray([len(wave_S)], np.int32)
  mel_BTM = _padded_mel(padded_BS, lengths_B, MEL)
  return np.asarray(mel_BTM)[0, : vocoder_mel.frame_count(len(wave_S), MEL)]


def _pitch(true_S, heard_S):
  tracks = (
    pitch.track(wave_S, SAMPLE_RATE, _PITCH_HOP)
    for wave_S in _cut(true_S, heard_S)
  )
  found = distances.pitch_difference(*tracks)
  return {f'f0_{name}': value for name, value in found.items()}


def _similarity(true_S, heard_S, encoder):
  if encoder is None:
    raise reasons.NotComputed('no speaker encoder was named')
  shortest = speaker_lib.SHORTEST
  if min(len(true_S), len(heard_S)) < shortest * SAMPLE_RATE:
    raise reasons.NotComputed(f'shorter than {shortest} s')
  one_D, two_D = encoder.embed_batch([true_S, heard_S])
  return {'speaker_similarity': distances.cosine(one_D, two_D)}


def _cut(*waves) -> list[np.ndarray]:
  count = min(map(len, waves))
  return [wave_S[:count] for wave_S in waves]
