"""A reward model that scores answers, many at once.

Axes: B answers at once, T ids.
"""

import functools
from typing import Any, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.alignment.judging import examples
from step_audio_jax.chats import habits
from step_audio_jax.generation import restore
from step_audio_jax.storage import files

_IDS = 1 << 15  # that are scored at once
_SHORTEST = 64


class ScoreError(errors.UserError):
  """A reward model gives scores that are no numbers."""


class Scorer:
  """A run of a reward model.

  Attributes:
    run: Its directory.
    vocabulary: Its ids.
    habits: How it has learnt turns.
  """

  def __init__(
    self,
    run: str,
    step: int | None = None,
    ema: bool = False,
    loaded: tuple[Any, Any, vocabulary_lib.Vocabulary] | None = None,
  ):
    """Loads a run.

    Args:
      run: Its directory.
      step: Which checkpoint; None means the newest.
      ema: Whether the mean of the parameters takes their place.
      loaded: What `restore.load_scorer` gave of it; None reads it.

    Raises:
      UserError: It is no run of a reward model, or cannot be read.
    """
    self.run = run
    config = restore.scorer_config(run)
    self.habits = habits.of_run(config, files.path(run) / 'config.json')
    if loaded is None:
      loaded = restore.load_scorer(run, step, ema)
    model, variables, self.vocabulary = loaded
    self._last = functools.partial(_scores, model, jax.device_put(variables))

  def pairs(self, scored: Sequence[examples.Scored]) -> np.ndarray:
    """Scores of both answers of each, float64 (n, 2)."""
    documents = [ids for one in scored for ids in (one.chosen, one.rejected)]
    return self.score(documents).reshape(-1, 2)

  def score(self, documents: Sequence[np.ndarray]) -> np.ndarray:
    """The score of each: what is said at its last id.

    Args:
      documents: Ids of a prompt with its answer, int32 (n,), as rows hold them.

    Returns:
      float64 (n,).

    Raises:
      ScoreError: A score is not finite.
      UserError: A document has no ids or an unknown one.
    """
    found = np.zeros(len(documents), np.float64)
    with progress.bar(total=len(documents), label='scoring') as bar:
      for shape, numbers in self._batches(documents):
        tokens_BT = np.zeros(shape, np.int32)
        lengths_B = np.zeros(shape[0], np.int32)
        for row, number in enumerate(numbers):
          ids = documents[number]
          tokens_BT[row, : len(ids)] = ids
          lengths_B[row] = len(ids)
        scores = np.asarray(self._last(tokens_BT, lengths_B))
        found[numbers] = scores[: len(numbers)]
        bar.update(len(numbers))
    bad = np.flatnonzero(~np.isfinite(found))
    if len(bad):
      raise ScoreError(
        f'{self.run}: the score of document {bad[0]} is {found[bad[0]]}, '
        'expected a finite number.'
      )
    return found

  def _batches(self, documents):
    """(shape, numbers) of what is scored at once; shapes are few."""
    table = self.vocabulary.table_size
    by_length: dict[int, list[int]] = {}
    for number, ids in enumerate(documents):
      if not len(ids) or ids.min() < 0 or ids.max() >= table:
        raise errors.UserError(
          f'document {number}: found {len(ids)} ids up to '
          f'{max(ids, default=None)}, expected some below {table}, the table '
          f'of {self.run}.'
        )
      length = max(_SHORTEST, _power_of_2(len(ids)))
      by_length.setdefault(length, []).append(number)
    for length, numbers in sorted(by_length.items()):
      size = min(max(1, _IDS // length), _power_of_2(len(numbers)))
      for start in range(0, len(numbers), size):
        yield (size, length), numbers[start : start + size]


def _power_of_2(least: int) -> int:
  return 1 << (least - 1).bit_length()


# Checkpoints of one model share what is compiled.
@functools.partial(jax.jit, static_argnums=0)
def _scores(model: Any, variables: Any, tokens_BT, lengths_B) -> jax.Array:
  places_1T = jnp.arange(tokens_BT.shape[1])[None]
  inside_BT = (places_1T < lengths_B[:, None]).astype(jnp.int32)
  scores_BT = model.apply(variables, tokens_BT, segment_ids_BT=inside_BT)
  last_B1 = jnp.maximum(lengths_B - 1, 0)[:, None]
  return jnp.take_along_axis(scores_BT, last_B1, axis=1)[:, 0]
