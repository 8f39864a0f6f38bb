"""Live speech: mixed ids in, samples out, through causal flow and vocoder.

The flow gives chunks of 0.6, 0.96, 1.92, 1.92 … s (as the model's `chunks`
say), each as soon as its look-ahead is known; the vocoder follows with what its
own context lets it say. All rows share the flow's calls. Nothing is compiled
after `warm_up`.

Axes: S samples, N ids.
"""

from typing import Any, Collection, Mapping, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax.decoder.causal import flow as causal_flow
from step_audio_jax.decoder.causal import stream
from step_audio_jax.decoder.vocoder import piecewise
from step_audio_jax.decoder.vocoder import streaming


class SpeechStream:
  """Streams of ids → streams of samples.

  Attributes:
    rows: Number of streams.
    sample_rate: Of the samples, Hz.
  """

  def __init__(
    self,
    flow: causal_flow.CausalFlowDecoder,
    vocoder: Any,
    voices: Sequence[Any],
    *,
    seeds: Sequence[int] | None = None,
    steps: int = 10,
    **vocoding: Any,
  ):
    """Begins one stream a voice.

    Args:
      flow: The causal flow.
      vocoder: `decoder.vocoder.vocoder.HiftVocoder`, or `GriffinLim`, which is
        put together from pieces.
      voices: See `decoder.causal.stream.CausalFlowStream`.
      seeds: Likewise; also of the vocoder.
      steps: Likewise.
      **vocoding: Of `decoder.vocoder.streaming.VocoderStream`: `chunk`, `right`
        and `fade`. To speak as soon as the first chunk of the flow is there,
        they must not add up to more than its frames.

    Raises:
      UserError: Parts do not fit each other.
    """
    mel = flow.mel_config
    for name in ('sample_rate', 'hop', 'bands'):
      found, wanted = getattr(vocoder, name), getattr(mel, name)
      if found != wanted:
        raise errors.UserError(
          f'vocoder: {name} of {vocoder.name} is {found}, expected {wanted}, '
          'that of the flow.'
        )
    self._flow = stream.CausalFlowStream(flow, voices, seeds=seeds, steps=steps)
    self.rows, self.sample_rate = len(voices), mel.sample_rate
    self._vocoders = [
      vocoder_stream(vocoder, seed, **vocoding)
      for seed in seeds or [0] * self.rows
    ]

  def warm_up(self) -> None:
    """Compiles what `push` needs; the streams do not move."""
    self._flow.warm_up()
    if hasattr(self._vocoders[0], 'warm_up'):
      self._vocoders[0].warm_up()  # what is compiled is shared

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
        row begin a new utterance of the same voice.

    Returns:
      For each row of `tokens` and `final` the samples that became complete,
      float32 (S,), S ≥ 0.

    Raises:
      UserError: An id breaks the pattern, or the end a group; no row has then
        moved. Or a part makes numbers that are not finite.
    """
    out = {}
    for row, mel_TM in self._flow.push_rows(tokens, final).items():
      if not np.isfinite(mel_TM).all():
        raise errors.UserError(
          'decoder: the flow made a mel that is not finite; its weights are '
          'broken.'
        )
      if len(mel_TM) or row in final:
        out[row] = self._vocoders[row].push(mel_TM, final=row in final)
      else:
        out[row] = np.zeros(0, np.float32)
    return out


def vocoder_stream(vocoder: Any, seed: int = 0, **settings: Any) -> Any:
  """A stream of a vocoder: its own, or pieces put together.

  Args:
    vocoder: `decoder.vocoder.vocoder.HiftVocoder` or `GriffinLim`.
    seed: Of its phases and noise.
    **settings: Of `decoder.vocoder.streaming.VocoderStream`; pieces have none.
  """
  if hasattr(vocoder, 'step'):
    return streaming.VocoderStream(vocoder, seed=seed, **settings)
  return piecewise.PiecewiseVocoder(vocoder, seed=seed)
