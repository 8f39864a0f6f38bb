"""Reward models: pairs of packed rows against scores of answers alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.alignment.objectives import pairs as pairs_lib
from step_audio_jax.alignment.objectives import reward
from step_audio_jax.parallel import mesh as mesh_lib
from tests.alignment.objectives import toy_pairs

PAIRS = toy_pairs.some(8, alone=(5,))
WHOLE = [pair for pair in PAIRS if len(pair.sides) == 2]
OBJECTIVE = reward.RewardModel(
  toy_pairs.SCORER, toy_pairs.WORDS, margins=True, centring=0.02
)


@functools.cache
def variables():
  return {'params': toy_pairs.parameters(toy_pairs.SCORER)}


@functools.cache
def oracle():
  """(mean loss, chosen, rejected), gradients; each answer in its own row."""
  tokens, weights = toy_pairs.alone(WHOLE)
  # What is behind an answer is not seen from its end.
  ends = tokens.shape[1] - 1 - np.argmax(weights[:, ::-1], axis=1)
  margins = np.asarray([pair.margin for pair in WHOLE], np.float32)

  def mean(params):
    scores = toy_pairs.SCORER.apply({'params': params}, tokens)
    chosen, rejected = scores[np.arange(len(ends)), ends].reshape(-1, 2).T
    losses = jnp.log1p(jnp.exp(-(chosen - rejected - margins)))
    losses += 0.02 * (chosen + rejected) ** 2
    return losses.mean(), (chosen, rejected)

  (loss, scores), grads = jax.jit(jax.value_and_grad(mean, has_aux=True))(
    variables()['params']
  )
  return (loss, *scores), toy_pairs.transfer.flatten(jax.device_get(grads))


@functools.cache
def found(name, microbatches=1, devices=1, **sizes):
  made = toy_pairs.trainer(
    OBJECTIVE,
    toy_pairs.packings(PAIRS)[name],
    mesh_lib.MeshConfig(**sizes).build(jax.devices()[:devices]),
    microbatches,
  )
  return toy_pairs.loss_and_gradients(made, variables())


@pytest.mark.parametrize(
  'name, microbatches, devices, sizes',
  [
    ('one a row', 1, 1, ()),
    ('wider, backwards', 1, 1, ()),
    ('uneven, empty rows', 1, 1, ()),
    ('two a row', 2, 1, ()),
    ('one a row', 2, 4, (('fsdp', 2), ('tensor', 2))),
  ],
  ids=str,
)
def test_rows_microbatches_and_meshes_are_answers_alone(
  name, microbatches, devices, sizes
):
  loss, _, grads = found(name, microbatches, devices, **dict(sizes))
  (want, *_), slopes = oracle()
  assert loss == pytest.approx(float(want), abs=1e-6)
  assert toy_pairs.distance(grads, slopes) <= 1e-6


def test_figures():
  _, metrics, _ = found('one a row')
  (_, chosen, rejected), _ = oracle()
  means = {k: total / weight for k, (total, weight) in metrics.items()}
  assert metrics['loss'][1] == len(WHOLE) == len(PAIRS) - 1
  assert metrics['score/chosen'][1] + metrics['score/rejected'][1] == 15
  margins = np.asarray(chosen - rejected)
  assert means['score/margin'] == pytest.approx(margins.mean(), abs=1e-6)
  assert means['pair_accuracy'] == pytest.approx((margins > 0).mean())
  assert 0 < means['pair_accuracy'] < 1


def test_a_tie_is_half_right():
  pairs = np.asarray([[[1, 2], [3, 4], [5, 0]]])
  values = np.asarray([[[1.0, 1.0], [2.0, 1.0], [9.0, 0.0]]], np.float32)
  told = pairs_lib.metrics('score', values, pairs)
  assert told['pair_accuracy'] == (1.5, 2)
  assert told['score/chosen'] == (12.0, 3)
  assert told['score/margin'] == (1.0, 2)


def test_what_says_nothing_of_pairs_is_refused():
  batch = dict(toy_pairs.packings(PAIRS)['one a row'])
  del batch['pairs']
  with pytest.raises(errors.UserError, match='expected rows of preferences'):
    OBJECTIVE.init(jax.random.key(0), batch)
  with pytest.raises(errors.UserError, match='centring is -1'):
    reward.RewardModel(toy_pairs.SCORER, toy_pairs.WORDS, centring=-1)


def test_the_head_of_a_scorer_costs_nothing():
  batch = toy_pairs.packings(PAIRS)['one a row']
  config = toy_pairs.CONFIG.transformer
  less = 6 * (config.vocab_size - 1) * config.width
  tokens = batch['tokens'].size
  whole = tokens * config.flops_per_token(2 * toy_pairs.LONGEST)
  assert OBJECTIVE.flops(batch) == pytest.approx(whole - tokens * less)
