import pytest

from step_audio_jax import errors
from step_audio_jax.evaluation.dialogues import examiner
from step_audio_jax.evaluation.dialogues import registry
from tests.evaluation.dialogues import samples

SPLITS = {'Daily': ['Daily.a.001', 'Daily.a.002'], 'Safety': ['Safety.b.001']}


def make(folder, splits=SPLITS):
  tasks = {
    split: {'tasks': [{'id': id} for id in ids]}
    for split, ids in splits.items()
  }
  samples.note(folder / 'prompts_staged_200.json', {'splits': tasks})


def mark(folder, id, turns, task=None, end='_processed'):
  found = {'Turn-taking event and score': turns, 'Task-specific score': task}
  samples.note(folder / id.partition('.')[0] / f'{id}{end}.json', found)


def talk(folder, id, examiner_bursts, system_bursts):
  place = folder / id.partition('.')[0] / id
  samples.record(place / 'A.wav', examiner_bursts, 12)
  samples.record(place / 'B.wav', system_bursts, 12)


def score(folder, **settings):
  settings = {'complete': False, **settings}
  return registry.score_folder('full_duplex_bench_2', str(folder), **settings)


def test_marks_are_means_over_turns(tmp_path):
  make(tmp_path)
  mark(tmp_path / 'j', 'Daily.a.001', [[[1, 2], 1, 2], [[3, 4], 5, 4]], 3)
  mark(tmp_path / 'j', 'Daily.a.002', [[[1, 2], 3, 3]], end='')
  mark(tmp_path / 'j', 'Safety.b.001', [[[1, 2], 4, 5]], 2)
  found = score(tmp_path, judgements=str(tmp_path / 'j'))
  figures = samples.figures(found)
  assert figures == {
    'turn_taking': 13 / 4,
    'instruction_following': 14 / 4,
    'task': 2,  # Daily has no rubric of its own
    'Daily/turn_taking': 3,
    'Daily/instruction_following': 3,
    'Safety/turn_taking': 4,
    'Safety/instruction_following': 5,
    'Safety/task': 2,
  }
  assert found['figures']['turn_taking']['of'] == 4
  assert found['counted']['scored'] == 3
  assert found['counted']['cut'] == {'A.wav is not there': 3}


def test_what_is_no_mark_is_not_guessed(tmp_path):
  make(tmp_path, {'Safety': ['Safety.1', 'Safety.2', 'Safety.3', 'Safety.4']})
  turns = [
    [[1, 2], 4, 5],
    [[3, 4], 0, 5],
    [[5, 6], None, 3],
    [7, 8],
    [[1, 2], 9, 1],
  ]
  mark(tmp_path, 'Safety.1', turns, 'good')
  place = tmp_path / 'Safety'
  (place / 'Safety.2.json').write_text('The model did well: 5.')
  samples.note(place / 'Safety.3.json', {'score': 5})
  talk(tmp_path, 'Safety.2', [(1, 3)], [(4, 5)])
  found = score(tmp_path)
  assert samples.figures(found)['Safety/turn_taking'] == 4
  assert found['figures']['Safety/turn_taking']['of'] == 1
  assert 'Safety/task' in found['not_computed']
  assert found['counted']['cut'][examiner._NO_MARK] == 1
  assert found['counted']['cut'][examiner._UNREADABLE] == 1
  assert found['counted']['left_out'] == {'A.wav is not there': 2}


def test_sound_is_scored_without_a_judge(tmp_path):
  make(tmp_path)
  # 0.8 s after the first turn; 0.5 s into the second, and nothing after it.
  talk(tmp_path, 'Daily.a.001', [(1, 3), (6, 8)], [(3.8, 6.5)])
  found = score(tmp_path)
  figures = samples.figures(found)
  late = figures['Daily/response_latency']
  assert late == pytest.approx(0.8, abs=2 * samples.NEAR)
  assert figures['overlap_share'] == pytest.approx(0.125, abs=0.01)
  assert 'no judge' in found['not_computed']['Daily/turn_taking']
  counted = found['counted']
  assert (counted['scored'], counted['of']) == (1, 3)


def test_inner_folders_of_aligned_dialogues(tmp_path):
  make(tmp_path)
  talk(tmp_path / 'alignment', 'Daily.a.001', [(1, 3)], [(4, 5)])
  assert score(tmp_path)['counted']['scored'] == 1
  assert score(tmp_path, complete=True)['counted']['of'] == 200


def test_other_folders(tmp_path):
  with pytest.raises(errors.UserError, match='expected the tasks of v2'):
    score(tmp_path)
  samples.note(tmp_path / 'prompts_staged_200.json', {'splits': {'Daily': 1}})
  with pytest.raises(errors.UserError, match='expected `splits` with `tasks`'):
    score(tmp_path)
