"""What the causal flow is given, checked and laid out in time; on the host.

Axes: N ids, S steps of 40 ms, T mel frames, M mel bands, E speaker embedding.
"""

from typing import Any, NamedTuple, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax.models.causal_flow import causal_config

CausalFlowConfig = causal_config.CausalFlowConfig
# Steps that the ids and the mel of one recording may differ by: both are cut
# at its end, the ids by whole groups of a window.
_AWAY = 15


class Prompt(NamedTuple):
  """A voice, as the network reads it.

  Attributes:
    ids_S2: Of `causal_config.steps_of`.
    mel_TM: Its frames, T = 2 S.
    speaker_E: Speaker embedding.
  """

  ids_S2: np.ndarray
  mel_TM: np.ndarray
  speaker_E: np.ndarray


def check_ids(
  ids_N: Sequence[int],
  config: CausalFlowConfig,
  name: str = 'tokens',
  place: int = 0,
) -> np.ndarray:
  """Mixed ids, int32, in the order 2 linguistic, 3 semantic.

  Args:
    ids_N: Any number, whole groups or not.
    config: Says how many codes there are.
    name: Of the ids, as messages call them.
    place: Of the first id in its stream.

  Raises:
    UserError: They are no integers, or one does not belong where it is.
  """
  ids = np.asarray(ids_N)
  if not ids.size:
    return np.zeros(0, np.int32)
  if ids.ndim != 1 or ids.dtype.kind not in 'iu':
    raise errors.UserError(
      f'{name}: found an array {ids.shape} of {ids.dtype}, expected integers '
      '(N,).'
    )
  places = np.arange(place, place + len(ids))
  linguistic = places % causal_config.GROUP < causal_config.LINGUISTIC_PER_GROUP
  low = np.where(linguistic, 0, config.linguistic)
  high = np.where(linguistic, config.linguistic, config.vocabulary)
  wrong = np.flatnonzero((ids < low) | (ids >= high))
  if wrong.size:
    n = wrong[0]
    kind = 'linguistic' if linguistic[n] else 'semantic'
    raise errors.UserError(
      f'{name}: id {ids[n]} at place {places[n]}, expected a {kind} one there, '
      f'{low[n]}..{high[n] - 1}: groups are 2 linguistic ids, then 3 semantic '
      'ones.'
    )
  return ids.astype(np.int32)


def whole_groups(count: int, name: str = 'tokens') -> None:
  """Refuses a number of ids that ends inside a group.

  Raises:
    UserError: It does.
  """
  if count % causal_config.GROUP:
    raise errors.UserError(
      f'{name}: found {count} ids, expected a multiple of '
      f'{causal_config.GROUP}: the last group is not whole.'
    )


def steps_of(ids_N: np.ndarray, config: CausalFlowConfig) -> np.ndarray:
  """Checked ids of whole groups → the ids of every step, int32 (S, 2)."""
  return causal_config.steps_of(ids_N[None], config.linguistic)[0]


def speaker(speaker_E: Any, config: CausalFlowConfig) -> np.ndarray:
  """A speaker embedding, float32 (E,).

  Raises:
    UserError: It has another size, or numbers that are not finite.
  """
  found = np.asarray(speaker_E, np.float32)
  if found.shape != (config.speaker_size,):
    raise errors.UserError(
      f'speaker: found an embedding {found.shape}, expected '
      f'({config.speaker_size},).'
    )
  if not np.isfinite(found).all():
    raise errors.UserError('speaker: the embedding has numbers not finite.')
  return found


def prompt(
  config: CausalFlowConfig,
  tokens: Sequence[int],
  mel_TM: np.ndarray | None,
  speaker_E: Any,
) -> Prompt:
  """A voice to continue; no ids and no mel are a speaker alone.

  Ids and mel are cut to the same time, and to the last `prompt_steps` of it.

  Raises:
    UserError: A part does not fit the network, or ids and mel are of
      different lengths.
  """
  who = speaker(speaker_E, config)
  ids = check_ids(tokens, config, 'prompt tokens')
  whole_groups(len(ids), 'prompt tokens')
  mel = np.zeros((0, config.bands)) if mel_TM is None else np.asarray(mel_TM)
  if mel.ndim != 2 or mel.shape[1] != config.bands:
    raise errors.UserError(
      f'prompt mel: found {mel.shape}, expected (frames, {config.bands}).'
    )
  if not np.isfinite(mel).all():
    raise errors.UserError('prompt mel: it has numbers not finite.')
  ids_S2 = steps_of(ids, config)
  there = len(mel) // causal_config.FRAMES_PER_STEP
  if abs(len(ids_S2) - there) > _AWAY or bool(len(ids_S2)) != bool(there):
    rate = causal_config.FRAMES_PER_SECOND
    raise errors.UserError(
      f'prompt: its {len(ids)} ids are '
      f'{len(ids_S2) * causal_config.FRAMES_PER_STEP / rate:.2f} s, its mel '
      f'{len(mel) / rate:.2f} s; expected the same recording.'
    )
  end = min(len(ids_S2), there)
  begin = max(0, end - config.prompt_steps)
  frames = causal_config.FRAMES_PER_STEP
  return Prompt(
    ids_S2[begin:end],
    mel[begin * frames : end * frames].astype(np.float32),
    who,
  )


def chunk_size(config: CausalFlowConfig, number: int) -> int:
  """Steps of chunk `number` of an utterance."""
  return config.chunks[min(number, len(config.chunks) - 1)]


def chunk_ends(config: CausalFlowConfig, steps: int) -> np.ndarray:
  """(first step, one past the last) of the chunk of every step, (S, 2)."""
  bounds, begin = np.zeros((steps, 2), np.int32), 0
  for number in range(steps):
    if begin >= steps:
      break
    end = begin + chunk_size(config, number)
    bounds[begin:end] = begin, end
    begin = end
  return bounds
