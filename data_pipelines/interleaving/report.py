"""What interleaving made of a task: shares and spans, for `stats.json`.

    η = spoken words / all words

Over all documents, and over those of at least 300 words: below that a
document has room for few spans, and its share is rounded down.
"""

import collections
from typing import Any, Mapping, Sequence

from step_audio_jax import documents as documents_lib

LONG = 300  # words
_COUNTS = ('documents', 'tokens', 'words', 'spoken_words', 'spoken_spans')


class Report:
  """Counts over documents; those without spans do not count."""

  def __init__(self):
    self._counts = collections.Counter()
    self._long = collections.Counter()
    self._lengths = collections.Counter()
    self._largest = 0.0

  def add(self, document: documents_lib.Document) -> None:
    """Counts a whole document."""
    if not len(document.spans):
      return
    spoken, words = document.spans.T
    spoken_words = int(words[spoken > 0].sum())
    counts = 1, len(document), int(words.sum()), spoken_words, int(spoken.sum())
    told = dict(zip(_COUNTS, counts))
    self._counts.update(told)
    if told['words'] >= LONG:
      self._long.update(told)
    self._lengths.update(words[spoken > 0].tolist())
    self._largest = max(self._largest, told['spoken_words'] / told['words'])

  def to_json(self, seconds: float = 0.0) -> dict[str, Any] | None:
    """The figures; None if nothing was interleaved.

    Args:
      seconds: How long it took; 0 leaves the speed out.

    Returns:
      Counts, `eta`, `mean_span`, `largest_eta` of a document, `histogram` of
      spoken spans {words: spans}, the same of `long_documents`, `seconds` and
      `tokens_per_second`.
    """
    if not self._counts:
      return None
    told = {
      **_shares(self._counts),
      'largest_eta': round(self._largest, 6),
      'histogram': {str(k): n for k, n in sorted(self._lengths.items())},
    }
    if self._long:
      told['long_documents'] = _shares(self._long)
    if seconds:
      told['seconds'] = round(seconds, 3)
      told['tokens_per_second'] = round(self._counts['tokens'] / seconds)
    return told


def merge(parts: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
  """Figures of parts (`Report.to_json`) → those of the whole.

  The speed is that of one worker.
  """
  whole, seconds = Report(), 0.0
  for part in filter(None, parts):
    whole._counts.update({name: part[name] for name in _COUNTS})
    long = part.get('long_documents', {})
    whole._long.update({name: long[name] for name in _COUNTS if name in long})
    whole._lengths.update({int(k): n for k, n in part['histogram'].items()})
    whole._largest = max(whole._largest, part['largest_eta'])
    seconds += part.get('seconds', 0.0)
  return whole.to_json(seconds)


def _shares(counts: collections.Counter) -> dict[str, Any]:
  spans = max(counts['spoken_spans'], 1)
  return {
    **counts,
    'eta': round(counts['spoken_words'] / counts['words'], 6),
    'mean_span': round(counts['spoken_words'] / spans, 4),
  }
