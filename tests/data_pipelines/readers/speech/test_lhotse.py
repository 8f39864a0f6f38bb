"""Lhotse's cuts, pairs and SHAR: which file, which part, which channel."""

import functools
import json

import numpy as np
import pytest
import soundfile

from data_pipelines.ingestion import admission
from data_pipelines.readers.common import base
from data_pipelines.readers.speech import lhotse
from data_pipelines.readers.speech import lhotse_cuts
from step_audio_jax import errors
from step_audio_jax.audio import io as audio_io
from tests.data_pipelines.ingestion import ingesting
from tests.data_pipelines.readers import trees

ingested = functools.partial(ingesting.ingested, format='lhotse')

STEREO = trees.tone(1.0, channels=2)


def supervision(name, start=0.0, duration=0.25, **fields):
  return {
    'id': name, 'recording_id': 'r', 'start': start, 'duration': duration,
    'channel': 0, 'text': name, **fields,
  }  # fmt: skip


def cut(name, *supervisions, start=0.0, duration=1.0, **fields):
  return {
    'id': name, 'type': 'MonoCut', 'start': start, 'duration': duration,
    'channel': 0, 'recording': trees._recording('r', 'r.wav', 1.0),
    'supervisions': list(supervisions), **fields,
  }  # fmt: skip


@pytest.fixture
def source(tmp_path):
  trees.put(tmp_path / 'in' / 'r.wav', trees.tone(1.0))
  trees.put(tmp_path / 'in' / 'stereo.wav', STEREO)
  return tmp_path / 'in'


def conversation(kind='file', path='stereo.wav'):
  """Two people, each on a channel; and both."""
  return cut(
    'talk',
    supervision('left', 0.25, 0.5, channel=3),
    supervision('right', 0.5, 0.25, channel=[7]),
    supervision('both', 0.0, 0.5, channel=[3, 7]),
    supervision('gone', 0.0, 0.5, channel=5),
    type='MultiCut',
    channel=[3, 7],
    recording=trees._recording('r', path, 1.0, (3, 7), kind),
  )


def heard(corpus, utterance):
  """The samples of an utterance, (S,), at the rate of its file."""
  path = utterance.audio_path(corpus)
  part = dict(utterance.part(), sample_rate=utterance.sample_rate)
  return audio_io.read_audio(path, **part)[0]


@pytest.mark.parametrize('format', ['lhotse', 'lhotse_shar'])
def test_who_speaks_on_a_channel_is_heard_alone(format, source, tmp_path):
  if format == 'lhotse':
    trees.put(source / 'cuts.jsonl', [conversation()])
  else:
    trees.put(source / 'cuts.jsonl', [conversation('shar', '')])
    trees.tar(source / 'recording.tar', [('talk.wav', STEREO)])
  kept, (left,) = ingested(source, tmp_path / 'out', format=format)
  stereo, _ = soundfile.read(source / 'stereo.wav')
  for name, begin, end, channels in (
    ('left', 2000, 6000, [0]),
    ('right', 4000, 6000, [1]),
    ('both', 0, 4000, [0, 1]),
  ):
    np.testing.assert_allclose(
      heard(tmp_path / 'out', kept[name]),
      stereo[begin:end, channels].mean(axis=1),
      atol=1e-6,
    )
  assert [kept[name].channel for name in kept] == [0, 1, None]
  assert left['id'] == 'gone'
  assert 'channel' in left['reason'] and '[3, 7]' in left['reason']


@pytest.mark.parametrize(
  'change, reason',
  [
    ({'type': 'MixedCut', 'tracks': []}, "type: found 'MixedCut'"),
    ({'type': 'PaddingCut'}, "type: found 'PaddingCut'"),
    ({'recording': None}, 'recording: missing'),
    ({'supervisions': [3]}, 'supervisions: expected a list of objects'),
    ({'supervisions': {'a': 1}}, 'supervisions: expected a list of objects'),
    ({'start': 'x'}, "start: found 'x'"),
    ({'channel': 'left'}, "channel: found 'left'"),
    ({'channel': []}, 'channel: found []'),
    ({'source': '../r.wav'}, "without '..'"),
    ({'source': '/etc/passwd'}, 'leads out of'),
    ({'source': 'gone.wav'}, 'no such file'),
    ({'source': 3}, 'expected a path inside'),
    ({'source': 'cat r.wav', 'type': 'command'}, 'commands are not run'),
    ({'source': 'https://x.org/a.wav', 'type': 'url'}, 'addresses not opened'),
    ({'channels': 3}, 'expected a list of {type, channels, source}'),
    ({'channels': [1, 2]}, 'channel: found 0, expected one of [1, 2]'),
    ({'channels': [1, 0]}, 'channel: found 1, but r.wav has 1, counted'),
    ({'transforms': [{'name': 'Speed'}]}, 'transforms that were not applied'),
    ({'sources': []}, '0 sources, 0 with channel 0'),
    ({'sources': None}, 'expected a list of'),
  ],
)
def test_what_is_not_a_file_as_it_stands(change, reason, source, tmp_path):
  bad = cut('bad', supervision('bad'))
  recording = json.loads(json.dumps(bad['recording']))
  for key, value in change.items():
    if key in ('source', 'channels') or value in ('command', 'url'):
      recording['sources'][0][key] = value
      bad['recording'] = recording
    elif key in ('transforms', 'sources'):
      bad['recording'] = {**recording, key: value}
    else:
      bad[key] = value
  lines = [cut('good', supervision('good')), bad]
  trees.put(source / 'cuts.jsonl', lines)
  kept, (left,) = ingested(source, tmp_path / 'out')
  assert list(kept) == ['good']
  assert reason in left['reason'] and left['line'] == 2


def test_a_cut_without_supervisions_has_no_transcript(source, tmp_path):
  lines = [cut('whole', start=0.25, duration=0.5, type='Cut')]
  trees.put(source / 'cuts.jsonl', [*lines, cut('said', supervision('a'))])
  kept, (left,) = ingested(source, tmp_path / 'out')
  assert list(kept) == ['a'] and 'text: missing' in left['reason']
  rules = admission.Rules(untranscribed=True)
  kept, _ = ingested(source, tmp_path / 'two', rules=rules)
  one = kept['whole']
  assert (one.offset, one.duration, one.text) == (0.25, 0.5, None)


def test_times_count_from_the_cut(source, tmp_path):
  """A supervision may begin before its cut; words count from it."""
  words = {'word': [['a', 0.0, 0.125, None], ['b', 0.125, 0.125, 1.0]]}
  line = supervision('x', -0.125, 0.5, alignment=words)
  trees.put(source / 'cuts.jsonl', [cut('c', line, start=0.5, duration=0.25)])
  kept, _ = ingested(source, tmp_path / 'out')
  assert kept['x'].offset == 0.375
  assert kept['x'].words == (('a', 0.125, 0.25), ('b', 0.25, 0.375))


def test_pairs_without_their_recordings(source, tmp_path):
  trees.put(source / 'a_supervisions.jsonl', [supervision('a')])
  with pytest.raises(errors.UserError, match='no .cuts.*supervisions'):
    ingested(source, tmp_path / 'out')
  trees.put(source / 'b_supervisions.jsonl', [supervision('b')])
  recording = trees._recording('r', 'r.wav', 1.0)
  lines = [recording, {'id': ['r']}, {**recording, 'id': 3}]
  trees.put(source / 'b_recordings.jsonl.gz', lines)
  kept, (left,) = ingested(source, tmp_path / 'out')
  assert list(kept) == ['b']
  assert 'no recordings of this name' in left['reason']


def test_a_shard_and_its_tar_disagree(source, tmp_path):
  members = [
    ('a/1.wav', trees.tone(1.0)),
    ('a/1.json', '{}'),
    ('b.nodata', ''),
    ('b.nometa', ''),
    ('other.wav', trees.tone(1.0)),
    ('../up.wav', trees.tone(1.0)),
    ('\u00e9.flac', trees.tone(1.0, form='FLAC')),
  ]
  trees.tar(source / 'x' / 'recording.000003.tar', members)
  names = ('a/1', 'b', 'c', 'a/1', '\u00e9', '\ud800', None, 7)
  text = ''.join(
    json.dumps(cut(name, supervision(f'u{k}'))) + '\n'
    for k, name in enumerate(names)
  )
  trees.put(source / 'x' / 'cuts.000003.jsonl', text)
  kept, left = ingested(source, tmp_path / 'out', format='lhotse_shar')
  assert {u.id: u.audio for u in kept.values()} == {
    'u0': 'audio/x/recording.000003/a/1.wav',
    'u4': 'audio/x/recording.000003/\u00e9.flac',
  }
  reasons = [one['reason'] for one in left]
  for reason, count in (
    ("id: 'a/1' occurs twice", 1),
    ('audio: the cut has none', 1),
    ('no cut has this id', 1),
    ('leads out of the archive', 1),
    ('the tar has no recording of this cut', 4),
  ):
    assert sum(reason in one for one in reasons) == count, reason
  assert len(left) == 8


def test_shards_that_are_cut_short(source, tmp_path):
  cuts = [cut(f'c{k}', supervision(f'u{k}')) for k in range(4)]
  members = [(f'c{k}.wav', trees.tone(1.0)) for k in range(4)]
  for shard in range(3):
    lines = json.loads(json.dumps(cuts).replace('"u', f'"s{shard}u'))
    trees.put(source / f'cuts.{shard:06}.jsonl.gz', lines)
    trees.tar(source / f'recording.{shard:06}.tar', members)
  tar = source / 'recording.000000.tar'
  tar.write_bytes(tar.read_bytes()[:40_000])  # in the third recording
  (source / 'recording.000001.tar').unlink()
  kept, left = ingested(source, tmp_path / 'out', format='lhotse_shar')
  assert list(kept) == ['s0u0', 's0u1', 's2u0', 's2u1', 's2u2', 's2u3']
  reasons = [one['reason'] for one in left]
  assert sum('cut short or damaged after' in one for one in reasons) == 1
  assert sum('expected the recordings' in one for one in reasons) == 1
  assert sum('no recording of this cut' in one for one in reasons) == 6
  gz = source / 'cuts.000002.jsonl.gz'
  gz.write_bytes(gz.read_bytes()[:-12])
  _, left = ingested(source, tmp_path / 'two', format='lhotse_shar')
  assert any('cut short or damaged' in one['reason'] for one in left)


def test_nothing_is_there(tmp_path):
  trees.put(tmp_path / 'in' / 'x.jsonl', [{'id': 1}])
  for reader in (lhotse.read, lhotse.read_shar):
    with pytest.raises(errors.UserError, match='expected one'):
      list(reader(tmp_path / 'in', base.Options()))
    with pytest.raises(errors.UserError, match='none for this format'):
      list(reader(tmp_path / 'in', base.Options(extra={'text': 'a'})))


@pytest.mark.parametrize(
  'channels, said, heard',
  [
    ((0,), None, (0,)), ((0,), 5, (0,)), ((0,), [1, 2], (0,)),
    ((0, 1), None, (0, 1)), ((0, 1), 1, (1,)), ((0, 1), [1], (1,)),
    ((0, 1, 4), [4, 0, 4], (4, 0)), ((0, 1), True, (0, 1)),
    ((0, 1), [{}], (0, 1)),
  ],
)  # fmt: skip
def test_the_channels_of_a_supervision(channels, said, heard):
  part = lhotse_cuts.Part(0.0, (), channels, 'a', 1.0)
  assert part.channels_of({'channel': said}) == heard
