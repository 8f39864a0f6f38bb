"""Reward models in a sweep: figures of `judge`, of every checkpoint."""

import dataclasses
import json
import shutil
import types

import jax
import numpy as np
import pytest

from step_audio_jax import __main__ as doors
from step_audio_jax import errors
from step_audio_jax.alignment.judging import door
from step_audio_jax.alignment.judging import pairs
from step_audio_jax.alignment.judging import scorer as scorer_lib
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.evaluation import evaluate
from step_audio_jax.evaluation.families import family as family_lib
from step_audio_jax.generation import restore
from step_audio_jax.storage import files
from step_audio_jax.training.checkpoints import checkpoints
from tests.alignment.judging import world as world_lib
from tests.tokenizers.speech import tiny_dual

STEPS = (3, 6, 9)  # the last one has parameters that are no numbers


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  root = tmp_path_factory.mktemp('made')
  corpus = world_lib.write_corpus(root)
  lines = manifest.read(corpus)
  written = [x for x in lines if x.kind == 'preference' and x.id != 'p1']
  lines += [
    dataclasses.replace(x, id=f'dev-{x.id}', split='dev') for x in written[1:]
  ]
  manifest.write(corpus, lines)
  run, _, variables = world_lib.write_run(root)
  store = checkpoints.Checkpoints(run, keep=len(STEPS))
  for step, change in zip(STEPS[1:], (lambda x: 1.5 * x, lambda x: x * np.nan)):
    changed = jax.tree.map(change, variables)
    store.save(step, changed, {'count': np.zeros(())}, {'row': 0})
  store.close()
  tiny_dual.small().save(root / 'tokenizer')
  return types.SimpleNamespace(root=root, corpus=corpus, run=run)


@pytest.fixture
def world(made, tmp_path):
  """The same with files of its own."""
  shutil.copytree(made.corpus, tmp_path / 'liked')
  shutil.copytree(made.run, tmp_path / 'reward')
  (tmp_path / 'tokenizer.json').write_bytes(
    (made.root / 'tokenizer.json').read_bytes()
  )
  return types.SimpleNamespace(
    corpus=tmp_path / 'liked',
    run=tmp_path / 'reward',
    tokenizer=str(made.root / 'tokenizer'),
  )


def asked(world, **settings):
  return pairs.RewardPairs(
    corpus=str(world.corpus), codes=f'{world.corpus}/codes', **settings
  )


def sweep(world, steps, *families):
  return evaluate.evaluate(
    checkpoints=str(world.run), steps=steps, families=families
  )


def rows_of(world, step, split='test'):
  text = (world.run / f'evaluation/rows/{step}/pairs-{split}.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


def test_figures_are_those_of_judge(world):
  wanted = asked(world, splits=('test', 'dev'), tokenizer=world.tokenizer)
  sweep(world, 3, wanted)
  compiled = scorer_lib._scores._cache_size()
  found = sweep(world, '3,6', wanted)
  assert scorer_lib._scores._cache_size() == compiled
  assert found['kept'] == {3: ['pairs/test', 'pairs/dev'], 6: []}
  summary = files.read_json(world.run / 'evaluation/summary.json')
  for step in (3, 6):
    told = door.judge(
      str(world.run),
      corpus=str(world.corpus),
      codes=f'{world.corpus}/codes',
      splits=('test', 'dev'),
      tokenizer=world.tokenizer if step == 6 else None,
      audited=4,
      step=step,
    )
    figures = summary['steps'][str(step)]['figures']
    mine = figures['pair_accuracy/all']
    assert [mine[n] for n in ('of', 'value', 'low', 'high')] == [
      told['pairs'][n] for n in ('pairs', 'accuracy', 'low', 'high')
    ]
    assert figures['ece/all']['value'] == pytest.approx(
      told['calibration']['ece'], rel=1e-5
    )
    kinds = {
      name.removeprefix('pair_accuracy/all/'): one['value']
      for name, one in figures.items()
      if name.startswith('pair_accuracy/all/')
    }
    assert kinds == {
      name: one['accuracy'] for name, one in told['categories'].items() if name
    }
  gaps = [one['chosen']['gap'] for one in told['heard'].values()]
  assert len(gaps) == 2
  gap = figures['heard_gap/all']
  assert gap['value'] == pytest.approx(np.mean(gaps), rel=1e-4)
  assert gap['unit'] == 'score' and gap['of'] == 2
  counted = found['counts'][6]
  assert counted['pair_accuracy/test'] == {
    'scored': 4,
    'of': 5,
    'unit': 'pairs',
    'left_out': {'with one answer alone': 1},
    'cut': {},
  }
  assert counted['pair_accuracy/all']['scored'] == 6
  assert counted['heard_gap/test']['left_out'] == {'asked in writing': 2}
  absent = summary['steps']['6']['not_computed']
  assert absent['heard_gap/dev'] == 'nothing is asked aloud'
  # Checkpoints are compared pair by pair.
  first, second = rows_of(world, 3), rows_of(world, 6)
  assert [r['id'] for r in first] == [r['id'] for r in second]
  assert [r['id'] for r in first] == list(world_lib.LIKED)
  assert first[0]['scores'] != second[0]['scores']
  accuracy = summary['steps']['3']['figures']['pair_accuracy/test']['value']
  assert np.mean([row['points'] for row in first]) == accuracy
  one = first[0]
  assert one['category'] == 'colours' and one['reference'] == 'a rose'
  assert one['asked'] == 'what is red'  # what is said, where it is heard
  assert one['margin'] == one['scores'][0] - one['scores'][1]
  assert one['points'] == (one['margin'] > 0) and 'silenced' in one
  assert 'silenced' not in first[2]


def test_what_was_scored_is_kept_until_its_content_changes(world):
  wanted = asked(world)
  assert sweep(world, 3, wanted)['scored'] == {3: ['pairs/test']}
  assert sweep(world, 3, wanted)['kept'] == {3: ['pairs/test']}
  assert sweep(world, 3, wanted)['not_computed']['heard_gap'].startswith('no ')
  lines = manifest.read(world.corpus)
  text = (world.corpus / 'manifest.jsonl').read_text()
  manifest.write(world.corpus, [*lines, dataclasses.replace(lines[0], id='x1')])
  assert sweep(world, 3, wanted)['kept'] == {3: ['pairs/test']}  # not in a pair
  (world.corpus / 'manifest.jsonl').write_text(
    text.replace('"green"', '"grey"')
  )
  assert sweep(world, 3, wanted)['scored'] == {3: ['pairs/test']}
  # In writing, and fewer of them, is another figure.
  less = asked(world, view='tqta', most=1)
  found = sweep(world, 3, less)
  assert found['counts'][3]['pair_accuracy/test']['left_out'] == {
    'beyond most=1': 3,
    'with one answer alone': 1,
  }
  (row,) = rows_of(world, 3)
  assert row['id'] == 'p1'


def test_a_checkpoint_without_scores_costs_itself(world):
  found = sweep(world, 'all', asked(world))
  assert set(found['results']) == {3, 6} and 9 not in found['scored']
  told = found['unreadable'][9]
  assert 'the score of document 0 is nan' in told and told.endswith('(step 9)')


def test_pairs_of_rows(world, tmp_path):
  row = {
    'tokens': np.asarray([75, 80, 81, 75, 90, 91, 75, 80], np.int32),
    'segment_ids': np.asarray([1, 1, 1, 2, 2, 2, 3, 3], np.int32),
    'loss_weights': np.asarray([0, 1, 1, 0, 1, 1, 0, 1], np.float32),
    'pairs': np.asarray([[1, 2], [3, 2], [0, 1]], np.int32),
    'categories': np.asarray([0, -1, 0], np.int32),
  }
  world_lib.write_rows(tmp_path / 'rows', [row, row], categories=['odd'])
  folder = tmp_path / 'rows/preference_aqta'
  found = sweep(world, 3, pairs.RewardPairs(rows=str(folder)))
  told = door.judge(str(world.run), rows=f'{folder}/test', step=3)
  assert found['results'][3]['pair_accuracy/test'] == told['pairs']['accuracy']
  assert found['counts'][3]['pair_accuracy/all']['scored'] == 4
  assert [row['id'] for row in rows_of(world, 3)] == ['0', '1', '2', '3']
  assert 'pair_accuracy/all/odd' in found['results'][3]
  reason = 'rows hold no recordings (RewardPairs.rows)'
  assert found['not_computed']['heard_gap'] == reason


class Answers(family_lib.Family):
  """Wants a language model for one of its parts."""

  tasks = ('answers',)

  def parts(self):
    names = 'heard', 'asked', 'again'
    return [family_lib.Part('answers', name, 'data', {}) for name in names]

  def score(self, checkpoint, parts, held, keep):
    for part in parts:
      if part.name != 'heard':
        assert checkpoint.loaded.variables
      keep(part, 0.0, {'value': 1.0})

  def show(self, kept):
    found = {
      one['name']: family_lib.Figure(1.0) for one in kept if one['result']
    }
    return family_lib.Shown({}, found, {})


@dataclasses.dataclass(frozen=True)
class Asks:
  size: int = 1

  def build(self, run, memory):
    return Answers()


def test_the_other_kind_of_model_is_left_out_in_one_sentence(
  world, monkeypatch
):
  found = sweep(world, 3, Asks(), asked(world))
  why = 'the run is of a reward model, which gives no answers'
  assert found['left_out'] == {
    3: {f'answers/{n}': why for n in ('asked', 'again')}
  }
  assert found['results'][3]['heard'] == 1.0
  assert 'pair_accuracy/test' in found['results'][3]
  assert not found['unreadable']
  assert len(sweep(world, 3, Asks(), asked(world))['kept'][3]) == 4
  config = files.read_json(world.run / 'config.json')
  del config['scores']
  files.write_json(world.run / 'config.json', config)
  monkeypatch.setattr(
    restore, 'load_model', lambda *_: (None, {'params': {}}, None)
  )
  shutil.rmtree(world.run / 'evaluation')
  found = sweep(world, 3, Asks(), asked(world))
  why = 'the run is of a language model, which gives no scores'
  assert found['left_out'] == {3: {'pairs/test': why}}
  assert found['results'][3] == dict.fromkeys(('heard', 'asked', 'again'), 1.0)
  with pytest.raises(errors.UserError, match="two that score 'pairs'"):
    sweep(world, 3, asked(world), asked(world, view='tqta'))


def test_the_door(world, capsys):
  argv = [
    '-', 'evaluate', '--gin_file=gin/eval/reward_sweep.gin',
    f'--checkpoints={world.run}', '--steps=3', '--json',
    f'--gin.CORPUS="{world.corpus}"', f'--gin.CODES="{world.corpus}/codes"',
  ]  # fmt: skip
  assert cli.dispatch('step_audio_jax', doors.DOORS, argv) == 0
  out = capsys.readouterr().out
  assert 'pair_accuracy/all/colours' in out
  assert 'pair_accuracy/test  4 of 5 pairs: 1 with one answer alone' in out
  settings = files.read_json(world.run / 'evaluation/3.json')['settings']
  (told,) = settings['families']
  assert told['family'] == 'RewardPairs' and told['splits'] == ['test']


@pytest.mark.parametrize(
  'settings, told',
  [
    ({}, 'RewardPairs: found neither of corpus and rows'),
    ({'corpus': 'a', 'view': 'loud'}, "view is 'loud', expected one of ''"),
    ({'corpus': 'a', 'splits': ()}, 'splits: found none'),
    ({'corpus': 'a', 'splits': ('all', 'test')}, "found 'all' among others"),
    ({'corpus': 'a', 'most': -1}, 'most is -1, expected 0'),
    ({'rows': 'a', 'codes': 'b'}, 'codes means nothing with rows'),
  ],
)
def test_bad_settings_are_told(settings, told):
  with pytest.raises(errors.UserError, match=told):
    pairs.RewardPairs(**settings)
