"""Puts speech into a style by its recipe; what was done can be done again.

The operations are those of `audio.augmentation`: `Speed` moves the pitch, as a
smaller or a larger person has it, `Tempo` (WSOLA) gives the time back and sets
the rate, `Gain` the level, `Pauses` cuts between words. A voice that has rates
and pitches of its own does its part before, and better. Axes: S samples.
"""

from typing import Any, NamedTuple, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio import stretch
from step_audio_jax.audio.augmentation import base
from step_audio_jax.audio.augmentation import chain
from step_audio_jax.audio.augmentation import levels
from step_audio_jax.audio.augmentation import pauses
from step_audio_jax.audio.augmentation import speed
from step_audio_jax.audio.meters import activity
from step_audio_jax.audio.prosody import recipes
from step_audio_jax.styles import markup

REFERENCE_DB = -28.0  # dBFS of active frames, before the gain of a volume
Words = Sequence[tuple[str, float, float]]


class Made(NamedTuple):
  """Speech in a style.

  Attributes:
    samples: Float32 (S,).
    words: (word, start, end), seconds; None where none were given.
    provenance: The marked text, the recipe, and what `chain.apply` writes.
  """

  samples: np.ndarray
  words: tuple[tuple[str, float, float], ...] | None
  provenance: dict[str, Any]


def make(
  wave_S: np.ndarray,
  sample_rate: int,
  spans: Sequence[markup.Span],
  *,
  words: Words | None = None,
  places: Sequence[int] | None = None,
  done: recipes.Recipe = recipes.Recipe(),
  reference_db: float | None = REFERENCE_DB,
) -> Made:
  """Speaks in a style what was spoken in none.

  Args:
    wave_S: Speech, float.
    sample_rate: Hz.
    spans: What is said in it, of one style, with pauses.
    words: Of the speech, in seconds; pauses need them.
    places: Where each of them begins in the text, by characters; by default
      they are looked for.
    done: What the voice has done of the recipe.
    reference_db: Level that the speech is brought to before its gain; None
      leaves it as it is.

  Raises:
    UserError: The style changes within the text, no recipe makes it, there are
      pauses without words, or no sound to give a level to.
  """
  wave_S = base.check_wave(wave_S, sample_rate)
  style = one_style(spans)
  recipe = recipes.of(style)
  operations = _pitch_and_rate(recipe, done)
  gain = recipe.gain_db - done.gain_db
  if reference_db is not None:
    gain += reference_db - _level(wave_S, sample_rate)
  operations += [levels.Gain(gain)] if gain else []
  scale = 1.0
  for operation in operations:
    scale *= operation.time_scale
  timed = None if words is None else chain.scaled(words, scale)
  if gaps := _pauses(spans, timed, places):
    operations.append(gaps)
    timed = tuple((word, *gaps.moved(*times)) for word, *times in timed)
  if gain > 0:
    operations.append(levels.Ceiling())
  samples, told = chain.apply(wave_S, sample_rate, operations)
  provenance = {
    'levels': recipes.VERSION,
    'marked': markup.write(spans),
    'recipe': recipe.to_json(),
    'by_voice': done.to_json(),
    **told,
  }
  return Made(samples, timed, provenance)


def one_style(spans: Sequence[markup.Span]):
  """The style of all spans.

  Raises:
    UserError: There are several, or no spans at all.
  """
  found = {span.style for span in spans}
  if len(found) != 1:
    shown = ' and '.join(sorted(style.english or '(normal)' for style in found))
    raise errors.UserError(
      f'style: found {shown or "no text"}, expected one for all of the text: '
      'each is spoken by itself.'
    )
  return found.pop()


def _pitch_and_rate(recipe, done) -> list[base.Operation]:
  pitch = recipe.pitch_factor / done.pitch_factor
  operations: list[base.Operation] = []
  if abs(pitch - 1) > 1e-9:
    operations.append(speed.Speed(pitch))
  tempo = recipe.rate / done.rate / pitch
  # Twice where it is more than one may do.
  times = 1 if stretch.SLOWEST <= tempo <= stretch.FASTEST else 2
  if abs(tempo - 1) > 1e-9:
    operations += [speed.Tempo(tempo ** (1 / times))] * times
  return operations


def _level(wave_S, sample_rate) -> float:
  found = activity.find(wave_S, sample_rate)
  if not found.active_T.any():
    raise errors.UserError(
      'waveform: no sound in it above -60 dBFS, expected speech to bring to a '
      'level.'
    )
  return float(activity.decibels(found.power_T[found.active_T].mean()))


def _pauses(spans, words, places) -> pauses.Pauses | None:
  """The silences of a text, at the words that follow them."""
  if not any(span.pause for span in spans):
    return None
  if not words:
    raise errors.UserError(
      'words: missing, expected their times: a pause is put before a word.'
    )
  if places is None:
    places = _places(markup.plain(spans), words)
  starts = [(place, start) for place, (_, start, _) in zip(places, words)]
  found: dict[float, float] = {}
  at = 0
  for span in spans:
    if span.pause:
      behind = [time for place, time in starts if place >= at]
      time = behind[0] if behind else words[-1][2]
      seconds = recipes.PAUSES[span.pause - 1]
      found[time if at else 0.0] = seconds
    at += len(span.text)
  return pauses.Pauses(tuple(found), tuple(found.values()))


def _places(text: str, words) -> list[int]:
  """Where each word begins in the text."""
  found, at = [], 0
  for word, *_ in words:
    place = text.find(word, at)
    if place < 0:
      raise errors.UserError(
        f'words: {word!r} does not occur in order in the text {text[:40]!r}.'
      )
    found.append(place)
    at = place + len(word)
  return found
