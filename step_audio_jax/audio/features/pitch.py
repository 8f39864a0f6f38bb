"""Fundamental frequency of speech: autocorrelation and a best path.

    r(τ) = ac(x w)(τ) / ac(w)(τ)                w: Hann, three longest periods
    strength = r − octave_cost · log2(low_hz τ)

Peaks of r are a frame's voiced candidates, beside one unvoiced candidate that
is the stronger the quieter the frame; the path over frames with the most
strength, minus costs of octave jumps and of changes of voicing, is the track.
After Boersma, "Accurate short-term analysis of the fundamental frequency and
the harmonics-to-noise ratio of a sampled sound" (IFA Proceedings 17, 1993),
whose constants are the defaults; peaks are interpolated by parabolas. Plain
NumPy, a few milliseconds for a second of sound.

Axes: S samples, T frames, N samples of a window, L lags, K candidates.
"""

import dataclasses
import math

import numpy as np

from step_audio_jax import errors


@dataclasses.dataclass(frozen=True)
class PitchConfig:
  """Numbers of the tracker.

  Attributes:
    low_hz: Lowest fundamental.
    high_hz: Highest fundamental.
    voicing: Correlation below which a loud frame is unvoiced.
    silence: Peak amplitude, relative to the recording's, of silence.
    octave_cost: What a candidate an octave lower pays.
    jump_cost: What a jump by an octave pays, for steps of 10 ms.
    voicing_cost: What a change of voicing pays, for steps of 10 ms.
    candidates: Voiced candidates of a frame.
  """

  low_hz: float = 60.0
  high_hz: float = 600.0
  voicing: float = 0.45
  silence: float = 0.03
  octave_cost: float = 0.01
  jump_cost: float = 0.35
  voicing_cost: float = 0.14
  candidates: int = 8

  def __post_init__(self):
    errors.at_least_one('pitch', self, ('candidates',))
    if not 0 < self.low_hz < self.high_hz:
      raise errors.UserError(
        f'pitch: from {self.low_hz} to {self.high_hz} Hz; expected a positive '
        'range.'
      )


def track(
  wave_S: np.ndarray,
  sample_rate: int,
  hop: int,
  config: PitchConfig = PitchConfig(),
) -> np.ndarray:
  """Fundamental frequency of each hop of a recording.

  Args:
    wave_S: Samples of any float type.
    sample_rate: Hz.
    hop: Samples between frames; frame t is around sample (t + ½) hop, as the
      frames of `vocoder_mel` are.
    config: Numbers.

  Returns:
    Hz, float32 (S // hop,); 0 where the frame is unvoiced.
  """
  wave_S = np.asarray(wave_S, np.float64)
  count = len(wave_S) // hop
  peak = np.abs(wave_S - wave_S.mean()).max() if count else 0.0
  if not peak:
    return np.zeros(count, np.float32)
  r_TL, loud_T = _correlation(wave_S, sample_rate, hop, count, config)
  hz_TK, strength_TK = _candidates(r_TL, sample_rate, config)
  # 2 − …: silence is unvoiced whatever its correlation.
  quiet_T = 2.0 - loud_T / peak * (1.0 + config.voicing) / config.silence
  unvoiced_T = config.voicing + np.maximum(0.0, quiet_T)
  hz_TK = np.concatenate([np.zeros((count, 1)), hz_TK], axis=1)
  strength_TK = np.concatenate([unvoiced_T[:, None], strength_TK], axis=1)
  path_T = _best_path(hz_TK, strength_TK, 0.01 * sample_rate / hop, config)
  return hz_TK[np.arange(count), path_T].astype(np.float32)


def _correlation(wave_S, sample_rate, hop, count, config):
  """Normalised autocorrelation (T, L) and peak amplitude (T,) of frames.

  Columns are the lags 0 … of one more than the longest period.
  """
  size = math.ceil(3.0 * sample_rate / config.low_hz)
  lags = math.ceil(sample_rate / config.low_hz) + 2
  begin = size // 2 - hop // 2
  padded = np.pad(wave_S, (begin, size))
  frames_TN = np.lib.stride_tricks.sliding_window_view(padded, size)[
    : count * hop : hop
  ]
  frames_TN = frames_TN - frames_TN.mean(axis=1, keepdims=True)
  half = size // 2
  period = math.ceil(sample_rate / config.low_hz / 2)
  loud_T = np.abs(frames_TN[:, half - period : half + period]).max(axis=1)
  window_N = np.hanning(size + 2)[1:-1]
  points = 1 << (size + lags).bit_length()

  def autocorrelation(x_TN):
    power = np.abs(np.fft.rfft(x_TN, points)) ** 2
    return np.fft.irfft(power, points)[:, :lags]

  ac_TL = autocorrelation(frames_TN * window_N)
  of_window_L = autocorrelation(window_N[None])[0]
  energy_T1 = np.maximum(ac_TL[:, :1], 1e-12)
  return ac_TL / energy_T1 / (of_window_L / of_window_L[0]), loud_T


def _candidates(r_TL, sample_rate, config):
  """Frequencies and strengths of the best peaks, both (T, K).

  Where a frame has fewer, the rest has strength −∞.
  """
  first = max(1, math.floor(sample_rate / config.high_hz))
  left, here = r_TL[:, first - 1 : -2], r_TL[:, first:-1]
  right = r_TL[:, first + 1 :]
  is_peak = (here > left) & (here >= right) & (here > 0.0)
  # A parabola through three points: where it is highest, and how high.
  slope = (right - left) / 2.0
  bend = np.minimum(left - 2.0 * here + right, -1e-12)
  shift = np.clip(-slope / bend, -1.0, 1.0)
  value = here + 0.5 * slope * shift
  # A correlation above 1 is an artefact of a short lag.
  value = np.where(value > 1.0, 1.0 / np.maximum(value, 1e-12), value)
  hz = sample_rate / (np.arange(first, first + here.shape[1]) + shift)
  inside = (hz >= config.low_hz) & (hz <= config.high_hz)
  strength = np.where(
    is_peak & inside,
    value - config.octave_cost * np.log2(config.low_hz / hz),
    -np.inf,
  )
  count = min(config.candidates, strength.shape[1])
  best_TK = np.argpartition(-strength, count - 1, axis=1)[:, :count]
  return (
    np.take_along_axis(hz, best_TK, axis=1),
    np.take_along_axis(strength, best_TK, axis=1),
  )


def _best_path(hz_TK, strength_TK, scale, config):
  """Index of each frame's candidate on the path of the most strength."""
  voiced_TK = hz_TK > 0
  octave_TK = np.log2(np.where(voiced_TK, hz_TK, 1.0))
  total_K = strength_TK[0]
  came_TK = np.zeros(hz_TK.shape, np.int64)
  for t in range(1, len(hz_TK)):
    change = voiced_TK[t - 1][:, None] != voiced_TK[t][None, :]
    jump = np.abs(octave_TK[t - 1][:, None] - octave_TK[t][None, :])
    cost = np.where(change, config.voicing_cost, config.jump_cost * jump)
    score = total_K[:, None] - scale * cost
    came_TK[t] = score.argmax(axis=0)
    total_K = score.max(axis=0) + strength_TK[t]
  path_T = np.empty(len(hz_TK), np.int64)
  path_T[-1] = total_K.argmax()
  for t in range(len(hz_TK) - 1, 0, -1):
    path_T[t - 1] = came_TK[t, path_T[t]]
  return path_T
