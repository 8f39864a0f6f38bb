"""HiFT: shapes, parts of a window, rows that end early, causality."""

import dataclasses
import functools

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.decoder.vocoder import step
from step_audio_jax.models.vocoder import hift
from tests.models.vocoder import tiny_hift

TINY, CAUSAL = tiny_hift.TINY, tiny_hift.CAUSAL
FRAMES = 40


@functools.partial(jax.jit, static_argnames=('config', 'method', 'size'))
def run(
  config, params, *inputs, method='wave', frames=None, first=None, size=0
):
  model = hift.Hift(config)
  if method == 'wave':
    part = hift.Part(first, size) if size else None
    inputs = (*inputs, frames, part)
  return model.apply({'params': params}, *inputs, method=method)


def test_the_released_layouts():
  def count(config):
    tree = step.shapes(config)
    return sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(tree))

  # The released 20,460,591 numbers, less one norm a row of each kernel.
  assert count(hift.HiftConfig()) == 20_447_517
  assert hift.HiftConfig().hop == 256
  assert count(hift.HIFT_24K) == 20_806_557 and hift.HIFT_24K.hop == 480
  causal = dataclasses.replace(hift.HIFT_24K, causal=True)
  assert step.shapes(causal) == step.shapes(hift.HIFT_24K)


@pytest.mark.parametrize('config', [TINY, CAUSAL])
def test_samples_of_every_frame_and_no_more(config):
  params = tiny_hift.params(config)
  mel = tiny_hift.mel(5)[None]
  wave = run(config, params, mel, *tiny_hift.draws(config, 5), method=None)
  assert wave.shape == (1, 5 * config.hop) and config.hop == 16
  assert np.abs(wave).max() <= config.limit and np.std(wave) > 1e-2


@pytest.mark.parametrize('config', [TINY, CAUSAL])
def test_rows_that_end_early_are_as_they_are_alone(config):
  params = tiny_hift.params(config)
  counts = np.array([FRAMES, 23, 1], np.int32)
  mel = np.stack([tiny_hift.mel(FRAMES, seed=s) for s in range(3)])
  source = 0.1 * tiny_hift.draws(config, FRAMES, 3)[1][..., 0]
  for row, count in enumerate(counts):
    mel[row, count:] = 1e3
    source[row, count * config.hop :] = 1e3
  got = run(config, params, mel, source, frames=counts)
  f0 = jax.jit(
    lambda mel, counts: hift.Hift(config).apply(
      {'params': params}, mel, counts, method='f0'
    )
  )(mel, counts)
  for row, count in enumerate(counts):
    one = slice(row, row + 1)
    samples = count * config.hop
    alone = run(config, params, mel[one, :count], source[one, :samples])
    np.testing.assert_allclose(got[row, :samples], alone[0], atol=1e-5)
    want = run(config, params, mel[one, :count], method='f0')
    np.testing.assert_allclose(f0[row, :count], want[0], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize('config', [TINY, CAUSAL])
def test_a_part_is_what_the_whole_is_there(config):
  params = tiny_hift.params(config)
  left, right = config.levels[0]
  size, total = 5, 60
  mel = tiny_hift.mel(total)[None]
  source = 0.1 * tiny_hift.draws(config, total)[1][..., 0]
  whole = np.asarray(run(config, params, mel, source))[0]
  hop, width = config.hop, left + size + right
  # At the beginning, in the middle and at the end.
  for at in (0, 3, left + 7, total - size):
    begin = max(0, at - left)
    window = np.full((1, width, config.bands), 1e3, np.float32)
    around = np.full((1, width * hop), 1e3, np.float32)
    have = min(width, total - begin)
    window[:, :have] = mel[:, begin : begin + have]
    around[:, : have * hop] = source[:, begin * hop : (begin + have) * hop]
    got = run(
      config,
      params,
      window,
      around,
      frames=np.array([have], np.int32),
      first=np.array([at - begin], np.int32),
      size=size,
    )
    want = whole[at * hop : (at + size) * hop]
    np.testing.assert_allclose(got[0], want, atol=1e-5)


@pytest.mark.parametrize('config', [TINY, CAUSAL])
def test_contexts_are_as_wide_as_the_network_looks(config):
  params = tiny_hift.params(config)
  mel = tiny_hift.mel(2 * FRAMES)[None]
  source = 0.1 * tiny_hift.draws(config, 2 * FRAMES)[1][..., 0]
  at, hop = FRAMES, config.hop

  @jax.jit
  def sensitive(mel, source):
    """Frames that the samples of frame `at` depend on."""

    def middle(mel, source):
      wave = hift.Hift(config).apply(
        {'params': params}, mel, source, method='unclamped'
      )
      part = wave[0, at * hop : (at + 1) * hop]
      # Of random signs: derivatives must not add up to nothing.
      return part @ jax.random.normal(jax.random.key(0), part.shape)

    by_mel, by_source = jax.grad(middle, (0, 1))(mel, source)
    by_source = jnp.abs(by_source[0]).reshape(-1, hop).sum(1)
    return jnp.abs(by_mel[0]).sum(1), by_source

  left, right = config.levels[0]
  by_mel, by_source = map(np.asarray, sensitive(mel, source))
  either = np.flatnonzero(by_mel + by_source)
  assert at - left <= either.min() <= at - left + 2
  assert at + right - 2 <= either.max() <= at + right
  if config.causal:
    assert np.flatnonzero(by_source).max() == at
    assert np.flatnonzero(by_mel).max() == at + config.look_ahead == at + right


@pytest.mark.parametrize('config', [TINY, CAUSAL])
def test_f0_looks_as_far_as_it_says(config):
  params = tiny_hift.params(config)
  left, right = config.f0_context
  slope = jax.jit(
    jax.grad(
      lambda mel: hift.Hift(config).apply({'params': params}, mel, method='f0')[
        0, 20
      ]
    )
  )(tiny_hift.mel(FRAMES)[None])
  seen = np.flatnonzero(np.abs(np.asarray(slope)[0]).sum(1))
  assert (20 - seen.min(), seen.max() - 20) == (left, right)
  assert not config.causal or right == config.look_ahead


def test_every_parameter_learns_but_not_through_the_pitch():
  params = tiny_hift.params(TINY)
  mel, draws = tiny_hift.mel(8)[None], tiny_hift.draws(TINY, 8)
  target = np.random.default_rng(1).standard_normal((1, 8 * TINY.hop))

  def loss(params):
    wave = hift.Hift(TINY).apply({'params': params}, mel, *draws)
    return jnp.square(wave - target.astype(np.float32)).sum()

  slopes = traverse_util.flatten_dict(jax.jit(jax.grad(loss))(params))
  for path, slope in slopes.items():
    assert np.isfinite(slope).all()
    assert bool(np.any(slope)) == (path[0] != 'f0_predictor'), path


@pytest.mark.parametrize(
  'change, words',
  [
    ({'channels': 0}, 'channels is 0'),
    ({'channels': 510}, 'multiple of 4'),
    ({'upsample_kernels': (16,)}, 'upsample_kernels: found 1, expected 2'),
    ({'upsample_kernels': (16, 4)}, 'found 4 for a rate of 8'),
    ({'resblock_kernels': (3, 4, 11)}, 'expected odd'),
    ({'istft_hop': 5}, 'multiple of its hop'),
    ({'look_ahead': 4}, 'look_ahead 4'),
    ({'limit': 0.0}, 'limit is 0'),
  ],
)
def test_what_makes_no_vocoder_is_told(change, words):
  with pytest.raises(errors.UserError, match=words):
    hift.HiftConfig(**change)


def test_lists_become_tuples():
  config = hift.HiftConfig(
    upsample_rates=[8, 8], resblock_dilations=[[1, 3, 5]] * 3
  )
  assert config == hift.HiftConfig() and hash(config) == hash(hift.HiftConfig())
