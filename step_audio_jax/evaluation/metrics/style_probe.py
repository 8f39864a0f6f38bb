"""A probe of what no meter of the signal tells: emotions, styles, dialects.

    x   figures of a recording        (spectrum, its spread, melody, voice)
    p   = softmax(W (x − μ) / σ + b)  fitted with weight decay, by descent

How much it is worth is told by speakers whom it has not heard: each fold leaves
some out. Its accuracy comes with an interval over speakers, who are drawn anew
with replacement, for recordings of one are no independent trials; and beside it
stands chance, the share of the most frequent class. Axes: N recordings, F
figures, C classes, S samples, T frames, M mel bands.
"""

import dataclasses
import math
import os
from typing import Any, Mapping, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.audio.features import log_mel
from step_audio_jax.audio.meters import activity
from step_audio_jax.audio.meters import measure
from step_audio_jax.storage import files

VERSION = 1
FOLDS = 5  # at most; of speakers
_BANDS, _WINDOW = 40, 400  # of 25 ms at 16 kHz
_METERS = (
  *('rate', 'f0_semitones', 'f0_range', 'pause_share', 'jitter', 'shimmer'),
)
FIGURES = 3 * _BANDS + 2 * len(_METERS)
_DECAY, _STEPS = 0.01, 400
_DRAWS = 2000


def figures(wave_S: np.ndarray) -> np.ndarray:
  """What is known of a recording, float64 (F,); the level is not among it.

  Of each mel band the mean over active frames, less that of all bands, how much
  it varies, and how much from one frame to the next; the meters, 0 with a mark
  where one cannot be computed.

  Args:
    wave_S: At 16 kHz.

  Raises:
    UserError: There is no sound in it, or it is not finite.
  """
  found = measure.measure(wave_S, io.SAMPLE_RATE)
  active = activity.find(wave_S, io.SAMPLE_RATE)
  if active.active_T.sum() < 3:
    raise errors.UserError(
      'waveform: no sound of 30 ms or more in it, expected speech.'
    )
  starts_T = np.flatnonzero(active.active_T) * io.SAMPLE_RATE // 100
  starts_T = np.minimum(starts_T, len(wave_S) - _WINDOW)
  frames_TW = wave_S[starts_T[:, None] + np.arange(_WINDOW)]
  power_TK = np.abs(np.fft.rfft(frames_TW * np.hanning(_WINDOW))) ** 2
  matrix_KM = log_mel.mel_matrix(_BANDS, _WINDOW, io.SAMPLE_RATE)
  mel_TM = np.log(np.maximum(power_TK @ matrix_KM, 1e-10))
  mean_M = mel_TM.mean(0)
  meters = [getattr(found, name) for name in _METERS]
  known = [0.0 if one is None else float(one) for one in meters]
  missing = [float(one is None) for one in meters]
  return np.concatenate(
    [
      mean_M - mean_M.mean(),
      mel_TM.std(0),
      np.diff(mel_TM, axis=0).std(0),
      known,
      missing,
    ]
  ).astype(np.float64)


@dataclasses.dataclass(frozen=True)
class Probe:
  """A fitted one.

  Attributes:
    classes: Names.
    mean_F: Of the figures.
    scale_F: Their deviations.
    weights_FC: Of classes.
    bias_C: Of classes.
    told: What is known of its worth, as of `judged`.
  """

  classes: tuple[str, ...]
  mean_F: np.ndarray
  scale_F: np.ndarray
  weights_FC: np.ndarray
  bias_C: np.ndarray
  told: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def probabilities(self, figures_NF: np.ndarray) -> np.ndarray:
    """Of each class, (N, C)."""
    scaled = (figures_NF - self.mean_F) / self.scale_F
    return _softmax(scaled @ self.weights_FC + self.bias_C)

  def save(self, path: str | os.PathLike) -> None:
    """Writes a JSON file."""
    arrays = ('mean_F', 'scale_F', 'weights_FC', 'bias_C')
    files.write_json(
      path,
      {
        'style_probe': VERSION,
        'classes': list(self.classes),
        **{name: getattr(self, name).tolist() for name in arrays},
        'told': dict(self.told),
      },
    )

  @classmethod
  def load(cls, path: str | os.PathLike) -> 'Probe':
    """Reads one.

    Raises:
      UserError: It is none, or its numbers are not those of one.
    """
    value = files.read_json(path)
    if not isinstance(value, Mapping) or value.get('style_probe') != VERSION:
      raise errors.UserError(
        f'{path}: style_probe: expected {VERSION}, as `probe` writes it.'
      )
    classes = value.get('classes')
    right = isinstance(classes, list) and len(classes) > 1
    if not right or not all(isinstance(one, str) for one in classes):
      raise errors.UserError(f'{path}: classes: expected two names or more.')
    shapes = {
      'mean_F': (FIGURES,),
      'scale_F': (FIGURES,),
      'weights_FC': (FIGURES, len(classes)),
      'bias_C': (len(classes),),
    }
    arrays = {}
    for name, shape in shapes.items():
      try:
        found = np.asarray(value.get(name), np.float64)
      except (TypeError, ValueError):
        found = np.zeros(0)
      if found.shape != shape or not np.isfinite(found).all():
        raise errors.UserError(
          f'{path}: {name}: found {found.shape}, expected finite numbers of '
          f'shape {shape}.'
        )
      arrays[name] = found
    if not (arrays['scale_F'] > 0).all():
      raise errors.UserError(f'{path}: scale_F: expected numbers above 0.')
    told = value.get('told')
    told = told if isinstance(told, Mapping) else {}
    return cls(tuple(classes), **arrays, told=told)


def fit(figures_NF: np.ndarray, labels: Sequence[str]) -> Probe:
  """Fits a probe; the same one every time.

  Args:
    figures_NF: Of `figures`.
    labels: Class of each.
  """
  classes = tuple(sorted(set(labels)))
  mean_F, scale_F = figures_NF.mean(0), figures_NF.std(0)
  scale_F = np.where(scale_F > 1e-9, scale_F, 1.0)
  ones_N1 = np.ones((len(labels), 1))
  x_NF = np.concatenate([(figures_NF - mean_F) / scale_F, ones_N1], axis=1)
  wanted_NC = np.array([[one == c for c in classes] for one in labels], float)
  # Classes weigh the same, however often they are.
  share_N1 = (wanted_NC / wanted_NC.sum(0)).sum(1, keepdims=True)
  share_N1 /= share_N1.sum()
  steep = np.linalg.eigvalsh((x_NF * share_N1).T @ x_NF)[-1] / 2 + _DECAY
  weights = ahead = np.zeros((x_NF.shape[1], len(classes)))
  for step in range(_STEPS):  # Nesterov's, of a convex function
    errors_NC = (_softmax(x_NF @ ahead) - wanted_NC) * share_N1
    slope = x_NF.T @ errors_NC + _DECAY * ahead
    following = ahead - slope / steep
    ahead = following + step / (step + 3) * (following - weights)
    weights = following
  return Probe(classes, mean_F, scale_F, weights[:-1], weights[-1])


def judged(
  figures_NF: np.ndarray,
  labels: Sequence[str],
  speakers: Sequence[str],
  seed: int = 0,
) -> dict[str, Any]:
  """How often a probe is right about speakers whom it has not heard.

  Args:
    figures_NF: Of `figures`.
    labels: Class of each.
    speakers: Who speaks in each.
    seed: Of the interval.

  Returns:
    `accuracy`, its 95 % interval `low` and `high`, `chance`, counts, and
    `right`: of each class the share that was recognised.

  Raises:
    UserError: There are fewer than two classes, or one has fewer than two
      speakers: none would be left to be asked about.
  """
  labels, who = np.asarray(labels), np.asarray(speakers)
  classes = sorted(set(labels.tolist()))
  if len(classes) < 2:
    raise errors.UserError(
      f'probe: found {", ".join(classes) or "nothing"}, expected two classes '
      'or more to tell apart.'
    )
  for one in classes:
    count = len(set(who[labels == one].tolist()))
    if count < 2:
      raise errors.UserError(
        f'probe: {one!r} is spoken by {count} speaker, expected two or more: '
        'one is left out to be asked about.'
      )
  cast = sorted(set(who.tolist()))
  right_N = np.zeros(len(labels))
  asked_N = np.zeros(len(labels), bool)
  for fold in range(min(FOLDS, len(cast))):
    left_out = np.isin(who, cast[fold::FOLDS])
    if len(set(labels[~left_out].tolist())) < len(classes):
      continue  # a class would not be known
    probe = fit(figures_NF[~left_out], labels[~left_out].tolist())
    best = probe.probabilities(figures_NF[left_out]).argmax(1)
    right_N[left_out] = np.array(probe.classes)[best] == labels[left_out]
    asked_N |= left_out
  if not asked_N.any():
    raise errors.UserError(
      'probe: whoever is left out, a class is left with no speaker; expected '
      'speakers who have several classes.'
    )
  members = [np.flatnonzero((who == one) & asked_N) for one in cast]
  members = [one for one in members if len(one)]
  rng = np.random.default_rng(seed)
  draws = []
  for _ in range(_DRAWS):
    some = [members[k] for k in rng.integers(len(members), size=len(members))]
    draws.append(right_N[np.concatenate(some)].mean())
  low, high = np.percentile(draws, (2.5, 97.5))
  shares = [float((labels[asked_N] == one).mean()) for one in classes]
  return {
    'accuracy': _short(right_N[asked_N].mean()),
    'low': _short(low),
    'high': _short(high),
    'chance': _short(max(shares)),
    'recordings': int(asked_N.sum()),
    'speakers': len(members),
    'right': {
      one: _short(right_N[asked_N & (labels == one)].mean())
      for one in classes
      if (asked_N & (labels == one)).any()
    },
  }


def _softmax(logits_NC: np.ndarray) -> np.ndarray:
  raised = np.exp(logits_NC - logits_NC.max(1, keepdims=True))
  return raised / raised.sum(1, keepdims=True)


def _short(value: float) -> float:
  value = float(value)
  return round(value, 4) if math.isfinite(value) else value
