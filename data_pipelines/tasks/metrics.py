"""What SeqIO measures of a task: error rates and likelihood.

    asr, tts   character and word error rate (`evaluation.metrics.scoring`) of
    what was
               written, or of what an ASR heard in the speech; and the rate of
               each of `evaluation.conventions` that is asked for
    all        negative log-likelihood of a learnt id, and its exponential

A task's predictions are texts; its scores are Σ weight · log p over the ids of
an example.
"""

import functools
import math
from typing import Any, Callable, NamedTuple, Sequence

from step_audio_jax.evaluation import conventions
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


def convention_error_rate(
  targets: Sequence[Target], predictions: Sequence[str], *, convention: str
) -> dict[str, float]:
  """SeqIO metric: the rate under a scoring convention, and what it left out.

  Args:
    targets: What was said.
    predictions: What was understood.
    convention: Name in `evaluation.conventions`.

  Returns:
    `<convention>`, a fraction, NaN where there is none; and
    `<convention>_excluded`, how many utterances it does not count.
  """
  scored = conventions.score(
    convention,
    (
      (str(i), one.text, prediction, one.language)
      for i, (one, prediction) in enumerate(
        zip(targets, predictions, strict=True)
      )
    ),
  )
  return {
    convention: math.nan if scored.rate is None else scored.rate,
    f'{convention}_excluded': sum(scored.excluded.values()),
  }


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


def _of_convention(name: str) -> Callable[..., dict[str, float]]:
  metric = functools.partial(convention_error_rate, convention=name)
  metric.__name__ = f'{name.replace("-", "_")}_error_rate'
  metric.__doc__ = f'SeqIO metric: the error rate under {name!r}.'
  return metric


# Name of a scoring convention → its metric.
BY_CONVENTION = {name: _of_convention(name) for name in conventions.CONVENTIONS}
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


def of(
  kind: str, chosen: Sequence[str] = ()
) -> list[Callable[..., dict[str, float]]]:
  """The metrics of a kind of document.

  Args:
    kind: As in `BY_KIND`.
    chosen: Scoring conventions whose rates are measured, too, of what is said.

  Raises:
    UserError: There is no such convention.
  """
  names = [conventions.find(name).name for name in chosen]
  if BY_KIND[kind] is not _SAID:
    return BY_KIND[kind]
  return [*_SAID, *(BY_CONVENTION[name] for name in dict.fromkeys(names))]
