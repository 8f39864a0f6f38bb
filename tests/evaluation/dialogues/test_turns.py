import io

import pyarrow
from pyarrow import parquet
import pytest

from step_audio_jax import errors
from step_audio_jax.evaluation.dialogues import registry
from tests import stores
from tests.evaluation.dialogues import samples

TURN, FLOOR = 'Normal Turn', 'Floor-taking Competitive Interruption'
YES = 'Continuer Backchannel'
# Speaker 1: a pause from 2 to 3, the end of a turn at 4. Speaker 2 says yes
# from 1.2 to 1.6, follows at 5, ends at 7; is interrupted at 6.5.
TRACKS = {
  1: [(1, 2, TURN), (3, 4, TURN), (6.5, 9, FLOOR)],
  2: [(1.2, 1.6, YES), (5, 7, TURN)],
}
SPOKEN = {1: [(1, 2), (3, 4), (6.5, 9)], 2: [(1.2, 1.6), (5, 7)]}
EVENTS = {'turn_end': 3, 'interruption': 1}
PERFECT = {
  'speaker_1': {'eot': [4.0, 9.0], 'interruption': [6.5]},
  'speaker_2': {'eot': [7.0], 'interruption': []},
}


def row(id, tracks=TRACKS, **columns):
  found = {'conversation_id': id, 'metadata': {'conversation_type': 'x'}}
  for speaker in (1, 2):
    content = samples.encoded(SPOKEN[speaker], 10)
    found[f'speaker_{speaker}_audio'] = {'bytes': content, 'path': 'x.wav'}
    for annotator in 'abc':
      found[f'speaker_{speaker}_annotation_{annotator}'] = [
        {'start_s': float(s), 'end_s': float(e), 'label': label, 'text': ''}
        for s, e, label in tracks[speaker]
      ]
  return found | columns


def shard(folder, rows, name='dev-00000-of-00001.parquet'):
  path = folder / 'data' / name
  path.parent.mkdir(parents=True, exist_ok=True)
  raw = io.BytesIO()
  table = pyarrow.Table.from_pylist(rows)
  parquet.write_table(table, raw, row_group_size=1)
  path.write_bytes(raw.getvalue())
  return path


def predict(folder, said, **top):
  entries = [{'conversation_id': id, **one} for id, one in said]
  found = {'schema_version': 1, 'predictions': entries, **top}
  samples.note(folder / 'predictions.json', found)


def score(folder, outputs, **settings):
  settings = {'complete': False, **settings}
  return registry.score_folder(
    'turnbench', str(folder), str(outputs), **settings
  )


def test_who_knows_all_is_right(tmp_path):
  shard(tmp_path, [row('20'), row('3')])
  predict(tmp_path, [('20', PERFECT), ('3', PERFECT)])
  found = score(tmp_path, tmp_path)
  assert [one['id'] for one in found['rows']] == ['3', '20']
  for kind, events in EVENTS.items():
    recall = found['figures'][f'{kind}/recall']
    assert (recall['value'], recall['of']) == (1, 2 * events)
    assert found['figures'][f'{kind}/false_positive_rate'] == {
      'value': 0,
      'unit': '%',
      'of': 2,
      'better': 'lower',
    }
    assert found['figures'][f'{kind}/latency_p90']['value'] == 0
  assert found['not_computed'] == {}
  assert found['counted']['scored'] == 2


def test_latency_recall_and_false_alarms(tmp_path):
  shard(tmp_path, [row('20')])
  late = {
    # In the pause, 0.4 s after the end; nothing at 9 s.
    'speaker_1': {'eot': [2.5, 4.4], 'interruption': []},
    # 0.2 s after the end; the backchannel is taken for an interruption.
    'speaker_2': {'eot': [7.2], 'interruption': [1.3]},
  }
  predict(tmp_path, [('20', late)])
  figures = samples.figures(score(tmp_path, tmp_path))
  assert figures['turn_end/recall'] == pytest.approx(2 / 3)
  assert figures['turn_end/false_positive_rate'] == 1
  assert figures['turn_end/latency_p50'] == pytest.approx(0.3)
  assert figures['turn_end/latency_p10'] == pytest.approx(0.22)
  assert figures['interruption/recall'] == 0
  assert figures['interruption/false_positive_rate'] == 1
  assert 'interruption/latency_p50' not in figures


def test_recordings_answer_to_ends_of_turns(tmp_path):
  shard(tmp_path, [row('20')])
  out = tmp_path / 'out/20'
  # Into the pause, after the end (0.7 s), while the user speaks.
  answers = [(2.3, 2.6), (4.7, 5.7), (8.0, 8.5)]
  samples.record(out / 'speaker_1/output.wav', answers, 10)
  samples.record(out / 'speaker_2/output.wav', [(7.5, 9)], 10)
  found = score(tmp_path, tmp_path / 'out')
  figures = samples.figures(found)
  assert figures['turn_end/recall'] == pytest.approx(2 / 3)
  assert figures['turn_end/false_positive_rate'] == 1
  median = figures['turn_end/latency_p50']
  assert median == pytest.approx(0.6, abs=2 * samples.NEAR)
  assert 'cannot be heard' in found['not_computed']['interruption/recall']
  # One side alone: its events alone.
  (out / 'speaker_2/output.wav').unlink()
  found = score(tmp_path, tmp_path / 'out')
  assert found['figures']['turn_end/recall']['of'] == 2
  assert found['counted']['cut'] == {
    'recorded with one of the speakers only': 1
  }


def srt(segments):
  def time(seconds):
    ms = round(seconds * 1000)
    return f'00:00:{ms // 1000:02},{ms % 1000:03}'

  cues = [
    f'{k}\n{time(s)} --> {time(e)}\n[{label}] words\n'
    for k, (s, e, label) in enumerate(segments, 1)
  ]
  return '\n'.join(cues)


def test_folders_of_subtitles_are_read_alike(tmp_path):
  shard(tmp_path / 'one', [row('20')])
  place = tmp_path / 'two/20'
  place.mkdir(parents=True)
  for speaker, segments in TRACKS.items():
    for annotator in 'abc':
      path = place / f'speaker_{speaker}_annotation_{annotator}.srt'
      path.write_text(srt(segments))
    samples.record(place / f'speaker_{speaker}_audio.wav', SPOKEN[speaker], 10)
    out = tmp_path / f'out/20/speaker_{speaker}/output.wav'
    samples.record(out, [(4.7, 5.7)], 10)
  predict(tmp_path, [('20', PERFECT)])
  for outputs in (tmp_path, tmp_path / 'out'):
    found = score(tmp_path / 'two', outputs)
    assert found == score(tmp_path / 'one', outputs)
    assert found['counted']['scored'] == 1
  path.unlink()
  left_out = score(tmp_path / 'two', tmp_path)['counted']['left_out']
  assert left_out == {'annotations are not whole': 1}
  path.write_text('1\n0:1 -> 2\n')
  left_out = score(tmp_path / 'two', tmp_path)['counted']['left_out']
  assert left_out == {'annotations cannot be read': 1}


def test_a_bucket_is_a_folder(tmp_path, gs_folder):
  shard(tmp_path, [row('20')])
  samples.record(tmp_path / '20/speaker_1/output.wav', [(4.7, 5)], 10)
  stores.upload(tmp_path, gs_folder)
  assert score(gs_folder, gs_folder) == score(tmp_path, tmp_path)


def changed(**events):
  return {**PERFECT, 'speaker_1': {**PERFECT['speaker_1'], **events}}


def test_nothing_is_forgotten(tmp_path):
  blank = row('4', {1: [], 2: []})
  broken = row('5', {1: [(3, 2, TURN)], 2: []})
  rows = [row(str(k)) for k in (1, 2, 3)] + [blank, broken, row('1')]
  shard(tmp_path, rows + [row(str(k)) for k in range(6, 10)])
  shard(tmp_path, [row('99')], 'x.parquet').write_bytes(b'PAR1 half of it')
  old = pyarrow.Table.from_pylist([{'id': 1}])
  parquet.write_table(old, tmp_path / 'data/y.parquet')
  predict(
    tmp_path,
    [
      ('1', PERFECT),
      ('3', changed(eot=[2.0, 1.0])),
      ('6', changed(eot=['4'])),
      ('7', changed(eot=[float('nan')])),
      ('8', PERFECT),
      ('8', PERFECT),
      ('9', {'speaker_1': PERFECT['speaker_1']}),
      ('77', PERFECT),
    ],
  )
  found = score(tmp_path, tmp_path, complete=True)
  assert found['counted'] == {
    'scored': 1,
    'of': 38,
    'unit': 'dialogues',
    'left_out': {
      'annotations are withheld': 1,
      'annotations are not of this version': 1,
      'an id that was there before': 1,
      'a shard cannot be read': 1,
      'a shard is not of this version': 1,
      'predicted and not in the benchmark': 1,
      'not predicted': 1,
      'predictions do not increase': 1,
      'predictions are no times': 3,
      'predicted twice': 1,
      'in the published version and not in the folder': 25,
    },
    'cut': {},
  }
  assert samples.figures(found)['turn_end/recall'] == 1


@pytest.mark.parametrize('top', [{'schema_version': 2}, {'predictions': None}])
def test_predictions_of_another_version(top, tmp_path):
  shard(tmp_path, [row('20')])
  predict(tmp_path, [('20', PERFECT)], **top)
  with pytest.raises(errors.UserError, match='expected 1 and a list'):
    score(tmp_path, tmp_path)


def test_other_folders(tmp_path):
  with pytest.raises(errors.UserError, match=r'expected \*.parquet'):
    score(tmp_path, tmp_path)
  shard(tmp_path, [row('20')])
  found = score(tmp_path, tmp_path)
  assert found['counted']['left_out'] == {'output.wav is not there': 1}
  assert found['figures'] == {}
