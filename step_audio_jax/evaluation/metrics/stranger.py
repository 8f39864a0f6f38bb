"""What a stranger understands: an outside recogniser's errors, three ways.

    stranger_recordings  the corpus' own recordings: what can be had at all
    stranger_codes       recording → codes → sound: what the decoder loses
    stranger_tts         text → codes → sound: the whole way

All of the same sentences, and none of them read by a part of this project.
"""

import collections
import dataclasses
from typing import Any, Callable, Iterable, Mapping, Sequence

import numpy as np

from step_audio_jax import languages
from step_audio_jax import progress
from step_audio_jax.corpus import manifest as manifest_lib
from step_audio_jax.evaluation.metrics import judge as judge_lib
from step_audio_jax.evaluation.metrics import scoring

TASKS = ('stranger_tts', 'stranger_codes', 'stranger_recordings')
UNKNOWN = 'in a language that the judge does not know'


@dataclasses.dataclass(frozen=True)
class Said:
  """A sentence and its sound.

  Attributes:
    about: id, language, speaker, reference and what else the page shows.
    wave: Gives samples at 16 kHz (S,), or None where there is no sound.
  """

  about: Mapping[str, Any]
  wave: Callable[[], np.ndarray | None]


def choose(
  utterances: Sequence[manifest_lib.Utterance], config: judge_lib.JudgeConfig
) -> list[manifest_lib.Utterance]:
  """Those that are heard: with a transcript, the first of each language.

  Languages are those that the judge is asked to hear.
  """
  kept, seen = [], collections.Counter()
  for utterance in utterances:
    if readable(utterance) and config.hears(utterance.language):
      seen[utterance.language] += 1
      if not config.utterances or (
        seen[utterance.language] <= config.utterances
      ):
        kept.append(utterance)
  return kept


def readable(utterance: manifest_lib.Utterance) -> bool:
  """Whether it has a transcript."""
  return bool(scoring.normalise(utterance.text or ''))


def about(utterance: manifest_lib.Utterance) -> dict[str, Any]:
  """What is told of an utterance."""
  return {
    'id': utterance.id,
    'language': utterance.language,
    'speaker': utterance.speaker,
    'reference': utterance.text,
  }


def score(
  judge: judge_lib.Judge,
  said: Iterable[Said],
  config: judge_lib.JudgeConfig,
  label: str,
) -> dict[str, Any]:
  """Lets the judge hear sentences.

  Args:
    judge: Hears.
    said: The sentences.
    config: How texts are compared.
    label: Of the bar.

  Returns:
    {cer, errors, by_language, utterances, silent, unknown, hypotheses}. Where
    there is no sound (`silent` of them) all of the text is missing; `unknown`
    are in a language that the judge does not know, and left out. Hypotheses
    have the text as it is compared, and as it was heard (`transcript`).
  """
  by_language: dict[str, scoring.Errors] = {}
  hypotheses, silent, unknown = [], 0, 0
  for one in progress.bar(list(said), label=label, unit='utt'):
    language = one.about['language']
    tag = languages.language_subtag(language) or language
    if tag not in judge.languages:
      unknown += 1
      continue
    wave_S = one.wave()
    mute = wave_S is None or not len(wave_S)
    silent += mute
    transcript = '' if mute else judge.hear(wave_S, tag)
    reference, hypothesis = (
      judge_lib.fold_text(text, language, config.fold)
      for text in (one.about['reference'], transcript)
    )
    counts = scoring.count(reference, hypothesis, language)
    by_language[language] = by_language.get(language, scoring.Errors()) + counts
    hypotheses.append(
      {
        **one.about,
        'hypothesis': hypothesis,
        'compared': reference,
        'transcript': transcript,
        'cer': counts.rate,
      }
    )
  total = sum(by_language.values(), scoring.Errors())
  return {
    'cer': total.rate,
    'errors': dataclasses.asdict(total),
    'by_language': {n: by_language[n].rate for n in sorted(by_language)},
    'utterances': len(hypotheses),
    'silent': silent,
    'unknown': unknown,
    'hypotheses': hypotheses,
  }
