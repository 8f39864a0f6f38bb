"""Figures of a corpus, counted while its lines pass by."""

import collections
from typing import Any

from step_audio_jax import languages
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import digests


class Tally:
  """Counts, seconds, characters and words of utterances.

  Of a text only its digest is kept, so that a million lines take about
  100 MB.
  """

  def __init__(self):
    self._count = 0
    self._splits = collections.Counter()
    self._languages = collections.Counter()
    self._texts = set()
    self._characters = set()
    self._speakers = set()
    self._words = set()
    self._seconds = self._longest = 0.0
    self._with_audio = 0
    self._doubts = languages.Census()

  def add(
    self, utterance: manifest.Utterance, heard: str | None = None
  ) -> None:
    """Counts one utterance, with the language of its sound if it is told."""
    self._count += 1
    self._splits[utterance.split] += 1
    self._languages[utterance.language] += 1
    self._doubts.add(utterance.language, utterance.text, heard)
    if utterance.text:
      self._texts.add(digests.number(utterance.text))
      self._characters.update(utterance.text)
    if utterance.speaker:
      self._speakers.add(utterance.speaker)
    if utterance.words:
      self._words.update(word[0] for word in utterance.words)
    if utterance.duration:
      self._with_audio += 1
      self._seconds += utterance.duration
      self._longest = max(self._longest, utterance.duration)

  def result(self) -> dict[str, Any]:
    """The figures; of audio only where there is audio, `notes` where some."""
    value = {
      'utterances': self._count,
      'splits': dict(sorted(self._splits.items())),
      'languages': dict(sorted(self._languages.items())),
      'texts': len(self._texts),
      'characters': len(self._characters - {' '}),
    }
    if self._with_audio:
      value['mean_seconds'] = round(self._seconds / self._with_audio, 3)
      value['max_seconds'] = round(self._longest, 3)
      value['hours'] = round(self._seconds / 3600, 4)
      value['speakers'] = sorted(self._speakers)
      value['words'] = len(self._words)
    if notes := self._doubts.notes():
      value['notes'] = notes
    return value
