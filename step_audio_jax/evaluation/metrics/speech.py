"""Speech in, text out, and back: ASR and TTS error rates of a speech-text LM.

ASR: the dual codes of an utterance are the prompt, the model writes text, and
its character error rate is counted against the manifest's transcript.

TTS: the transcript is the prompt, the model writes dual codes (2:3 groups, only
codes that exist), and then *its own* ASR reads these codes; the error rate of
that reading against the transcript is the figure. It needs no vocoder, and it
contains the errors of the ASR.

Prompts are the documents that training rows are made of, without the answer.
"""

import dataclasses
from typing import Any, Mapping, Sequence

import numpy as np

from step_audio_jax import documents as documents_lib
from step_audio_jax import errors
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.corpus import manifest
from step_audio_jax.evaluation.metrics import scoring
from step_audio_jax.generation import decode
from step_audio_jax.generation import grammar as grammar_lib
from step_audio_jax.generation import sampling

Codes = Mapping[str, tuple[np.ndarray, np.ndarray]]
Vocabulary = vocabulary_lib.Vocabulary


@dataclasses.dataclass(frozen=True)
class SpeechConfig:
  """How utterances are decoded.

  Attributes:
    linguistic_codes: Codes 0..n-1 that exist; 0 means the whole codebook.
    semantic_codes: The same for semantic codes.
    max_text_tokens: Longest transcript that ASR writes, ids.
    max_speech_groups: Longest speech that TTS writes, groups of 120 ms.
    batch_size: Utterances decoded at a time.
    temperature: Of TTS; ASR is always greedy.
    top_k: Of TTS.
    top_p: Of TTS.
    seed: Of TTS, when the temperature is not 0.
    streams: Which codes are heard, of `documents.STREAMS`.
  """

  linguistic_codes: int = 0
  semantic_codes: int = 0
  max_text_tokens: int = 64
  max_speech_groups: int = 40
  batch_size: int = 64
  temperature: float = 0.0
  top_k: int = 0
  top_p: float = 1.0
  seed: int = 0
  streams: str = documents_lib.BOTH

  def __post_init__(self):
    for name in ('max_text_tokens', 'max_speech_groups', 'batch_size'):
      if getattr(self, name) < 1:
        raise errors.UserError(
          f'speech evaluation: {name} is {getattr(self, name)}, expected at '
          'least 1.'
        )
    if self.streams not in documents_lib.STREAMS:
      raise errors.UserError(
        f'speech evaluation: streams is {self.streams!r}, expected one of '
        f'{", ".join(documents_lib.STREAMS)}.'
      )


class Speaker:
  """One model that transcribes and speaks; compiled once for all sets.

  Attributes:
    config: How it decodes.
  """

  def __init__(
    self,
    model: Any,
    variables: Mapping[str, Any],
    vocabulary: Vocabulary,
    config: SpeechConfig = SpeechConfig(),
    shows_progress: bool = True,
  ):
    self.config = config
    self._shows_progress = shows_progress
    self._model = model
    self._variables = variables
    self._vocabulary = vocabulary
    self._grammar = grammar_lib.build(
      vocabulary,
      linguistic_codes=config.linguistic_codes or None,
      semantic_codes=config.semantic_codes or None,
    )

  def transcribe(self, speech: Sequence[Sequence[int]]) -> list[str]:
    """Interleaved speech ids of each utterance → its text."""
    return [text for text, _ in self.read(speech)]

  def read(self, speech: Sequence[Sequence[int]]) -> list[tuple[str, bool]]:
    """As `transcribe`, and whether the text ended before its limit."""
    c = self.config
    layout = documents_lib.LAYOUTS['asr']
    prompts = [layout.prompt(self._vocabulary, speech=ids) for ids in speech]
    longest = max([5 * c.max_speech_groups + 4, *map(len, prompts)])
    outputs = decode.generate_outputs(
      self._model,
      self._variables,
      prompts,
      max_new_tokens=c.max_text_tokens,
      grammar=self._grammar,
      start=grammar_lib.State.TEXT,
      shapes=self._shapes(longest),
      label='transcribing' if self._shows_progress else None,
    )
    return [
      (self._vocabulary.decode(one.tokens), one.stopped) for one in outputs
    ]

  def heard(self, linguistic: np.ndarray, semantic: np.ndarray) -> np.ndarray:
    """Codes → the ids that this model hears; none of less than a group."""
    ids = self._vocabulary.interleave(linguistic, semantic)
    return documents_lib.in_streams(self._vocabulary, ids, self.config.streams)

  def speak(self, texts: Sequence[str]) -> list[decode.Output]:
    """Text of each utterance → speech ids, whole groups."""
    c = self.config
    layout = documents_lib.LAYOUTS['tts']
    prompts = [layout.prompt(self._vocabulary, text=text) for text in texts]
    outputs = decode.generate_outputs(
      self._model,
      self._variables,
      prompts,
      max_new_tokens=vocabulary_lib.GROUP * c.max_speech_groups,
      sampler=sampling.Sampler(c.temperature, c.top_k, c.top_p),
      grammar=self._grammar,
      start=grammar_lib.State.SPEECH,
      rng=c.seed,
      shapes=self._shapes(max(map(len, prompts), default=1)),
      label='speaking' if self._shows_progress else None,
    )
    return outputs

  def _shapes(self, longest: int) -> decode.Shapes:
    return decode.Shapes(
      batch_size=self.config.batch_size, prompt=decode.round_up(longest - 1)
    )


def usable(
  utterances: Sequence[manifest.Utterance], codes: Codes | None, where: str
) -> list[manifest.Utterance]:
  """Those with a transcript and, unless `codes` is None, with codes.

  Raises:
    UserError: None is left.
  """
  kept = [
    u
    for u in utterances
    if scoring.normalise(u.text or '') and (codes is None or u.id in codes)
  ]
  if not kept:
    raise errors.UserError(
      f'{where}: none of its {len(utterances)} utterances has '
      + ('a transcript.' if codes is None else 'both a transcript and codes; ')
      + ('' if codes is None else 'tokenize the corpus first.')
    )
  return kept


def asr(
  speaker: Speaker,
  vocabulary: Vocabulary,
  sets: Mapping[str, Sequence[manifest.Utterance]],
  codes: Codes,
) -> dict[str, dict[str, Any]]:
  """ASR of several sets of utterances, decoded together.

  Returns:
    Set → {cer, errors, utterances, skipped, hypotheses, …}; cer a fraction;
    `without_transcript` and `without_codes` make up `skipped`, `unfinished`
    are texts that met the length limit.
  """
  kept = {name: usable(some, codes, name) for name, some in sets.items()}
  flat = [u for some in kept.values() for u in some]
  texts = iter(speaker.read([speaker.heard(*codes[u.id]) for u in flat]))
  found = {}
  for name, some in kept.items():
    read = [next(texts) for _ in some]
    found[name] = {
      **_score([(u, text, {}) for u, (text, _) in zip(some, read)]),
      **_skipped(sets[name], some),
      'unfinished': sum(not stopped for _, stopped in read),
    }
  return found


def tts(
  speaker: Speaker,
  vocabulary: Vocabulary,
  sets: Mapping[str, Sequence[manifest.Utterance]],
) -> dict[str, dict[str, Any]]:
  """TTS round trip of several sets.

  Sets are spoken together; where speech is sampled each by itself, since the
  draws of an utterance follow from its place.

  Returns:
    As `asr`; `unfinished` are speech that met the length limit, `unread` texts
    that did, and each hypothesis has `tokens` (speech ids) and `seconds`.
  """
  kept = {name: usable(some, None, name) for name, some in sets.items()}
  together = [list(kept)]
  if speaker.config.temperature:
    together = [[name] for name in kept]
  spoken = [
    output
    for names in together
    for output in speaker.speak([u.text for n in names for u in kept[n]])
  ]
  texts = speaker.read([output.tokens for output in spoken])
  pairs = iter(zip(spoken, texts, strict=True))
  found = {}
  for name, some in kept.items():
    rows, unfinished, unread = [], 0, 0
    for utterance in some:
      output, (text, stopped) = next(pairs)
      unfinished += not output.stopped
      unread += not stopped
      groups = len(output.tokens) // vocabulary_lib.GROUP
      extra = {
        'tokens': output.tokens.tolist(),
        'seconds': round(groups * vocabulary_lib.GROUP_SECONDS, 2),
      }
      rows.append((utterance, text, extra))
    found[name] = {
      **_score(rows),
      **_skipped(sets[name], some),
      'unfinished': unfinished,
      'unread': unread,
    }
  return found


def _skipped(all_of_them, kept) -> dict[str, int]:
  """How many utterances of a set are not scored, and why."""
  skipped = len(all_of_them) - len(kept)
  mute = sum(not scoring.normalise(u.text or '') for u in all_of_them)
  return {
    'skipped': skipped,
    'without_transcript': mute,
    'without_codes': skipped - mute,
  }


def _score(rows) -> dict[str, Any]:
  """Corpus error rate and every hypothesis with its own counts."""
  total, hypotheses = scoring.Errors(), []
  for utterance, text, extra in rows:
    counts = scoring.count(utterance.text, text, utterance.language)
    total += counts
    hypotheses.append(
      {
        'id': utterance.id,
        'language': utterance.language,
        'speaker': utterance.speaker,
        'reference': utterance.text,
        'hypothesis': text,
        'cer': counts.rate,
        **extra,
      }
    )
  return {
    'cer': total.rate,
    'errors': dataclasses.asdict(total),
    'by_language': _by_language(rows),
    'utterances': len(hypotheses),
    'hypotheses': hypotheses,
  }


def _by_language(rows) -> dict[str, float]:
  languages = sorted({u.language for u, _, _ in rows})
  return {
    language: scoring.corpus_errors(
      (u.text, text, language) for u, text, _ in rows if u.language == language
    ).rate
    for language in languages
  }
