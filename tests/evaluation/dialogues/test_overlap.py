import pytest

from step_audio_jax.evaluation.dialogues import registry
from tests.evaluation.dialogues import samples

SECONDS = 14.0
START, END = 7.0, 9.0


def make(folder, subset, id, bursts, times=(START, END), tag=None):
  """A dialogue: a question until 3 s, an overlap, and these bursts."""
  place = folder / subset / id
  samples.record(place / 'input.wav', [(1.0, 3.0), (START, END)], SECONDS)
  samples.note(
    place / 'metadata.json', {'context_text': 'x', 'timestamps': times}
  )
  samples.record(place / 'output.wav', bursts, SECONDS)
  samples.note(place / 'output.json', samples.said(*bursts))
  if tag is not None:
    samples.note(place / 'content_tag.json', {'behaviour': [tag]})


def score(folder, **settings):
  settings = {'complete': False, **settings}
  return registry.score_folder('full_duplex_bench_1_5', str(folder), **settings)


@pytest.mark.parametrize('stop', [0.4, 0.8, 1.7])
@pytest.mark.parametrize('response', [0.9, 2.0])
def test_latencies_are_those_by_construction(stop, response, tmp_path):
  bursts = [(3.8, START + stop), (END + response, END + response + 2)]
  make(tmp_path, 'user_interruption', '0', bursts)
  figures = samples.figures(score(tmp_path))
  for name, seconds in (('stop', stop), ('response', response)):
    found = figures[f'user_interruption/{name}_latency']
    assert found == pytest.approx(seconds, abs=2 * samples.NEAR)
  assert figures['user_interruption/overlap_rate'] == 1


def test_what_is_far_from_the_overlap_does_not_count(tmp_path):
  # It speaks into the question, too, and answers it.
  make(tmp_path, 'user_interruption', '0', [(2.5, 4.0), (10, 12)])
  found = score(tmp_path)
  assert found['rows'][0]['stops'] == []
  why = found['not_computed']['user_interruption/stop_latency']
  assert why == 'nobody is spoken over'
  late = samples.figures(found)['user_interruption/response_latency']
  assert late == pytest.approx(1.0, abs=2 * samples.NEAR)


def test_who_goes_on_stops_with_the_overlap(tmp_path):
  make(tmp_path, 'background_speech', '0', [(4, 13)])
  found = score(tmp_path)
  held = found['figures']['background_speech/stop_latency']
  assert held['value'] == pytest.approx(END - START, abs=2 * samples.NEAR)
  assert held['better'] == 'higher'
  why = found['not_computed']['background_speech/response_latency']
  assert why == 'nobody responds'


def test_short_silences_belong_to_speech(tmp_path):
  make(tmp_path, 'user_interruption', '0', [(3.8, 7.3), (7.7, 8.0)])
  stops = score(tmp_path)['rows'][0]['stops']
  assert len(stops) == 1
  assert stops[0][1] == pytest.approx(8.0, abs=samples.NEAR)


def test_tags_are_those_of_a_judge(tmp_path):
  tags = ['C_RESPOND', 'C_RESPOND', 'C_RESUME', None, 'respond']
  for id, tag in enumerate(tags):
    make(tmp_path, 'user_interruption', str(id), [(4, 7.5)], tag=tag)
  found = score(tmp_path)
  respond = found['figures']['user_interruption/C_RESPOND']
  assert respond == {
    'value': pytest.approx(2 / 3),
    'unit': '%',
    'of': 3,
    'better': 'higher',
  }
  assert found['figures']['user_interruption/C_RESUME']['better'] == 'lower'
  assert list(found['counted']['cut'].values()) == [2]
  assert 'utmosv2' in found['not_computed']


def test_words_a_minute_before_and_after(tmp_path):
  make(tmp_path, 'user_backchannel', '0', [(4, 8), (9.5, 12)])
  row = score(tmp_path)['rows'][0]
  assert row['words_per_minute_before'] == pytest.approx(240)
  assert row['words_per_minute_after'] == pytest.approx(240)


def test_what_is_broken_is_listed(tmp_path):
  bursts = [(4, 7.5)]
  for id, times in enumerate([(7,), (9, 7), ('7', '9'), None, (START, END)]):
    make(tmp_path, 'talking_to_other', str(id), bursts, times=times)
  samples.record(tmp_path / 'talking_to_other/4/output.wav', bursts, 8.0)
  (tmp_path / 'talking_to_other/5').mkdir()  # half a download
  found = score(tmp_path, complete=True, only=('talking_to_other',))
  counted = found['counted']
  assert counted['scored'] == 0 and counted['of'] == 100
  assert counted['left_out'] == {
    'metadata.json is not of this version': 4,
    'output.wav ends before the event that is scored': 1,
    'input.wav is not there': 1,
    'in the published version and not in the folder': 94,
  }
  assert found['figures'] == {}
  assert found['not_computed']['talking_to_other/stop_latency']
