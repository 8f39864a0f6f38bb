"""Tables of one vocabulary as those of another, by what ids mean."""

from flax import linen as nn
import jax
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.storage import bindings
from step_audio_jax.storage import lazy
from step_audio_jax.training.transfer import remap
from step_audio_jax.training.transfer import transfer

ONE = bindings.tokenizer('runs/one', '1' * 64)
TWO = bindings.tokenizer('runs/two', '2' * 64)
CONTROL = [('<unk>', 'control'), ('<s>', 'control')]


def side(pieces, linguistic=3, semantic=4, *, padding=0, tokenizer=ONE, **more):
  """A vocabulary of letters behind two control pieces."""
  table = [*CONTROL, *((piece, 'normal') for piece in pieces)]
  sizes = {
    'text_size': len(table) + more.pop('unnamed', 0),
    'linguistic_size': linguistic,
    'semantic_size': semantic,
    'pieces_sha256': 'of ' + ''.join(pieces),
    **more,
  }
  sizes['table_size'] = padding + sum(
    sizes[name] for name in ('text_size', 'linguistic_size', 'semantic_size')
  )
  return remap.VocabularySide('runs/old', sizes, table, tokenizer)


def table_of(old, width=3):
  rows = old.rows
  return np.random.default_rng(0).normal(size=(rows, width)).astype(np.float32)


def boxed(rows, width=3):
  shape = jax.ShapeDtypeStruct((rows, width), np.float32)
  return {
    'params': {'head': nn.LogicallyPartitioned(shape, ('vocab', 'embed'))}
  }


def moved(old, new, policy=remap.MATCH, table=None):
  """(old table, new table, map) by way of `transfer`."""
  table = table_of(old) if table is None else table
  rows = remap.rows_between(old, new, policy)
  source = ('runs/old', {'params': {'head': table}}, rows)
  out, fresh = transfer.transfer(boxed(new.rows), [source], None)
  assert not fresh
  return table, np.asarray(out['params']['head']), rows


def test_one_vocabulary_keeps_its_table_to_the_bit():
  old = side('abc', padding=5)
  before, after, rows = moved(old, side('abc', padding=5))
  assert rows.is_identity()
  np.testing.assert_array_equal(after, before)


def test_a_speech_block_behind_a_text_backbone_grows_as_it_always_did():
  old = side('abc', 0, 0, tokenizer=None)
  before, after, rows = moved(old, side('abc', padding=2))
  seed = transfer.table_seed('params/head', 0)
  np.testing.assert_array_equal(
    after, transfer.grow(before, len(after), 0, seed)
  )
  assert rows.told['speech_drawn'] == 7 and rows.told['text_taken'] == 5


def test_padding_behind_text_never_becomes_speech():
  old = side('abc', 0, 0, padding=6, tokenizer=None)
  table = table_of(old)
  table[5:] = 1e6  # rows that nothing ever emitted
  before, after, _ = moved(old, side('abc', padding=1), table=table)
  np.testing.assert_array_equal(after[:5], before[:5])
  assert np.abs(after[5:12]).max() < 100


@pytest.mark.parametrize('letters', ['abcde', 'ab', 'cab', 'xyz', 'cxa'])
def test_text_goes_by_piece_and_speech_by_code(letters):
  old, new = side('abc'), side(letters)
  before, after, rows = moved(old, new)
  np.testing.assert_array_equal(after[:2], before[:2])  # control, by name
  for place, letter in enumerate(letters, 2):
    known = 'abc'.find(letter)
    if known >= 0:
      np.testing.assert_array_equal(after[place], before[known + 2])
    else:
      assert not (after[place] == before).all(1).any()
  np.testing.assert_array_equal(after[new.speech : new.end], before[5:12])
  assert rows.told == {
    'text_taken': 2 + len(set(letters) & set('abc')),
    'text_drawn': len(set(letters) - set('abc')),
    'text_left_out': len(set('abc') - set(letters)),
    'speech_taken': 7,
    'speech_drawn': 0,
  }


def test_kinds_are_kept_apart():
  old = side('ab')
  new = remap.VocabularySide('new', old.sizes | {'pieces_sha256': 'x'}, [
    *CONTROL, ('b', 'special'), ('a', 'normal'),
  ], ONE)  # fmt: skip
  index = remap.rows_between(old, new).index
  assert index[:4].tolist() == [0, 1, -1, 2]


def test_semantic_codes_move_with_their_block():
  old, new = side('ab', 2, 4), side('ab', 3, 5)
  before, after, rows = moved(old, new)
  np.testing.assert_array_equal(after[4:6], before[4:6])
  np.testing.assert_array_equal(after[7:11], before[6:10])
  assert rows.index[6] == rows.index[11] == -1


def test_ids_without_a_piece_are_drawn():
  rows = remap.rows_between(side('ab'), side('abc', unnamed=2))
  assert rows.index[:7].tolist() == [0, 1, 2, 3, -1, -1, -1]
  assert rows.index[7:].tolist() == list(range(4, 11))


def test_codes_of_another_tokenizer_need_a_word():
  old, new = side('ab'), side('ab', tokenizer=TWO)
  with pytest.raises(errors.UserError) as refusal:
    remap.rows_between(old, new)
  for word in (
    'runs/one (111',
    'runs/two (222',
    'SPEECH_ROWS',
    "'fresh'",
    "'keep'",
  ):
    assert word in str(refusal.value)
  before, after, _ = moved(old, new, remap.KEEP)
  np.testing.assert_array_equal(after, before)
  before, after, rows = moved(old, new, remap.FRESH)
  np.testing.assert_array_equal(after[:4], before[:4])
  assert not (after[4:, None] == before[None]).all(2).any()
  assert np.isfinite(after).all() and rows.told['speech_drawn'] == 7
  with pytest.raises(errors.UserError, match="'new'.*match, keep, fresh"):
    remap.rows_between(old, new, 'new')


def test_unknown_pieces_pass_by_size_and_are_refused_where_sizes_differ():
  def unknown(letters):
    found = side(letters)
    sizes = {k: v for k, v in found.sizes.items() if k != 'pieces_sha256'}
    return remap.VocabularySide('runs/older', sizes, None, None)

  assert remap.rows_between(unknown('ab'), side('xy')).is_identity()
  with pytest.raises(errors.UserError, match=r'runs/older: .* put back'):
    remap.rows_between(unknown('ab'), side('abc'))


def test_slices_of_a_moved_table_are_those_of_the_whole(monkeypatch):
  monkeypatch.setattr(transfer, '_ROWS', 3)
  rng = np.random.default_rng(1)
  table = rng.normal(size=(11, 4)).astype(np.float32)
  index = np.array([7, -1, 0, 10, -1, -1, 3, 3, 1, -1])

  class Stored(lazy.LazyArray):
    shape, dtype = table.shape, table.dtype

    def read(self, spans):
      return table[lazy.slices(spans)].copy()

  whole = np.asarray(transfer.MappedTable(Stored(), index, 0, 5, known=9))
  np.testing.assert_array_equal(whole[index >= 0], table[index[index >= 0]])
  drawn = np.asarray(transfer.DrawnRows(table[:9], 4, 0, 5))
  np.testing.assert_array_equal(whole[index < 0], drawn)
  for start, stop in [(0, 4), (4, 6), (5, 10), (3, 3)]:
    part = transfer.MappedTable(Stored(), index, 0, 5, known=9)[start:stop, 1:3]
    np.testing.assert_array_equal(part, whole[start:stop, 1:3])
  turned = transfer.MappedTable(
    np.ascontiguousarray(table.T), index, 1, 5, known=9
  )
  np.testing.assert_array_equal(turned[:, 2:8], whole[2:8].T)


def test_a_row_behind_all_ids_stays_behind():
  old, new = side('ab'), side('ba', 4)
  table = np.concatenate([table_of(old), [[7.0] * 3]]).astype(np.float32)
  rows = remap.rows_between(old, new)
  source = ('flow', {'params': {'head': table}}, rows)
  out, _ = transfer.transfer(boxed(new.rows + 1), [source], None)
  after = np.asarray(out['params']['head'])
  np.testing.assert_array_equal(after[-1], table[-1])
  np.testing.assert_array_equal(after[2:4], table[[3, 2]])


def test_a_table_that_is_not_the_described_one_is_refused():
  with pytest.raises(errors.UserError, match='has 13 rows .*expected 11'):
    moved(side('ab'), side('ba'), table=table_of(side('ab', padding=2)))
