"""A chain of changes, drawn for each utterance and written down.

    chain = Chain((Step(rooms.Tail(), 0.5), Step(noise.Noise())), seed=3)
    changed = chain.apply(wave_S, 16000, 'utterance-17')
    replay(wave_S, 16000, changed.provenance)      the same samples, bit for bit

What is drawn follows from the seed and the utterance's name, not from the order
or the process. Provenance is a JSON object: the operations with all that was
drawn and measured, digests of the samples before and behind them, and what they
were made with.

Axes: S samples.
"""

import dataclasses
from typing import Any, Mapping, NamedTuple, Sequence

import numpy as np
import soundfile
import soxr

from step_audio_jax import errors
from step_audio_jax.audio.augmentation import base
from step_audio_jax.audio.augmentation import codecs
from step_audio_jax.audio.augmentation import levels
from step_audio_jax.audio.augmentation import noise
from step_audio_jax.audio.augmentation import pauses
from step_audio_jax.audio.augmentation import pools
from step_audio_jax.audio.augmentation import rooms
from step_audio_jax.audio.augmentation import speed
from step_audio_jax.storage import digests

OPERATIONS: Mapping[str, type[base.Operation]] = {
  one.kind: one
  for one in (
    noise.Noise,
    noise.Recordings,
    rooms.Tail,
    rooms.Room,
    rooms.Impulse,
    codecs.Telephone,
    codecs.Compression,
    speed.Speed,
    speed.Tempo,
    levels.Gain,
    levels.Clipping,
    levels.Ceiling,
    pauses.Pauses,
  )
}
_FIELDS = {
  'sample_rate': int,
  'input': str,
  'output': str,
  'time_scale': float,
  'made_with': Mapping,
  'operations': Sequence,
}
Words = Sequence[tuple[str, float, float]]


class Changed(NamedTuple):
  """A waveform that was changed.

  Attributes:
    samples: Float32 (S,).
    provenance: What was done, JSON-able.
  """

  samples: np.ndarray
  provenance: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Step:
  """An operation that some utterances go through.

  Attributes:
    operation: As it is configured.
    probability: Of going through it.
  """

  operation: base.Operation
  probability: float = 1.0

  def __post_init__(self):
    if not isinstance(self.operation, base.Operation):
      raise errors.UserError(
        f'operation: found {self.operation!r}, expected an operation of '
        'augmentation.'
      )
    if not 0 <= self.probability <= 1:
      raise errors.UserError(
        f'{self.operation.kind}: probability: found {self.probability}, '
        'expected 0 to 1.'
      )


@dataclasses.dataclass(frozen=True)
class Chain:
  """Steps, one after the other.

  Attributes:
    steps: In their order.
    seed: With an utterance's name it decides what that goes through.
  """

  steps: tuple[Step, ...] = ()
  seed: int = 0

  def draw(self, name: str) -> tuple[base.Operation, ...]:
    """What an utterance goes through."""
    key = digests.number(name)
    drawn = []
    for number, step in enumerate(self.steps):
      # A stream for each: a step that changes leaves those behind it alone.
      rng = np.random.default_rng([self.seed, key, number])
      if rng.random() < step.probability:
        drawn.append(step.operation.drawn(rng, avoid=name))
    return tuple(drawn)

  def apply(self, wave_S: np.ndarray, sample_rate: int, name: str) -> Changed:
    """Changes the samples of an utterance.

    Raises:
      UserError: They are not finite floating-point samples of one channel, or
        an operation cannot be done here.
    """
    return apply(wave_S, sample_rate, self.draw(name))


def apply(
  wave_S: np.ndarray, sample_rate: int, operations: Sequence[base.Operation]
) -> Changed:
  """Puts samples through settled operations.

  Raises:
    UserError: As `Chain.apply`.
  """
  wave_S = base.check_wave(wave_S, sample_rate)
  before, done, scale = pools.digest(wave_S), [], 1.0
  for operation in operations:
    operation.check_settled()
    wave_S, measured = operation.apply(wave_S, sample_rate)
    scale *= operation.time_scale
    done.append({**operation.to_json(), 'measured': measured})
  provenance = {
    'sample_rate': sample_rate,
    'input': before,
    'output': pools.digest(wave_S),
    'time_scale': scale,
    'made_with': made_with(),
    'operations': done,
  }
  return Changed(wave_S, provenance)


def made_with() -> dict[str, str]:
  """Versions of what the samples depend on."""
  return {
    'numpy': np.__version__,
    'soxr': soxr.__version__,
    'libsndfile': soundfile.__libsndfile_version__,
  }


def replay(
  wave_S: np.ndarray,
  sample_rate: int,
  provenance: Mapping[str, Any],
  pool: pools.Pool | None = None,
) -> np.ndarray:
  """Does again what was done.

  Args:
    wave_S: The samples as they were before.
    sample_rate: Hz.
    provenance: Of `Changed`.
    pool: Where recordings are; by default the folders that it names.

  Returns:
    The samples that came out then, to the bit.

  Raises:
    UserError: These are other samples, the provenance is damaged, or the same
      operations give something else here.
  """
  operations = read(provenance, pool)
  wave_S = base.check_wave(wave_S, sample_rate)
  for name, found in (
    ('sample_rate', sample_rate),
    ('input', pools.digest(wave_S)),
  ):
    if found != provenance[name]:
      raise errors.UserError(
        f'provenance: {name}: found {found}, expected {provenance[name]}: it '
        'tells of another waveform.'
      )
  again = apply(wave_S, sample_rate, operations)
  if again.provenance['output'] == provenance['output']:
    return again.samples
  pairs = zip(provenance['operations'], again.provenance['operations'])
  for then, now in pairs:
    heard = now['measured'].get('sources', [])
    if then.get('measured', {}).get('sources', heard) != heard:
      raise errors.UserError(
        f'{then["kind"]}: a recording of {", ".join(o["name"] for o in heard)} '
        f'in {then["pool"]} is another than then.'
      )
  made, here = dict(provenance['made_with']), made_with()
  raise errors.UserError(
    f'provenance: output: made with {made}, and something else comes out with '
    f'{here}.'
  )


def read(
  provenance: Any, pool: pools.Pool | None = None
) -> tuple[base.Operation, ...]:
  """The operations of a provenance.

  Raises:
    UserError: It is damaged, or names what is not here.
  """
  if not isinstance(provenance, Mapping):
    raise errors.UserError(
      f'provenance: found {type(provenance).__name__}, expected a JSON object.'
    )
  for name, kind in _FIELDS.items():
    if not isinstance(provenance.get(name), kind):
      raise errors.UserError(
        f'provenance: {name}: found {provenance.get(name)!r}, expected what '
        '`apply` wrote.'
      )
  operations = []
  for number, value in enumerate(provenance['operations']):
    kind = value.get('kind') if isinstance(value, Mapping) else None
    if not isinstance(kind, str) or kind not in OPERATIONS:
      raise errors.UserError(
        f'provenance: operation {number}: found {kind!r}, expected one of '
        f'{", ".join(OPERATIONS)}.'
      )
    operations.append(OPERATIONS[kind].from_json(value, pool))
  return tuple(operations)


def moved(
  words: Words | None, operations: Sequence[base.Operation]
) -> Words | None:
  """Times of words behind settled operations."""
  if words is None:
    return None
  found = []
  for word, *times in words:
    for operation in operations:
      times = operation.moved(*times)
    found.append((word, *times))
  return tuple(found)


def scaled(words: Words | None, time_scale: float) -> Words | None:
  """Times of words after a change of speed."""
  if words is None:
    return None
  return tuple(
    (word, start * time_scale, end * time_scale) for word, start, end in words
  )
