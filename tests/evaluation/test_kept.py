"""What is scored again and what is kept, by what has changed."""

import json
import os
import shutil

import pytest

from step_audio_jax.corpus import manifest
from step_audio_jax.evaluation import evaluate
from step_audio_jax.evaluation.metrics import scoring
from step_audio_jax.evaluation.metrics import speech
from step_audio_jax.evaluation.reports import facts
from tests.evaluation import corpus

score = corpus.score


@pytest.fixture
def run(tmp_path, monkeypatch):
  return corpus.make(tmp_path, monkeypatch)


def saved(run, step=20):
  path = run.root / 'run' / 'evaluation' / f'{step}.json'
  return json.loads(path.read_text())


def plan(run, **changes):
  """What the next evaluation would score, without doing it."""
  before = sorted(p for p in (run.root / 'run').rglob('*'))
  found = score(run, dry_run=True, **changes)
  assert sorted((run.root / 'run').rglob('*')) == before
  return found['scored'][20]


def test_other_splits_and_limits_give_their_own_figures(run):
  corpus.write_codes(run.root, {'dev1': 'rex', 'test1': 'big fogs'})
  first = score(run, max_utterances=1)['results'][20]
  assert first == {'asr_cer/dev': 0.0, 'tts_cer/dev': 0.0}
  both = {'asr_splits': ('dev', 'test'), 'tts_splits': ()}
  second = score(run, **both)['results'][20]
  assert second['asr_cer/dev'] == pytest.approx(1 / 8)
  assert second['asr_cer/test'] == pytest.approx(1 / 15)
  assert saved(run)['asr']['test']['utterances'] == 3
  # The first settings again: nothing is loaded, and the figures are theirs.
  loaded = list(run.loaded)
  third = score(run, max_utterances=1)
  assert third['results'][20] == first and run.loaded == loaded
  assert saved(run)['asr']['dev']['utterances'] == 1
  assert third['kept'][20] == ['asr/dev', 'tts/dev']
  # What was scored of other settings is not shown beside them.
  assert 'test' not in saved(run)['asr']
  (note,) = third['notes']
  assert 'asr/test of step 20 belong to other settings' in note


def test_another_split_is_added_and_the_first_is_kept(run, monkeypatch):
  score(run)
  asked = []
  asr = speech.asr
  monkeypatch.setattr(
    speech, 'asr', lambda s, v, sets, c: asked.append(set(sets)) or
    asr(s, v, sets, c),
  )  # fmt: skip
  found = score(run, asr_splits=('test', 'dev'), tts_splits=('dev',))
  assert asked == [{'test'}]
  assert found['scored'][20] == ['asr/test']
  assert found['kept'][20] == ['asr/dev', 'tts/dev']
  # A split that is not asked for stays, since the settings are the same.
  found = score(run, asr_splits=('test',), tts_splits=())
  assert set(found['results'][20]) == {'asr_cer/test'}
  assert set(saved(run)['metrics']) == {
    'asr_cer/test', 'asr_cer/dev', 'tts_cer/dev'
  }  # fmt: skip
  assert found['notes'] == [] and asked == [{'test'}]


BOTH = {'asr/dev', 'tts/dev'}


@pytest.mark.parametrize(
  'changes, again',
  [
    ({}, set()),
    ({'max_utterances': 2}, set()),  # as many as there are
    ({'max_utterances': 1}, BOTH),
    ({'decoding': {'max_text_tokens': 9}}, BOTH),
    ({'decoding': {'max_speech_groups': 9}}, {'tts/dev'}),
    ({'decoding': {'temperature': 0.5}}, {'tts/dev'}),
    ({'decoding': {'seed': 3}}, set()),  # greedy
    ({'decoding': {'batch_size': 2}}, set()),
    ({'overwrite': True}, BOTH),
  ],
)
def test_settings(run, changes, again):
  score(run)
  assert set(plan(run, **changes)) == again


def rewrite(run, **texts):
  corpus.write_manifest(run.root, {**corpus.TEXTS, **texts})


def test_contents(run, monkeypatch):
  score(run)
  # The same bytes under another date, and lines of another split.
  os.utime(run.root / 'corpus' / 'manifest.jsonl', (1, 1))
  assert plan(run) == []
  rewrite(run, train=['one', 'more'])
  corpus.write_codes(run.root)
  assert plan(run) == []
  # Codes say something else; texts stay.
  corpus.write_codes(run.root, {'dev1': 'rex'})
  assert plan(run) == ['asr/dev']
  rewrite(run, dev=['a cat', 'rod'])
  corpus.write_codes(run.root)
  assert set(plan(run)) == BOTH
  rewrite(run)
  corpus.write_codes(run.root)
  assert plan(run) == []
  corpus.write_manifest(run.root, language='th')  # compared by other rules
  assert set(plan(run)) == BOTH
  corpus.write_manifest(run.root)
  # The convention and the parameters.
  with monkeypatch.context() as other:
    other.setattr(scoring, 'VERSION', scoring.VERSION + 1)
    assert set(plan(run)) == BOTH
  corpus.write_checkpoint(run.root, 20, 'trained anew')
  assert set(plan(run)) == BOTH
  found = score(run)
  assert set(found['scored'][20]) == BOTH and run.loaded == [20, 20]
  corpus.write_checkpoint(run.root, 20)
  assert plan(run) == []  # those parameters were scored, too


def test_what_describes_the_model_is_part_of_it(run):
  config = run.root / 'run' / 'config.json'
  text = run.root / 'text.model'
  text.write_text('pieces')
  described = {
    'model': {'width': 8},
    'vocabulary': {'text_size': 95, 'text_model': str(text)},
    'feed': {'rows': 1},
  }
  config.write_text(json.dumps(described))
  score(run)
  config.write_text(json.dumps({**described, 'feed': {'rows': 2}}))
  assert plan(run) == []
  text.write_text('other pieces')
  assert set(plan(run)) == BOTH
  text.write_text('pieces')
  described['model']['width'] = 9
  config.write_text(json.dumps(described))
  assert set(plan(run)) == BOTH


def test_a_run_that_was_moved_keeps_its_scores(run):
  score(run)
  shutil.copytree(run.root / 'run', run.root / 'copy')
  found = score(run, checkpoints=str(run.root / 'copy'), dry_run=True)
  assert found['steps'] == {20: True}


def test_optimizer_and_data_are_no_part_of_the_model(run):
  score(run)
  for item in ('optimizer', 'data', 'ema'):
    folder = run.root / 'run/checkpoints/20' / item
    folder.mkdir()
    (folder / 'state').write_text('x')
  assert plan(run) == []


def test_a_killed_evaluation_keeps_what_was_scored(run, monkeypatch):
  def killed(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as other:
    other.setattr(speech, 'tts', killed)
    with pytest.raises(KeyboardInterrupt):
      score(run)
  assert not (run.root / 'run/evaluation/20.json').exists()
  assert plan(run) == ['tts/dev']
  found = score(run)
  assert found['kept'][20] == ['asr/dev']
  assert set(found['results'][20]) == {'asr_cer/dev', 'tts_cer/dev'}


def test_scores_of_nobody_knows_what_are_told_and_replaced(run):
  path = run.root / 'run/evaluation/20.json'
  path.parent.mkdir()
  old = {'step': 20, 'metrics': {'asr_cer/dev': 0.77}, 'run': 'x'}
  path.write_text(json.dumps(old))
  found = score(run, dry_run=True)
  assert found['steps'] == {20: False}
  (note,) = found['notes']
  assert 'step 20 do not say what they were measured on' in note
  found = score(run)
  assert note in found['notes'] and found['results'][20]['asr_cer/dev'] == 0
  assert score(run)['notes'] == []  # told once


def test_a_broken_file_costs_itself_alone(run):
  score(run, steps='all')
  for path in (run.root / 'run/evaluation').glob('*.json'):
    path.write_text('{')
  found = score(run)
  assert found['kept'][20] == ['asr/dev', 'tts/dev']
  assert saved(run)['metrics'] == found['results'][20]
  (path,) = (run.root / 'run/evaluation/parts/20').glob('asr-*.json')
  path.write_text('[3]')
  assert plan(run) == ['asr/dev']
  assert score(run)['results'] == found['results']


def test_sampled_speech_does_not_depend_on_other_splits(run):
  loud = {'temperature': 5.0, 'seed': 2}
  alone = score(run, loud, asr_splits=(), tts_splits=('test',))
  heard = saved(run)['tts']['test']['hypotheses']
  both = score(
    run, loud, asr_splits=(), tts_splits=('dev', 'test'), overwrite=True
  )
  assert saved(run)['tts']['test']['hypotheses'] == heard
  assert alone['results'][20].items() <= both['results'][20].items()


def page(run):
  return (run.root / 'run/evaluation/index.html').read_text()


def test_no_curve_mixes_settings(run):
  corpus.write_codes(run.root, {'dev1': 'rex'})
  score(run, steps=10, max_utterances=1)
  found = score(run, steps=20)
  assert 'Checkpoints scored: 1.' in page(run)
  assert 'step 20' in page(run) and '<th class=n>step 10' not in page(run)
  (note,) = found['notes']
  assert 'not every figure of step 10 was scored under the settings' in note
  assert 'step 10 was scored' in page(run)
  assert score(run, steps='all')['notes'] == []
  assert 'Checkpoints scored: 2.' in page(run)
  # Each page has the figures of what was asked for.
  score(run, steps=10, max_utterances=1)
  assert 'Checkpoints scored: 1.' in page(run) and '1 of 2' in page(run)


def test_steps_whose_checkpoint_is_gone_stay_on_the_curve(run):
  score(run, steps='all')
  shutil.rmtree(run.root / 'run/checkpoints/10')
  assert score(run)['notes'] == []
  assert 'Checkpoints scored: 2.' in page(run)
  # Trained anew under the same number: the old scores are another model's.
  corpus.write_checkpoint(run.root, 10, 'other')
  (note,) = score(run)['notes']
  assert 'step 10' in note and 'Checkpoints scored: 1.' in page(run)


def test_scores_of_a_longer_training_before_this_one_are_not_shown(run):
  score(run, steps='all')
  shutil.rmtree(run.root / 'run/checkpoints/20')
  (note,) = score(run)['notes']
  assert 'step 20 lies behind the newest checkpoint' in note
  assert 'Checkpoints scored: 1.' in page(run) and 'step 20 lies' in page(run)
  assert facts.newest_result(run.root / 'run')['step'] == 10
  (doubt,) = facts.comparability_warnings(
    [('x', run.root / 'run', saved(run, 10))]
  )
  assert doubt.startswith('x: the scores of step 20 are of an earlier training')


def test_a_manifest_of_others_is_told_of(run):
  path = run.root / 'corpus' / 'manifest.jsonl'
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  for line, tag in zip(lines, ['gibberish', 'ENGLISH']):
    line['language'] = tag
  path.write_text('\n'.join(map(json.dumps, lines)))
  assert [u.language for u in manifest.read(run.root / 'corpus')][:2] == [
    'gibberish', 'en'
  ]  # fmt: skip
  (note,) = score(run)['notes']
  assert "the tag 'gibberish' (2 lines) is in no registry" in note
  assert set(saved(run)['asr']['dev']['by_language']) == {'gibberish', 'en'}


def test_all_results_are_the_steps_alone(run):
  score(run, steps='all')
  assert set(evaluate.all_results(run.root / 'run')) == {10, 20}
