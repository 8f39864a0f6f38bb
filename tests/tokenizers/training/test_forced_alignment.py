"""Forced alignment against all paths, written out."""

import itertools

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.tokenizers.training import forced_alignment


def log_probs(rng, *shape):
  """Log-probabilities, ragged enough that there are no ties."""
  logits = rng.normal(size=shape) * 2
  return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def collapsed(path):
  """CTC's map from frames to labels."""
  merged = [label for label, _ in itertools.groupby(path)]
  return [label for label in merged if label]


def every_path(scores_TL, labels):
  """The best path by brute force: (score, label of each frame)."""
  T, L = scores_TL.shape
  return max(
    (sum(scores_TL[t, label] for t, label in enumerate(path)), path)
    for path in itertools.product(range(L), repeat=T)
    if collapsed(path) == list(labels)
  )


def spans_of(path):
  """Runs of labels: (first frame, one past the last)."""
  spans, at = [], 0
  for label, run in itertools.groupby(path):
    size = len(list(run))
    if label:
      spans.append([at, at + size])
    at += size
  return spans


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(
  st.lists(
    st.tuples(st.lists(st.integers(1, 2), max_size=3), st.integers(0, 2)),
    min_size=1, max_size=3,
  ),
  st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_the_best_of_all_paths(rows, seed):
  rng = np.random.default_rng(seed)
  labels = [ids for ids, _ in rows]
  frames = [
    max(1, forced_alignment.frames_needed(ids)) + more for ids, more in rows
  ]
  scores = log_probs(rng, len(rows), max(frames), 3)
  for row, count in enumerate(frames):
    scores[row, count:] = np.nan  # padding is never read
  found = forced_alignment.align(scores, frames, labels)
  for row, (spans, score) in enumerate(found):
    want, path = every_path(scores[row, : frames[row]], labels[row])
    assert score == pytest.approx(want)
    assert spans.dtype == np.int32
    assert spans.tolist() == spans_of(path)


def test_equal_neighbours_have_a_blank_between_them():
  # The label is likely everywhere; only the path's own rule parts the two.
  scores = np.log(np.array([[[0.1, 0.9]] * 3]))
  ((spans, _),) = forced_alignment.align(scores, [3], [[1, 1]])
  assert spans.tolist() == [[0, 1], [2, 3]]
  assert forced_alignment.frames_needed([1, 1, 2, 2, 2]) == 8


def test_rows_do_not_see_each_other():
  rng = np.random.default_rng(3)
  labels = [[1, 2, 2], [4], [], [3, 1, 3, 1, 2]]
  frames = [20, 1, 7, 13]
  scores = log_probs(rng, 4, 20, 5)
  together = forced_alignment.align(scores, frames, labels)
  for row, count in enumerate(frames):
    (alone,) = forced_alignment.align(
      scores[row : row + 1, :count], [count], [labels[row]]
    )
    np.testing.assert_array_equal(alone.spans_N2, together[row].spans_N2)
    assert alone.score == together[row].score
  assert together[2].spans_N2.shape == (0, 2)


def test_what_was_drawn_is_found():
  # Long rows, where brute force cannot go: sharp posteriors of known frames.
  rng = np.random.default_rng(5)
  labels, frames, want = [], [], []
  scores = np.full((6, 400, 30), np.log(0.001))
  for row in range(6):
    ids = rng.integers(1, 30, int(rng.integers(20, 60))).tolist()
    at, spans = 0, []
    for label in ids:
      gap, size = int(rng.integers(1, 4)), int(rng.integers(1, 4))
      scores[row, at : at + gap, 0] = np.log(0.9)
      scores[row, at + gap : at + gap + size, label] = np.log(0.9)
      spans.append([at + gap, at + gap + size])
      at += gap + size
    labels.append(ids)
    frames.append(at)
    want.append(spans)
  found = forced_alignment.align(scores, frames, labels)
  assert [spans.tolist() for spans, _ in found] == want


def test_word_times():
  spans = np.array([[2, 3], [4, 6], [6, 7], [10, 12]])
  assert forced_alignment.word_times(spans, [2, 0, 1, 1], 0.06) == [
    (0.12, 0.36), (0.36, 0.36), (0.36, 0.42), (0.6, 0.72)
  ]  # fmt: skip
  assert forced_alignment.word_times(spans[:0], [0, 0], 0.06) == [(0, 0)] * 2
  with pytest.raises(errors.UserError, match='3 labels, expected 4'):
    forced_alignment.word_times(spans, [2, 1], 0.06)


@pytest.mark.parametrize(
  ('frames', 'labels', 'message'),
  [
    ([3], [[1, 1, 2]], r'row 0 has 3 frames, expected 4\.\.6 for its 3'),
    ([7], [[1]], r'row 0 has 7 frames, expected 1\.\.6'),
    ([0], [[]], r'row 0 has 0 frames, expected 1\.\.6'),
    ([6], [[5]], r'row 0 has the label 5, expected 1\.\.4'),
    ([6], [[1, 0]], r'row 0 has the label 0'),
    ([6, 6], [[1]], 'found log-probabilities of shape'),
  ],
)
def test_what_cannot_be_aligned(frames, labels, message):
  scores = log_probs(np.random.default_rng(0), 1, 6, 5)
  with pytest.raises(errors.UserError, match=message):
    forced_alignment.align(scores, frames, labels)


def test_an_impossible_label_is_no_path():
  scores = log_probs(np.random.default_rng(0), 2, 6, 5)
  scores[1, :, 3] = -np.inf
  with pytest.raises(errors.UserError, match='row 1 has no path'):
    forced_alignment.align(scores, [6, 6], [[3], [3]])
