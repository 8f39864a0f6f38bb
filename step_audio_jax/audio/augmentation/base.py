"""One change of a waveform, as it is configured and as it is written down.

An operation is a frozen dataclass. As it is configured, a field may be a range
or a tuple of names; `drawn` settles all of them and the seed, and what is
settled is a pure function of samples: `apply` gives the same ones wherever and
whenever it is called. Its JSON object is what provenance keeps.

Axes: S samples.
"""

import dataclasses
import math
from typing import Any, ClassVar, Mapping

import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio.augmentation import pools

Amount = float | tuple[float, float]  # a number, or the lowest and the highest
Count = int | tuple[int, int]
Choice = str | tuple[str, ...]  # a name, or those that are drawn from

_SEEDS = 2**53  # JSON of others keeps whole numbers below it
_LIMITS, _NAMES = 'limits', 'names'


def amount(default: Any, low: float, high: float, unit: str = '') -> Any:
  """A field that holds a number within limits, or a range of them."""
  limits = low, high, unit
  return dataclasses.field(default=default, metadata={_LIMITS: limits})


def choice(default: Any, names: tuple[str, ...]) -> Any:
  """A field that holds one of some names, or several of them."""
  return dataclasses.field(default=default, metadata={_NAMES: names})


@dataclasses.dataclass(frozen=True)
class Operation:
  """A change of a waveform."""

  kind: ClassVar[str]

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if _LIMITS in field.metadata:
        value = _checked_amount(self.kind, field, value)
      elif _NAMES in field.metadata:
        value = _checked_names(self.kind, field, value)
      elif field.name == 'seed' and not _is_seed(value):
        raise errors.UserError(
          f'{self.kind}: seed: found {value!r}, expected a whole number from 0 '
          'on, or null.'
        )
      object.__setattr__(self, field.name, value)

  def drawn(
    self, rng: np.random.Generator, avoid: str | None = None
  ) -> 'Operation':
    """The same with every range, choice and seed settled.

    Args:
      rng: Draws, a field after the other.
      avoid: A recording that is not mixed in: the one that is changed.
    """
    del avoid
    settled = {}
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if _LIMITS in field.metadata and isinstance(value, tuple):
        if _is_whole(field):
          settled[field.name] = int(rng.integers(*value, endpoint=True))
        else:
          settled[field.name] = float(rng.uniform(*value))
      elif _NAMES in field.metadata and isinstance(value, tuple):
        settled[field.name] = value[rng.integers(len(value))]
      elif field.name == 'seed' and value is None:
        settled[field.name] = int(rng.integers(_SEEDS))
    return dataclasses.replace(self, **settled)

  @property
  def time_scale(self) -> float:
    """What times within the sound are multiplied by."""
    return 1.0

  def moved(self, start: float, end: float) -> tuple[float, float]:
    """Where a word lies behind it, seconds."""
    return start * self.time_scale, end * self.time_scale

  def apply(
    self, wave_S: np.ndarray, sample_rate: int
  ) -> tuple[np.ndarray, dict[str, Any]]:
    """Changes samples; the operation is settled.

    Args:
      wave_S: Float32, finite.
      sample_rate: Hz.

    Returns:
      Float32 samples, as many as before unless `time_scale` says otherwise,
      and what was measured on the way (JSON-able).
    """
    raise NotImplementedError

  def to_json(self) -> dict[str, Any]:
    """The operation as a JSON object."""
    value: dict[str, Any] = {'kind': self.kind}
    for field in dataclasses.fields(self):
      one = getattr(self, field.name)
      if field.name == 'pool':
        one = one.where
      elif isinstance(one, tuple):
        one = list(one)
      value[field.name] = one
    return value

  def check_settled(self) -> None:
    """Refuses what still has to be drawn.

    Raises:
      UserError: A field is a range or a choice, or there is no seed.
    """
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      is_open = isinstance(value, tuple) and (
        _LIMITS in field.metadata or _NAMES in field.metadata
      )
      if is_open or field.name == 'seed' and value is None:
        raise errors.UserError(
          f'{self.kind}: {field.name}: found {value!r}, expected one value: '
          'this is what was asked for, not what was done.'
        )

  @classmethod
  def from_json(
    cls, value: Mapping[str, Any], pool: pools.Pool | None = None
  ) -> 'Operation':
    """The inverse of `to_json`, settled.

    Args:
      value: The object.
      pool: Where recordings are; by default the folder that it names.

    Raises:
      UserError: A field is unknown, missing or wrong.
    """
    fields = {field.name for field in dataclasses.fields(cls)}
    given = {k: v for k, v in value.items() if k not in ('kind', 'measured')}
    for name in sorted(fields ^ set(given)):
      found = 'an unknown field' if name in given else 'nothing'
      raise errors.UserError(
        f'{cls.kind}: {name}: found {found}, expected '
        f'{", ".join(sorted(fields))}.'
      )
    if 'pool' in given:
      given['pool'] = pool or pools.Folder(given['pool'])
    made = cls(
      **{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    )
    made.check_settled()
    return made


def check_wave(wave_S: np.ndarray, sample_rate: int) -> np.ndarray:
  """The samples as float32 (S,).

  Raises:
    UserError: They are not one channel of finite numbers, or the rate is none.
  """
  found = np.asarray(wave_S)
  if found.ndim != 1 or found.dtype.kind != 'f':
    raise errors.UserError(
      f'waveform: found {found.dtype} of shape {found.shape}, expected '
      'floating-point samples (S,) of one channel.'
    )
  if type(sample_rate) is not int or sample_rate < 1:
    raise errors.UserError(
      f'sample_rate: found {sample_rate!r}, expected whole Hz.'
    )
  finite = np.isfinite(found)
  if not finite.all():
    place = int(np.argmin(finite))
    raise errors.UserError(
      f'waveform: sample {place} is {found[place]}, expected finite numbers.'
    )
  return found.astype(np.float32, copy=False)


def power(wave_S: np.ndarray) -> float:
  """Mean square; 0 of no samples."""
  wave_S = np.asarray(wave_S, np.float64)
  return float(np.mean(wave_S * wave_S)) if len(wave_S) else 0.0


def fitted(wave_S: np.ndarray, count: int) -> np.ndarray:
  """Float32 of `count` samples: cut, or zeros behind."""
  wave_S = np.asarray(wave_S[:count], np.float32)
  return np.pad(wave_S, (0, count - len(wave_S)))


def _is_whole(field: dataclasses.Field) -> bool:
  return field.type is Count


def _is_seed(value: Any) -> bool:
  return value is None or type(value) is int and value >= 0


def _checked_amount(kind, field, value):
  low, high, unit = field.metadata[_LIMITS]
  whole = _is_whole(field)
  ends = value if isinstance(value, tuple) else (value, value)
  kinds = (int,) if whole else (int, float)
  right = len(ends) == 2 and all(type(end) in kinds for end in ends)
  # NaN is within no limits.
  if not right or not low <= ends[0] <= ends[1] <= high:
    limit = f'from {low:g}' + ('' if math.isinf(high) else f' to {high:g}')
    raise errors.UserError(
      f'{kind}: {field.name}: found {value!r}, expected a '
      f'{"whole " if whole else ""}number {limit}{unit and f" {unit}"}, or '
      '(lowest, highest).'
    )
  if not whole:
    ends = tuple(float(end) for end in ends)
  return ends if isinstance(value, tuple) else ends[0]


def _checked_names(kind, field, value):
  names = field.metadata[_NAMES]
  given = value if isinstance(value, tuple) else (value,)
  wrong = [one for one in given if one not in names]
  if wrong or not given:
    raise errors.UserError(
      f'{kind}: {field.name}: found {wrong[0] if wrong else value!r}, expected '
      f'{", ".join(names)}, or several of them.'
    )
  return value
