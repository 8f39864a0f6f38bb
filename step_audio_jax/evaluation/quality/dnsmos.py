"""DNSMOS P.835 and P.808: what people would say of a recording's noise.

Two networks of Reddy, Gopal and Cutler ("DNSMOS P.835", ICASSP 2022; the P.808
one: ICASSP 2021) hear windows of 9.01 s, a second apart. The first gives raw
scores of speech, background and the whole, which a polynomial bends onto the
scale of 1 to 5; the second reads a log-mel and gives one score. Scores of a
recording are means over its windows; a short one is doubled until it fills a
window, as the authors do.

The networks lie in the package `speechmos`, of whose code nothing is run: its
files are compared with their digests and given to onnxruntime. Nothing is
fetched. Axes: S samples, N windows, T frames, M mel bands.
"""

import functools
from importlib import metadata
import pathlib

import numpy as np

from step_audio_jax import errors
from step_audio_jax.evaluation.quality import reasons
from step_audio_jax.runtimes import onnx
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

SAMPLE_RATE = 16000
SCORES = ('dnsmos_sig', 'dnsmos_bak', 'dnsmos_ovrl', 'dnsmos_p808')
PACKAGE = 'speechmos'
P835, P808 = 'sig_bak_ovr.onnx', 'model_v8.onnx'
SHA256 = {
  P835: '269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd',
  P808: '9246480c58567bc6affd4200938e77eef49468c8bc7ed3776d109c07456f6e91',
}
_HOW = 'requirements/quality.txt installs it'
_SECONDS = 9.01
_WINDOW = 144160  # samples
# Of the raw score, from the square down to the constant, as in the package.
_BENT = {
  'dnsmos_sig': (-0.08397278, 1.22083953, 0.0052439),
  'dnsmos_bak': (-0.13166888, 1.60915514, -0.39604546),
  'dnsmos_ovrl': (-0.06766283, 1.11546468, 0.04602535),
}
_BANDS, _FFT, _HOP = 120, 321, 160
_LEFT_OUT = 160  # samples at a window's end that the second network lacks


class Dnsmos:
  """The two networks, ready to hear."""

  def __init__(self, folder: files.Path):
    """Opens them.

    Args:
      folder: Holds both files.

    Raises:
      NotComputed: onnxruntime is not installed, or a file is another one.
    """
    try:
      onnx.require()
    except onnx.Missing as error:
      raise reasons.NotComputed(
        f'onnxruntime is not installed: {_HOW}'
      ) from error
    self._sessions = {}
    for name, expected in SHA256.items():
      path = files.path(folder) / name
      try:
        raw = files.read_bytes(path)
      except (OSError, errors.UserError) as error:
        raise reasons.NotComputed(f'{path} cannot be read') from error
      if digests.of_bytes(raw) != expected:
        raise reasons.NotComputed(
          f'{path} is not the model that was published: its SHA-256 is '
          f'{digests.short(digests.of_bytes(raw))}…, expected '
          f'{digests.short(expected)}…'
        )
      self._sessions[name] = onnx.open_session(raw, path)

  def score(self, wave_S: np.ndarray) -> dict[str, float]:
    """Scores of a recording, each about 1 (bad) to 5 (excellent).

    Args:
      wave_S: Samples at 16 kHz in [-1, 1], at least one.
    """
    found: dict[str, list[float]] = {name: [] for name in SCORES}
    for start, stop in windows(len(wave_S)):
      # A window of a doubled recording: it goes round.
      part_S = np.take(wave_S, np.arange(start, stop), mode='wrap')
      part_S = part_S.astype(np.float32)
      raw = self._run(P835, part_S[None])[0]
      for name, value in zip(('dnsmos_sig', 'dnsmos_bak', 'dnsmos_ovrl'), raw):
        found[name].append(float(np.polyval(_BENT[name], value)))
      heard_TM = _log_mel(part_S[:-_LEFT_OUT])
      found['dnsmos_p808'].append(float(self._run(P808, heard_TM[None])[0, 0]))
    return {name: float(np.mean(values)) for name, values in found.items()}

  def _run(self, name, x):
    return onnx.run(name, self._sessions[name], {'input_1': x})[0]


@functools.lru_cache(1)
def opened() -> Dnsmos:
  """The networks of the installed package.

  Raises:
    NotComputed: Something is not installed, or is another one.
  """
  return Dnsmos(locate())


def locate() -> pathlib.Path:
  """The folder of the package's networks; it is not imported.

  Raises:
    NotComputed: It is not installed.
  """
  try:
    package = metadata.distribution(PACKAGE)
  except metadata.PackageNotFoundError as error:
    raise reasons.NotComputed(f'{PACKAGE} is not installed: {_HOW}') from error
  place = package.locate_file(f'{PACKAGE}/dnsmos_models')
  return pathlib.Path(str(place))


def windows(count: int) -> list[tuple[int, int]]:
  """Start and stop of each window of a recording, in samples.

  The authors' rule, its rounding included: one that rounding has left a sample
  short is not heard.
  """
  doubled = count
  while doubled < _WINDOW:
    doubled *= 2
  hops = int(doubled // SAMPLE_RATE - _SECONDS) + 1
  found = [
    (n * SAMPLE_RATE, min(int((n + _SECONDS) * SAMPLE_RATE), doubled))
    for n in range(hops)
  ]
  return [(a, b) for a, b in found if b - a >= _WINDOW]


def _log_mel(wave_S: np.ndarray) -> np.ndarray:
  """What the second network reads: 0 at 40 dB below the loudest, (T, M)."""
  import librosa  # a second

  mel_MT = librosa.feature.melspectrogram(
    y=wave_S,
    sr=SAMPLE_RATE,
    n_fft=_FFT,
    hop_length=_HOP,
    n_mels=_BANDS,
  )
  decibels_MT = librosa.power_to_db(mel_MT, ref=np.max)
  return ((decibels_MT + 40) / 40).T.astype(np.float32)
