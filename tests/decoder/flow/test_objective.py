"""The flow's objective: what counts, what is dropped, and that it learns."""

import dataclasses
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from step_audio_jax import errors
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.decoder.flow import matching
from step_audio_jax.decoder.flow import objective as flow_objective
from step_audio_jax.models.flow import flow as flow_model
from tests.decoder import tiny_decoder

MEL = tiny_decoder.MEL
CONFIG = dataclasses.replace(
  tiny_decoder.FLOW,
  encoder=dataclasses.replace(tiny_decoder.FLOW.encoder, dropout=0.0),
)
MODEL = flow_model.Flow(CONFIG)
FRAMES = 30


def arrays(rows=3, seed=0):
  """Ragged inputs of `flow_loss`, padding zeroed."""
  rng = np.random.default_rng(seed)
  frames = np.array([30, 17, 23][:rows], np.int32)
  counts = np.array([10, 6, 8][:rows], np.int32)
  inside = np.arange(FRAMES)[None] < frames[:, None]
  mel = rng.normal(size=(rows, FRAMES, MEL.bands)).astype(np.float32)
  return {
    'tokens_BN': rng.integers(0, 5120, (rows, 10)).astype(np.int32),
    'token_counts_B': counts,
    'mel_BTM': mel * inside[:, :, None],
    'frames_B': frames,
    'speaker_BD': rng.normal(size=(rows, 8)).astype(np.float32),
    'noise_BTM': rng.normal(size=mel.shape).astype(np.float32),
    'draw': matching.Draw(
      jnp.array([0.2, 0.9, 0.5][:rows]),
      jnp.array([True, True, False][:rows]),
      jnp.array([0, 5, 3][:rows], jnp.int32),
    ),
  }


@functools.cache
def compiled(model=MODEL):
  return jax.jit(
    lambda params, inputs: flow_objective.flow_loss(
      model, {'params': params}, **inputs
    )
  )


@functools.cache
def compiled_loss(prior=0.0):
  return jax.jit(flow_objective.FlowMatching(CONFIG, MEL, prior=prior).loss)


def test_padding_has_no_part_in_the_loss():
  params, inputs = tiny_decoder.flow().params, arrays()
  (total, weight), parts = compiled()(params, inputs)
  assert float(weight) == (30 + 17 + 23) * MEL.bands
  one = jax.tree.map(lambda a: a[1:2], inputs)
  one['tokens_BN'] = one['tokens_BN'][:, :6]
  one['mel_BTM'] = one['mel_BTM'][:, :17]
  one['noise_BTM'] = one['noise_BTM'][:, :17]
  (alone, _), single = compiled()(params, one)
  np.testing.assert_allclose(
    parts['pred'][1, :17], single['pred'][0], atol=2e-5
  )
  squares = np.square(np.asarray(parts['pred'] - parts['target'])).sum(-1)
  by_row = [squares[row, :n].sum() for row, n in enumerate((30, 17, 23))]
  assert float(alone) == pytest.approx(by_row[1], rel=1e-4)
  assert float(total) == pytest.approx(sum(by_row), rel=1e-4)


def test_a_dropped_row_hears_neither_tokens_nor_speaker_nor_prompt():
  params, inputs = tiny_decoder.flow().params, arrays()
  _, before = compiled()(params, inputs)
  other = {**inputs, 'speaker_BD': inputs['speaker_BD'][::-1]}
  other['tokens_BN'] = inputs['tokens_BN'][:, ::-1]
  _, after = compiled()(params, other)
  changed = np.abs(before['pred'] - after['pred']).max(axis=(1, 2))
  assert changed[0] > 1e-4 and changed[1] > 1e-4 and changed[2] == 0


def test_the_prompt_is_the_beginning_of_the_mel():
  params, inputs = tiny_decoder.flow().params, arrays()
  _, parts = compiled()(params, inputs)
  for row, given in enumerate((0, 5, 3)):
    prompt = np.asarray(parts['prompt'][row])
    np.testing.assert_array_equal(
      prompt[:given], inputs['mel_BTM'][row, :given]
    )
    assert not prompt[given:].any()


def make_batch(step, rows=4):
  """Groups of tones: the ids say which one sounds."""
  rng = np.random.default_rng(step)
  groups, samples = 3, int(3 * 0.12 * MEL.sample_rate) // MEL.hop * MEL.hop
  batch = {
    'wave': np.zeros((rows, samples), np.float32),
    'samples': np.full(rows, samples, np.int32),
    'tokens': np.zeros((rows, 5 * groups), np.int32),
    'token_counts': np.full(rows, 5 * groups, np.int32),
    'speaker': rng.normal(size=(rows, 8)).astype(np.float32),
    'weights': np.ones(rows, np.float32),
    'step': np.int32(step),
  }
  for row in range(rows):
    tones = rng.integers(0, 3, groups)
    batch['tokens'][row] = np.repeat(tones, 5)
    hz = np.repeat(np.array([300.0, 1100.0, 3000.0])[tones], 960)[:samples]
    batch['wave'][row] = 0.3 * np.sin(
      2 * np.pi * np.cumsum(hz) / MEL.sample_rate
    )
  return batch


def test_it_learns_and_metrics_add_up():
  objective = flow_objective.FlowMatching(CONFIG, MEL)
  params = tiny_decoder.flow().params
  adam = optax.adam(5e-3)

  @jax.jit
  def step(params, state, batch, key):
    def scalar(params):
      total, weight, metrics, updates = objective.loss(
        {'params': params}, batch, key
      )
      assert updates == {}
      return total / weight, metrics

    (loss, metrics), grads = jax.value_and_grad(scalar, has_aux=True)(params)
    deltas, state = adam.update(grads, state)
    return optax.apply_updates(params, deltas), state, loss, metrics

  state, losses = adam.init(params), []
  for number in range(60):
    params, state, loss, metrics = step(
      params, state, make_batch(number), jax.random.key(number)
    )
    losses.append(float(loss))
  assert np.mean(losses[-10:]) < 0.4 * np.mean(losses[:5])
  total, weight = metrics['loss']
  halves = [metrics[f'loss/{name}'] for name in ('noisy', 'clean')]
  assert sum(float(h[0]) for h in halves) == pytest.approx(
    float(total), rel=1e-4
  )
  assert sum(float(h[1]) for h in halves) == pytest.approx(
    float(weight), rel=1e-6
  )


def test_the_prior_is_the_distance_of_the_encoder():
  batch, variables = make_batch(0), {'params': tiny_decoder.flow().params}
  key, found = jax.random.key(1), {}
  for prior in (0.0, 2.0):
    total, weight, metrics, _ = compiled_loss(prior)(variables, batch, key)
    found[prior] = float(total)
  mel, frames = vocoder_mel.vocoder_mel(batch['wave'], batch['samples'], MEL)

  @jax.jit
  def regulated(variables, tokens, counts, frames):
    mu = MODEL.apply(variables, tokens, counts, method='encode')
    return MODEL.apply(
      variables,
      mu,
      counts[:, None],
      frames[:, None],
      jnp.ones(mel.shape[:2], bool),
      method='regulate',
    )

  mu = regulated(variables, batch['tokens'], batch['token_counts'], frames)
  away = float(jnp.square(mu - mel).sum())
  assert found[2.0] - found[0.0] == pytest.approx(2 * away, rel=1e-3)
  assert float(metrics['loss/prior'][0]) == pytest.approx(away, rel=1e-4)
  assert float(metrics['loss'][0]) == pytest.approx(found[0.0], rel=1e-4)
  assert float(metrics['loss/prior'][1]) == float(weight)


def test_a_row_that_could_not_be_read_weighs_nothing():
  batch = make_batch(0)
  batch['weights'][1] = 0
  batch['samples'][1] = batch['token_counts'][1] = 0
  variables = {'params': tiny_decoder.flow().params}
  total, weight, _, _ = compiled_loss()(variables, batch, jax.random.key(0))
  frames = batch['samples'][0] // MEL.hop
  assert float(weight) == 3 * frames * MEL.bands
  assert np.isfinite(float(total))


def test_from_the_prior_a_path_begins_at_what_the_encoder_says():
  config = dataclasses.replace(CONFIG, start='prior', temperature=0.25)
  params, inputs = tiny_decoder.flow().params, arrays()
  _, parts = compiled(flow_model.Flow(config))(params, inputs)
  start = parts['mu'] + 0.25 * inputs['noise_BTM']
  t = np.asarray(inputs['draw'].t_B)[:, None, None]
  inside = np.asarray(parts['mask'])[:, :, None]
  want = ((1 - t) * start + t * inputs['mel_BTM']) * inside
  np.testing.assert_allclose(parts['y'] * inside, want, atol=1e-5)
  np.testing.assert_allclose(
    parts['target'] * inside,
    (inputs['mel_BTM'] - start) * inside,
    atol=1e-5,
  )


def test_a_frozen_encoder_has_no_gradient_and_drops_nothing():
  config = dataclasses.replace(
    CONFIG, encoder=dataclasses.replace(CONFIG.encoder, dropout=0.5)
  )
  objective = flow_objective.FlowMatching(config, MEL, freeze_encoder=True)
  params, batch = tiny_decoder.flow().params, make_batch(0)

  def scalar(params, key):
    total, weight, metrics, _ = objective.loss({'params': params}, batch, key)
    return total / weight, metrics['loss/prior'][0]

  step = jax.jit(jax.value_and_grad(scalar, has_aux=True))
  (_, first), grads = step(params, jax.random.key(0))
  (_, again), _ = step(params, jax.random.key(1))
  for name, tree in grads.items():
    moves = any(np.any(leaf) for leaf in jax.tree.leaves(tree))
    assert moves == (name in ('estimator', 'speaker')), name
  assert float(first) == float(again)


def test_the_prior_learns_alone_and_a_flow_starts_from_it():
  prior = flow_objective.Prior(CONFIG, MEL)
  batch = make_batch(0)
  params = jax.jit(lambda key: nn.unbox(prior.init(key, batch))['params'])(
    jax.random.key(0)
  )
  assert set(params) == {'embedding', 'encoder', 'project', 'regulator'}
  whole = nn.unbox(
    jax.eval_shape(
      flow_objective.FlowMatching(CONFIG, MEL).init, jax.random.key(0), batch
    )
  )['params']
  for name, tree in params.items():
    assert jax.tree.map(jnp.shape, tree) == jax.tree.map(
      lambda leaf: leaf.shape, whole[name]
    )
  adam = optax.adam(5e-3)

  @jax.jit
  def step(params, state, batch, key):
    def scalar(params):
      total, weight, _, _ = prior.loss({'params': params}, batch, key)
      return total / weight

    loss, grads = jax.value_and_grad(scalar)(params)
    deltas, state = adam.update(grads, state)
    return optax.apply_updates(params, deltas), state, loss

  state, losses = adam.init(params), []
  for number in range(40):
    params, state, loss = step(
      params, state, make_batch(number), jax.random.key(number)
    )
    losses.append(float(loss))
  assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:3])


@pytest.mark.parametrize('start', flow_model.STARTS)
def test_biases_begin_at_the_mean_mel(start):
  objective = flow_objective.FlowMatching(
    dataclasses.replace(CONFIG, start=start), MEL
  )
  batch = make_batch(0)

  @jax.jit
  def biases(key):  # alone: nothing else is compiled
    params = nn.unbox(objective.init(key, batch))['params']
    return (
      params['regulator']['out']['bias'],
      params['estimator']['project']['bias'],
    )

  regulated, projected = biases(jax.random.key(0))
  mel, _ = vocoder_mel.vocoder_mel(batch['wave'], batch['samples'], MEL)
  mean = np.asarray(mel).mean((0, 1))
  np.testing.assert_allclose(regulated, mean, rtol=1e-4)
  np.testing.assert_allclose(
    projected,
    mean if start == 'noise' else np.zeros_like(mean),
    rtol=1e-4,
  )


def test_an_estimator_that_does_harm_is_told():
  objective = flow_objective.FlowMatching(CONFIG, MEL)
  variables = {'params': tiny_decoder.flow().params}
  *_, metrics, _ = jax.jit(objective.loss)(
    variables, make_batch(0, 16), jax.random.key(2)
  )
  line = {
    name: float(total / count) for name, (total, count) in metrics.items()
  }
  assert 0 < line['loss/estimate'] < line['loss/noisy']
  assert not objective.warnings({'loss/estimate': 0.9, 'loss/prior': 1.0})
  (sentence,) = objective.warnings({'loss/estimate': 1.2, 'loss/prior': 1.0})
  assert '1.20 from the mel' in sentence and 'alone 1.00' in sentence


def test_init_gives_boxed_parameters_of_the_described_model():
  objective = flow_objective.FlowMatching(CONFIG, MEL)
  boxed = jax.eval_shape(objective.init, jax.random.key(0), make_batch(0))
  flat = jax.tree.leaves(
    boxed['params'], is_leaf=lambda leaf: hasattr(leaf, 'names')
  )
  assert flat and all(hasattr(leaf, 'names') for leaf in flat)
  described = objective.describe()
  assert described['decoder'] == 'flow'
  assert flow_model.FlowConfig(**described['model']) == CONFIG
  assert vocoder_mel.VocoderMel(**described['mel']) == MEL


@pytest.mark.parametrize(
  'settings,sentence',
  [
    ({'mel': vocoder_mel.VocoderMel()}, '80 bands, expected 16'),
    ({'dropout': 1.5}, 'dropout is 1.5'),
    ({'prefix_share': -0.1}, 'prefix_share is -0.1'),
    ({'prior': -1.0}, 'prior is -1.0'),
    ({'prior': 1.0, 'freeze_encoder': True}, 'expected one of them'),
  ],
)
def test_bad_settings_are_told(settings, sentence):
  with pytest.raises(errors.UserError, match=sentence):
    flow_objective.FlowMatching(CONFIG, **{'mel': MEL, **settings})
