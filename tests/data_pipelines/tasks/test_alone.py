"""Answers that stand alone: what is learnt of them, and rows that hold them."""

import numpy as np
import pytest

from data_pipelines.inspection import rows as inspect_rows
from data_pipelines.rows import build
from data_pipelines.rows import folders
from data_pipelines.rows import verify
from data_pipelines.tasks import definitions
from step_audio_jax import errors
from step_audio_jax.alignment.objectives import pairs as pairs_lib
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files
from step_audio_jax.training.feeds import feed
from tests.data_pipelines import tiny
from tests.data_pipelines.tasks import test_corpora
from tests.data_pipelines.tasks import test_preferences

documents_of = test_preferences.documents_of
preference, said = test_preferences.preference, test_preferences.said
clean = test_corpora.clean
LENGTH = 400
NAME = 'tiny_preference_aqta'


def words(k):
  return ' '.join(['a cat'] * (k + 1))


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  """Recordings, and answers of which most stand alone."""
  root = tiny.make(tmp_path_factory.mktemp('alone') / 'corpus', 8)
  spoken = [{'role': 'user', 'speech': 'u3'}]
  lines = [
    preference('long', spoken, None, said('a cat ' * 120)),
    preference('both', spoken, said('a dog'), said('big'), margin=0.5),
    preference('dev', spoken, None, said('a dog'), split='dev'),
  ]
  for k in range(12):
    answers = [None, said(words(k))]
    lines.append(
      preference(
        f'p{k}',
        spoken,
        *(reversed(answers) if k % 3 else answers),
        category=('deaf', None)[k % 2],
      )
    )
  found = manifest.read(root / 'speech')
  manifest.write(root / 'speech', [*found, *lines])
  (task,) = (
    one
    for one in definitions.preference(
      'tiny', root / 'speech', root / 'text.model', codes=root / 'codes'
    )
    if one.name == NAME
  )
  return root, task


@pytest.fixture
def built(root, tmp_path, clean):
  _, task = root
  output = tmp_path / 'rows'
  settings = build.Settings(length=LENGTH, shard_rows=3, parts=2)
  build.build({NAME: task}, ['train', 'dev'], output, settings)
  return task, output


def test_an_answer_lies_alone_behind_its_prompt(root):
  _, task = root
  table = task.vocabulary()
  found, bad = documents_of(task)
  assert not bad
  whole = found['both']
  first = int(np.argmax(whole.loss_weights > 0))
  begin = table.encode_text('human\n')
  for k in range(12):
    one = found[f'p{k}']
    wanted = bool(k % 3)
    size = len(one.tokens)
    assert one.sizes == ((size, 0) if wanted else (0, size))
    assert one.category == ('deaf', '')[k % 2]
    # As it would be in a pair.
    ids = table.encode_text('human\n' + words(k))[len(begin) :]
    assert one.tokens[first:].tolist() == [*ids, test_preferences.EOT]
    np.testing.assert_array_equal(one.tokens[:first], whole.tokens[:first])
    assert set(one.loss_weights[:first]) == {0}
    assert set(one.loss_weights[first:]) == {1}


def test_rows_name_one_segment_and_none(built):
  task, output = built
  want, _ = documents_of(task)
  folder = folders.open_folder(output / NAME / 'train')
  stats, seen = folder.stats, {}
  for row, ids in folder:
    assert row['segment_ids'].max() == len(ids)
    for pair, kind in zip(row['pairs'].tolist(), row['categories']):
      names = {ids[segment - 1] for segment in pair if segment}
      assert len(names) == 1
      seen[names.pop()] = pair
      alone = [segment for segment in pair if segment]
      tokens = row['tokens'][np.isin(row['segment_ids'], alone)]
      np.testing.assert_array_equal(tokens, want[ids[alone[0] - 1]].tokens)
      name = stats['categories'][kind] if kind >= 0 else ''
      assert name == want[ids[alone[0] - 1]].category
  assert set(seen) == set(want) - {'long'}
  for k in range(12):
    assert [bool(n) for n in seen[f'p{k}']] == [bool(k % 3), not k % 3]
  assert (stats['pairs'], stats['unpaired']) == (
    1, {'chosen': 8, 'rejected': 4},
  )  # fmt: skip
  assert not list(verify.faults(folder))
  (left,) = files.read_jsonl(folder.path / 'quarantine.jsonl')
  size = len(want['long'])
  assert left['reason'].startswith(
    f'{size} tokens ({size} with rejected), expected at most {LENGTH}'
  )


def test_training_and_people_see_them(built, capsys):
  _, output = built
  rows = feed.RowFeed(rows=str(output), ratios={NAME: 1}, batch_size=2)
  assert (rows.pairs, rows.unpaired) == (1, {'chosen': 8, 'rejected': 4})
  (told,) = pairs_lib.check_whole(rows)
  assert '12 answers are in none of the 1 pairs' in told
  batch = rows.batch(0)
  there = batch['pairs'] > 0
  assert there.any(-1).sum() > there.all(-1).sum()
  # Rows without a pair give a model of rewards nothing to learn.
  dev = feed.RowFeed(
    rows=str(output), ratios={NAME: 1}, batch_size=1, split='dev'
  )
  with pytest.raises(errors.UserError, match='found 1 answers alone and no pa'):
    pairs_lib.check_whole(dev)
  shown = inspect_rows.show(output / NAME / 'train', 0, None)
  out = capsys.readouterr().out
  told = {one['id']: one['answer'] for one in shown['documents']}
  for name, answer in told.items():
    if name != 'both':
      side = 'chosen' if int(name[1:]) % 3 else 'rejected'
      more = ', deaf' if int(name[1:]) % 2 == 0 else ''
      assert answer == f'{side} alone{more}'
  assert '1 pairs; 8 chosen alone; 4 rejected alone; ' in out
