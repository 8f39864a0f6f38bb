"""STOI and ESTOI: how much of clean speech a degraded copy lets understand.

Correlations of third-octave envelopes over 384 ms, by `pystoi`: Taal et al.,
"An algorithm for intelligibility prediction of time-frequency weighted noisy
speech" (IEEE TASLP 2011); extended: Jensen & Taal (IEEE/ACM TASLP 2016). 1 is
the clean speech itself. Both have to run side by side, sample by sample.
"""

import warnings

import numpy as np

from step_audio_jax.evaluation.quality import reasons

SCORES = ('stoi', 'estoi')
LEAST_RATE = 10000  # Hz, at which it listens
_SECONDS = 0.4  # 30 frames, at which it begins


def score(
  clean_S: np.ndarray, degraded_S: np.ndarray, sample_rate: int
) -> dict[str, float]:
  """Both scores.

  Args:
    clean_S: Samples of the reference.
    degraded_S: As many, of what is measured.
    sample_rate: Hz of both, at least 10,000.

  Raises:
    NotComputed: pystoi is not installed, or there is too little speech.
  """
  try:
    from pystoi import stoi as measure
  except ImportError as error:
    raise reasons.NotComputed(
      "pystoi is not installed: it is in the extra 'quality'"
    ) from error
  too_little = reasons.NotComputed(
    f'less than {_SECONDS} s of the reference are speech'
  )
  if len(clean_S) < _SECONDS * sample_rate:
    raise too_little
  clean_S, degraded_S = clean_S.astype('d'), degraded_S.astype('d')
  found = {}
  with warnings.catch_warnings():
    # It warns of too little speech and returns 1e-5, which is no score.
    warnings.simplefilter('error', RuntimeWarning)
    for name, extended in zip(SCORES, (False, True)):
      try:
        value = float(measure(clean_S, degraded_S, sample_rate, extended))
      except RuntimeWarning as error:
        raise too_little from error
      found[name] = value
  return found
