"""Who speaks a corpus: the speakers of voices, and others made of them.

A voice of one person becomes several by playing it faster or slower, which
moves pitch and formants by the factor, as a larger or a smaller person has
them. The voice speaks as much slower or faster before, so that the rate of
speech stays: it has a rate of its own, and time needs no stretching.
"""

import dataclasses
from typing import Sequence

from data_pipelines.synthesis.voices import voice as voice_lib
from step_audio_jax.styles import markup

# As far apart as a recogniser hears without more errors.
FACTORS = (1.0, 0.93, 1.09)
UNSEEN_FACTOR = 1.045  # of a voice that has one speaker


@dataclasses.dataclass(frozen=True)
class Speaker:
  """One who speaks in a corpus.

  Attributes:
    name: As the manifest says it.
    voice: Name of the voice.
    sha256: Digest of the voice.
    of: The voice's own speaker.
    languages: What the voice can say.
    factor: Of pitch and formants.
    held_out: Whether only the split of the unseen voice is spoken so.
  """

  name: str
  voice: str
  sha256: str
  of: str
  languages: tuple[str, ...]
  factor: float = 1.0
  held_out: bool = False


def cast(voices: Sequence[voice_lib.Voice]) -> tuple[Speaker, ...]:
  """The speakers that some voices give, and who of them is held out.

  Of a voice with several speakers the last is held out; of one with a single
  one a speaker that is made of it.
  """
  found = []
  for voice in voices:
    several = len(voice.speakers) > 1
    for of in voice.speakers:
      own = f'{voice.name}-{of}' if several else voice.name
      held_out = several and of == voice.speakers[-1]
      found += [
        Speaker(
          own if factor == 1 else f'{own}@{factor}',
          voice.name,
          voice.sha256,
          of,
          voice.languages,
          factor,
          held_out or factor == UNSEEN_FACTOR,
        )
        for factor in (FACTORS if several else (*FACTORS, UNSEEN_FACTOR))
      ]
  return tuple(found)


def speak(
  voice: voice_lib.Voice,
  text: str | Sequence[markup.Span],
  *,
  speaker: Speaker,
  language: str,
  rate: float,
  seed: int,
) -> voice_lib.Speech:
  """Lets one speaker say a text; arguments as of `Voice.speak`.

  Spans are said by voices that have learnt their tags.

  Returns:
    What was said; its sample rate, a whole number of Hz, is the voice's times
    the factor, and its times are those of that rate.
  """
  say = voice.speak if isinstance(text, str) else voice.speak_spans
  said = say(
    text,
    language=language,
    speaker=speaker.of,
    rate=rate / speaker.factor,
    seed=seed,
  )
  sample_rate = round(said.sample_rate * speaker.factor)
  scale = said.sample_rate / sample_rate
  return dataclasses.replace(
    said,
    sample_rate=sample_rate,
    words=tuple((place, time * scale) for place, time in said.words),
  )
