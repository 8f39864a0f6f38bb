"""How far one recording is from another of the same words at the same times.

    mel   mean |ln mel − ln mel′|
    MCD   10 / ln 10 · √(2 Σ_{k=1..13} (c_k − c′_k)²), dB, c the cosine
          transform of the log-mel (Kubichek 1993; there of mel-cepstra)
    F0    cents = 1200 log₂(f / f′) where both are voiced

Nothing is warped: the two are compared frame by frame. Axes: T frames, M mel
bands, K coefficients.
"""

from typing import Mapping

import numpy as np

COEFFICIENTS = 13


def mel_distance(one_TM: np.ndarray, two_TM: np.ndarray) -> float:
  """Mean difference of two log-mels, natural logarithm."""
  one_TM, two_TM = _same_length(one_TM, two_TM)
  return float(np.abs(one_TM - two_TM).mean())


def mel_cepstral_distortion(one_TM: np.ndarray, two_TM: np.ndarray) -> float:
  """MCD of two log-mels, dB; the loudness c_0 is left out."""
  one_TM, two_TM = _same_length(one_TM, two_TM)
  bands = one_TM.shape[1]
  k = np.arange(1, COEFFICIENTS + 1)[:, None]
  cosine_KM = np.cos(np.pi * k * (np.arange(bands) + 0.5)[None] / bands) / bands
  apart_TK = (one_TM - two_TM) @ cosine_KM.T
  decibels_T = 10 / np.log(10) * np.sqrt(2 * np.square(apart_TK).sum(axis=1))
  return float(decibels_T.mean())


def pitch_difference(one_T: np.ndarray, two_T: np.ndarray) -> dict[str, float]:
  """F0 of one recording against that of another.

  Args:
    one_T: Hz, 0 where unvoiced (`audio.features.pitch.track`).
    two_T: Likewise.

  Returns:
    `cents`, root mean square over frames that are voiced in both;
    `correlation` of their logarithms there; `voicing`, the share of frames that
    are voiced in one alone. The first two are NaN below two such frames.
  """
  one_T, two_T = _same_length(one_T, two_T)
  both = (one_T > 0) & (two_T > 0)
  found = {
    'cents': float('nan'),
    'correlation': float('nan'),
    'voicing': float(((one_T > 0) != (two_T > 0)).mean())
    if len(one_T)
    else 0.0,
  }
  if both.sum() >= 2:
    a, b = np.log2(one_T[both]), np.log2(two_T[both])
    found['cents'] = float(1200 * np.sqrt(np.square(a - b).mean()))
    if a.std() and b.std():
      found['correlation'] = float(np.corrcoef(a, b)[0, 1])
  return found


def cosine(one: np.ndarray, two: np.ndarray) -> float:
  """Cosine of two vectors, such as speaker embeddings."""
  norms = np.linalg.norm(one) * np.linalg.norm(two)
  return float(np.dot(one, two) / max(norms, 1e-12))


def means(rows: list[Mapping[str, float]]) -> dict[str, float]:
  """The mean of each figure over those rows where it is a number."""
  names = dict.fromkeys(name for row in rows for name in row)
  found = {}
  for name in names:
    values = [row[name] for row in rows if np.isfinite(row.get(name, np.nan))]
    found[name] = round(float(np.mean(values)), 4) if values else float('nan')
  return found


def _same_length(one: np.ndarray, two: np.ndarray):
  """Both cut to the shorter: tails of a few frames differ."""
  count = min(len(one), len(two))
  return np.asarray(one)[:count], np.asarray(two)[:count]
