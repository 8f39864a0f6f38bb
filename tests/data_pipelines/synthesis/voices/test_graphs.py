"""ONNX graphs whose noise became an input."""

import numpy as np
import pytest

from data_pipelines.synthesis.voices import graphs
from data_pipelines.synthesis.voices import runtime
from step_audio_jax import errors
from step_audio_jax.interop.formats import onnx
from tests.data_pipelines.synthesis.voices import tiny


@pytest.fixture
def path(tmp_path):
  return tiny.write(tmp_path)


def test_noise_nodes_become_inputs_and_the_rest_stays(path, tmp_path):
  graph = graphs.read(path)
  assert graph.inputs == tiny.INPUTS
  assert graph.noises == ('noise_0', 'noise_1')
  assert (graph.lengths, graph.rows) == ('frames', 256)
  changed = tmp_path / 'changed.onnx'
  changed.write_bytes(graph.raw)
  before, weights = onnx.read(path)
  after, constants = onnx.read(changed)
  assert 'RandomNormalLike' not in [n.kind for n in after]
  added = {n.name for n in after if n.name.startswith('noise_')}
  kept = [n for n in after if n.name not in added | {'a', 'b'}]
  assert kept == [n for n in before if n.kind != 'RandomNormalLike']
  np.testing.assert_array_equal(
    constants.pop('emb.weight'), weights['emb.weight']
  )
  assert {k: v.tolist() for k, v in constants.items()} == {
    'noise_start': [0], 'noise_vector': [1],
  }  # fmt: skip
  again = graphs.read(changed)
  assert again.inputs == (*tiny.INPUTS, 'noise_0', 'noise_1')
  assert not again.noises


def test_the_exporters_words_are_read(tmp_path):
  model = tiny.onnx(metadata=[('sample_rate', '16000'), ('language', 'x')])
  graph = graphs.read(tiny.write(tmp_path, model=model))
  assert graph.metadata == {'sample_rate': '16000', 'language': 'x'}


@pytest.mark.parametrize('raw', [b'', b'text, no model', b'\x00' * 9])
def test_other_files_are_refused(tmp_path, raw):
  (tmp_path / 'm.onnx').write_bytes(raw)
  with pytest.raises(errors.UserError, match=r'm\.onnx: not a whole ONNX'):
    graphs.read(tmp_path / 'm.onnx')


def test_a_cut_file_is_refused(path):
  whole = path.read_bytes()
  for share in (0.3, 0.6, 0.9):
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(errors.UserError, match='not a whole ONNX file'):
      graphs.read(path)


def test_onnxruntime_runs_what_was_changed(path):
  pytest.importorskip('onnxruntime')
  session = runtime.open_session(str(path), 'a')
  feed = {
    'input': np.array([1]),
    'input_lengths': np.array([1]),
    'scales': np.array([0.5, 1, 2], np.float32),
    'noise_0': np.arange(5, dtype=np.float32),
    'noise_1': 10 * np.arange(9, dtype=np.float32),
  }
  sound, frames = session.run(None, feed)
  np.testing.assert_array_equal(sound, [0.5, 12, 24])
  np.testing.assert_array_equal(frames, [1, 1, 2])
