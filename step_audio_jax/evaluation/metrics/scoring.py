"""Error rates of our own evaluations: convention `plain`, and alignments.

What is compared and counted is `evaluation.conventions.plain`; its name and
version are written beside every figure. Rates are corpus level: sum of edits /
sum of reference lengths, a fraction (0.05 is 5 %). Other conventions score what
was written down: `evaluation.conventions`.
"""

from typing import Iterable, Sequence

from step_audio_jax.evaluation.conventions import edits
from step_audio_jax.evaluation.conventions import plain

CONVENTION = plain.CONVENTION
VERSION = plain.VERSION

Errors = edits.Errors
align = edits.align
distances = edits.distances
edit_distance = edits.edit_distance
normalise = plain.normalise
tokens = plain.tokens


def count(
  reference: str,
  hypothesis: str,
  language: str = 'en',
  mode: str = 'character',
) -> Errors:
  """Errors of one utterance under the convention."""
  reference_tokens = tokens(reference, language, mode)
  hypothesis_tokens = tokens(hypothesis, language, mode, like=reference)
  counts = edits.diagonal(reference_tokens, hypothesis_tokens)
  return Errors(len(reference_tokens), *counts)


def corpus_errors(
  triples: Iterable[tuple[str, str, str]], mode: str = 'character'
) -> Errors:
  """Errors summed over (reference, hypothesis, language) triples."""
  return sum(
    (count(ref, hyp, language, mode) for ref, hyp, language in triples),
    Errors(),
  )


def format_alignment(
  reference: Sequence, hypothesis: Sequence
) -> tuple[str, str, str]:
  """Three lines of equal length: reference, hypothesis, operations.

  Tokens are joined as they are (characters), gaps shown as `*`; the operation
  line has a space where both agree.
  """
  steps = align(reference, hypothesis)
  lines = (
    ''.join('*' if ref is None else str(ref) for _, ref, _ in steps),
    ''.join('*' if hyp is None else str(hyp) for _, _, hyp in steps),
    ''.join(' ' if kind == '=' else kind for kind, _, _ in steps),
  )
  return lines
