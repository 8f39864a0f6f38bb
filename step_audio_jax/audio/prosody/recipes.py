"""How a level is made of speech that has none: a table, and nothing else.

    speed    rate × 1.12 ^ level            fast 2: 1.25, slow 2: 0.80
    pitch    level semitones                high pitch 2: +2
    volume   2 dB · level                   quiet 2: −4 dB
    pause    0.25, 0.45, 0.7, 1.0, 1.4 s    at its place in the text

Levels of lower ends (slow, low pitch, quiet) count below 0. The figures are
those of `styles.levels`, which says why.
"""

import dataclasses
import math
from typing import Any

from step_audio_jax import errors
from step_audio_jax.styles import levels
from step_audio_jax.styles import tags

VERSION, PAUSES = levels.VERSION, levels.PAUSES
RATE, SEMITONES, GAIN_DB = levels.RATE, levels.SEMITONES, levels.GAIN_DB
MADE = ('speed', 'pitch', 'volume')  # axes of styles


@dataclasses.dataclass(frozen=True)
class Recipe:
  """What is done to speech.

  Attributes:
    rate: 2 is twice as fast.
    semitones: What pitch, and formants with it, are raised by.
    gain_db: What is added to the level.
  """

  rate: float = 1.0
  semitones: float = 0.0
  gain_db: float = 0.0

  @property
  def pitch_factor(self) -> float:
    """Of the frequencies."""
    return math.exp2(self.semitones / 12)

  def to_json(self) -> dict[str, Any]:
    """A JSON object."""
    return dataclasses.asdict(self)


def of(style: tags.Style) -> Recipe:
  """What makes a style.

  Raises:
    UserError: It has a tag that only somebody can speak.
  """
  for tag in style.tags:
    if tag.axis not in MADE:
      raise errors.UserError(
        f'style: found ({tag.english}), which is made of no other speech; '
        f'expected tags of {", ".join(MADE)} and pauses.'
      )
  return Recipe(
    rate=RATE ** style.level('speed'),
    semitones=SEMITONES * style.level('pitch'),
    gain_db=GAIN_DB * style.level('volume'),
  )
