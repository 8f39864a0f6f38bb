"""Tasks of preferences: what is learnt of a pair, and how it lies in rows."""

import dataclasses

import numpy as np
import pytest

from data_pipelines.inspection import page
from data_pipelines.inspection import rows as inspect_rows
from data_pipelines.rows import build
from data_pipelines.rows import folders
from data_pipelines.rows import verify
from data_pipelines.tasks import corpora
from data_pipelines.tasks import definitions
from step_audio_jax import documents
from step_audio_jax import vocabulary
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.storage import files
from step_audio_jax.training.feeds import feed
from tests.data_pipelines import tiny
from tests.data_pipelines.tasks import test_corpora
from tests.data_pipelines.tasks import test_definitions

documents_of = test_definitions.documents_of
clean = test_corpora.clean  # registries are left as they were
CLOCK = {'type': 'function', 'function': {'name': 'clock'}}
EOT = vocabulary.EOT


def said(text):
  return {'role': 'assistant', 'text': text}


def preference(name, turns, chosen, rejected, **more):
  return manifest.Utterance(
    id=name,
    kind='preference',
    turns=turns,
    chosen=chosen,
    rejected=rejected,
    **more,
  )


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  """Recordings, and preferences of all kinds that refer to them."""
  root = tiny.make(tmp_path_factory.mktemp('preferences') / 'corpus', 14)
  spoken = [{'role': 'user', 'speech': 'u3'}]
  talk = [
    {'role': 'user', 'speech': 'u0'},
    {'role': 'assistant', 'speech': 'u1'},
    *spoken,
  ]
  tools = [
    {'role': 'tool_json_schemas', 'tools': [CLOCK]},
    *spoken,
    {'role': 'assistant', 'calls': [{'name': 'clock', 'arguments': {}}]},
    {'role': 'tool', 'text': 'a dog'},
  ]
  aloud = [{'role': 'assistant', 'speech': f'u{k}'} for k in (1, 4, 13)]
  lines = [
    preference('talk', talk, said('a dog'), said('the big cat sees a dog')),
    preference('tool', tools, said('a dog'), said('a cat'), category='tools'),
    preference('aloud', spoken, *aloud[:2], margin=0.5, category='aloud'),
    # The same words, told apart by their sound alone.
    preference('alike', spoken, aloud[0], aloud[2]),
    preference(
      'read', [{'role': 'user', 'text': 'cat'}], said('big'), said('a dog')
    ),
    preference('long', spoken, said('a cat ' * 80), said('a dog')),
    preference('dev', spoken, said('a'), said('the'), split='dev'),
  ]
  lines += [
    preference(
      f'p{k}',
      spoken,
      said('a cat ' * (k % 5 + 1)),
      said('a dog ' * (k % 3 + 1)),
      margin=float(k),
      category=('deaf', None, 'silence')[k % 3],
    )
    for k in range(21)
  ]
  found = manifest.read(root / 'speech')
  u1 = next(one for one in found if one.id == 'u1')
  found = [
    dataclasses.replace(one, text=u1.text, words=None)
    if one.id == 'u13'
    else one
    for one in found
  ]
  manifest.write(root / 'speech', [lines[0], *found, *lines[1:]])
  return root


def tasks_of(root):
  found = definitions.preference(
    'tiny', root / 'speech', root / 'text.model', codes=root / 'codes'
  )
  return {task.name.removeprefix('tiny_preference_'): task for task in found}


def test_both_answers_stand_behind_one_prompt_as_in_sft(root):
  tasks = tasks_of(root)
  assert list(tasks) == ['tqta', 'aqta']
  table = tasks['tqta'].vocabulary()
  codes = speech_codes.read_codes(root / 'codes')
  texts = {u.id: u.text for u in manifest.read(root / 'speech', kind='speech')}
  before = [('user', texts['u0']), ('assistant', texts['u1'])]
  for name, asked in (
    ('tqta', texts['u3']),
    ('aqta', documents.speech_ids(table, *codes['u3'])),
  ):
    found, bad = documents_of(tasks[name])
    turns = [*before, ('user', asked)]
    prompt = documents.CHAT.prompt(table, turns)
    pair = found['talk']
    for ids, weights, answer in zip(
      np.split(pair.tokens, [pair.border]),
      np.split(pair.loss_weights, [pair.border]),
      ('a dog', 'the big cat sees a dog'),
    ):
      want = documents.CHAT.document(
        table, 'x', [*turns, ('assistant', answer)], last_only=True
      )
      np.testing.assert_array_equal(ids, want.tokens)
      np.testing.assert_array_equal(weights, want.loss_weights)
      assert ids[: len(prompt)].tolist() == prompt and ids[-1] == EOT
      assert set(weights[: len(prompt)]) == {0}
      assert set(weights[len(prompt) :]) == {1}
    reasons = {name: why for name, _, why in bad}
    assert 'the 5 ids of chosen' not in reasons['alike']
    assert 'ids of chosen as both are shown here' in reasons['alike']
    if name == 'tqta':
      assert set(reasons) == {'alike'} and 'read' in found
    else:
      assert 'found a text, expected a recording' in reasons['read']
  # Spoken answers are learnt as they are written.
  pair = documents_of(tasks['tqta'])[0]['aloud']
  turns = [('user', texts['u3'])]
  for ids, heard in zip(np.split(pair.tokens, [pair.border]), ('u1', 'u4')):
    want = documents.CHAT.document(
      table, 'x', [*turns, ('assistant', texts[heard])]
    )
    np.testing.assert_array_equal(ids, want.tokens)
  assert (pair.margin, pair.category) == (0.5, 'aloud')


def test_a_call_of_the_prompt_is_not_learnt(root):
  task = tasks_of(root)['aqta']
  table = task.vocabulary()
  pair = documents_of(task)[0]['tool']
  ids, weights = pair.tokens[: pair.border], pair.loss_weights[: pair.border]
  learnt = table.encode_text('human\na dog')[
    len(table.encode_text('human\n')) :
  ]
  assert ids[weights > 0].tolist() == [*learnt, EOT]
  assert (weights > 0).sum() == len(learnt) + 1 and weights[-1] == 1


def test_other_habits_and_kinds_are_other_rows(root):
  tasks = tasks_of(root)
  digests = {name: task.digest('train') for name, task in tasks.items()}
  assert len(set(digests.values())) == 2
  starts = dataclasses.replace(tasks['aqta'], starts=True)
  assert starts.digest('train') != digests['aqta']
  assert tasks['aqta'].layout() == {
    'starts': False, 'streams': 'both', 'history': 'read',
  }  # fmt: skip
  assert tasks['aqta'].categories('train') == [
    'aloud', 'deaf', 'silence', 'tools',
  ]  # fmt: skip
  assert tasks['aqta'].categories('dev') == []
  known = ['x_chat', 'x_preference_tqta', 'x_preference_aqta']
  assert build.select([], known) == known[:1]


LENGTH = 400


@pytest.fixture
def built(root, tmp_path, clean):
  tasks = {task.name: task for task in tasks_of(root).values()}
  output = tmp_path / 'rows'
  settings = build.Settings(length=LENGTH, shard_rows=3)
  result = build.build(tasks, ['train', 'dev'], output, settings)
  return tasks, output, result


def pairs_of(folder):
  """Id → (its ids, segments, margin, category), of all rows of a folder."""
  names = folder.stats['categories']
  found = {}
  for row, ids in folder:
    assert row['pairs'].dtype == row['categories'].dtype == np.int32
    assert row['margins'].dtype == np.float32
    assert len(ids) == 2 * len(row['pairs']) == row['segment_ids'].max()
    for k, (one, other) in enumerate(row['pairs'].tolist()):
      assert other == one + 1 and ids[one - 1] == ids[other - 1]
      kind = row['categories'][k]
      sides = [row['tokens'][row['segment_ids'] == s] for s in (one, other)]
      learnt = [
        row['loss_weights'][row['segment_ids'] == s] for s in (one, other)
      ]
      assert ids[one - 1] not in found
      found[ids[one - 1]] = (
        np.concatenate(sides),
        np.concatenate(learnt),
        float(row['margins'][k]),
        names[kind] if kind >= 0 else '',
      )
  return found


def test_a_pair_is_whole_in_one_row(built):
  tasks, output, result = built
  for name, task in tasks.items():
    folder = folders.open_folder(output / name / 'train')
    want, bad = documents_of(task)
    found = pairs_of(folder)
    fits = {k for k, pair in want.items() if len(pair) <= LENGTH}
    assert set(found) == fits and len(fits) > 20
    for key, (tokens, weights, margin, category) in found.items():
      np.testing.assert_array_equal(tokens, want[key].tokens)
      np.testing.assert_array_equal(weights, want[key].loss_weights)
      assert (margin, category) == (want[key].margin, want[key].category)
    rows = [len(row['pairs']) for row, _ in folder]
    assert len(rows) > 3 and max(rows) > 1
    stats = folder.stats
    assert stats['pairs_per_row'] == max(rows)
    assert stats['pairs'] == sum(rows) == stats['documents'] == len(found)
    assert result[f'{name}/train']['pairs'] == len(found)
    left = {
      line['id']: line['reason']
      for line in files.read_jsonl(folder.path / 'quarantine.jsonl')
    }
    long = set(want) - fits
    assert set(left) == long | {key for key, *_ in bad}
    for key in long:
      pair = want[key]
      assert left[key].startswith(
        f'{len(pair)} tokens ({pair.border} with chosen, '
        f'{len(pair) - pair.border} with rejected), expected at most {LENGTH}'
      )
    assert 'long' in long
    assert not list(verify.faults(folder))
    again = build.build(
      {name: task}, ['train'], output, build.Settings(LENGTH, shard_rows=3)
    )
    assert again[f'{name}/train'] == result[f'{name}/train']


def test_training_and_people_see_pairs(built, capsys):
  tasks, output, _ = built
  name = 'tiny_preference_aqta'
  rows = feed.RowFeed(rows=str(output), ratios={name: 1}, batch_size=4)
  stats = folders.open_folder(output / name / 'train').stats
  batch = rows.batch(0)
  assert batch['pairs'].shape == (4, stats['pairs_per_row'], 2)
  for row in range(4):
    pairs = batch['pairs'][row]
    real = pairs[pairs[:, 0] > 0]
    assert real.max() == batch['segment_ids'][row].max() == 2 * len(real)
  shown = inspect_rows.show(output / name / 'train', 0, None)
  told = capsys.readouterr().out
  first, second = shown['documents'][:2]
  assert first['id'] == second['id']
  assert first['answer'].startswith('chosen of pair 1, margin ')
  assert second['answer'].startswith('rejected of pair 1, margin ')
  assert f'{stats["pairs"]} pairs' in told and first['answer'] in told
  page.write(output / name / 'train', output / 'page.html', first=0, count=1)
  html = (output / 'page.html').read_text(encoding='utf-8')
  assert first['answer'] in html and f'>{stats["pairs"]}<' in html
  tree = inspect_rows.show_tree(output)
  assert tree[f'{name}/train']['pairs'] == stats['pairs']


def test_parts_are_one_folder_with_one_list_of_categories(
  root, tmp_path, clean
):
  task = tasks_of(root)['tqta']
  whole = documents_of(task)[0]
  build.build(
    {task.name: task},
    ['train'],
    tmp_path,
    build.Settings(length=8 * LENGTH, parts=3),
  )
  folder = folders.open_folder(tmp_path / task.name / 'train')
  found = pairs_of(folder)
  assert set(found) == set(whole)
  assert {k: v[2:] for k, v in found.items()} == {
    k: (pair.margin, pair.category) for k, pair in whole.items()
  }
  assert folder.stats['pairs'] == len(found)
  assert not list(verify.faults(folder))


def test_a_module_registers_them(root, clean):
  tasks = corpora.register_preference_corpus(
    'reg',
    str(root / 'speech'),
    codes=str(root / 'codes'),
    text_model=str(root / 'text.model'),
  )
  assert [task.name for task in tasks] == [
    'reg_preference_tqta', 'reg_preference_aqta',
  ]  # fmt: skip
  example = next(
    tasks[0].get_dataset(None, 'dev', shuffle=False).as_numpy_iterator()
  )
  assert example['border'] > 0 and example['category'] == b''
