"""Every vocoder fixture of $GOLDEN_DIR: HiFT, stage by stage.

Fixtures hold (batch, channel, time); here it is (B, T, C). The original rounds
its growing phase to float32 in every sample; ours wraps and loses nothing, so
sources differ by what that rounding costs (6e-5 after a third of a second).
"""

import functools

import jax
import numpy as np
import pytest

from step_audio_jax.interop.decoder import hift as hift_interop
from step_audio_jax.models.vocoder import harmonic_source
from step_audio_jax.models.vocoder import hift
from step_audio_jax.models.vocoder import layers
from step_audio_jax.models.vocoder import stft
from tests.parity import fixtures

_SOURCE = 1e-3
each = pytest.mark.parametrize(
  'path', fixtures.paths('vocoder'), ids=lambda path: path.stem
)
_STAGES = (
  layers.Conv,
  layers.ResBlock,
  layers.Upsample,
)


def turned(array):
  """(B, C, T) → (B, T, C) and back."""
  return np.asarray(array).swapaxes(1, 2)


class Network:
  """Compiled functions and weights of one fixture."""

  def __init__(self, path):
    self.golden = z = fixtures.fixture(path)
    state = z.state()
    self.config = fixtures.hift_config(z.config, state)
    self.model = hift.Hift(self.config)
    params = hift_interop.params(state, self.config)
    self.variables = {'params': params}
    self.apply = jax.jit(
      functools.partial(self.model.apply, self.variables),
      static_argnames=('method',),
    )

  def draws(self, prefix=''):
    """Phases (B, H) and noise (B, S, H) as they were recorded."""
    z = self.golden
    phase = z[f'noise/{prefix}phase_uniform'][:, :, 0]
    return phase, turned(z[f'noise/{prefix}sine_noise'])


@functools.cache
def network(path):
  return Network(path)


@each
def test_vocoder_source(path, parity):
  own = network(path)
  z, name, c = own.golden, own.golden.name, own.config
  f0 = own.apply(turned(z['in/mel']), method='f0')
  parity(f'{name} f0, Hz', f0, z['out/f0'], 1e-2)
  high = z['out/f0'].max()
  parity(f'{name} f0, of the highest', f0 / high, z['out/f0'] / high, 1e-5)
  given = z['out/f0']
  repeated = np.repeat(given, c.hop, axis=1)[:, None]
  parity(f'{name} f0_up', repeated, z['out/f0_up'], 0)
  parity(f'{name} uv', repeated > c.voiced_hz, z['out/uv'] > 0, 0)
  sines = own.apply(given, *own.draws(), method='sines')
  parity(f'{name} sine_waves', turned(sines), z['out/sine_waves'], _SOURCE)
  source = own.apply(given, *own.draws(), method='source')
  parity(f'{name} source', source[:, None], z['out/source'], _SOURCE)
  fourier = jax.jit(stft.stft, static_argnums=(1, 2))(
    z['out/source'][:, 0], c.istft_fft, c.istft_hop
  )
  parity(f'{name} source_stft', turned(fourier), z['out/source_stft'], 1e-4)


@each
def test_vocoder_stages(path, parity):
  own = network(path)
  z, name = own.golden, own.golden.name
  inputs = turned(z['in/mel']), z['out/source'][:, 0]

  @jax.jit
  def run(variables, mel, source):
    return own.model.apply(
      variables,
      mel,
      source,
      method='unclamped',
      capture_intermediates=lambda module, _: isinstance(module, _STAGES),
      mutable=['intermediates'],
    )

  wave, kept = run(own.variables, *inputs)
  kept = kept['intermediates']
  levels = len(own.config.upsample_rates)
  stages = {'conv_pre': 'conv_pre', 'resblock0': 'block_0_0'}
  for i in range(levels):
    stages |= {
      f'up{i}': f'up_{i}',
      f'source_down{i}': f'source_down_{i}',
      f'source_res{i}': f'source_block_{i}',
    }
  stages['conv_post'] = 'conv_post'
  for theirs, ours in stages.items():
    got = turned(kept[ours]['__call__'][0])
    parity(f'{name} {theirs}', got, z[f'out/{theirs}'], 1e-4)
  magnitude, phase = own.apply(*inputs, method='spectrum')
  relative = turned(magnitude) / z['out/magnitude']
  parity(f'{name} magnitude, relative', relative, np.ones(relative.shape), 1e-4)
  parity(f'{name} phase', turned(phase), z['out/phase'], 1e-4)
  parity(f'{name} wave_unclamped', wave, z['out/wave_unclamped'], 1e-4)
  wave = own.apply(*inputs, method='wave')
  parity(f'{name} wave', wave, z['out/wave'], 1e-4)


@each
def test_vocoder_from_the_mel(path, parity):
  own = network(path)
  z, name = own.golden, own.golden.name
  wave = own.apply(turned(z['in/mel']), *own.draws())
  parity(f'{name} wave, end to end', wave, z['out/wave'], 2e-3)
  mel = turned(z['in/batch/mel'])
  f0 = own.apply(mel, method='f0')
  parity(f'{name} batch/f0', f0, z['out/batch/f0'], 1e-2)
  source = own.apply(f0, *own.draws('batch/'), method='source')
  parity(
    f'{name} batch/source', source[:, None], z['out/batch/source'], _SOURCE
  )
  wave = own.apply(mel, *own.draws('batch/'))
  parity(f'{name} batch/wave', wave, z['out/batch/wave'], 2e-3)


@each
def test_vocoder_with_a_cached_source(path, parity):
  own = network(path)
  z, name = own.golden, own.golden.name
  source = own.apply(z['out/f0'], *own.draws(), method='source')
  cached = z['in/cache_source'][:, 0]
  source = np.asarray(source).copy()
  source[:, : cached.shape[1]] = cached
  parity(
    f'{name} cached/source', source[:, None], z['out/cached/source'], _SOURCE
  )
  wave = own.apply(turned(z['in/mel']), source, method='wave')
  parity(f'{name} cached/wave', wave, z['out/cached/wave'], 1e-4)


@each
def test_vocoder_inverse_transform(path, parity):
  own = network(path)
  z, c = own.golden, own.config
  magnitude = np.minimum(turned(z['in/istft/magnitude']), 100.0)
  got = jax.jit(stft.inverse_stft, static_argnums=2)(
    magnitude, turned(z['in/istft/phase']), c.istft_hop
  )
  parity(f'{z.name} istft/wave', got, z['out/istft/wave'], 1e-4)


@each
def test_vocoder_phases_can_be_cut_anywhere(path, parity):
  own = network(path)
  z, c = own.golden, own.config
  f0, (phase, noise) = z['out/f0'], own.draws()
  cut = f0.shape[1] // 3
  begin = harmonic_source.advance_phases(
    harmonic_source.phase_steps(f0[:, :cut], c.sample_rate, c.harmonics),
    c.hop,
    np.zeros(phase.shape, np.uint32),
  )
  rest = own.model.apply(
    own.variables,
    f0[:, cut:],
    phase,
    noise[:, cut * c.hop :],
    begin,
    method='source',
  )
  whole = own.apply(f0, phase, noise, method='source')
  want = whole[:, cut * c.hop :]
  parity(f'{z.name} source, from frame {cut} on', rest, want, 1e-6)


@each
def test_vocoder_names_round_trip(path, parity):
  own = network(path)
  z, state = own.golden, own.golden.state()
  spelling = hift_interop.spelling_of(state)
  back = hift_interop.state(own.variables['params'], own.config, spelling)
  assert {k: v.shape for k, v in back.items()} == {
    k: v.shape for k, v in state.items()
  }
  # Norm and direction come back as one kernel; what it is has to be the same.
  again = hift_interop.params(back, own.config)
  apart = jax.tree.map(
    lambda a, b: np.abs(a - b).max(), again, own.variables['params']
  )
  parity(f'{z.name} weights back', max(jax.tree.leaves(apart)), 0.0, 1e-6)
