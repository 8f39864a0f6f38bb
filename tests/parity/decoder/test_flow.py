"""The flow against every flow fixture, quantity by quantity.

Fixtures hold (batch, channel, time); here it is (B, T, C).
"""

import functools
import json

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax.decoder.flow import matching
from step_audio_jax.decoder.flow import objective
from step_audio_jax.decoder.flow import offline as flow_decoder
from step_audio_jax.interop.decoder import flow as flow_interop
from step_audio_jax.models.flow import flow
from tests.parity import fixtures

PATHS = fixtures.paths('flow')
each = pytest.mark.parametrize('path', PATHS, ids=lambda path: path.stem)


def turned(array):
  """(B, C, T) → (B, T, C) and back."""
  return np.asarray(array).swapaxes(1, 2)


class Network:
  """Compiled functions and weights of one fixture."""

  def __init__(self, path):
    self.golden = z = fixtures.fixture(path)
    self.config = fixtures.flow_config(z.config)
    self.model = flow.Flow(self.config)
    self.padded_out = flow.Flow(fixtures.flow_config(z.config, 'out'))
    state = z.state()
    assert {k: v.shape for k, v in state.items()} == flow_interop.shapes(
      self.config
    )
    self.variables = {'params': flow_interop.params(state, self.config)}
    self.frame_rate = fixtures.frame_rate(z.config)

  def inputs(self, prompt):
    """Arguments of `conditions`, with or without the prompt."""
    z = self.golden
    pieces = [z['in/prompt_token'][0], z['in/token'][0]]
    mel = z['in/prompt_feat'][0]
    if not prompt:
      pieces[0], mel = pieces[0][:0], mel[:0]
    frames = len(mel), self.config.frames(len(pieces[1]), self.frame_rate)
    padded = np.zeros((1, sum(frames), mel.shape[1]), np.float32)
    padded[0, : len(mel)] = mel
    return (
      np.concatenate(pieces)[None],
      np.array([[len(piece) for piece in pieces]], np.int32),
      np.array([frames], np.int32),
      padded,
      z['in/embedding'],
    )


@functools.cache
def network(path):
  return Network(path)


@each
def test_flow_encoder_and_regulator(path, parity):
  own = network(path)
  z, name = own.golden, own.golden.name
  tokens, counts, frames, mel, speaker = own.inputs(prompt=True)

  @jax.jit
  def run(variables, *inputs):
    c = flow_decoder.conditions(own.model, variables, *inputs)
    h, kept = own.model.apply(
      variables,
      inputs[0],
      inputs[1].sum(axis=1),
      method='encode',
      mutable=['intermediates'],
    )
    return c, h, kept['intermediates']['encoder']

  c, h, kept = run(own.variables, tokens, counts, frames, mel, speaker)
  parity(f'{name} spk', c.speaker_BM, z['out/inf/spk'], 2e-4)
  parity(f'{name} enc_embed', kept['embedded'][0], z['out/inf/enc_embed'], 2e-4)
  parity(
    f'{name} enc_layer0', kept['layers'][0][0], z['out/inf/enc_layer0'], 2e-4
  )
  parity(f'{name} enc_proj', h, z['out/inf/enc_proj'], 2e-4)
  parity(f'{name} mu', turned(c.mu_BTM), z['out/inf/mu'], 2e-4)
  parity(f'{name} cond', turned(c.prompt_BTM), z['out/inf/cond'], 0)


@each
def test_flow_estimator(path, parity):
  own = network(path)
  z, name = own.golden, own.golden.name
  got = jax.jit(functools.partial(own.model.apply, method='velocity'))(
    own.variables,
    turned(z['in/est/x']),
    z['in/est/t'],
    turned(z['in/est/mu']),
    z['in/est/spks'],
    turned(z['in/est/cond']),
    z['in/est/mask'][:, 0],
  )
  parity(f'{name} est/out', turned(got), z['out/est/out'], 2e-4)


@each
def test_flow_steps(path, parity):
  own = network(path)
  z, name, config = own.golden, own.golden.name, own.golden.config
  steps = config['n_timesteps']
  parity(f'{name} t_span', matching.schedule(steps), z['out/t_span'], 1e-6)
  inputs = own.inputs(prompt=True)

  @jax.jit
  def first(variables, x, t, *inputs):
    c = flow_decoder.conditions(own.model, variables, *inputs)
    two = jnp.concatenate
    none = jnp.zeros_like
    return own.model.apply(
      variables,
      two([x, x]),
      jnp.broadcast_to(t, 2),
      two([c.mu_BTM, none(c.mu_BTM)]),
      two([c.speaker_BM, none(c.speaker_BM)]),
      two([c.prompt_BTM, none(c.prompt_BTM)]),
      two([c.mask_BT, c.mask_BT]),
      method='velocity',
      mutable=['intermediates'],
    )

  x = turned(z['noise/z'])
  times, lengths = matching.time_grid(steps)
  for number in range(steps):
    both, kept = first(own.variables, x, times[number], *inputs)
    key = f'step{number}'
    if f'out/inf/{key}_x' in z:
      parity(f'{name} {key}_x', turned(x), z[f'out/inf/{key}_x'], 3e-4)
      t = np.broadcast_to(times[number], 2)
      parity(f'{name} {key}_t', t, z[f'out/inf/{key}_t'], 1e-6)
      parity(f'{name} {key}_vel', turned(both), z[f'out/inf/{key}_vel'], 2e-4)
    if not number:
      _inside(parity, name, z, kept['intermediates']['estimator'])
    x = x + lengths[number] * matching.apply_guidance(both, own.config.guidance)
  given = int(inputs[2][0, 0])
  parity(f'{name} mel', turned(x)[:, :, given:], z['out/inf/mel'], 3e-4)


def _inside(parity, name, z, kept):
  """Activations of the U-Net in the first step."""

  def check(key, got):
    parity(f'{name} {key}', got, z[f'out/inf/{key}_step0'], 2e-4)

  check('est_time_mlp', kept['time'][0])
  check('est_down0_resnet', turned(kept['down0_resnet'][0]))
  check('est_down0_tf0', kept['down0']['blocks'][0])
  check('est_down0_out', turned(kept['halved'][0]))
  check('est_midlast_resnet', turned(kept['middle_resnets'][0][-1]))
  check('est_up0_out', turned(kept['doubled'][0]))
  check('est_final_block', turned(kept['final_block'][0]))


@each
@pytest.mark.parametrize('prompt', [True, False], ids=['prompt', 'alone'])
def test_flow_sampler_in_buckets(path, prompt, parity):
  # Padded shapes, as the decoder uses them, change nothing.
  own = network(path)
  z = own.golden
  steps = z.config['n_timesteps']
  tokens, counts, frames, mel, speaker = own.inputs(prompt)
  total = mel.shape[1]
  noise = turned(z['noise/z' if prompt else 'noise/z_noprompt'])
  loud = np.full((1, 21, mel.shape[2]), 9.0, np.float32)
  got = flow_decoder.sample(
    own.padded_out,
    own.variables,
    np.concatenate([noise, loud], axis=1),
    np.concatenate([tokens, np.full((1, 11), 3, np.int32)], axis=1),
    counts,
    frames,
    np.concatenate([mel, loud], axis=1),
    speaker,
    steps=steps,
  )
  got = turned(got[:, frames[0, 0] : total])
  key = 'inf' if prompt else 'inf_noprompt'
  parity(f'{z.name} {key}/mel, padded', got, z[f'out/{key}/mel'], 3e-4)


@each
def test_flow_training(path, parity):
  own = network(path)
  z, name = own.golden, own.golden.name
  draw = matching.Draw(
    jnp.asarray(matching.cosine(z['noise/train/t_uniform'][:, 0, 0])),
    jnp.asarray(z['noise/train/cfg_keep'] > 0),
    jnp.asarray(z['noise/train/cond_prefix_len']),
  )
  parity(f'{name} train/t', draw.t_B, z['out/train/t'], 1e-6)

  @jax.jit
  def run(params):
    (total, weight), parts = objective.flow_loss(
      own.model,
      {'params': params},
      z['in/train/speech_token'],
      z['in/train/speech_token_len'],
      z['in/train/speech_feat'],
      z['in/train/speech_feat_len'],
      z['in/train/embedding'],
      turned(z['noise/train/z']),
      draw,
    )
    return total / weight, parts

  (loss, parts), grads = jax.value_and_grad(run, has_aux=True)(
    own.variables['params']
  )
  for key in ('y', 'mu', 'pred'):
    parity(
      f'{name} train/{key}', turned(parts[key]), z[f'out/train/{key}'], 2e-4
    )
  parity(f'{name} train/spks', parts['speaker'], z['out/train/spks'], 2e-4)
  parity(f'{name} train/mask', parts['mask'][:, None], z['out/train/mask'], 0)
  cond = turned(parts['prompt'])
  parity(f'{name} train/cond', cond, z['noise/train/cond'], 0)
  want = z['out/train/loss']
  parity(f'{name} train/loss, relative', loss / want, np.ones(()), 1e-5)
  _gradients(parity, name, z, own, grads)


def _gradients(parity, name, z, own, grads):
  theirs = flow_interop.state(grads, own.config)
  norms = json.loads(str(z['out/train/gradnorms_json']))
  assert set(norms) == set(theirs)
  got = {
    k: float(np.linalg.norm(v.astype(np.float64))) for k, v in theirs.items()
  }
  silent = [k for k in norms if k.endswith('linear_k.bias')]
  loud = [k for k in norms if k not in silent]
  relative = [got[k] / norms[k] for k in loud]
  parity(
    f'{name} train/gradnorms, relative ({len(loud)})',
    relative,
    np.ones(len(loud)),
    1e-3,
  )
  for key in silent:
    parity(f'{name} train/gradnorm {key}', got[key], norms[key], 1e-6)
  for key in z.keys:
    if key.startswith('out/train/grad/'):
      parity(f'{name} {key[4:]}', theirs[key[15:]], z[key], 2e-4)
    if key.startswith('out/train/gradnorm/'):
      share = got[key[19:]] / z[key]
      parity(f'{name} {key[4:]}, relative', share, np.ones(()), 1e-3)


@each
def test_flow_names_round_trip(path, parity):
  own = network(path)
  back = flow_interop.state(own.variables['params'], own.config)
  state = own.golden.state()
  assert back.keys() == state.keys()
  for key, array in state.items():
    np.testing.assert_array_equal(back[key], array, err_msg=key)
  count = sum(
    array.size
    for array in traverse_util.flatten_dict(own.variables['params']).values()
  )
  parity(
    f'{own.golden.name} parameters',
    count,
    sum(array.size for array in state.values()),
    0,
  )
