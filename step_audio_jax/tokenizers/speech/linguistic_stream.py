"""Live audio → codes, and recordings too long to hold.

A stream takes 16 kHz samples in pieces of any size and returns the codes that
they complete. Everything compiled has one shape, whatever the sizes of the
pieces, so nothing is compiled after `warm_up`.

`LinguisticStream` is Step-Audio's own streaming: chunks of 240 ms with caches;
the codes are those of offline encoding. Semantic codes:
`tokenizers.speech.semantic_stream`; both together:
`tokenizers.speech.dual_stream`.

Energy normalisation needs the loudest sample of the whole signal. Where the
caller knows it (`peak`), codes are those of offline encoding; where not, the
samples are taken as they are, as Step-Audio's streaming front end does.

Several streams (`rows`) can share each call of the network.
"""

from typing import Any, Collection, Mapping, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax.audio import preparation
from step_audio_jax.audio.features import fbank
from step_audio_jax.tokenizers.speech import linguistic as linguistic_lib
from step_audio_jax.tokenizers.speech import storage


class Streams:
  """Rows of buffered samples from which jobs of one shape are cut.

  A subclass says what a job is (`_take`) and runs one per row (`_run`).
  """

  def __init__(self, rows: int, peaks: Sequence[float | None] | None):
    if rows < 1:
      raise errors.UserError(f'rows: found {rows}, expected at least 1.')
    self.rows = rows
    self._gains_2B = preparation.gains(peaks or [None] * rows)
    if self._gains_2B.shape[1] != rows:
      raise errors.UserError(
        f'peaks: found {len(peaks)}, expected one for each of {rows} rows.'
      )
    self._buffers = [np.zeros(0, np.float32) for _ in range(rows)]

  def push(self, samples: np.ndarray, final: bool = False) -> np.ndarray:
    """Hands samples to the only row; see `push_rows`."""
    if self.rows != 1:
      raise ValueError(f'a stream of {self.rows} rows: use push_rows.')
    return self.push_rows({0: samples}, (0,) if final else ())[0]

  def push_rows(
    self, samples: Mapping[int, np.ndarray], final: Collection[int] = ()
  ) -> dict[int, np.ndarray]:
    """Hands samples to rows.

    Args:
      samples: Row → float samples (S,) at 16 kHz, any number, also none.
      final: Rows whose signal ends with these samples. The next samples of
        such a row begin a new signal.

    Returns:
      For each row of `samples` and `final` the codes that became complete,
      int32 (n,), n ≥ 0.

    Raises:
      UserError: Samples are not mono floats, or not finite. No row has then
        taken any.
    """
    checked = {r: _checked(s, f'row {r}') for r, s in samples.items()}
    for row, part in checked.items():
      self._buffers[row] = np.concatenate([self._buffers[row], part])
    out = {row: [] for row in [*checked, *final]}
    while True:
      jobs = {}
      for row in out:
        job = self._take(row, row in final)
        if job is not None:
          jobs[row] = job
      if not jobs:
        break
      for row, codes in self._run(jobs).items():
        out[row].append(codes)
    for row in final:
      self._buffers[row] = self._buffers[row][:0]
      self._restart(row)
    none = np.zeros(0, np.int32)
    return {row: np.concatenate([none, *parts]) for row, parts in out.items()}

  def set_peak(self, peak: float | None, row: int = 0) -> None:
    """The loudest |sample| of the row's next signal; None: as it is."""
    self._gains_2B[:, row] = preparation.gains([peak])[:, 0]

  def _take(self, row: int, final: bool) -> Any:
    """Cuts the next job off a row's buffer; None if there is none yet."""
    raise NotImplementedError

  def _run(self, jobs: Mapping[int, Any]) -> dict[int, np.ndarray]:
    raise NotImplementedError

  def _restart(self, row: int) -> None:
    raise NotImplementedError


class LinguisticStream(Streams):
  """Streams of linguistic codes; exactly those of offline encoding."""

  def __init__(
    self,
    tokenizer: linguistic_lib.LinguisticTokenizer,
    *,
    rows: int = 1,
    peaks: Sequence[float | None] | None = None,
    chunks: int = 1,
  ):
    """Begins `rows` streams.

    Args:
      tokenizer: Shares its compiled function among all its streams.
      rows: Streams side by side.
      peaks: See the module; by default samples are taken as they are.
      chunks: Chunks of 240 ms that are run at once. More than one answers
        later and is faster; the codes are the same.
    """
    super().__init__(rows, peaks)
    self._tokenizer = tokenizer
    self._size = chunks * fbank.CHUNK_SAMPLES
    self._state = tokenizer.begin(rows)
    self._fresh_B = np.ones(rows, bool)
    self._kept_frames: dict[int, list[np.ndarray]] | None = None

  def warm_up(self) -> None:
    """Compiles what `push` needs; the streams do not move."""
    self._advance(
      np.zeros((self.rows, self._size), np.float32),
      np.zeros(self.rows, np.int32),
    )

  def push_frames(
    self, samples: np.ndarray, final: bool = False
  ) -> tuple[np.ndarray, np.ndarray]:
    """As `push`, with the encoder frames (n, D) beside the codes (n,)."""
    self._kept_frames = {}
    codes = self.push(samples, final)
    frames = self._kept_frames.get(0, [])
    self._kept_frames = None
    none = np.zeros((0, self._tokenizer.config.width), np.float32)
    return codes, np.concatenate([none, *frames])

  def _take(self, row, final):
    buffer = self._buffers[row]
    if len(buffer) < self._size and not (final and len(buffer)):
      return None
    self._buffers[row] = buffer[self._size :]
    return buffer[: self._size]

  def _run(self, jobs):
    wave_BS = np.zeros((self.rows, self._size), np.float32)
    heard_B = np.zeros(self.rows, np.int32)
    for row, part in jobs.items():
      wave_BS[row, : len(part)] = part
      heard_B[row] = len(part)
    codes_BT, counts_B, hidden_BTD = self._advance(wave_BS, heard_B)
    self._fresh_B = self._fresh_B & (heard_B == 0)
    codes_BT, counts_B = np.asarray(codes_BT), np.asarray(counts_B)
    if self._kept_frames is not None:
      for row in jobs:
        frames = np.asarray(hidden_BTD)[row, : counts_B[row]]
        self._kept_frames.setdefault(row, []).append(frames)
    return {row: codes_BT[row, : counts_B[row]] for row in jobs}

  def _advance(self, wave_BS, heard_B):
    *out, self._state = self._tokenizer.advance(
      self._state, wave_BS, heard_B, self._fresh_B, self._gains_2B
    )
    return out

  def _restart(self, row):
    self._fresh_B[row] = True


def _checked(samples, name: str) -> np.ndarray:
  samples = np.asarray(samples)
  if samples.ndim == 1 and not samples.size:
    return np.zeros(0, np.float32)
  return storage.check_wave(samples, name)
