"""The decoder's files as PyTorch writes and reads them, and CAM++ in FunASR."""

import collections
import importlib.util

import jax
import numpy as np
import pytest

from step_audio_jax.interop.decoder import campplus as campplus_interop
from step_audio_jax.interop.decoder import campplus_onnx
from step_audio_jax.interop.formats import pickles
from step_audio_jax.interop.formats import torch_archive
from step_audio_jax.models.speaker import campplus
from tests.parity import speech_peers

torch = pytest.importorskip('torch', reason='torch is missing (make parity)')

ARRAYS = {
  'a.weight': np.arange(24, dtype=np.float32).reshape(2, 3, 4),
  'scalar': np.array(2.5, np.float32),
  'none.bias': np.zeros((0, 4), np.float32),
  'é.turned': np.arange(12, dtype=np.float32).reshape(3, 4).T,
}


@pytest.mark.parametrize('mapped', [False, True])
def test_torch_reads_what_we_write(tmp_path, parity, mapped):
  path = tmp_path / 'flow.pt'
  torch_archive.write(path, ARRAYS)
  found = torch.load(path, weights_only=True, mmap=mapped)
  assert type(found) is collections.OrderedDict
  assert list(found) == list(ARRAYS)
  for name, value in ARRAYS.items():
    assert found[name].dtype == torch.float32 and not found[name].requires_grad
    parity(f'flow.pt, torch reads {name}', found[name].numpy(), value, 0)


def test_we_read_what_torch_writes(tmp_path, parity):
  path = tmp_path / 'flow.pt'
  tensors = {n: torch.from_numpy(v.copy()) for n, v in ARRAYS.items()}
  tensors['turned'] = tensors['a.weight'].permute(2, 0, 1)[1:]
  torch.save(collections.OrderedDict(tensors), path)
  found = pickles.Checkpoint(path)
  for name, value in tensors.items():
    parity(f'flow.pt, we read {name}', found[name], value.numpy(), 0)


@pytest.mark.skipif(
  not (speech_peers.installed() and importlib.util.find_spec('onnx')),
  reason='funasr or onnx is not installed (make parity)',
)
def test_speaker_network_at_full_size(tmp_path, parity):
  config = campplus.CampplusConfig()
  state = speech_peers.weights(campplus_interop.shapes(config), 4)
  for name, value in state.items():
    if name.endswith('running_var'):
      value[:] = 1 + 5 * np.abs(value)
  peer = speech_peers.Speaker(state, config)
  rng = np.random.default_rng(5)
  x = rng.standard_normal((2, 317, config.bands), np.float32)
  want = peer(x)
  scale = want.std()
  run = jax.jit(campplus.Campplus(config).apply)
  name = 'FunASR, 6.9M: vectors / their deviation'
  got = run(campplus_interop.params(state), x)
  parity(name, got / scale, want / scale, 2e-4)
  path = tmp_path / 'campplus.onnx'
  peer.export(str(path), x[:1])
  found, tree = campplus_onnx.read(path)
  assert found == config
  got = run(tree, x)
  parity(f'{name}, from its ONNX', got / scale, want / scale, 2e-4)
