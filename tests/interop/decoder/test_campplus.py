"""CAM++'s names, and its network out of ONNX files of either sort."""

import math
import re

import jax
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.decoder.speaker import encoder as speaker_lib
from step_audio_jax.interop.decoder import campplus as campplus_interop
from step_audio_jax.interop.decoder import campplus_onnx
from step_audio_jax.models.speaker import campplus
from tests.interop.decoder import released_decoder as released
from tests.interop.tokenizer import released_tokenizer

SPEAKER = released.SPEAKER


def test_the_released_network_has_as_many_numbers():
  config = campplus.CampplusConfig()
  shapes = campplus_interop.shapes(config)
  norms = sum(name.endswith('running_var') for name in shapes)
  # A state dict holds a counter for each norm too.
  assert len(shapes) + norms == 937
  assert sum(map(math.prod, shapes.values())) + norms == 6_930_842


def test_arrays_go_there_and_back_to_the_bit():
  state = released.speaker_state()
  assert campplus_interop.config_from(state) == SPEAKER
  tree = campplus_interop.params(state)
  back = campplus_interop.state(tree, SPEAKER)
  assert back.keys() == state.keys()
  for name, value in state.items():
    np.testing.assert_array_equal(back[name], value)
  wanted = jax.tree.map(lambda x: x.shape, speaker_lib.shapes(SPEAKER))
  assert jax.tree.map(lambda x: x.shape, tree) == wanted


def test_a_missing_array_is_named():
  state = released.speaker_state()
  name = 'xvector.block1.tdnnd2.cam_layer.linear2.bias'
  del state[name]
  with pytest.raises(errors.UserError, match=re.escape(f'found no {name!r}')):
    campplus_interop.params(state)
  with pytest.raises(errors.UserError, match="found no 'xvector.transit0'"):
    campplus_interop.config_from(
      {k: v for k, v in state.items() if 'transit' not in k}
    )


@pytest.fixture(scope='module')
def vector():
  """Variables → the vector of one utterance."""
  x = np.random.default_rng(0).normal(size=(1, 41, 16)).astype(np.float32)
  run = jax.jit(campplus.Campplus(SPEAKER).apply)
  return lambda tree: run(tree, x)


def saved(folder, state, config=SPEAKER, **how):
  path = folder / 'campplus.onnx'
  released.save_graph(path, *released.campplus_parts(state, config, **how))
  return path


@pytest.mark.parametrize('folded', [True, False])
def test_onnx_gives_the_network(tmp_path, vector, folded):
  state = released.speaker_state()
  config, tree = campplus_onnx.read(saved(tmp_path, state, folded=folded))
  assert config == SPEAKER
  want = campplus_interop.params(state)
  if not folded:
    jax.tree.map(np.testing.assert_array_equal, tree, want)
  np.testing.assert_allclose(vector(tree), vector(want), rtol=1e-4, atol=1e-4)
  assert np.abs(vector(want)).max() > 0.1


def test_other_shapes_are_read_from_the_file(tmp_path):
  config = campplus.CampplusConfig(
    bands=24,
    embedding=5,
    growth=6,
    bottleneck=3,
    initial=10,
    head_width=3,
    head_blocks=(1, 3),
    layers=(1, 2),
    kernels=(5, 3),
    dilations=(1, 3),
  )
  state = released.speaker_state(config)
  found, _ = campplus_onnx.read(saved(tmp_path, state, config))
  assert found == config
  assert campplus_interop.config_from(state, (1, 3)) == config


def refused(path, match):
  with pytest.raises(errors.UserError, match=match) as caught:
    campplus_onnx.read(path)
  assert str(caught.value).startswith(str(path))
  assert '\n' not in str(caught.value)


LOCAL = 'xvector.block2.tdnnd1.cam_layer.linear_local'


@pytest.mark.parametrize(
  'name, shape, match',
  [
    (
      f'{LOCAL}.weight',
      (5, 8, 3),
      r'linear_local\.weight: found \(5, 8, 3\), expected \(4, 8, 3\)',
    ),
    (
      'xvector.transit2.nonlinear.batchnorm.running_mean',
      (9,),
      r'transit2.*running_mean: found \(9,\), expected \(12,\)',
    ),
    (
      'head.layer2.0.conv1.weight',
      (2, 2, 5, 3),
      r'head\.layer2\.0\.conv1\.weight: found \(2, 2, 5, 3\), expected',
    ),
    (
      'xvector.block1.tdnnd2.cam_layer.linear1.bias',
      (3,),
      r'linear1\.bias: found \(3,\), expected \(4,\)',
    ),
  ],
)
def test_the_wrong_array_is_named(tmp_path, name, shape, match):
  state = released.speaker_state()
  state[name] = np.ones(shape, np.float32)
  refused(saved(tmp_path, state), match)


def changed(tmp_path, change):
  """A file whose list of nodes and weights `change` has changed."""
  nodes, weights = released.campplus_parts(released.speaker_state())
  change(nodes)
  path = tmp_path / 'campplus.onnx'
  released.save_graph(path, nodes, weights)
  return path


def index(nodes, name):
  return next(i for i, n in enumerate(nodes) if f'{name}_out'.encode() in n)


def test_a_graph_in_another_order_is_refused(tmp_path):
  norm = 'xvector.block1.tdnnd2.nonlinear1.batchnorm'
  refused(
    changed(tmp_path, lambda nodes: nodes.pop(index(nodes, norm))),
    'found a convolution .*tdnnd2.linear1, expected a batch norm, .*nonlinear1',
  )
  refused(
    changed(tmp_path, lambda nodes: nodes.append(nodes[index(nodes, norm)])),
    'found a batch norm .* behind the last layer',
  )
  refused(
    changed(tmp_path, lambda nodes: nodes.pop(index(nodes, 'head.conv2'))),
    'not the network CAM.*head_blocks is',
  )
  refused(
    changed(
      tmp_path,
      lambda nodes: nodes.pop(index(nodes, 'head.layer1.0.shortcut.0')),
    ),
    'convolutions in another order than those of CAM',
  )
  refused(
    changed(tmp_path, lambda nodes: nodes.clear()),
    'found 0 two-dimensional and 0 one-dimensional convolutions',
  )


def test_strides_and_dilations_are_checked(tmp_path):
  def strided(nodes):
    place = index(nodes, 'xvector.tdnn.linear')
    nodes[place] = nodes[place].replace(
      released._attribute('strides', (2,)), released._attribute('strides', (3,))
    )

  refused(
    changed(tmp_path, strided),
    r'tdnn\.linear: strides: found \(3,\), expected \(2,\)',
  )

  def dilated(nodes):
    place = index(nodes, 'xvector.block1.tdnnd2.cam_layer.linear_local')
    nodes[place] = nodes[place].replace(
      released._attribute('dilations', (1,)),
      released._attribute('dilations', (4,)),
    )

  refused(
    changed(tmp_path, dilated),
    r'linear_local: dilations: found \(4,\), expected \(1,\)',
  )


def test_weights_that_are_computed_are_refused(tmp_path):
  def orphaned(nodes):
    nodes[0] = released_tokenizer.node('head.conv1', 'Conv', ['x', 'nowhere'])

  refused(
    changed(tmp_path, orphaned), 'head.conv1: its weights are no constant'
  )


def test_a_last_norm_with_scale_is_refused(tmp_path):
  class Scaled(dict):
    def get(self, name, default=None):
      value = super().get(name, default)
      last = name == 'xvector.dense.nonlinear.batchnorm.weight'
      return value * 2 if last else value

  state = Scaled(released.speaker_state())
  refused(
    saved(tmp_path, state, folded=False),
    r'dense.*\.weight: found numbers other than 1, expected a norm without',
  )


def test_a_fold_that_cannot_be_is_refused(tmp_path):
  """A bias where the original has none and no norm follows alone."""
  state = released.speaker_state()
  state[f'{LOCAL}.bias'] = np.ones(4, np.float32)
  refused(
    saved(tmp_path, state),
    r'linear_local\.bias: found \(4,\), expected nothing',
  )
