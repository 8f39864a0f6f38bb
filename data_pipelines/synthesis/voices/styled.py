"""A voice speaks in a style: what it can do itself, and the rest by samples.

A voice has a rate, and a speaker a factor of pitch and formants (`speakers`);
level and pauses are made of what it said. Where a level is beyond the rates
that voices keep well, the samples are stretched by what is left.
"""

import dataclasses
import itertools
from typing import Sequence

import numpy as np

from data_pipelines.synthesis.voices import speakers
from data_pipelines.synthesis.voices import voice as voice_lib
from step_audio_jax.audio.prosody import making
from step_audio_jax.audio.prosody import recipes
from step_audio_jax.styles import markup

Style = markup.Style
_SLOWEST, _FASTEST = 0.6, 1.7  # of what a voice is asked for


@dataclasses.dataclass(frozen=True)
class Styled:
  """What was said.

  Attributes:
    speech: Its samples, with the starts of words behind pauses and all.
    provenance: Of `making.make`: tags, recipe, the voice's part, operations.
  """

  speech: voice_lib.Speech
  provenance: dict


def speak(
  voice: voice_lib.Voice,
  spans: Sequence[markup.Span],
  *,
  speaker: speakers.Speaker,
  language: str,
  rate: float = 1.0,
  seed: int = 0,
  reference_db: float | None = making.REFERENCE_DB,
) -> Styled:
  """Lets one speaker say a text in a style.

  Args:
    voice: Who speaks.
    spans: Of `markup.parse`, all in one style.
    speaker: As whom.
    language: Subtag of the text.
    rate: Of this speaker without a style, as of `Voice.speak`.
    seed: For the voice's small variations.
    reference_db: As of `making.make`.

  Raises:
    UserError: As `Voice.speak` and `making.make`.
  """
  known = frozenset(getattr(voice, 'tags', ()))
  asked_tags = [t for t in markup.tags_of(spans) if t in known]
  of_voice = _kept(spans, lambda tag: tag in asked_tags)
  spans = _kept(spans, lambda tag: tag not in asked_tags)
  recipe = recipes.of(making.one_style(spans))
  factor = speaker.factor * recipe.pitch_factor
  # What the voice itself is asked for, once its samples are played faster.
  asked = float(np.clip(rate * recipe.rate / factor, _SLOWEST, _FASTEST))
  said = speakers.speak(
    voice,
    of_voice if asked_tags else markup.plain(spans),
    speaker=dataclasses.replace(speaker, factor=factor),
    language=language,
    rate=asked * factor,
    seed=seed,
  )
  end = len(said.samples) / said.sample_rate
  places = [place for place, _ in said.words]
  times = [time for _, time in said.words]
  words = [('', *pair) for pair in zip(times, [*times[1:], end])]
  made = making.make(
    said.samples,
    said.sample_rate,
    spans,
    words=words,
    places=places,
    done=recipes.Recipe(asked * factor / rate, recipe.semitones),
    reference_db=reference_db,
  )
  speech = dataclasses.replace(
    said,
    samples=made.samples,
    words=tuple(
      (place, start) for place, (_, start, _) in zip(places, made.words)
    ),
  )
  told = dict(made.provenance)
  if asked_tags:
    told['asked_of_voice'] = markup.write(of_voice)
  return Styled(speech, told)


def speak_all(
  voice: voice_lib.Voice,
  spans: Sequence[markup.Span],
  *,
  speaker: speakers.Speaker,
  language: str,
  rate: float = 1.0,
  seed: int = 0,
) -> Styled:
  """As `speak`, of a text whose style may change: part by part, joined.

  Its provenance has that of the parts, where there are several.

  Raises:
    UserError: As `speak`.
  """
  runs = [tuple(run) for _, run in itertools.groupby(spans, lambda s: s.style)]
  said = [
    speak(
      voice,
      run,
      speaker=speaker,
      language=language,
      rate=rate,
      seed=(seed + number) % 2**31,
    )
    for number, run in enumerate(runs)
  ]
  if len(said) == 1:
    return said[0]
  import soxr

  sample_rate = said[0].speech.sample_rate
  parts, words, place, seconds = [], [], 0, 0.0
  for run, one in zip(runs, said):
    samples = one.speech.samples
    if one.speech.sample_rate != sample_rate:
      samples = soxr.resample(samples, one.speech.sample_rate, sample_rate)
    parts.append(samples)
    words += [(place + at, seconds + start) for at, start in one.speech.words]
    place += len(markup.plain(run))
    seconds += len(samples) / sample_rate
  speech = voice_lib.Speech(np.concatenate(parts), sample_rate, tuple(words))
  return Styled(speech, {'parts': [one.provenance for one in said]})


def _kept(spans, keeps) -> tuple[markup.Span, ...]:
  """Spans with those of their tags and pauses that `keeps` is true of."""
  found = []
  for span in spans:
    style = Style(tuple(tag for tag in span.style.tags if keeps(tag)))
    pause = span.pause if keeps(_pause(span)) else 0
    found.append(markup.Span(span.text, style, pause))
  return tuple(found)


def _pause(span) -> markup.Tag | None:
  return markup.Tag('停顿', span.pause) if span.pause else None
