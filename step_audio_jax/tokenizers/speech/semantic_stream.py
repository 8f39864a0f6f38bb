"""Semantic codes of live audio, and of recordings too long to hold.

* `SemanticStream`: fixed blocks between a left context and a look-ahead. The
  encoder sees both sides of a frame, so these codes only resemble those of
  30 s pieces; docs/tokenizer.md says how much.
* `SemanticPieces`: the offline forms, one window of 30 s at a time.
"""

from typing import Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax.tokenizers.speech import linguistic_stream
from step_audio_jax.tokenizers.speech import semantic as semantic_lib

# Of a stream, in codes of 40 ms.
LEFT = 150
BLOCK = 12
RIGHT = 12


class SemanticStream(linguistic_stream.Streams):
  """Streams of semantic codes by fixed blocks.

  The codes of a block come from a window of `left` codes before it, the block
  and `right` codes behind it, which it has to wait for. To come close to the
  offline codes, no window looks across the end of a 30 s piece, and positions
  are counted from its begin. There are as many codes as in pieces.
  """

  def __init__(
    self,
    tokenizer: semantic_lib.SemanticTokenizer,
    *,
    rows: int = 1,
    peaks: Sequence[float | None] | None = None,
    left: int = LEFT,
    block: int = BLOCK,
    right: int = RIGHT,
  ):
    """Begins `rows` streams.

    Args:
      tokenizer: Shares its compiled function among its streams of one shape.
      rows: Streams side by side.
      peaks: See the module.
      left: Codes (40 ms) of context before a block.
      block: Codes of a block, at least 1.
      right: Codes of look-ahead behind it.

    Raises:
      UserError: Sizes that make no window, or one longer than the encoder's.
    """
    super().__init__(rows, peaks)
    longest = tokenizer.window // semantic_lib.SAMPLES_PER_CODE
    if left < 0 or block < 1 or right < 0 or left + block + right > longest:
      raise errors.UserError(
        f'semantic stream: left {left}, block {block}, right {right}; expected '
        f'left ≥ 0, block ≥ 1, right ≥ 0 and at most {longest} codes in all.'
      )
    self._tokenizer = tokenizer
    self._left, self._block, self._right = left, block, right
    self._size = (left + block + right) * semantic_lib.SAMPLES_PER_CODE
    # Codes before the buffer, and codes given out.
    self._begun = [0] * rows
    self._done = [0] * rows

  def warm_up(self) -> None:
    """Compiles what `push` needs."""
    self._encode(
      np.zeros((self.rows, self._size), np.float32),
      np.zeros(self.rows, np.int32),
      np.zeros(self.rows, np.int32),
    )

  def _take(self, row, final):
    buffer, unit = self._buffers[row], semantic_lib.SAMPLES_PER_CODE
    done, piece = self._done[row], self._tokenizer.window // unit
    last = (done // piece + 1) * piece
    begin = max(last - piece, done - self._left)
    self._buffers[row] = buffer = buffer[(begin - self._begun[row]) * unit :]
    self._begun[row] = begin
    end = min(done + self._block, last)
    size = (min(end + self._right, last) - begin) * unit
    if len(buffer) < size:
      if not final:
        return None
      size = len(buffer)
      end = self._tokenizer.count(begin * unit + size)
      if end <= done:
        return None
    self._done[row] = end
    return buffer[:size], done - begin, end - begin, begin - (last - piece)

  def _run(self, jobs):
    wave_BS = np.zeros((self.rows, self._size), np.float32)
    samples_B = np.zeros(self.rows, np.int32)
    first_B = np.zeros(self.rows, np.int32)
    for row, (part, _, _, first) in jobs.items():
      wave_BS[row, : len(part)] = part
      samples_B[row], first_B[row] = len(part), first
    codes_BT = self._encode(wave_BS, samples_B, first_B)
    return {row: codes_BT[row, job[1] : job[2]] for row, job in jobs.items()}

  def _encode(self, wave_BS, samples_B, first_B):
    codes_BT, _ = self._tokenizer.encode_windows(
      wave_BS, samples_B, self._gains_2B, first_B
    )
    return np.asarray(codes_BT)

  def _restart(self, row):
    self._begun[row] = self._done[row] = 0


class SemanticPieces(SemanticStream):
  """The offline forms, one window of 30 s at a time, for one signal.

  The codes are those of `SemanticTokenizer.encode_padded` in the same mode.
  """

  def __init__(
    self,
    tokenizer: semantic_lib.SemanticTokenizer,
    *,
    mode: str = 'pieces',
    peak: float | None = None,
  ):
    """Begins; `mode` is one of `semantic.MODES`."""
    linguistic_stream.Streams.__init__(self, 1, [peak])
    self._tokenizer, self._size = tokenizer, tokenizer.window
    self._shared = tokenizer.overlap(mode)
    self._later = False

  def _take(self, row, final):
    buffer, unit = self._buffers[row], semantic_lib.SAMPLES_PER_CODE
    more = len(buffer) > self._size  # a window has to know that it is not last
    least = max(semantic_lib.SHORTEST_PIECE, self._shared * self._later + 1)
    if not more and not (final and len(buffer) >= least):
      return None
    begin = self._shared // 2 // unit if self._later else 0
    end = (self._size - self._shared // 2) // unit
    if not more:
      end = self._tokenizer.count(len(buffer))
    self._later = True
    step = self._size - self._shared
    self._buffers[row] = buffer[step:] if more else buffer[:0]
    return buffer[: self._size], begin, end, 0

  def _restart(self, row):
    self._later = False
