"""Live ids → mel frames, chunk by chunk.

A chunk goes out as soon as `look_ahead` more steps are known, or the utterance
is over: 15, 24, 48, 48 … steps of 40 ms by default, so the first 0.6 s need ids
of 0.72 s. Every chunk size is one compiled shape, whatever the sizes of the
pieces; nothing is compiled after `warm_up`, and a chunk costs the same after a
minute as after a second. The mel is that of `CausalFlowDecoder.mel`.

Axes: B rows, S steps, T frames, M mel bands.
"""

import dataclasses
from typing import Any, Collection, Mapping, NamedTuple, Sequence

import jax
import numpy as np

from step_audio_jax import errors
from step_audio_jax.decoder.causal import flow
from step_audio_jax.decoder.causal import layout
from step_audio_jax.decoder.causal import solver
from step_audio_jax.decoder.flow import offline as flow_lib
from step_audio_jax.models.causal_flow import causal_config

_FRAMES = causal_config.FRAMES_PER_STEP


@dataclasses.dataclass
class _Row:
  """One stream's place.

  Attributes:
    noise: Of its frames.
    place: Ids that came.
    ids: Those of the last group, while it is not whole.
    pairs_S2: Steps that are known and not yet said.
    steps: Steps that are said.
    chunks: Chunks that are said.
  """

  noise: flow.Noise
  place: int = 0
  ids: np.ndarray = dataclasses.field(
    default_factory=lambda: np.zeros(0, np.int32)
  )
  pairs_S2: np.ndarray = dataclasses.field(
    default_factory=lambda: np.zeros((0, 2), np.int32)
  )
  steps: int = 0
  chunks: int = 0


class _Job(NamedTuple):
  """A chunk of a row: its size, its steps and those ahead, how many it says."""

  size: int
  pairs_S2: np.ndarray
  count: int


class CausalFlowStream:
  """Streams of ids side by side, one a row.

  Rows may be at different places. An utterance that ends makes room for the
  next one of the same voice.

  Attributes:
    rows: Number of streams.
  """

  def __init__(
    self,
    decoder: flow.CausalFlowDecoder,
    voices: Sequence[Any],
    *,
    seeds: Sequence[int] | None = None,
    steps: int = 10,
  ):
    """Begins one stream a voice, and runs the prompts.

    Args:
      decoder: Streams of the same number of rows share what is compiled.
      voices: `decoder.speech.Voice`s, or others with their `tokens`, `mel_TM`
        and `speaker_D`.
      seeds: Of the noise of each row, by default 0.
      steps: Of the solver.

    Raises:
      UserError: There is no voice, or one does not fit the flow.
    """
    if not len(voices):
      raise errors.UserError('voices: found none, expected one for each row.')
    self.rows = len(voices)
    self._seeds = list(seeds) if seeds is not None else [0] * self.rows
    if len(self._seeds) != self.rows:
      raise errors.UserError(
        f'seeds: found {len(self._seeds)}, expected one for each of '
        f'{self.rows} rows.'
      )
    self._decoder, self._solver_steps = decoder, steps
    self._bands = decoder.config.bands
    self._voices = self._remember(voices)
    self._memory = self._empty()
    self._at = [self._begin(row) for row in range(self.rows)]

  def _begin(self, row: int) -> _Row:
    return _Row(flow.Noise(self._seeds[row], self._bands))

  def _empty(self):
    return solver.empty_cache(
      self._decoder.config, self.rows, self._solver_steps
    )

  def _remember(self, voices):
    c = self._decoder.config
    prompts = [
      layout.prompt(c, v.tokens, v.mel_TM, v.speaker_D) for v in voices
    ]
    counts_B = np.array([len(p.ids_S2) for p in prompts], np.int32)
    longest = int(counts_B.max())
    P = flow_lib.bucket(longest) if longest else 0
    pairs = np.zeros((self.rows, P, 2), np.int32)
    mel, noise = np.zeros((2, self.rows, _FRAMES * P, c.bands), np.float32)
    for row, (prompt, count) in enumerate(zip(prompts, counts_B)):
      pairs[row, P - count :] = prompt.ids_S2
      frames = _FRAMES * int(count)
      mel[row, _FRAMES * P - frames :] = prompt.mel_TM
      noise[row, _FRAMES * P - frames :] = flow.prompt_noise(frames, c.bands)
    return solver.run_prompts(
      self._decoder.model,
      self._decoder.variables,
      noise,
      pairs,
      counts_B,
      mel,
      np.stack([p.speaker_E for p in prompts]),
      steps=self._solver_steps,
    )

  def warm_up(self) -> None:
    """Compiles what `push` needs; the streams do not move."""
    for size in sorted(set(self._decoder.config.chunks)):
      jax.block_until_ready(self._advance(size, {}, self._empty()))

  def push(self, tokens: Sequence[int], final: bool = False) -> np.ndarray:
    """Hands ids to the only row; see `push_rows`."""
    if self.rows != 1:
      raise ValueError(f'a stream of {self.rows} rows: use push_rows.')
    return self.push_rows({0: tokens}, (0,) if final else ())[0]

  def push_rows(
    self, tokens: Mapping[int, Sequence[int]], final: Collection[int] = ()
  ) -> dict[int, np.ndarray]:
    """Hands ids to rows.

    Args:
      tokens: Row → mixed ids, any number, also none or parts of a group.
      final: Rows whose utterance ends with these ids. The next ids of such a
        row begin a new utterance.

    Returns:
      For each row of `tokens` and `final` the mel frames that became
      complete, float32 (T, M), T ≥ 0.

    Raises:
      UserError: An id breaks the pattern, or the end a group. No row has then
        moved.
    """
    self._take_in(tokens, final)
    out = {row: [] for row in dict.fromkeys([*tokens, *final])}
    while True:
      jobs = {}
      for row in out:
        job = self._job(row, row in final)
        if job is not None:
          jobs[row] = job
      if not jobs:
        break
      for size in {job.size for job in jobs.values()}:
        some = {row: job for row, job in jobs.items() if job.size == size}
        mel_BTM, self._memory = self._advance(size, some, self._memory)
        mel_BTM = np.asarray(mel_BTM)
        for row, job in some.items():
          out[row].append(mel_BTM[row, : _FRAMES * job.count])
          self._said(row, job)
    for row in final:
      self._at[row] = self._begin(row)
    none = np.zeros((0, self._bands), np.float32)
    return {row: np.concatenate([none, *mel]) for row, mel in out.items()}

  def set_seed(self, seed: int, row: int = 0) -> None:
    """Of the noise of the row's next utterance, or of one not begun."""
    self._seeds[row] = seed
    if not self._at[row].chunks:
      self._at[row].noise = self._begin(row).noise

  def _take_in(self, tokens, final) -> None:
    c = self._decoder.config
    known = {}
    for row in dict.fromkeys([*tokens, *final]):
      at = self._at[row]
      more = layout.check_ids(tokens.get(row, ()), c, f'row {row}', at.place)
      known[row] = ids = np.concatenate([at.ids, more])
      if row in final:
        layout.whole_groups(at.place + len(more), f'row {row}')
    for row, ids in known.items():
      at, end = self._at[row], len(ids) // causal_config.GROUP
      end *= causal_config.GROUP
      at.place += len(ids) - len(at.ids)
      at.ids = ids[end:]
      more = layout.steps_of(ids[:end], c)
      at.pairs_S2 = np.concatenate([at.pairs_S2, more])

  def _job(self, row: int, final: bool) -> _Job | None:
    """The row's next chunk, if it can be said."""
    c, at = self._decoder.config, self._at[row]
    size = layout.chunk_size(c, at.chunks)
    there, wanted = len(at.pairs_S2), size + c.look_ahead
    if there >= wanted or (final and there):
      return _Job(size, at.pairs_S2[:wanted], min(size, there))
    return None

  def _said(self, row, job) -> None:
    at = self._at[row]
    at.pairs_S2 = at.pairs_S2[job.count :]
    at.steps += job.count
    at.chunks += 1

  def _advance(self, size, jobs, memory):
    c = self._decoder.config
    pairs = np.zeros((self.rows, size + c.look_ahead, 2), np.int32)
    known_B, counts_B, start_B = np.zeros((3, self.rows), np.int32)
    noise = np.zeros((self.rows, _FRAMES * size, c.bands), np.float32)
    for row, job in jobs.items():
      at = self._at[row]
      pairs[row, : len(job.pairs_S2)] = job.pairs_S2
      known_B[row], counts_B[row] = len(job.pairs_S2), job.count
      start_B[row] = at.steps
      noise[row, : _FRAMES * job.count] = at.noise.next(_FRAMES * job.count)
    return solver.solve_chunk(
      self._decoder.model,
      self._decoder.variables,
      self._voices,
      memory,
      noise,
      pairs,
      known_B,
      counts_B,
      start_B,
      steps=self._solver_steps,
    )
