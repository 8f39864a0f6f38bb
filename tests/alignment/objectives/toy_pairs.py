"""Ragged pairs of answers, packed in many ways, and a model of two layers."""

import functools
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.models.language import scoring
from step_audio_jax.models.language import speech_text
from step_audio_jax.training import loop
from step_audio_jax.training import optimizers
from step_audio_jax.training.feeds import feed as feed_lib
from step_audio_jax.training.transfer import transfer

IDS = 30
WORDS = vocabulary_lib.Vocabulary(20, IDS, 6, 4)
CONFIG = speech_text.SpeechTextConfig(
  speech_text.TransformerConfig(
    vocab_size=IDS, width=16, layers=2, heads=4, kv_heads=2, mlp_width=12
  )
)
MODEL = speech_text.SpeechTextModel(CONFIG)
SCORER = scoring.ScoringModel(CONFIG)
LONGEST = 16  # ids of a prompt with its answer
PLACES = 3  # pairs that a row may have


class Pair(NamedTuple):
  """A prompt and what was answered; None for a side that is not there."""

  prompt: np.ndarray
  chosen: np.ndarray | None
  rejected: np.ndarray | None
  margin: float = 0.0

  @property
  def sides(self):
    return [(self.prompt, one) for one in self[1:3] if one is not None]


@functools.cache
def some(count=8, seed=0, alone=()):
  """Pairs of uneven lengths; `alone` have one side, by turns.

  No two of the first sides that there are have one length.
  """
  rng = np.random.default_rng(seed)
  lengths = rng.permutation(count) + 1

  def ids(low, high):
    return rng.integers(0, IDS, rng.integers(low, high))

  found = []
  for number in range(count):
    first, second = ids(9, 10)[: lengths[number]], ids(1, 10)
    pair = Pair(ids(2, 7), first, second, float(rng.random()))
    if number in alone and number % 2:
      pair = pair._replace(rejected=None)
    elif number in alone:
      pair = pair._replace(chosen=None, rejected=first)
    found.append(pair)
  return tuple(found)


def pack(rows, width):
  """A batch of rows, each a list of pairs."""
  shape = len(rows), width
  batch = {
    'tokens': np.zeros(shape, np.int32),
    'segment_ids': np.zeros(shape, np.int32),
    'loss_weights': np.zeros(shape, np.float32),
    'pairs': np.zeros((len(rows), PLACES, 2), np.int32),
    'margins': np.zeros((len(rows), PLACES), np.float32),
  }
  for row, pairs in enumerate(rows):
    place, segment = 0, 0
    for number, pair in enumerate(pairs):
      batch['margins'][row, number] = pair.margin
      for side, answer in enumerate(pair[1:3]):
        if answer is None:
          continue
        segment += 1
        ids = np.concatenate([pair.prompt, answer])
        here = slice(place, place + len(ids))
        batch['tokens'][row, here] = ids
        batch['segment_ids'][row, here] = segment
        batch['loss_weights'][row, place + len(pair.prompt) : here.stop] = 1
        batch['pairs'][row, number, side] = segment
        place += len(ids)
  batch['positions'] = feed_lib.positions(batch['segment_ids'])
  return batch


def packings(pairs):
  """Name → the same pairs in other rows."""
  n = len(pairs)
  return {
    'one a row': pack([[pair] for pair in pairs], 2 * LONGEST),
    'wider, backwards': pack([[p] for p in pairs[::-1]], 3 * LONGEST),
    'two a row': pack([pairs[k : k + 2] for k in range(0, n, 2)], 4 * LONGEST),
    'uneven, empty rows': pack(
      [pairs[:3], pairs[3:4], (), pairs[4:6], pairs[6:], ()], 6 * LONGEST
    ),
  }


def alone(pairs):
  """Every answer in a row of its own: tokens, weights, number of its pair."""
  sides = [(n, *side) for n, pair in enumerate(pairs) for side in pair.sides]
  tokens = np.zeros((len(sides), LONGEST), np.int32)
  weights = np.zeros(tokens.shape, np.float32)
  for row, (_, prompt, answer) in enumerate(sides):
    end = len(prompt) + len(answer)
    tokens[row, :end] = np.concatenate([prompt, answer])
    weights[row, len(prompt) : end] = 1
  return tokens, weights


def dense_log_probs(params, tokens, weights):
  """Sum of each row's log-probabilities, from whole logits."""
  logits = MODEL.apply({'params': params}, tokens)
  found = jnp.take_along_axis(
    jax.nn.log_softmax(logits[:, :-1]), tokens[:, 1:, None], axis=2
  )
  return (found[..., 0] * weights[:, 1:]).sum(1)


def random_like(shapes, seed, scale=0.3):
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: scale * rng.standard_normal(x.shape, np.float32),
    nn.unbox(shapes),
  )


@functools.cache
def parameters(model=MODEL, seed=0):
  shapes = jax.eval_shape(
    model.init, jax.random.key(0), jnp.zeros((1, 4), jnp.int32)
  )
  return random_like(shapes['params'], seed)


class Feed:
  """One batch again and again."""

  def __init__(self, batch):
    self._batch = batch
    self.batch_size, self.length = batch['tokens'].shape
    self.name = 'toy'

  def batch(self, step, start=0, stop=None):
    del step
    return {name: rows[start:stop] for name, rows in self._batch.items()}

  def describe(self):
    return {'sources': []}


def trainer(objective, batch, mesh, microbatches=1):
  return loop.Trainer(
    objective=objective,
    feed=Feed(batch),
    optimizer=optimizers.OptimizerConfig(learning_rate=0.01),
    config=loop.LoopConfig(steps=2, microbatches=microbatches),
    mesh=mesh,
  )


def loss_and_gradients(made, variables):
  """(loss, metrics, flat gradients) of the batch of a trainer."""
  with jax.set_mesh(made.mesh):
    placed = jax.device_put(variables, made.shardings)
    (loss, metrics, _), grads = jax.device_get(
      jax.jit(made.gradients)(placed, made.device_batch(0))
    )
  return loss, metrics, transfer.flatten(grads)


def distance(got, wanted):
  """Largest distance of arrays, relative to the norm of all."""
  scale = np.sqrt(sum(np.square(x).sum() for x in wanted.values()))
  assert np.isfinite(scale) and scale > 1e-3
  return max(np.linalg.norm(got[k] - wanted[k]) / scale for k in wanted)
