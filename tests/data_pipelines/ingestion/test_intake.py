"""The gate of every format: what is kept is whole, the rest has a reason."""

import io
import json
import math
import pathlib

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from data_pipelines import tally
from data_pipelines.ingestion import admission
from data_pipelines.ingestion import intake
from data_pipelines.readers.common import base
from step_audio_jax import errors
from step_audio_jax.corpus import manifest
from tests.data_pipelines.ingestion import ingesting
from tests.data_pipelines.readers import trees

TONE = trees.tone(0.5)
FIELDS = (
  'id', 'kind', 'text', 'language', 'speaker', 'split', 'offset', 'duration',
  'sample_rate', 'words', 'turns',
)  # fmt: skip
ITEMS = st.builds(
  base.Item,
  where=st.just('here'),
  fields=st.fixed_dictionaries(
    {'id': st.sampled_from(['a', 'b', 'c', '\ud800'])},
    optional={
      'text': st.sampled_from(['hi', ' two  words\n', '', None, '\udce9']),
      'kind': st.sampled_from([*manifest.KINDS, 'film']),
      'offset': st.floats(-0.1, 0.7) | st.sampled_from(['0.25', 'x', math.nan]),
      'duration': st.floats(-0.1, 0.7) | st.sampled_from([None, math.inf]),
      'speaker': st.sampled_from(['s', None, 7]),
      'words': st.sampled_from([(), (('hi', 0.0, 0.25),), (('hi', 0.0, 9.0),)]),
    },
  ),
  audio=st.sampled_from([TONE, TONE[:-200], b'', b'no audio', None]),
  audio_name=st.sampled_from(['1.wav', 'd/2.wav', '../3.wav', '/4.wav']),
  line=st.integers(1, 9),
)  # fmt: skip
ANYTHING = st.builds(
  base.Item,
  where=st.just('here'),
  fields=st.dictionaries(st.sampled_from(FIELDS), ingesting.ANY),
  audio=st.sampled_from([TONE, None]),
  audio_name=st.just('1.wav'),
)
REJECTED = st.builds(
  base.Rejected,
  where=st.text(max_size=5),
  reason=st.text(min_size=1, max_size=2000),
  id=ingesting.ANY,
  file=ingesting.ANY,
)


def taken(found, rules=None, put=lambda content, target: None):
  """(run, lines of the manifest, of the quarantine)."""
  run, out = intake.Intake(put, rules or admission.Rules()), io.StringIO()
  kept = [json.loads(json.dumps(line)) for line in run.lines(found, out)]
  left = [json.loads(line) for line in out.getvalue().splitlines()]
  return run, kept, left


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
  st.lists(st.one_of(ITEMS, ANYTHING, REJECTED), max_size=6), st.booleans()
)
def test_counts_add_up_whatever_comes(found, trust):
  placed = {}

  def put(content, target):
    assert not target.startswith('/') and '..' not in target
    assert target not in placed
    placed[target] = content

  run, kept, left = taken(found, admission.Rules(trust_durations=trust), put)
  assert run.read == len(found) == run.kept + run.quarantined
  assert (run.kept, run.quarantined) == (len(kept), len(left))
  utterances = [manifest.Utterance.from_json(line) for line in kept]
  assert len({u.id for u in utterances}) == len(utterances)
  assert {u.audio for u in utterances if u.audio} <= set(placed)
  for u in utterances:
    if u.audio and not trust:
      assert u.offset + u.duration <= 0.51 and u.sample_rate == trees.RATE
  for line in left:
    assert set(line) == {'id', 'line', 'file', 'where', 'reason'}
    assert 0 < len(line['reason']) <= 500 and '\n' not in line['reason']
    for field in ('id', 'file'):
      assert line[field] is None or len(line[field]) <= 200
    json.dumps(line, ensure_ascii=False).encode()
  assert run.result()['utterances'] == len(kept)


def item(name='a', text='hi', audio=TONE, audio_name='1.wav', **fields):
  said = {'id': name, 'text': text, **fields}
  return base.Item('here', said, audio=audio, audio_name=audio_name)


def test_two_recordings_do_not_share_a_name():
  other = trees.tone(0.25)
  _, kept, left = taken([item(), item('b'), item('c', audio=other)])
  assert [line['id'] for line in kept] == ['a', 'b']
  assert 'another file of the corpus has this name' in left[0]['reason']


def test_a_refused_item_takes_no_name_and_no_id():
  calls = []

  def put(content, target):
    calls.append(target)
    if len(calls) == 1:
      raise OSError(5, 'Input/output error')

  _, kept, left = taken([item(), item()], put=put)
  assert len(kept) == len(left) == 1 and calls == ['audio/1.wav'] * 2
  assert left[0]['reason'] == 'audio/1.wav: Input/output error.'


def test_a_file_that_vanishes_and_a_disk_that_is_full(tmp_path):
  path = trees.put(tmp_path / '1.wav', TONE)

  def vanish(content, target):
    path.unlink(missing_ok=True)
    raise OSError(2, 'whatever')

  _, _, left = taken([item(audio=path)], put=vanish)
  assert left[0]['reason'] == 'audio/1.wav: no such file.'

  def too_long(content, target):
    raise OSError(36, 'File name too long')

  rules = admission.Rules(trust_durations=True)
  long = item(audio=tmp_path / ('n' * 300), duration=1.0)
  _, _, left = taken([long], rules, put=too_long)
  assert left[0]['reason'] == 'audio/1.wav: File name too long.'

  def full(content, target):
    raise OSError(28, 'No space left on device')

  with pytest.raises(intake.OutputError, match='audio/1.wav: No space left'):
    taken([item()], put=full)


@pytest.mark.parametrize(
  'text, said',
  [
    (' two \n  words\t', 'two words'),
    ('a\u3000b', 'a b'),
    ('\ufeffx', '\ufeffx'),
    ('x' * 10**6, 'x' * 10**6),
    ('\u4e2d' * 333_333, '\u4e2d' * 333_333),
    ('x' * (10**6 + 1), None),
    ('\u4e2d' * 333_334, None),
    ('', None),
    (7, None),
  ],
)
def test_transcripts(text, said):
  _, kept, left = taken([item(text=text)])
  assert [line['text'] for line in kept] == ([] if said is None else [said])
  assert len(left) == (said is None)


def test_speech_without_a_transcript_where_it_is_asked_for():
  rules = admission.Rules(untranscribed=True)
  _, kept, left = taken([item(text=None), item('b', text=7)], rules)
  assert [line.get('text') for line in kept] == [None]
  assert 'text: missing' in left[0]['reason']


def test_durations_that_are_believed_open_nothing(tmp_path):
  gone = pathlib.Path(tmp_path / 'gone.wav')
  rules = admission.Rules(trust_durations=True, sample_rate=48000)
  found = [
    item(audio=gone, duration=1.5),
    item('b', audio=gone, duration='2', sample_rate=8000),
    item('c', audio=gone, audio_name='2.wav'),
    item('d', audio=gone, duration=-1),
  ]
  _, kept, left = taken(found, rules)
  assert [(u['duration'], u['sample_rate']) for u in kept] == [
    (1.5, 48000), (2.0, 8000),
  ]  # fmt: skip
  assert 'no such file' in left[0]['reason']
  assert 'expected seconds >= 0' in left[1]['reason']


def test_a_recording_is_opened_once_for_its_parts(tmp_path, monkeypatch):
  path = trees.put(tmp_path / 'r.wav', TONE)
  real, calls = admission.audio_io.examine, []

  def examine(source, **named):
    calls.append(source)
    return real(source, **named)

  monkeypatch.setattr(admission.audio_io, 'examine', examine)
  parts = [
    item(f'u{n}', audio=path, offset=n / 10, duration=0.1) for n in range(5)
  ]
  assert len(taken(parts)[1]) == 5 and len(calls) == 1
  trees.put(path, trees.tone(0.25))  # another file has its place now
  assert len(taken(parts)[1]) == 2 and len(calls) == 2


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.text(max_size=3), st.floats(0.1, 9)), max_size=9))
def test_figures_are_those_of_the_lines(said):
  figures = tally.Tally()
  for number, (text, seconds) in enumerate(said):
    figures.add(
      manifest.Utterance(
        id=str(number),
        text=text,
        audio='a',
        duration=seconds,
        sample_rate=1,
        speaker=text or None,
        split='dev' if number % 3 else 'train',
      )  # fmt: skip
    )
  found = figures.result()
  texts = [text for text, _ in said if text]
  assert found['utterances'] == len(said) == sum(found['splits'].values())
  assert found['texts'] == len(set(texts))
  assert found['characters'] == len(set(''.join(texts)) - {' '})
  if said:
    lengths = [seconds for _, seconds in said]
    assert found['max_seconds'] == pytest.approx(max(lengths), abs=1e-3)
    mean = sum(lengths) / len(lengths)
    assert found['mean_seconds'] == pytest.approx(mean, abs=1e-3)
    assert found['speakers'] == sorted(set(texts))


def test_rules_that_cannot_be():
  for rules in ({'dev': -0.1}, {'dev': 0.5, 'test': 0.5}, {'sample_rate': 0}):
    with pytest.raises(errors.UserError, match='found'):
      admission.Rules(**rules)
