"""Every campplus fixture of $GOLDEN_DIR: the network, stage by stage.

What the original gives is without lengths; our batches know them, and each of
their rows must be what the original gives for it alone.
"""

from flax import linen as nn
import jax
import numpy as np
import pytest

from step_audio_jax.decoder.speaker import encoder
from step_audio_jax.interop.decoder import campplus as campplus_interop
from step_audio_jax.models.speaker import campplus
from tests.parity import fixtures

_STAGES = (campplus.ConvFrontEnd, campplus.StridedConv)
_STAGES += campplus.DenseBlock, campplus.TransitLayer
_TOLERANCE = 1e-3


@pytest.mark.parametrize(
  'path', fixtures.paths('campplus'), ids=lambda path: path.stem
)
def test_speaker_network(path, parity):
  z = fixtures.fixture(path)
  config = fixtures.campplus_config(z.config)
  tree = campplus_interop.params(z.state(), config)
  model = campplus.Campplus(config)

  def check(key, got, want, tolerance=_TOLERANCE):
    parity(f'{z.name} {key}', got, want, tolerance)

  @jax.jit
  def stages(tree, x):
    return model.apply(
      tree,
      x,
      capture_intermediates=lambda module, _: isinstance(module, _STAGES),
      mutable=['intermediates'],
    )

  feat = z['out/feat']
  vector, kept = stages(tree, feat[None])
  kept = kept['intermediates']
  named = [k[4:] for k in z.keys if k.startswith('out/')]
  for key in named:
    if key in kept and '/' not in key:
      got = kept[key]['__call__'][0].swapaxes(1, 2)
      check(key, got, z[f'out/{key}'])
  assert {'head', 'tdnn'} <= kept.keys() & set(named)
  check('stats', kept['statistics'][0], z['out/stats'])
  check('embedding', vector, z['out/embedding'])
  # Rows of several lengths in one batch, with garbage behind their ends: the
  # file's features, ours of its waveform, and the short ones.
  assert fixtures.speaker_front_end(z.config) == encoder.front_end(config.bands)
  wave = z['in/wav'][None]
  heard, count = encoder.features(
    wave, np.array([wave.shape[1]], np.int32), config.bands
  )
  own = [feat, np.asarray(heard)[0, : int(count[0])], *z['in/batch/feat']]
  lengths = np.array([len(row) for row in own], np.int32)
  rows = np.full((len(own), lengths.max() + 33, feat.shape[1]), 7, np.float32)
  for row, features in zip(rows, own):
    row[: len(features)] = features
  got = jax.jit(model.apply)(tree, rows, lengths)
  check('embedding, in a batch', got[:1], z['out/embedding'])
  check('embedding, from the waveform', got[1:2], z['out/embedding'], 2e-2)
  check('batch/embedding', got[2:], z['out/batch/embedding'])


@pytest.mark.parametrize(
  'path', fixtures.paths('campplus'), ids=lambda path: path.stem
)
def test_names_and_shapes_are_those_of_the_file(path, parity):
  z = fixtures.fixture(path)
  config, state = fixtures.campplus_config(z.config), z.state()
  assert campplus_interop.config_from(state, config.dilations) == config
  found = {name: value.shape for name, value in state.items()}
  assert campplus_interop.shapes(config) == found
  tree = campplus_interop.params(state, config)
  back = campplus_interop.state(tree, config)
  for name, value in state.items():
    np.testing.assert_array_equal(back[name], value)
  # And they are those that the network asks for.
  example = jax.ShapeDtypeStruct((1, 20, config.bands), np.float32)
  asked = nn.unbox(
    jax.eval_shape(campplus.Campplus(config).init, jax.random.key(0), example)
  )
  asked = {kind: asked[kind] for kind in ('params', 'batch_stats')}
  assert jax.tree.map(lambda x: x.shape, asked) == jax.tree.map(
    lambda x: x.shape, tree
  )
  parity(f'{z.name} arrays, there and back', len(back), len(state), 0)
