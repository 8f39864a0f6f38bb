import pytest

from step_audio_jax import errors
from step_audio_jax.evaluation.dialogues import registry
from step_audio_jax.evaluation.dialogues import tools
from tests.evaluation.dialogues import samples

SPEAKER = '0123456789abcdef01234567'
FLIGHT = {'function': 'book_flight', 'args': {'to': 'New York', 'seats': 2}}
CARD = {'function': 'get_card', 'args': {'id': '$RESULT_0.id'}}


def call(name, start=None, **args):
  found = {'function': name, 'args': args}
  return found if start is None else {**found, 'timestamp_start': start}


BOOKED = call('book_flight', 9.0, to=' new_york', seats=2, extra=1)
LOOKED = call('get_card', 8.5, id=7)


def make(folder, name, calls=None, expected=(FLIGHT, CARD), **result):
  place = folder / f'{name}_{SPEAKER}'
  samples.record(place / 'input.wav', [(0.5, 1)], 2)
  samples.note(
    place / 'metadata.json',
    {
      'id': name,
      'domain': 'travel',
      'difficulty': 'easy' if len(expected) < 2 else 'hard',
      'disfluency_features': ['FILLER'],
      'expected_tool_calls': list(expected),
    },
  )
  if calls is not None:
    found = {
      'actual_tool_calls': calls,
      'transcript': 'Done.',
      'user_speech_end_rel': 8.0,
      'audio_agent_speech_start': 10.0,
      **result,
    }
    samples.note(place / 'result_ours.json', found)
  return place


def score(folder, **settings):
  settings = {'complete': False, **settings}
  return registry.score_folder('full_duplex_bench_3', str(folder), **settings)


def test_figures_are_those_by_construction(tmp_path):
  make(tmp_path, 'a', [LOOKED, BOOKED])
  make(tmp_path, 'b', [BOOKED], audio_agent_speech_start=7.0)
  make(tmp_path, 'c', [call('book_flight', to='Boston', seats=2)], [FLIGHT])
  make(tmp_path, 'd', [], transcript=' ', asr_chunks=[])
  found = score(tmp_path)
  figures = samples.figures(found)
  assert figures['turn_take_rate'] == 3 / 4
  assert figures['tool_selection'] == pytest.approx((1 + 2 / 3 + 1) / 3)
  assert figures['argument_accuracy_exact'] == pytest.approx((1 + 0.5 + 0) / 3)
  assert figures['pass_at_1_exact'] == 1 / 4
  assert figures['pass_at_1_exact/easy'] == 0
  assert figures['pass_at_1_exact/hard'] == pytest.approx(1 / 3)
  assert figures['pass_at_1_exact/FILLER'] == 1 / 4
  assert figures['response_latency'] == 2.0  # a and c
  assert figures['interruption_rate'] == pytest.approx(1 / 3)
  assert figures['tool_call_latency'] == pytest.approx((0.5 + 1.0) / 2)
  # A rule is no judge.
  assert 'pass_at_1' not in figures
  assert found['not_computed']['pass_at_1'] == 'no judge of arguments is given'
  assert 'argument_accuracy' in found['not_computed']
  assert found['not_computed']['task_completion_latency']


def test_a_judge_of_arguments(tmp_path):
  boston = call('book_flight', to='Boston', seats=2)
  make(tmp_path, 'a', [boston], [FLIGHT])
  make(tmp_path, 'b', [BOOKED], [FLIGHT])
  make(tmp_path, 'c', [], [FLIGHT])
  asked = []

  def judge(name, wanted, actual):
    asked.append((name, wanted, actual))
    return None if actual['to'] == 'Boston' else True

  found = score(tmp_path, judge=judge)
  assert [one[0] for one in asked] == ['book_flight'] * 2
  passed = found['figures']['pass_at_1']
  assert (passed['value'], passed['of']) == (0.5, 2)
  assert found['figures']['argument_accuracy']['value'] == 0.5
  assert found['counted']['cut'] == {tools._UNJUDGED: 1}
  assert found['figures']['pass_at_1_exact']['value'] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
  'expected, calls, f1',
  [
    ('ab', 'ba', 1),
    ('ab', 'a', 2 / 3),
    ('a', 'aa', 2 / 3),
    ('aab', 'aba', 1),
    ('a', 'b', 0),
    ('a', '', 0),
    ('', '', 1),
  ],
)
def test_selection_counts_each_name(expected, calls, f1):
  found = tools.selection(
    *([call(n) for n in one] for one in (expected, calls))
  )
  assert found['tool_selection'] == pytest.approx(f1)


def test_calls_of_one_name_are_paired_in_order():
  wanted = [call('a', x=1), call('b'), call('a', x=2)]
  made = [call('a', x=1), call('a', x=3)]
  assert tools.paired(wanted, made) == [
    ('a', {'x': 1}, {'x': 1}),
    ('b', {}, None),
    ('a', {'x': 2}, {'x': 3}),
  ]


@pytest.mark.parametrize(
  'wanted, actual, same',
  [
    ({'x': 'Driver_License '}, {'x': 'driver license'}, True),
    ({'x': 2}, {'x': 2.0}, True),
    ({'x': 2}, {'x': '2'}, False),
    ({'x': 2}, {}, False),
    ({'x': '$RESULT_0.id'}, {'x': None}, True),
    ({'x': '$RESULT_0.id'}, {}, False),
    ({}, {'x': 1}, True),
  ],
)
def test_arguments_by_rule(wanted, actual, same):
  assert tools.equal_arguments(wanted, actual) is same


def test_nothing_is_forgotten(tmp_path):
  make(tmp_path, 'a', [BOOKED], [FLIGHT])
  make(tmp_path, 'b')
  make(tmp_path, 'c', 'no list')
  (make(tmp_path, 'd', []) / 'metadata.json').unlink()
  samples.note(make(tmp_path, 'e', []) / 'metadata.json', {'id': 'e'})
  make(tmp_path, 'f', [], status='inference_failed', transcript='')
  (make(tmp_path, 'g', []) / 'result_ours.json').write_text('{"pid"')
  make(tmp_path, 'h', [call('get_card', 7.0, id=1)], [CARD])
  found = score(tmp_path, complete=True)
  assert found['counted'] == {
    'scored': 3,
    'of': 100,
    'unit': 'dialogues',
    'left_out': {
      'metadata.json is not there': 1,
      'metadata.json is not of this version': 1,
      'result_*.json is not there': 1,
      'result_*.json is not of this version': 1,
      'result_ours.json cannot be read': 1,
      'in the published version and not in the folder': 92,
    },
    'cut': {'status inference_failed': 1, tools._EARLY: 1},
  }
  # A run that failed is a dialogue that failed.
  assert found['figures']['pass_at_1_exact']['of'] == 3
  assert found['figures']['turn_take_rate']['value'] == pytest.approx(2 / 3)


def test_which_provider(tmp_path):
  place = make(tmp_path, 'a', [BOOKED], [FLIGHT])
  samples.note(place / 'result_theirs.json', {'actual_tool_calls': []})
  with pytest.raises(errors.UserError, match='provider: found none, and in .*'):
    score(tmp_path)
  assert (
    samples.figures(score(tmp_path, provider='ours'))['turn_take_rate'] == 1
  )
  theirs = samples.figures(score(tmp_path, provider='theirs'))
  assert theirs['turn_take_rate'] == 0
  with pytest.raises(errors.UserError, match='folders with a metadata.json'):
    score(place)
