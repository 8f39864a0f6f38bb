"""What SeqIO measures of a task: error rates and likelihood.

    asr, tts   character and word error rate (`evaluation.metrics.scoring`) of
    what was
               written, or of what an ASR heard in the speech
    all        negative log-likelihood of a learnt id, and its exponential

A task's predictions are texts; its scores are Σ weight · log p over the ids of
an example.
"""

import math
from typing import Any, NamedTuple, Sequence

from step_audio_jax.evaluation.metrics import scoring


class Target(NamedTuple):
  """What a prediction or a score is held against.

  Attributes:
    text: Transcript, text or caption.
    language: Short code.
    weight: Σ of the loss weights of the example.
  """

  text: str
  language: str
  weight: float


def target(output, example=None, is_target=False) -> Target | Any:
  """SeqIO postprocessing: a prediction stays, a target is a `Target`."""
  if not is_target:
    return output
  return Target(
    example['text'].decode(),
    example['language'].decode(),
    float(example['loss_weights'].sum()),
  )


def character_error_rate(
  targets: Sequence[Target], predictions: Sequence[str]
) -> dict[str, float]:
  """SeqIO metric: corpus-level CER, a fraction."""
  return {'cer': _errors(targets, predictions, 'character')}


def word_error_rate(
  targets: Sequence[Target], predictions: Sequence[str]
) -> dict[str, float]:
  """SeqIO metric: corpus-level WER; a character is a word in Chinese."""
  return {'wer': _errors(targets, predictions, 'word')}


def negative_log_likelihood(
  targets: Sequence[Target], scores: Sequence[float]
) -> dict[str, float]:
  """SeqIO metric: of an id that is learnt, in nats, and the perplexity."""
  weight = math.fsum(one.weight for one in targets)
  nll = -math.fsum(map(float, scores)) / weight if weight else math.nan
  return {'nll': nll, 'perplexity': math.exp(nll)}


def _errors(targets, predictions, mode: str) -> float:
  triples = (
    (one.text, prediction, one.language)
    for one, prediction in zip(targets, predictions, strict=True)
  )
  return scoring.corpus_errors(triples, mode).rate


_SAID = [character_error_rate, word_error_rate, negative_log_likelihood]
# Kind of document → metrics.
BY_KIND = {
  'asr': _SAID,
  'tts': _SAID,
  'tts_turns': _SAID,
  **dict.fromkeys(
    (
      *('text', 'continuation', 'interleaved', 'image_text', 'chat'),
      'preference',
    ),
    [negative_log_likelihood],
  ),
}
