"""Perplexity of built rows, for each stream of ids and each source.

    perplexity = exp(sum_t w_t * -log p(id_t | ids before it) / sum_t w_t)

over the targets with a loss weight, split by what the target is: `text`,
`control` (markers, <|EOT|>), `linguistic`, `semantic`. `audio` is linguistic
and semantic together, `all` is everything. Sums are exact: float32 inside one
batch, added up in float64, so the batch size does not matter.

Letters: B rows, L row length, V vocabulary, Q streams.
"""

import dataclasses
import functools
import math
from typing import Any, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.storage import files
from step_audio_jax.training.feeds import feed
from step_audio_jax.training.objectives import objectives

STREAMS = ('text', 'control', 'linguistic', 'semantic')
GROUPS = {'audio': ('linguistic', 'semantic'), 'all': STREAMS}


@dataclasses.dataclass(frozen=True)
class Sums:
  """Negative log-likelihood in nats and weight of each stream, float64 (Q,).

  Attributes:
    nll: Summed over targets.
    weight: Likewise.
  """

  nll: np.ndarray = dataclasses.field(
    default_factory=lambda: np.zeros(len(STREAMS))
  )
  weight: np.ndarray = dataclasses.field(
    default_factory=lambda: np.zeros(len(STREAMS))
  )

  def __add__(self, other: 'Sums') -> 'Sums':
    return Sums(self.nll + other.nll, self.weight + other.weight)

  def as_dict(self) -> dict[str, dict[str, float]]:
    """Stream or group → tokens, nats a token, perplexity; empty ones absent."""
    found = {}
    for name in (*STREAMS, *GROUPS):
      places = [STREAMS.index(s) for s in GROUPS.get(name, (name,))]
      nll, weight = self.nll[places].sum(), self.weight[places].sum()
      if weight:
        nats = float(nll / weight)
        found[name] = {
          'tokens': float(weight),
          'nats': nats,
          'perplexity': math.exp(min(nats, 700.0)),
        }
    return found


def streams(vocabulary: vocabulary_lib.Vocabulary) -> np.ndarray:
  """Stream of each id, int32 (V,); -1 for rows that nothing emits."""
  ids = np.arange(vocabulary.table_size)
  stream_V = np.full(len(ids), -1, np.int32)
  for stream, where in (
    ('text', vocabulary.is_text(ids)),
    ('control', ids < vocabulary_lib.CONTROL_SIZE),
    ('linguistic', vocabulary.is_linguistic(ids)),
    ('semantic', vocabulary.is_semantic(ids)),
  ):
    stream_V[where] = STREAMS.index(stream)
  return stream_V


@functools.partial(jax.jit, static_argnames='model')
def batch_sums(model, variables, batch, stream_V):
  """(nll, weight) of a batch, each float32 (Q,).

  Args:
    model: Flax module with the API of `models.language.speech_text`.
    variables: Its variables.
    batch: tokens, segment_ids, positions int32 (B, L), loss_weights float32
      (B, L): the weight of predicting the id *at* that place; and, with
      images, images uint8 (B, N, H, W, 3), image_slots int32 (B, N).
    stream_V: Of `streams`.
  """
  _, place = objectives.next_token_losses(model, variables, batch)
  of_stream_QBL = stream_V[place.targets][None] == jnp.arange(
    len(STREAMS)
  ).reshape(-1, 1, 1)
  weights_QBL = place.weights[None] * of_stream_QBL
  sums_Q = (weights_QBL * place.losses[None]).sum((1, 2))
  return sums_Q, weights_QBL.sum((1, 2))


def sum_source(
  model: Any,
  variables: Mapping[str, Any],
  vocabulary: vocabulary_lib.Vocabulary,
  source: feed.Source,
  *,
  batch_size: int = 16,
  max_rows: int = 0,
) -> Sums:
  """Sums over a source's first `max_rows` rows (all rows if 0)."""
  count = min(len(source), max_rows or len(source))
  most = int(source.stats.get('images_per_row') or 0)
  stream_V, total = streams(vocabulary), Sums()
  for start in range(0, count, batch_size):
    stop = min(start + batch_size, count)
    rows = feed.read_rows([(source, index) for index in range(start, stop)])
    batch = _stack(rows, batch_size, most)
    if batch['tokens'].max() >= vocabulary.table_size:
      raise errors.UserError(
        f'rows of {source.name}: found id {batch["tokens"].max()}, expected '
        f'ids below {vocabulary.table_size}; the rows were built for another '
        'vocabulary.'
      )
    nll, weight = batch_sums(model, variables, batch, stream_V)
    total += Sums(np.asarray(nll, np.float64), np.asarray(weight, np.float64))
  return total


def row_perplexities(
  model: Any,
  variables: Mapping[str, Any],
  vocabulary: vocabulary_lib.Vocabulary,
  *,
  rows: str,
  sources: Sequence[str],
  split: str,
  batch_size: int = 16,
  max_rows: int = 0,
) -> dict[str, dict[str, dict[str, float]]]:
  """Perplexities of row folders `<rows>/<source>/<split>`.

  Args:
    model: As in `batch_sums`.
    variables: Its variables.
    vocabulary: Of the model.
    rows: Folder of row folders.
    sources: Which of them, by name.
    split: Which split.
    batch_size: Rows a forward pass.
    max_rows: Rows of each source at most; 0 means all.

  Returns:
    source → stream → {tokens, nats, perplexity}; the source `all` adds up all.

  Raises:
    UserError: A folder is missing or holds no rows.
  """
  found, total = {}, Sums()
  for name in progress.bar(sources, label='perplexity', unit='source'):
    folder = files.path(rows) / name / split
    if not files.is_dir(folder):
      raise errors.UserError(
        f'{folder}: no such folder of rows; build them with '
        '`python -m data_pipelines build`.'
      )
    sums = sum_source(
      model,
      variables,
      vocabulary,
      feed.Source(name, folder),
      batch_size=batch_size,
      max_rows=max_rows,
    )
    found[name] = sums.as_dict()
    total += sums
  return {**found, 'all': total.as_dict()}


def _stack(rows, batch_size, most):
  """Rows as one batch, filled up with empty rows (and empty images)."""
  length = len(rows[0]['tokens'])
  batch = {
    'tokens': np.zeros((batch_size, length), np.int32),
    'segment_ids': np.zeros((batch_size, length), np.int32),
    'loss_weights': np.zeros((batch_size, length), np.float32),
  }
  for name, stacked in batch.items():
    stacked[: len(rows)] = [row[name] for row in rows]
  batch['positions'] = feed.positions(batch['segment_ids'])
  if most:
    shape = next(row['images'].shape[1:] for row in rows if 'images' in row)
    batch['images'] = np.zeros((batch_size, most, *shape), np.uint8)
    batch['image_slots'] = np.full((batch_size, most), -1, np.int32)
    for b, row in enumerate(rows):
      count = len(row.get('image_slots', ()))
      if count:
        batch['images'][b, :count] = row['images']
        batch['image_slots'][b, :count] = row['image_slots']
  return batch
