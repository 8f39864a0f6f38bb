"""What people do in a dialogue, made here: turns, pauses, coughs, echoes.

Speech is espeak-ng's, whose words have times; coughs and noise are numpy's.
What they say is in `sentences`.
"""

import dataclasses

import numpy as np
import soxr

from benchmarks.dialogue import sentences
from data_pipelines.synthesis.voices import espeak

RATE = 16000
PARTS = sentences.PARTS
_VOICES = ('en-us+m1', 'en-us+m3', 'en-us+m7', 'en-us+f2', 'en-us+f4')
_VOICES_WIDE = ('cmn+m1', 'cmn+f2')

# How many of each, by default.
COUNTS = {
  'whole': 60,
  'pause': 70,
  'hesitation': 40,
  'cough': 30,
  'backchannel': 40,
  'echo': 30,
  'barge_in': 30,
}
TURNS = ('whole', 'pause', 'hesitation')
HARMLESS = ('cough', 'backchannel', 'echo')


@dataclasses.dataclass(frozen=True)
class Stimulus:
  """What a microphone hears, and what is true of it.

  Attributes:
    kind: Of `COUNTS`.
    heard_S: At 16 kHz, without what comes back of `played_S`.
    words: (word, seconds at which it ends).
    begins: Seconds at which the user begins.
    ends: Seconds at which the user has finished.
    played_S: What the assistant says meanwhile, from 0 on; None: nothing.
    room_S: What comes back of one sample that is played.
    text: For who looks at failures.
  """

  kind: str
  heard_S: np.ndarray
  words: tuple[tuple[str, float], ...]
  begins: float
  ends: float
  played_S: np.ndarray | None
  room_S: np.ndarray | None
  text: str


def make(
  part: str, seed: int, counts: dict[str, int] | None = None
) -> list[Stimulus]:
  """All stimuli of a part.

  Args:
    part: Of `PARTS`.
    seed: Of voices, lengths, noise.
    counts: Kind → how many; `COUNTS` else.
  """
  rng = np.random.default_rng(seed)
  counts = COUNTS if counts is None else counts
  return [
    _make(kind, part, rng) for kind, n in counts.items() for _ in range(n)
  ]


def _make(kind: str, part: str, rng) -> Stimulus:
  english = sentences.of(kind, part)
  wide = sentences.of(kind, part, True)
  text, sound_S, words = '', np.zeros(0), ()
  if len(english):
    is_wide = bool(len(wide)) and rng.random() < 0.3
    text = str(rng.choice(wide if is_wide else english))
    sound_S, words = _say(text, is_wide, rng)
  elif kind == 'cough':
    sound_S = _cough(rng)
  begin = rng.uniform(0.8, 1.5)
  tail = 2.5
  ends = begin + len(sound_S) / RATE
  heard_S = np.zeros(round((ends + tail + (4 if kind == 'echo' else 0)) * RATE))
  at = round(begin * RATE)
  heard_S[at : at + len(sound_S)] = sound_S
  played_S, room_S = None, None
  if kind not in TURNS:
    played_S = _bot(len(heard_S), rng)
    room_S = _room(rng)
  level = 10 ** (-rng.uniform(15, 35) / 20) * 0.07
  heard_S = heard_S + level * _pink(len(heard_S), rng)
  timed = tuple((word, begin + end) for word, end in words)
  return Stimulus(
    kind=kind,
    heard_S=heard_S.astype(np.float32),
    words=timed,
    begins=begin,
    ends=ends,
    played_S=played_S,
    room_S=room_S,
    text=text,
  )


def _say(text: str, is_wide: bool, rng):
  """Speech of 0.07 rms with its words and pauses."""
  voice = str(rng.choice(_VOICES_WIDE if is_wide else _VOICES))
  rate, pitch = int(rng.integers(135, 190)), int(rng.integers(35, 65))
  parts, words, at = [], [], 0.0
  for n, part in enumerate(text.split(' | ')):
    if n:
      pause = rng.uniform(0.4, 1.2)
      parts.append(np.zeros(round(pause * RATE)))
      at += len(parts[-1]) / RATE
    said = espeak.speak(
      part, voice=voice, rate=rate, pitch=pitch, seed=int(rng.integers(1 << 16))
    )
    sound_S = soxr.resample(said.samples, said.sample_rate, RATE)
    loud = np.flatnonzero(np.abs(sound_S) > 0.01 * np.abs(sound_S).max())
    first, last = loud[0], loud[-1] + 1
    parts.append(sound_S[first:last])
    length = (last - first) / RATE
    if is_wide:  # one character after the other
      spans = [(c, length * (i + 1) / len(part)) for i, c in enumerate(part)]
    else:
      starts = [s - first / RATE for _, s in said.words]
      names = part.split()
      # espeak joins some words into one; what is missing ends with the part.
      ends = (starts[1:] + [length] * len(names))[: len(names)]
      spans = list(zip(names, (min(e, length) for e in ends), strict=True))
      spans[-1] = (names[-1], length)
    words += [(word, at + end) for word, end in spans]
    at += length
  whole_S = np.concatenate(parts)
  loud_S = whole_S[np.abs(whole_S) > 1e-4]
  return 0.07 * whole_S / np.sqrt(np.mean(loud_S**2)), tuple(words)


def _cough(rng) -> np.ndarray:
  """One to three bursts of breath, coloured by a mouth."""
  parts = []
  for _ in range(rng.integers(1, 4)):
    size = round(rng.uniform(0.08, 0.2) * RATE)
    t_S = np.arange(size) / RATE
    burst_S = rng.standard_normal(size) * np.exp(-t_S * rng.uniform(12, 30))
    mouth_S = np.sin(2 * np.pi * rng.uniform(400, 1200) * t_S[:200])
    mouth_S *= np.exp(-np.arange(200) / 40)
    burst_S = np.convolve(burst_S, mouth_S)[:size]
    parts += [burst_S, np.zeros(round(rng.uniform(0.05, 0.2) * RATE))]
  sound_S = np.concatenate(parts[:-1])
  return rng.uniform(0.1, 0.5) * sound_S / np.abs(sound_S).max()


def _bot(size: int, rng) -> np.ndarray:
  """What the assistant says for so long."""
  said_S = np.zeros(0)
  while len(said_S) < size:
    sound_S, _ = _say(str(rng.choice(sentences.SAID)), False, rng)
    said_S = np.concatenate([said_S, sound_S, np.zeros(RATE // 4)])
  return said_S[:size]


def _room(rng) -> np.ndarray:
  """What a room gives back of one sample: late, quieter, with a tail."""
  room_S = rng.standard_normal(1600) * np.exp(
    -np.arange(1600) / rng.uniform(40, 150)
  )
  room_S[0] = 8.0
  room_S *= 10 ** (-rng.uniform(0, 26) / 20) / 8
  delay = round(rng.uniform(0.0, 0.45) * RATE)
  return np.concatenate([np.zeros(delay), room_S])


def _pink(size: int, rng) -> np.ndarray:
  """Noise of rms 1 that falls by 3 dB an octave."""
  spectrum_F = np.fft.rfft(rng.standard_normal(size))
  spectrum_F[1:] /= np.sqrt(np.arange(1, len(spectrum_F)))
  spectrum_F[0] = 0
  noise_S = np.fft.irfft(spectrum_F, size)
  return noise_S / np.sqrt(np.mean(noise_S**2))
