"""Two documents that no row parts."""

import numpy as np

from step_audio_jax import documents
from step_audio_jax import pairs


def document(*tokens):
  ids = np.array(tokens, np.int32)
  return documents.Document('p', ids, (ids > 5).astype(np.float32), cut=1)


def test_a_pair_has_both_and_is_never_cut():
  joined = pairs.join(
    document(1, 2, 7), document(1, 2, 8, 9), margin=0.5, category='chat'
  )
  assert joined.tokens.tolist() == [1, 2, 7, 1, 2, 8, 9]
  assert joined.loss_weights.tolist() == [0, 0, 1, 0, 0, 1, 1]
  assert (joined.id, joined.border) == ('p', 3)
  assert (joined.margin, joined.category) == (0.5, 'chat')
  assert not joined.fills and joined.split(4) is None
  assert joined.sizes == (3, 4)


def test_one_side_may_be_missing():
  one = document(1, 2, 7)
  wanted, unwanted = pairs.join(one, None), pairs.join(None, one)
  assert (wanted.sizes, unwanted.sizes) == ((3, 0), (0, 3))
  for alone in (wanted, unwanted):
    assert alone.tokens.tolist() == [1, 2, 7] and alone.id == 'p'
    assert alone.loss_weights.tolist() == [0, 0, 1]
