"""DPO and KTO: packed rows against answers alone, and what is compared with."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.alignment.objectives import mismatch
from step_audio_jax.alignment.objectives import preference
from step_audio_jax.parallel import mesh as mesh_lib
from step_audio_jax.training.objectives import lora
from step_audio_jax.training.objectives import objectives
from step_audio_jax.training.transfer import transfer
from tests.alignment.objectives import toy_pairs

PAIRS = toy_pairs.some(8, seed=1, alone=(2, 5))
DPO = preference.DirectPreference(
  toy_pairs.MODEL, toy_pairs.WORDS, beta=0.3, normalised=True, smoothing=0.1
)
KTO = preference.KahnemanTversky(
  toy_pairs.MODEL, toy_pairs.WORDS, beta=0.3, wanted=1.5, unwanted=0.7
)
BY_NAME = {'dpo': DPO, 'kto': KTO}


@functools.cache
def variables():
  """A policy that has moved, so that its baseline is above 0."""
  return {
    'params': toy_pairs.parameters(seed=4),
    objectives.REFERENCE: toy_pairs.parameters(seed=0),
  }


def softplus(x):
  return jnp.logaddexp(x, 0.0)


def sides():
  """(pair, whether it is the preferred one, ids) of every answer, in order."""
  return [
    (n, side == 0, len(answer))
    for n, pair in enumerate(PAIRS)
    for side, answer in enumerate(pair[1:3])
    if answer is not None
  ]


def dpo(ratios):
  """Mean loss of the pairs, in a loop."""
  by_side = {
    (n, wanted): ratio / ids for (n, wanted, ids), ratio in zip(sides(), ratios)
  }
  losses = []
  for n, pair in enumerate(PAIRS):
    if len(pair.sides) == 2:
      d = 0.3 * (by_side[n, True] - by_side[n, False])
      losses.append(0.9 * softplus(-d) + 0.1 * softplus(d))
  return sum(losses) / len(losses)


def exchanged():
  """(prompt, answer of another) as the objective should pair them."""
  firsts = [pair.sides[0] for pair in PAIRS]
  found = []
  for prompt, answer in firsts:
    others = [
      one
      for other, one in firsts
      if len(one) <= len(answer) and not np.array_equal(other, prompt)
    ]
    if others:
      found.append((prompt, max(others, key=len)))
  return found


def kto(ratios, baseline):
  z = max(baseline, 0.0)
  losses = [
    1.5 / (1 + jnp.exp(0.3 * (ratio - z)))
    if wanted
    else 0.7 / (1 + jnp.exp(0.3 * (z - ratio)))
    for (_, wanted, _), ratio in zip(sides(), ratios)
  ]
  return sum(losses) / len(losses)


@functools.cache
def baseline():
  """Mean log-ratio of exchanged answers, each in its own row."""
  pairs = [toy_pairs.Pair(*one, None) for one in exchanged()]
  rows = toy_pairs.alone(pairs)
  policy, start = (
    jax.jit(toy_pairs.dense_log_probs)(variables()[name], *rows)
    for name in ('params', objectives.REFERENCE)
  )
  return float(np.mean(policy - start))


@functools.cache
def oracle(name):
  """(loss, gradients), each answer in its own row."""
  rows = toy_pairs.alone(PAIRS)
  start = toy_pairs.dense_log_probs(variables()[objectives.REFERENCE], *rows)
  z = baseline() if name == 'kto' else 0.0

  def mean(params):
    ratios = toy_pairs.dense_log_probs(params, *rows) - start
    return dpo(ratios) if name == 'dpo' else kto(ratios, z)

  loss, grads = jax.jit(jax.value_and_grad(mean))(variables()['params'])
  return float(loss), transfer.flatten(jax.device_get(grads))


@functools.cache
def found(name, packing, microbatches=1, devices=1, **sizes):
  made = toy_pairs.trainer(
    BY_NAME[name],
    toy_pairs.packings(PAIRS)[packing],
    mesh_lib.MeshConfig(**sizes).build(jax.devices()[:devices]),
    microbatches,
  )
  return toy_pairs.loss_and_gradients(made, variables())


@pytest.mark.parametrize(
  'packing, microbatches, devices, sizes',
  [
    ('one a row', 1, 1, ()),
    ('uneven, empty rows', 1, 1, ()),
    ('wider, backwards', 4, 1, ()),
    ('two a row', 2, 4, (('fsdp', 2), ('tensor', 2))),
  ],
  ids=str,
)
@pytest.mark.parametrize('name', BY_NAME)
def test_rows_microbatches_and_meshes_are_answers_alone(
  name, packing, microbatches, devices, sizes
):
  loss, _, grads = found(name, packing, microbatches, devices, **dict(sizes))
  want, slopes = oracle(name)
  assert loss == pytest.approx(want, abs=1e-6)
  assert toy_pairs.distance(grads, slopes) <= 1e-6


def test_figures():
  _, metrics, _ = found('dpo', 'one a row')
  means = {k: total / weight for k, (total, weight) in metrics.items()}
  assert metrics['loss'][1] == metrics['reward/margin'][1] == 6
  assert metrics['reward/chosen'][1] + metrics['reward/rejected'][1] == 14
  assert means['log_prob/chosen'] < 0
  _, metrics, _ = found('kto', 'wider, backwards', 4)
  assert metrics['loss'][1] == 14
  assert baseline() > 0.05  # or clipping it at 0 would hide what it is
  total, weight = metrics['baseline']
  assert total / weight == pytest.approx(baseline(), abs=1e-5)


def test_where_it_starts_nothing_is_preferred():
  start = {**variables(), 'params': variables()[objectives.REFERENCE]}
  batch = toy_pairs.packings(PAIRS)['one a row']
  total, weight, metrics, _ = jax.jit(
    lambda v: dataclasses.replace(DPO, smoothing=0.0).loss(v, batch, None)
  )(start)
  assert total / weight == pytest.approx(np.log(2), abs=1e-6)
  assert metrics['reward/margin'][0] == 0


def test_answers_are_exchanged_in_their_place():
  # Two prompts are the same: neither gets the other's answer.
  pairs = list(PAIRS)
  pairs[1] = pairs[1]._replace(prompt=pairs[0].prompt)
  batch = toy_pairs.packings(tuple(pairs))['uneven, empty rows']
  made = jax.tree.map(np.asarray, jax.jit(mismatch.exchanged)(batch))
  rows = mismatch.rows_of(made)
  firsts = [pair.sides[0] for pair in pairs]
  count = 0
  for row, (segments, sides) in enumerate(
    zip(batch['segment_ids'], batch['pairs'])
  ):
    for pair in sides:
      segment = pair[0] or pair[1]
      here = segments == segment
      if not segment or not (rows['loss_weights'][row] * here).any():
        continue
      count += 1
      weighs = here & (batch['loss_weights'][row] > 0)
      prompt = batch['tokens'][row][here & ~weighs]
      np.testing.assert_array_equal(prompt, rows['tokens'][row][here & ~weighs])
      taken = here & (rows['loss_weights'][row] > 0)
      got = rows['tokens'][row][taken]
      assert (rows['segment_ids'][row][taken] == segment).all()
      assert not rows['segment_ids'][row][weighs & ~taken].any()
      others = [
        one
        for other, one in firsts
        if len(one) <= weighs.sum() and not np.array_equal(other, prompt)
      ]
      assert len(got) == max(map(len, others))
      assert any(np.array_equal(got, one) for one in others)
  assert count == mismatch.count(rows) >= len(pairs) - 2
  # What takes no part weighs nothing, and nothing has moved.
  np.testing.assert_array_equal(made['tokens'], batch['tokens'])
  assert rows['loss_weights'].sum() < batch['loss_weights'].sum()


def test_an_answer_in_several_pairs_is_exchanged_once():
  batch = dict(toy_pairs.packings(PAIRS)['two a row'])
  once = mismatch.count(mismatch.rows_of(mismatch.exchanged(batch)))
  batch['pairs'] = np.concatenate([batch['pairs'], batch['pairs']], axis=1)
  twice = mismatch.count(mismatch.rows_of(mismatch.exchanged(batch)))
  assert once == twice > 0


ADAPTED = lora.Lora(DPO, rank=2, targets=r'blocks/.*/kernel$')


def test_with_adapters_the_reference_is_their_base():
  batch = toy_pairs.packings(PAIRS)['one a row']
  shapes = jax.eval_shape(ADAPTED.init, jax.random.key(0), batch)
  assert set(shapes) == {'params', 'base'}  # no second copy
  tuned = toy_pairs.random_like(shapes, seed=2)
  merged = ADAPTED.effective(tuned)
  plain = {'params': merged['params'], objectives.REFERENCE: tuned['base']}
  want = jax.jit(lambda v: DPO.loss(v, batch, None)[0])(plain)
  for adapted in (ADAPTED, dataclasses.replace(ADAPTED, factored=True)):
    got = jax.jit(lambda v: adapted.loss(v, batch, None)[0])(tuned)  # noqa: B023
    assert got == pytest.approx(float(want), rel=1e-5)


def test_what_adapters_train_in_full_keeps_its_own_start():
  batch = toy_pairs.packings(PAIRS)['one a row']
  some = dataclasses.replace(ADAPTED, whole='embedding|head')
  shapes = jax.eval_shape(some.init, jax.random.key(0), batch)
  kept = set(transfer.flatten(shapes[objectives.REFERENCE]))
  assert kept == {'transformer/embedding', 'transformer/head'}
  start = some.effective(toy_pairs.random_like(shapes, seed=2))
  assert jax.tree.structure(start['params']) == jax.tree.structure(
    start[objectives.REFERENCE]
  )


def test_the_baseline_of_adapters_is_that_of_what_they_make():
  batch = toy_pairs.packings(PAIRS)['two a row']
  adapted = dataclasses.replace(ADAPTED, objective=KTO)
  shapes = jax.eval_shape(adapted.init, jax.random.key(0), batch)
  tuned = toy_pairs.random_like(shapes, seed=2)
  arranged = adapted.arrange(batch)
  got, want = (
    jax.device_get(jax.jit(lambda v: one.survey(v, arranged))(v))  # noqa: B023
    for one, v in ((adapted, tuned), (KTO, adapted.effective(tuned)))
  )
  assert set(got) == set(want)
  for name, value in got.items():
    assert float(value) == pytest.approx(float(want[name]), rel=1e-5)
  plain = objectives.NextToken(toy_pairs.MODEL, toy_pairs.WORDS)
  assert lora.Lora(plain).survey(tuned, batch) == {}


def test_the_reference_is_filled_from_what_a_run_starts_from():
  batch = toy_pairs.packings(PAIRS)['one a row']
  boxed = jax.eval_shape(DPO.init, jax.random.key(0), batch)
  # A run of DPO itself: what it became is compared with, not its reference.
  source = toy_pairs.random_like(boxed, seed=3)
  made, fresh = transfer.transfer(boxed, [('old', source)], dict)
  assert not fresh
  want = transfer.flatten(source['params'])
  for collection in ('params', objectives.REFERENCE):
    got = transfer.flatten(made[collection])
    assert set(got) == set(want)
    for path, leaf in got.items():
      np.testing.assert_array_equal(leaf, want[path])


@pytest.mark.parametrize(
  'change, told',
  [
    ({'beta': 0.0}, 'beta is 0.0'),
    ({'smoothing': 0.5}, 'smoothing is 0.5'),
  ],
)
def test_bad_settings_are_told(change, told):
  with pytest.raises(errors.UserError, match=told):
    dataclasses.replace(DPO, **change)


def test_bad_weights_are_told():
  with pytest.raises(errors.UserError, match='unwanted -1'):
    dataclasses.replace(KTO, unwanted=-1)
