"""Every promise of a row, against checks that are plain to see."""

import collections
import re
import tracemalloc

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from data_pipelines.rows import checks
from data_pipelines.rows import folders
from data_pipelines.rows import packing
from data_pipelines.rows import verify
from step_audio_jax import vocabulary

TABLE = vocabulary.Vocabulary(100, 130, 8, 16)  # 6 ids that nothing emits
TEXT, LINGUISTIC, SEMANTIC = 70, 100, 108
PATCH = vocabulary.CONTROL['<im_patch>']
GROUP = [LINGUISTIC, LINGUISTIC, SEMANTIC, SEMANTIC, SEMANTIC]


def row(tokens, segments=None, **more):
  tokens = np.array(tokens, np.int32)
  segments = np.ones(len(tokens)) if segments is None else segments
  return {
    'tokens': tokens,
    'segment_ids': np.array(segments, np.int32),
    'loss_weights': np.zeros(len(tokens), np.float32),
  } | more


def check(value, documents=None, length=None, **settings):
  segments = value.get('segment_ids', np.zeros(1))
  count = int(segments.max(initial=0)) if documents is None else documents
  found = checks.faults(
    value,
    [f'd{k}' for k in range(count)],
    TABLE,
    length or len(value['tokens']),
    TABLE.table_size,
    **settings,
  )
  return list(found)


def good():
  """Speech, an image and text in two segments, then padding."""
  tokens = [1, *GROUP, *GROUP, 3, 1, 14, PATCH, PATCH, 15, TEXT, 3, 0, 0]
  segments = [1] * 12 + [2] * 7 + [0] * 2
  weights = np.array([0] + [1] * 18 + [0, 0], np.float32)
  return row(
    tokens,
    segments,
    loss_weights=weights,
    images=np.zeros((1, 2, 2, 3), np.uint8),
    image_slots=np.array([14], np.int32),
  )


def test_a_good_row_has_no_fault():
  value = good()
  assert check(value) == []
  again = np.r_[np.arange(12), np.arange(7), 0, 1]
  assert check(value | {'positions': again}) == []


def changed(name, place, new):
  value = good()
  value[name] = value[name].copy()
  value[name][place] = new
  return value


@pytest.mark.parametrize(
  'value, field, said',
  [
    (changed('tokens', 3, 130), 'tokens', 'id 130 at 3, expected 0..129'),
    (changed('tokens', 17, -1), 'tokens', 'id -1 at 17, expected 0..129'),
    (changed('tokens', 20, 5), 'tokens', 'padding holds 5 at 20'),
    (changed('loss_weights', 19, 1), 'loss_weights', 'padding holds 1.0 at 19'),
    (changed('loss_weights', 4, -1), 'loss_weights', '-1.0 at 4, expected'),
    (
      changed('loss_weights', 4, np.nan),
      'loss_weights',
      'nan at 4, expected',
    ),
    (changed('loss_weights', 4, np.inf), 'loss_weights', 'inf at 4, expected'),
    (changed('segment_ids', 0, 2), 'segment_ids', '2 at 0 behind 0'),
    (changed('segment_ids', 12, 3), 'segment_ids', '3 at 12 behind 1'),
    (changed('segment_ids', 5, 0), 'segment_ids', '1 at 6 behind 0'),
    (changed('segment_ids', 20, 3), 'segment_ids', '3 at 20 behind 0'),
    (changed('segment_ids', 0, -1), 'segment_ids', '-1 at 0 behind 0'),
    (changed('image_slots', 0, 15), 'image_slots', '15 is not the first'),
    (changed('image_slots', 0, 13), 'image_slots', '13 is not at an'),
    (changed('image_slots', 0, 21), 'image_slots', '21 is not at an'),
    (
      good() | {'image_slots': np.zeros(0, np.int32)},
      'image_slots',
      '0 of them, expected 1',
    ),
    (
      good() | {'positions': np.arange(21)},
      'positions',
      '12 at 12, expected 0',
    ),
    (
      good() | {'tokens': good()['tokens'].astype(np.float32)},
      'tokens',
      'found float32, expected whole numbers',
    ),
    (
      good() | {'loss_weights': np.ones(21, np.int32)},
      'loss_weights',
      'found int32, expected weights',
    ),
    (
      good() | {'segment_ids': np.ones(20, np.int32)},
      'segment_ids',
      '20 values, expected 21',
    ),
    (
      {k: v for k, v in good().items() if k != 'loss_weights'},
      'loss_weights',
      'missing',
    ),
  ],
)
def test_one_wrong_thing_is_one_fault_with_its_place(value, field, said):
  found = check(value, documents=2)
  assert [name for name, _ in found][:1] == [field], found
  assert said in found[0][1]


def test_each_segment_has_its_document():
  ((field, said),) = check(good(), documents=3)
  assert field == 'segment_ids' and '2 segments, expected 3' in said


def test_speech_does_not_cross_the_border_of_a_segment():
  tokens = [*GROUP[:2], *GROUP[2:], *GROUP]
  assert check(row(tokens, [1] * 5 + [2] * 5)) == []
  ((field, said),) = check(row(tokens, [1] * 2 + [2] * 8))
  assert field == 'tokens' and said.startswith('from 0 on: ')


@pytest.mark.parametrize(
  'ids, right',
  [
    ([LINGUISTIC] * 4, True),
    ([LINGUISTIC] * 3, False),
    ([LINGUISTIC, SEMANTIC], False),
  ],
)
def test_the_linguistic_stream_may_stand_alone_where_it_is_said(ids, right):
  assert (check(row(ids), linguistic_alone=True) == []) == right
  assert check(row(ids))


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(st.data())
def test_the_grammar_is_that_of_a_regular_expression(data):
  piece = st.sampled_from([GROUP, GROUP, [TEXT], [LINGUISTIC], [SEMANTIC]])
  pieces = data.draw(st.lists(piece, min_size=1, max_size=8))
  tokens = [token for piece in pieces for token in piece]
  borders = data.draw(st.lists(st.booleans(), min_size=len(tokens)))
  segments = 1 + np.cumsum(borders[1 : len(tokens)])
  segments = np.r_[1, segments].astype(np.int32)
  said, before = '', 1
  for token, segment in zip(tokens, segments):
    said += ('|' if segment != before else '') + {
      TEXT: '.', LINGUISTIC: 'L', SEMANTIC: 'S'
    }[token]  # fmt: skip
    before = segment
  right = all(re.fullmatch('(LLSSS)*', run) for run in re.split(r'[.|]', said))
  assert (check(row(tokens, segments)) == []) == right


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(st.lists(st.integers(-1, 4), min_size=1, max_size=9))
def test_segments_are_those_that_counting_makes(segments):
  real = [s for s in segments if s]
  pads = len(segments) - len(real)
  runs = [s for k, s in enumerate(real) if k == 0 or real[k - 1] != s]
  right = (
    segments == real + [0] * pads
    and runs == list(range(1, len(runs) + 1))
    and bool(runs)
  )
  tokens = [TEXT * (s != 0) for s in segments]
  found = check(row(tokens, segments), documents=max(0, max(segments)))
  assert (found == []) == right


def packed(count):
  rng = np.random.default_rng(count)
  for k in range(count):
    tokens = rng.integers(68, 100, 512).astype(np.int32)
    yield packing.Row(
      tokens, np.ones(512, np.int32), np.ones(512, np.float32), None,
      np.zeros(0, np.int32), (f'd{k}',),
    )  # fmt: skip


def test_verifying_takes_the_same_memory_whatever_the_size(tmp_path):
  peaks = []
  for count in (200, 1600):
    folders.write(
      tmp_path / str(count), packed(count), table=TABLE, length=512,
      about={'task': 't'}, quarantine=[], image_shape=(),
    )  # fmt: skip
    folder = folders.open_folder(tmp_path / str(count))
    checked = collections.Counter()
    tracemalloc.start()
    assert list(verify.faults(folder, checked=checked)) == []
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert set(checked) == set(verify.CHECKS) and checked['ids'] == count
  # The larger folder has 8.6 MB more in it.
  assert peaks[1] < peaks[0] + 500_000


def paired(**more):
  """Two pairs in four segments, the better answer second in the second."""
  tokens = [1, TEXT, 3] * 4 + [0]
  segments = [k for k in range(1, 5) for _ in range(3)] + [0]
  weights = np.array([0, 1, 1] * 4 + [0], np.float32)
  value = row(
    tokens,
    segments,
    loss_weights=weights,
    pairs=np.array([[1, 2], [4, 3]], np.int32),
    margins=np.array([0, 0.5], np.float32),
    categories=np.array([-1, 1], np.int32),
  )
  return value | more


def test_pairs_are_segments_that_are_learnt():
  assert not check(paired(), categories=2)
  alone = np.array([[1, 0], [0, 3]], np.int32)
  assert not check(paired(pairs=alone), categories=2)
  unlearnt = paired()['loss_weights'].copy()
  unlearnt[3:6] = 0
  for more, field, message in (
    ({'pairs': np.array([[1, 2], [3, 5]])}, 'pairs', 'segment 5, expected one'),
    ({'pairs': np.array([[1, 2], [0, 0]])}, 'pairs', '[0, 0] at 1, expected a'),
    (
      {'pairs': np.array([[1, 0], [0, 1]])},
      'pairs',
      'expected each segment on',
    ),
    ({'pairs': np.array([[1, 0], [0, 9]])}, 'pairs', 'segment 9, expected one'),
    ({'loss_weights': unlearnt}, 'pairs', 'segment 2, expected one that is le'),
    (
      {'pairs': np.array([[1, 2], [2, 3]])},
      'pairs',
      'expected each segment on',
    ),
    (
      {'pairs': np.array([1, 2, 3, 4])},
      'pairs',
      'expected whole numbers (K, 2)',
    ),
    ({'pairs': np.ones((2, 2))}, 'pairs', 'expected whole numbers (K, 2)'),
    ({'margins': None}, 'margins', 'none, expected 2, one a pair'),
    ({'margins': np.zeros(3)}, 'margins', '3, expected 2, one a pair'),
    (
      {'margins': np.array([0, np.nan])},
      'margins',
      'nan of pair 1, expected 0',
    ),
    ({'margins': np.array([-1.0, 0])}, 'margins', '-1.0 of pair 0, expected 0'),
    (
      {'margins': np.array([np.inf, 0])},
      'margins',
      'inf of pair 0, expected 0',
    ),
    (
      {'categories': np.array([2, 0])},
      'categories',
      '2 of pair 0, expected -1',
    ),
    ({'categories': np.array([0, -2])}, 'categories', '-2 of pair 1, expected'),
  ):
    ((found, what),) = check(paired(**more), categories=2)
    assert found == field and message in what
