"""The shipped recipes of the vocoder build what they say."""

from flax import linen as nn
import jax
import numpy as np
import pytest

from step_audio_jax.commands import gin_files
from step_audio_jax.training import run
from tests.decoder.vocoder import tiny_vocoder


@pytest.fixture(autouse=True)
def no_leftovers():
  yield
  gin_files.parse([], [])


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  return tiny_vocoder.make_corpus(
    tmp_path_factory.mktemp('corpus'), [('u', 150.0, 0.6, 16000)]
  )


def parts_of(files, corpus, **macros):
  macros |= {'RUN_DIR': 'unused', 'MANIFEST': str(corpus)}
  bindings = [f'{name} = {value!r}' for name, value in macros.items()]
  gin_files.parse(files, bindings, function=run.train)
  return gin_files.arguments(files, run.train)


def shapes_of(parts):
  example = parts['feed'].batch(0, 0, 1)
  init = parts['objective'].init
  boxed = jax.eval_shape(lambda: init(jax.random.key(0), example))
  return nn.unbox(boxed)['params'], example


def size(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
  'model, hop, millions', [('hift', 256, 20.44), ('hift_24k', 480, 20.80)]
)
def test_the_released_sizes(corpus, model, hop, millions):
  files = [f'gin/models/{model}.gin', 'gin/decoder/hift.gin']
  parts = parts_of(
    files, corpus, STEPS=10, BATCH_SIZE=2, LEARNING_RATE=2e-4, FRAMES=24
  )
  shapes, example = shapes_of(parts)
  assert size(shapes['generator']) == pytest.approx(millions * 1e6, rel=1e-3)
  assert example['wave'].shape == (1, 24 * hop)
  assert {m.high_hz for m in parts['objective'].mels} == {None}
  assert parts['objective'].mel.high_hz == 8000
  # Two chains, each over its own part, with the same numbers.
  state = jax.eval_shape(parts['optimizer'].build(shapes, 10).init, shapes)
  moments = {
    name: size(part.inner_state[1].mu)
    for name, part in state.inner_states.items()
  }
  assert moments == {name: size(tree) for name, tree in shapes.items()}
  configs = [config for _, config in parts['optimizer'].groups.values()]
  assert configs[0] == configs[1] and configs[0].beta1 == 0.8


def test_the_quick_start_has_a_small_vocoder(corpus):
  parts = parts_of(['gin/quickstart/vocoder.gin'], corpus)
  shapes, example = shapes_of(parts)
  assert 0.1e6 < size(shapes) < 1e6
  parts['optimizer'].build(shapes, 10)
  assert np.isfinite(example['wave']).all() and example['weights'].all()
