"""Time-aligned words beside a recording, as Full-Duplex-Bench writes them.

    {"text": "yes I see", "chunks": [{"text": "yes", "timestamp": [1.2, 1.5]}]}

They come from a recogniser with time stamps (the original: parakeet-tdt-0.6b
v2), which is asked before; nothing here recognises speech. An end may be null,
where the recogniser has none: it is the word's start then.
"""

import math
from typing import Any, Mapping, NamedTuple, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax.evaluation.dialogues.timelines import recordings
from step_audio_jax.storage import files

# "Takes the turn": v1_v1.5/evaluation of the public scripts. What is shorter
# than a second and has three words or fewer is a backchannel.
_TURN_SECONDS, _TURN_WORDS = 1.0, 3


class Words(NamedTuple):
  """Words and their times, in order.

  Attributes:
    texts: Of each, as written.
    times_W2: Start and end, seconds.
  """

  texts: Sequence[str]
  times_W2: np.ndarray

  @property
  def seconds(self) -> float:
    """From the first start to the last end."""
    if not self.texts:
      return 0.0
    return float(self.times_W2[-1, 1] - self.times_W2[0, 0])

  @property
  def takes_turn(self) -> bool:
    """Whether they are more than a backchannel (take-over, TOR = 1)."""
    if not self.texts:
      return False
    return self.seconds >= _TURN_SECONDS or len(self.texts) > _TURN_WORDS

  @property
  def per_minute(self) -> float | None:
    """Words a minute from the first to the last; None of no time."""
    if self.seconds <= 0:
      return None
    return 60 * len(self.texts) / self.seconds

  def after(self, seconds: float) -> 'Words':
    """Those that end later; one that is being said begins there."""
    keep_W = self.times_W2[:, 1] > seconds
    times_W2 = np.maximum(self.times_W2[keep_W], seconds)
    kept = [t for t, k in zip(self.texts, keep_W, strict=True) if k]
    return Words(kept, times_W2)

  def split(self, seconds: float) -> tuple['Words', 'Words']:
    """Those that are over, and the rest."""
    over_W = self.times_W2[:, 1] <= seconds
    parts = []
    for keep_W in (over_W, ~over_W):
      texts = [t for t, k in zip(self.texts, keep_W, strict=True) if k]
      parts.append(Words(texts, self.times_W2[keep_W]))
    return parts[0], parts[1]

  def within(self, start: float, end: float) -> int:
    """How many share time with a segment."""
    times_W2 = self.times_W2
    return int(np.sum((times_W2[:, 0] <= end) & (times_W2[:, 1] > start)))


def read(path: files.AnyPath) -> Words | None:
  """Words of a file; None where it is not there.

  Raises:
    Fault: It is of another form.
  """
  found = read_json(path)
  return None if found is None else parse(found, path.name)


def parse(found: Any, name: str) -> Words:
  """Words of what such a file holds.

  Raises:
    Fault: As `read`.
  """
  reason = f'{name} is not of the form of time-aligned words'
  if not isinstance(found, Mapping) or not isinstance(
    found.get('chunks'), list
  ):
    raise recordings.Fault(reason, f'{name}: no list `chunks`')
  texts, times = [], []
  for chunk in found['chunks']:
    try:
      start, end = chunk['timestamp']
      text = chunk['text'].strip()
    except (AttributeError, KeyError, TypeError, ValueError):
      raise recordings.Fault(reason, f'{name}: {chunk!r}') from None
    if start is None:
      continue  # nobody knows when
    end = start if end is None else end
    if not (is_time(start) and is_time(end) and start <= end):
      raise recordings.Fault(reason, f'{name}: timestamp {start!r}, {end!r}')
    texts.append(text)
    times.append((start, end))
  times_W2 = np.asarray(times, np.float64).reshape(-1, 2)
  order = np.argsort(times_W2[:, 0], kind='stable')
  return Words([texts[k] for k in order], times_W2[order])


def is_time(found: Any) -> bool:
  """Whether a JSON value is a time: finite seconds, not below 0."""
  return (
    isinstance(found, int | float)
    and not isinstance(found, bool)
    and math.isfinite(found)
    and found >= 0
  )


def read_json(path: files.AnyPath) -> Any:
  """What a JSON file holds; None where there is no such file.

  Raises:
    Fault: It is no JSON: half of it, most often.
  """
  if not files.is_file(path):
    return None
  try:
    return files.read_json(path)
  except errors.UserError as error:
    raise recordings.Fault(f'{path.name} cannot be read', str(error)) from error
