"""Examples and documents cross TensorFlow and come back unchanged."""

import dataclasses

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest
import tensorflow as tf

from data_pipelines.tasks import datasets
from data_pipelines.tasks import sources
from step_audio_jax import documents

SPEC = {
  'id': tf.TensorSpec([], tf.string),
  'tokens': tf.TensorSpec([None], tf.int32),
  'weights': tf.TensorSpec([None], tf.float32),
  'images': tf.TensorSpec([None, 2, 3], tf.uint8),
  'header': tf.TensorSpec([], tf.int32),
}


@pytest.mark.parametrize('count', [0, 1, 256, 257])
def test_ragged_examples_cross_tensorflow_unchanged(count):
  rng = np.random.default_rng(count)
  made = [
    {
      'id': 'x小\n"'[: k % 5] + str(k),
      'tokens': rng.integers(-9, 9, rng.integers(0, 7)).astype(np.int32),
      'weights': rng.random(rng.integers(0, 3)).astype(np.float32),
      'images': rng.integers(0, 255, (k % 3, 2, 3)).astype(np.uint8),
      'header': k,
    }
    for k in range(count)
  ]
  dataset = datasets.dataset_of(lambda: iter(made), SPEC)
  assert dataset.element_spec == SPEC
  for _ in range(2):  # a dataset can be read again
    found = list(datasets.examples_of(dataset))
    assert len(found) == count
    for got, want in zip(found, made):
      assert set(got) == set(want)
      assert got['id'] == want['id'] and got['header'] == want['header']
      for name in ('tokens', 'weights', 'images'):
        assert got[name].dtype == want[name].dtype
        assert got[name].shape == want[name].shape
        np.testing.assert_array_equal(got[name], want[name])


def test_examples_that_vary_in_two_dimensions_cross_too():
  made = [np.arange(6).reshape(2, 3), np.arange(4).reshape(4, 1)]
  dataset = tf.data.Dataset.from_generator(
    lambda: ({'id': f'小{k}', 'x': x} for k, x in enumerate(made)),
    output_signature={
      'id': tf.TensorSpec([], tf.string),
      'x': tf.TensorSpec([None, None], tf.int32),
    },
  )
  found = list(datasets.examples_of(dataset))
  assert [example['id'] for example in found] == ['小0', '小1']
  for example, want in zip(found, made):
    np.testing.assert_array_equal(example['x'], want)


@hypothesis.settings(max_examples=30)
@hypothesis.given(
  st.lists(st.integers(0, 99), min_size=1, max_size=9), st.integers(0, 2),
  st.integers(0, 2), st.integers(0, 5),
)  # fmt: skip
def test_a_document_is_an_example_and_back(tokens, images, header, cut):
  one = documents.Document(
    'd小',
    np.array(tokens, np.int32),
    np.linspace(0, 1, len(tokens)).astype(np.float32),
    np.arange(images, dtype=np.int32),
    np.full((images, 4, 4, 3), 7, np.uint8) if images else None,
    header,
    cut,
  )
  again = sources.to_document(sources.from_document(one, 4))
  for field in dataclasses.fields(one):
    got, want = getattr(again, field.name), getattr(one, field.name)
    assert type(got) is type(want)
    np.testing.assert_array_equal(got, want)


def test_of_an_example_only_the_tokens_are_needed():
  one = sources.to_document({'tokens': [1, 5, 3]}, 'hand-0')
  assert (one.id, one.header, one.cut, one.images) == ('hand-0', 0, 0, None)
  assert one.tokens.dtype == np.int32 and one.loss_weights.tolist() == [1] * 3
  assert one.image_slots.tolist() == []
