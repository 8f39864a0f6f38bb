"""The vocoder's losses: two players, one gradient; what counts and when."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.decoder.vocoder import objective as lib
from step_audio_jax.models.vocoder import discriminators as judges_lib
from tests.decoder.vocoder import tiny_vocoder

FRAMES = 24
SAMPLES = FRAMES * tiny_vocoder.HOP
OTHER_MEL = vocoder_mel.VocoderMel(
  sample_rate=tiny_vocoder.RATE,
  bands=6,
  fft=64,
  window=64,
  hop=16,
  high_hz=None,
)
OBJECTIVE = tiny_vocoder.objective(
  mels=(tiny_vocoder.MEL, OTHER_MEL),
  relativistic=0.7,
  relativistic_limit=10.0,  # not cut off
  adversarial=1.3,
  f0=0.02,
)
KEY = jax.random.key(3)


def make_batch(step=0, rows=3):
  rng = np.random.default_rng(step)
  hz = 100.0 + 30.0 * np.arange(rows)
  wave = np.stack([tiny_vocoder.buzz(x, SAMPLES / 8000) for x in hz])
  wave += 0.02 * rng.normal(size=wave.shape)
  return {
    'wave': wave.astype(np.float32),
    'f0': np.tile(hz[:, None], FRAMES).astype(np.float32),
    'weights': np.ones(rows, np.float32),
    'step': np.int32(step),
  }


@pytest.fixture(scope='module')
def params():
  boxed = jax.jit(OBJECTIVE.init)(jax.random.key(0), make_batch())
  return nn.unbox(boxed)['params']


@functools.cache
def gradients_of(objective):
  """(total, metrics) and gradients, compiled once an objective."""

  def run(params, batch):
    def scalar(params):
      total, _, metrics, _ = objective.loss({'params': params}, batch, KEY)
      return total, metrics

    return jax.value_and_grad(scalar, has_aux=True)(params)

  return jax.jit(run)


def assert_trees_close(got, want, tolerance):
  scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(want))
  assert scale > 0
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance * scale),
    got,
    want,
  )


def by_hand(scores):
  """Both players' losses from [(real, fake)] judgements, in plain formulas."""
  generator = discriminators = 0.0
  for real, fake in scores:
    a, b = real.score, fake.score
    generator += 1.3 * ((1 - b) ** 2).mean(1)
    generator += 2.0 * sum(
      jnp.abs(x - y).reshape(len(x), -1).mean(1)
      for x, y in zip(real.features, fake.features)
    )
    discriminators += ((1 - a) ** 2).mean(1) + (b**2).mean(1)
    for name, d in (('judges', a - b), ('maker', b - a)):
      d = d - jax.lax.stop_gradient(jnp.median(d, axis=1, keepdims=True))
      low = d < 0
      value = 0.7 * jnp.where(low, d**2, 0).sum(1) / low.sum(1)
      if name == 'judges':
        discriminators += value
      else:
        generator += value
  return generator.sum(), discriminators.sum()


def test_the_sum_has_the_gradients_of_both_losses(params):
  """Against two losses of two functions, neither of which stops a gradient."""
  batch = make_batch()
  judges = judges_lib.Discriminators(tiny_vocoder.JUDGES)

  def ask(params, wave):
    return judges.apply({'params': params}, wave)

  def generator_loss(generator):
    fake, f0 = OBJECTIVE.generated(generator, batch, KEY)
    scores = zip(
      ask(params['discriminators'], batch['wave']),
      ask(params['discriminators'], fake),
    )
    distance = 0.0
    for mel in OBJECTIVE.mels:
      real, made = (
        vocoder_mel.vocoder_mel(x, None, mel)[0] for x in (batch['wave'], fake)
      )
      distance += jnp.abs(real - made).mean((1, 2)).sum() / 2
    pitch = jnp.abs(f0 - batch['f0']).mean(1).sum()
    return by_hand(scores)[0] + 45.0 * distance + 0.02 * pitch

  fake, _ = OBJECTIVE.generated(params['generator'], batch, KEY)

  def discriminator_loss(discriminators):
    scores = zip(ask(discriminators, batch['wave']), ask(discriminators, fake))
    return by_hand(scores)[1]

  first, of_generator = jax.jit(jax.value_and_grad(generator_loss))(
    params['generator']
  )
  second, of_judges = jax.jit(jax.value_and_grad(discriminator_loss))(
    params['discriminators']
  )
  (total, metrics), grads = gradients_of(OBJECTIVE)(params, batch)
  assert float(total) == pytest.approx(float(first + second), rel=1e-5)
  assert float(metrics['loss'][0]) == pytest.approx(float(first), rel=1e-5)
  assert float(metrics['loss/discriminator'][0]) == pytest.approx(
    float(second), rel=1e-5
  )
  assert_trees_close(grads['generator'], of_generator, 1e-4)
  assert_trees_close(grads['discriminators'], of_judges, 1e-4)


def test_before_the_start_only_the_mel_counts(params):
  later = tiny_vocoder.objective(
    **{
      name: getattr(OBJECTIVE, name)
      for name in (
        *('mels', 'relativistic', 'relativistic_limit', 'adversarial', 'f0'),
      )
    },
    adversarial_start=5,
  )
  (total, metrics), grads = gradients_of(later)(params, make_batch(4))
  assert not any(
    leaf.any() for leaf in jax.tree.leaves(grads['discriminators'])
  )
  mel, f0 = (float(metrics[f'loss/{n}'][0]) for n in ('mel', 'f0'))
  assert float(total) == pytest.approx(45 * mel + 0.02 * f0, rel=1e-5)
  # No weight: a mean over a log window leaves these steps out.
  assert metrics['loss/discriminator'][1] == 0
  assert metrics['loss/mel'][1] == 3
  same = gradients_of(later)(params, make_batch(5))
  want = gradients_of(OBJECTIVE)(params, make_batch(5))
  assert float(same[0][0]) == pytest.approx(float(want[0][0]), rel=1e-5)
  assert same[0][1]['loss/discriminator'][1] == 3
  assert_trees_close(same[1], want[1], 1e-4)


def test_a_row_without_weight_changes_nothing(params):
  batch = make_batch()
  batch['weights'] = np.asarray([1, 1, 0], np.float32)
  (total, metrics), grads = gradients_of(OBJECTIVE)(params, batch)
  batch['wave'][2] = np.random.default_rng(9).normal(size=SAMPLES) * 0.3
  batch['f0'][2] = 400.0
  (same, _), other = gradients_of(OBJECTIVE)(params, batch)
  assert float(total) == pytest.approx(float(same), rel=1e-6)
  assert_trees_close(other, grads, 1e-5)
  assert metrics['loss/mel'][1] == 2
  batch['weights'] = np.zeros(3, np.float32)
  (total, _), grads = gradients_of(OBJECTIVE)(params, batch)
  assert total == 0 and not any(g.any() for g in jax.tree.leaves(grads))


def test_the_source_gets_the_tracked_f0_first(params):
  objective = tiny_vocoder.objective(discriminators=None, given_f0_steps=3)
  fake = jax.jit(
    lambda batch: objective.generated(params['generator'], batch, KEY)[0]
  )
  for step, changes in ((2, True), (3, False)):
    batch = make_batch(step)
    before = fake(batch)
    batch['f0'] = batch['f0'] * 1.5
    assert bool((fake(batch) != before).any()) == changes
  # The source has no gradient for the predictor.
  deaf = tiny_vocoder.objective(discriminators=None, f0=0.0)
  only = {'generator': params['generator']}
  _, grads = gradients_of(deaf)(only, make_batch())
  predictor = grads['generator'].pop('f0_predictor')
  assert not any(g.any() for g in jax.tree.leaves(predictor))
  assert all(g.any() for g in jax.tree.leaves(grads))


def test_the_relativistic_loss_in_numbers():
  above = jnp.asarray([[1.0, 2.0, 4.0, 0.0, 3.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
  below = jnp.asarray([[0.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
  # Median 2; below it lie 1 and 0.
  got = lib.relativistic(above, below, 9.0)
  assert got.tolist() == [(1.0 + 4.0) / 2, 0.0]
  cut, grad = jax.value_and_grad(
    lambda x: lib.relativistic(x, below, 0.04).sum()
  )(above)
  assert float(cut) == pytest.approx(0.04) and not grad.any()
  grad = jax.grad(lambda x: lib.relativistic(x, below, 9.0).sum())(above)
  assert grad[0].tolist() == [-1.0, 0.0, 0.0, -2.0, 0.0]


def test_perfect_waves_cost_the_judges_alone(params):
  judges = judges_lib.Discriminators(tiny_vocoder.JUDGES)
  wave = make_batch()['wave']
  said = jax.jit(judges.apply)({'params': params['discriminators']}, wave)
  _, features, relative = lib.for_generator(said, said, 9.0)
  assert not features.any() and not relative.any()
  assert not OBJECTIVE.mel_distances(wave, wave).any()


@pytest.mark.parametrize(
  'change, pattern',
  [
    ({'mel': vocoder_mel.VocoderMel()}, "mel's bands is 80, expected 12"),
    ({'mels': (vocoder_mel.VocoderMel(),)}, 'one of mels is of 22050 Hz'),
    ({'f0': -1.0}, 'f0 is -1.0'),
    ({'adversarial_start': -1}, 'adversarial_start is -1'),
  ],
)
def test_bad_settings_say_what_is_wrong(change, pattern):
  with pytest.raises(errors.UserError, match=pattern):
    tiny_vocoder.objective(**change)


def test_a_head_that_overflows_has_a_finite_gradient(params):
  """Magnitudes are cut at 100; what is above must not end a run."""
  head = {**params['generator']['conv_post']}
  head['bias'] = head['bias'] + 200.0
  loud = {**params, 'generator': {**params['generator'], 'conv_post': head}}
  (total, _), grads = gradients_of(OBJECTIVE)(loud, make_batch())
  assert jnp.isfinite(total)
  assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(grads))
