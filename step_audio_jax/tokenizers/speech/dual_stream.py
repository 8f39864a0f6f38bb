"""Both streams of codes of live audio, released in whole groups of 120 ms."""

from typing import Collection, Mapping, Sequence

import numpy as np

from step_audio_jax import vocabulary
from step_audio_jax.tokenizers.speech import dual as dual_lib
from step_audio_jax.tokenizers.speech import linguistic_stream
from step_audio_jax.tokenizers.speech import semantic_stream

Pair = tuple[np.ndarray, np.ndarray]


class DualStream:
  """Live audio → groups of two linguistic and three semantic codes.

  A group is given out when both of its parts are there. The semantic part is
  the later one: a block and its look-ahead have to be heard first.
  """

  def __init__(
    self,
    tokenizer: dual_lib.DualTokenizer,
    *,
    rows: int = 1,
    peaks: Sequence[float | None] | None = None,
    left: int = semantic_stream.LEFT,
    block: int = semantic_stream.BLOCK,
    right: int = semantic_stream.RIGHT,
  ):
    """Begins `rows` streams; the arguments are those of `SemanticStream`."""
    self.rows = rows
    self._parts = (
      linguistic_stream.LinguisticStream(
        tokenizer.linguistic, rows=rows, peaks=peaks
      ),
      semantic_stream.SemanticStream(
        tokenizer.semantic,
        rows=rows,
        peaks=peaks,
        left=left,
        block=block,
        right=right,
      ),
    )
    none = np.zeros(0, np.uint16)
    self._waiting: list[Pair] = [(none, none)] * rows

  def warm_up(self) -> None:
    """Compiles what `push` needs; nothing is compiled later."""
    for part in self._parts:
      part.warm_up()

  def push(self, samples: np.ndarray, final: bool = False) -> Pair:
    """Hands samples to the only row; see `push_rows`."""
    if self.rows != 1:
      raise ValueError(f'a stream of {self.rows} rows: use push_rows.')
    return self.push_rows({0: samples}, (0,) if final else ())[0]

  def push_rows(
    self, samples: Mapping[int, np.ndarray], final: Collection[int] = ()
  ) -> dict[int, Pair]:
    """Hands samples to rows; see `linguistic_stream.Streams.push_rows`.

    Returns:
      For each row of `samples` and `final` the (linguistic, semantic) codes
      of the groups that became complete, uint16 (2 g,) and (3 g,), g ≥ 0;
      `Vocabulary.interleave` makes ids of them. What is left of either stream
      after the last group of a signal is dropped.

    Raises:
      UserError: Samples are not mono floats, or not finite.
    """
    one, two = (part.push_rows(samples, final) for part in self._parts)
    return {row: self._release(row, one[row], two[row], final) for row in one}

  def set_peak(self, peak: float | None, row: int = 0) -> None:
    """The loudest |sample| of the row's next signal; None: as it is."""
    for part in self._parts:
      part.set_peak(peak, row)

  def _release(self, row, linguistic, semantic, final):
    old = self._waiting[row]
    one = np.concatenate([old[0], linguistic.astype(np.uint16)])
    two = np.concatenate([old[1], semantic.astype(np.uint16)])
    groups = min(
      len(one) // vocabulary.LINGUISTIC_PER_GROUP,
      len(two) // vocabulary.SEMANTIC_PER_GROUP,
    )
    first = groups * vocabulary.LINGUISTIC_PER_GROUP
    second = groups * vocabulary.SEMANTIC_PER_GROUP
    left = (one[:0], two[:0]) if row in final else (one[first:], two[second:])
    self._waiting[row] = left
    return one[:first], two[:second]
