import json

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.evaluation.dialogues import base
from step_audio_jax.evaluation.dialogues import registry
from step_audio_jax.evaluation.dialogues import takeover
from tests import stores
from tests.evaluation.dialogues import samples

SECONDS = 10.0
TIMES = {
  'candor_pause_handling': ('pause.json', (3.0, 4.0)),
  'synthetic_pause_handling': ('pause.json', (3.0, 4.0)),
  'candor_turn_taking': ('turn_taking.json', (4.0, 4.3)),
  'synthetic_user_interruption': ('interrupt.json', (5.0, 6.0)),
}


def make(folder, subset, id, bursts, outputs=None, spoken=None):
  """A dialogue whose output has these bursts, and words in `spoken`."""
  place = folder / subset / id
  samples.record(place / 'input.wav', [(0.5, 4.0)], SECONDS)
  if subset in TIMES:
    name, times = TIMES[subset]
    samples.note(place / name, [{'text': '[X]', 'timestamp': times}])
  place = (outputs or folder) / subset / id
  samples.record(place / 'output.wav', bursts, SECONDS)
  spoken = bursts if spoken is None else spoken
  samples.note(place / 'output.json', samples.said(*spoken))
  return place


def score(folder, **settings):
  settings = {'complete': False, **settings}
  return registry.score_folder('full_duplex_bench_1', str(folder), **settings)


def test_rates_are_those_by_construction(tmp_path):
  outputs = tmp_path / 'outputs'
  for subset in TIMES:
    for id, bursts in enumerate([[(7, 9)], [(7, 7.5)], [], [(7.2, 8.6)]]):
      make(tmp_path / 'folder', subset, str(id), bursts, outputs)
  found = score(tmp_path / 'folder', outputs=str(outputs))
  for subset in TIMES:
    better = 'lower' if 'pause' in subset else 'higher'
    for name in ('takeover_rate', 'activity_takeover_rate'):
      assert found['figures'][f'{subset}/{name}'] == {
        'value': 0.5,
        'unit': '%',
        'of': 4,
        'better': better,
      }
  assert found['counted'] == {
    'scored': 16,
    'of': 16,
    'unit': 'dialogues',
    'left_out': {},
    'cut': {'silent output': 4, 'turn taken and not rated': 2},
  }
  assert found['not_computed']['icc_backchannel/jsd'] == base.NONE_SCORED
  json.dumps(found, allow_nan=False)


@pytest.mark.parametrize('shift', [0.0, 0.37, 1.5])
def test_latencies_move_with_the_output(shift, tmp_path):
  begin = 6.5 + shift
  for subset in ('candor_turn_taking', 'synthetic_user_interruption'):
    make(tmp_path, subset, '0', [(begin, begin + 1.2)])
  figures = samples.figures(score(tmp_path))
  for subset, end in (
    ('candor_turn_taking', 4.0),
    ('synthetic_user_interruption', 6.0),
  ):
    late = figures[f'{subset}/response_latency']
    assert late == pytest.approx(begin - end)
    heard = figures[f'{subset}/activity_response_latency']
    assert heard == pytest.approx(begin - end, abs=samples.NEAR)


def test_who_speaks_early_waits_for_nothing(tmp_path):
  make(tmp_path, 'candor_turn_taking', '0', [(2.0, 9.0)])
  make(tmp_path, 'candor_turn_taking', '1', [(5.0, 9.0)])
  figures = samples.figures(score(tmp_path))
  assert figures['candor_turn_taking/response_latency'] == pytest.approx(0.5)


def test_what_was_said_before_an_interruption_is_no_answer(tmp_path):
  subset = 'synthetic_user_interruption'
  make(tmp_path, subset, '0', [(1.0, 5.5)])  # falls silent
  make(tmp_path, subset, '1', [(1.0, 5.5), (7.0, 9.0)])
  make(tmp_path, subset, '2', [(1.0, 9.0)])  # goes on
  found = score(tmp_path)
  assert [r['takes_turn'] for r in found['rows']] == [False, True, True]
  assert [r['activity_takes_turn'] for r in found['rows']] == [
    False,
    True,
    True,
  ]
  figures = samples.figures(found)
  assert figures[f'{subset}/response_latency'] == pytest.approx(0.5)


def test_ratings_are_read_and_not_made(tmp_path):
  subset = 'synthetic_user_interruption'
  for id, rating in enumerate([4, 1, None, 'five', 9]):
    place = make(tmp_path, subset, str(id), [(7, 9)])
    if rating is not None:
      samples.note(place / 'rating.json', {'rating': rating})
  found = score(tmp_path)
  rated = found['figures'][f'{subset}/rating']
  assert (rated['value'], rated['of']) == (2.5, 2)
  assert found['counted']['cut'] == {takeover._UNRATED: 3}
  for path in tmp_path.glob('**/rating.json'):
    path.unlink()
  found = score(tmp_path)
  assert 'no judge' in found['not_computed'][f'{subset}/rating']
  assert f'{subset}/rating' not in found['figures']


def test_without_words_there_is_no_rate_of_words(tmp_path):
  place = make(tmp_path, 'candor_turn_taking', '0', [(5, 7)])
  (place / 'output.json').unlink()
  found = score(tmp_path)
  assert (
    'output.json' in (found['not_computed']['candor_turn_taking/takeover_rate'])
  )
  assert samples.figures(found)['candor_turn_taking/activity_takeover_rate']
  assert list(found['counted']['cut']) == [
    'without time-aligned words (output.json)'
  ]


def test_backchannels(tmp_path):
  subset, people = 'icc_backchannel', np.zeros(51)
  people[10:16] = 1  # 2 to 3 s of 10.2
  samples.note(tmp_path / 'icc_gt_distribution.json', {'0': people.tolist()})
  # At the same time as people; too many words; a turn; nothing; another id.
  make(tmp_path, subset, '0', [(2.05, 2.95)], spoken=[(2.2, 2.7)])
  make(tmp_path, subset, '1', [(2.0, 2.9)])
  make(tmp_path, subset, '2', [(1.0, 1.4), (3.0, 7.0), (8.0, 8.5)])
  make(tmp_path, subset, '3', [])
  found = score(tmp_path)
  rows = found['rows']
  assert [row['takes_turn'] for row in rows] == [False, True, True, False]
  assert [row['backchannels'] for row in rows] == [1, 1, 1, 0]
  figures = samples.figures(found)
  assert figures[f'{subset}/frequency'] == pytest.approx(3 / 4 / SECONDS)
  assert found['figures'][f'{subset}/jsd']['of'] == 1
  # 5 windows of 0.2 s against 6 that hold them: in closed form.
  shared = 5 * (0.1 * np.log(1 / 5 / (11 / 60)) + 1 / 12 * np.log(10 / 11))
  expected = np.sqrt(shared + np.log(2) / 12)
  assert rows[0]['jsd'] == pytest.approx(expected, abs=1e-4)
  (tmp_path / 'icc_gt_distribution.json').unlink()
  assert 'icc_gt' in score(tmp_path)['not_computed'][f'{subset}/jsd']


def test_nothing_is_forgotten(tmp_path):
  subset = 'candor_turn_taking'
  for id in range(9):
    make(tmp_path, subset, str(id), [(5, 7)])
  place = tmp_path / subset
  (place / '0/output.wav').unlink()
  (place / '1/input.wav').unlink()
  (place / '2/turn_taking.json').unlink()
  (place / '3/turn_taking.json').write_text('[{"timestamp": [4')
  samples.note(place / '4/turn_taking.json', {'timestamps': [4, 5]})
  samples.record(place / '5/output.wav', [(1, 2)], 3.0)
  (place / '6/output.wav').write_bytes(b'RIFF')
  samples.note(place / '7/output.json', [])
  found = score(tmp_path, complete=True, only=(subset,))
  assert {
    row['id'].rpartition('/')[2]: row['fault'] for row in found['rows']
  } == {
    '0': 'output.wav is not there',
    '1': 'input.wav is not there',
    '2': 'turn_taking.json is not there',
    '3': 'turn_taking.json cannot be read',
    '4': 'turn_taking.json is not of this version',
    '5': 'output.wav ends before the event that is scored',
    '6': 'output.wav cannot be read',
    '7': 'output.json is not of the form of time-aligned words',
    '8': '',
  }
  counted = found['counted']
  assert (counted['scored'], counted['of']) == (1, 119)
  assert counted['left_out'][base.ABSENT] == 110
  assert counted['scored'] + sum(counted['left_out'].values()) == 119
  assert found['figures'][f'{subset}/takeover_rate']['of'] == 1


def test_ids_are_in_order_and_hidden_folders_are_none(tmp_path):
  for id in ('10', '9', '.git', '__MACOSX'):
    make(tmp_path, 'candor_turn_taking', id, [(5, 7)])
  ids = [row['id'] for row in score(tmp_path)['rows']]
  assert ids == ['candor_turn_taking/9', 'candor_turn_taking/10']


def test_a_bucket_is_a_folder(tmp_path, gs_folder):
  for id in range(2):
    make(tmp_path, 'candor_turn_taking', str(id), [(5, 7)])
  stores.upload(tmp_path, gs_folder)
  assert score(gs_folder) == score(tmp_path)


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'outputs': 'nowhere'}, 'outputs: found no folder nowhere'),
    ({'only': ('pauses',)}, 'only: found pauses, expected some of candor_'),
    ({'only': ()}, 'only: found nothing'),
    ({'tolerance': -1.0}, 'tolerance is -1.0'),
  ],
)
def test_wrong_settings(settings, message, tmp_path):
  with pytest.raises(errors.UserError, match=message):
    score(tmp_path, **settings)


def test_other_folders(tmp_path):
  with pytest.raises(errors.UserError, match='found no folder, expected'):
    score(tmp_path)
  (tmp_path / 'user_backchannel').mkdir()
  with pytest.raises(errors.UserError, match='found user_backchannel, expec'):
    score(tmp_path)
  with pytest.raises(errors.UserError, match="found benchmark 'fdb'"):
    registry.score_folder('fdb', str(tmp_path))
  make(tmp_path, 'icc_backchannel', '0', [])
  samples.note(tmp_path / 'icc_gt_distribution.json', {'0': ['a']})
  with pytest.raises(errors.UserError, match='expected the weights of windows'):
    score(tmp_path)
