"""Every format, from its published layout to a corpus with a manifest."""

import json

import numpy as np
import pytest
import soundfile

from data_pipelines import __main__ as doors
from data_pipelines import readers
from data_pipelines.ingestion import admission
from data_pipelines.ingestion import ingest
from data_pipelines.readers.common import base
from step_audio_jax import errors
from step_audio_jax.audio import io as audio_io
from step_audio_jax.commands import cli
from tests.data_pipelines.ingestion import ingesting
from tests.data_pipelines.readers import trees

ingested = ingesting.ingested


def test_every_format_has_a_tree():
  assert set(trees.TREES) == set(readers.READERS)


@pytest.mark.parametrize('name', trees.TREES)
def test_its_layout_is_read(name, tmp_path):
  (tmp_path / 'in').mkdir()
  source, expected = trees.TREES[name](tmp_path / 'in')
  kept, left = ingested(source, tmp_path / 'out', name)
  assert left == [] and list(kept) and set(kept) == set(expected)
  for key, fields in expected.items():
    for field, value in fields.items():
      found = getattr(kept[key], field)
      if isinstance(value, float):
        assert found == pytest.approx(value, abs=1e-3), (key, field)
      else:
        assert found == value, (key, field)
    one = kept[key]
    if one.audio is not None:
      length = soundfile.info(one.audio_path(tmp_path / 'out')).duration
      assert one.offset + one.duration <= length + 0.01
    if one.image is not None:
      assert one.image_path(tmp_path / 'out').read_bytes()[:4] == b'\x89PNG'


@pytest.mark.parametrize(
  'name', [name for name, one in readers.READERS.items() if one.marks]
)
def test_a_format_is_told_by_its_files(name, tmp_path):
  source, _ = trees.TREES[name](tmp_path)
  below = {'tfds': 'toy/1.0.0', 'librispeech': 'LibriSpeech'}
  source = source / below.get(name, '')
  found = [key for key, one in readers.READERS.items() if one.fits(source)]
  assert found == [name]


def test_the_channel_of_a_cut_is_heard_and_no_other(tmp_path):
  (tmp_path / 'in').mkdir()
  source, _ = trees.lhotse(tmp_path / 'in')
  kept, _ = ingested(source, tmp_path / 'out', 'lhotse')
  path = kept['s3'].audio_path(tmp_path / 'out')
  assert path.samefile(tmp_path / 'in' / 'audio' / 'stereo.wav')  # no copy
  rate = kept['s3'].sample_rate
  part = dict(kept['s3'].part(), sample_rate=rate)
  samples, _ = audio_io.read_audio(path, **part)
  stereo, _ = soundfile.read(tmp_path / 'in' / 'audio' / 'stereo.wav')
  start = round(0.375 * rate)
  right = stereo[start : start + round(0.25 * rate), 1]
  np.testing.assert_allclose(samples, right, atol=1e-6)


def test_recordings_and_supervisions_make_pairs(tmp_path):
  source = tmp_path / 'in'
  trees.put(source / 'audio' / 'r.wav', trees.tone(1.0))
  recording = trees._recording('r', 'audio/r.wav', 1.0)
  command = trees._recording('x', 'cat a.wav', 1.0, kind='command')
  trees.put(source / 'my_recordings.jsonl', [recording, command])
  line = {'start': 0.5, 'duration': 0.25, 'channel': 0, 'text': 'hi'}
  trees.put(
    source / 'my_supervisions.jsonl',
    [
      {'id': 'a', 'recording_id': 'r', **line},
      {'id': 'b', 'recording_id': 'gone', **line},
      {'id': 'c', 'recording_id': 'x', **line},
    ],
  )
  kept, left = ingested(source, tmp_path / 'out', 'lhotse')
  assert list(kept) == ['a'] and kept['a'].offset == 0.5
  assert [one['id'] for one in left] == ['b', 'c']
  assert "no recording 'gone'" in left[0]['reason']
  assert 'commands are not run' in left[1]['reason']


def test_pipes_are_refused_unless_asked_for(tmp_path):
  source = tmp_path / 'in'
  trees.put(source / 'a.wav', trees.tone(0.5))
  trees.put(source / 'wav.scp', 'u1 cat a.wav |\nu2 cat a.wav | sox - - |\n')
  trees.put(source / 'text', 'u1 one\nu2 two\n')
  with pytest.raises(errors.UserError, match='--allow_pipes runs it'):
    ingest.ingest(source, tmp_path / 'out', format='kaldi')
  assert not (tmp_path / 'out').exists()
  kept, left = ingested(source, tmp_path / 'out', 'kaldi', pipes=True)
  assert list(kept) == ['u1'] and kept['u1'].duration == 0.5
  assert 'expected a single command' in left[0]['reason']


def test_classes_of_others_are_not_imported(tmp_path):
  source, _ = trees.tfds(tmp_path)
  path = source / 'toy' / '1.0.0' / 'features.json'
  told = json.loads(path.read_text())
  told['pythonClassName'] = 'os.path.Evil'
  path.write_text(json.dumps(told))
  with pytest.raises(errors.UserError, match='expected a class of tensorflow'):
    list(readers.READERS['tfds'].read(source, base.Options()))


def line_of(text='hello', **fields):
  return {'key': 'k', 'wav': '1.wav', 'txt': text, **fields}


@pytest.mark.parametrize(
  'line, reason',
  [
    (line_of(wav='gone.wav'), 'no such file'),
    (line_of(wav='../1.wav'), "without '..'"),
    (line_of(wav='/etc/passwd'), 'leads out of'),
    (line_of(wav='link.wav'), 'leads out of'),
    (line_of(wav='text.wav'), 'not readable as audio'),
    (line_of(wav='cut.wav'), 'cut short'),
    (line_of(wav='.'), 'not a regular file'),
    (line_of(wav=7), 'expected a path inside'),
    (line_of(''), 'text: missing'),
    (line_of('   '), 'text: missing'),
    (line_of('x' * 10_000_000), 'bytes, expected at most 1000000'),
    (line_of('\ud800'), 'half of a character'),
    (line_of(key=None), 'id: found None'),
    (line_of(key='good'), 'occurs twice'),
    (line_of(start=0.5, end=0.25), 'duration: found -0.25'),
    (line_of(start=-1, end=0.25), 'offset: found -1'),
    (line_of(start=0, end=9), 'has only 1.000 s there'),
    (line_of(start=5, end=9), 'lies outside the recording'),
    (line_of(start='soon', end=9), 'expected seconds'),
    (line_of(start=float('nan'), end=1), 'expected seconds'),
    ([1], 'expected a JSON object'),
  ],
)
def test_a_bad_line_costs_itself_alone(line, reason, tmp_path):
  source = tmp_path / 'in'
  trees.put(source / '1.wav', trees.tone(1.0))
  trees.put(source / 'text.wav', 'these are words')
  trees.put(source / 'cut.wav', trees.tone(1.0)[:-100])
  trees.put(tmp_path / 'secret.wav', trees.tone(1.0))
  (source / 'link.wav').symlink_to(tmp_path / 'secret.wav')
  good = {'key': 'good', 'wav': '1.wav', 'txt': 'fine'}
  text = json.dumps(line)  # surrogates stay escaped
  trees.put(source / 'data.list', f'{json.dumps(good)}\n{text}\n')
  kept, (left,) = ingested(source, tmp_path / 'out', 'wenet')
  assert list(kept) == ['good'] and reason in left['reason'], left
  assert left['line'] == 2 and len(left['reason']) <= 500
  assert not list((tmp_path / 'out').rglob('*secret*'))


@pytest.mark.parametrize('end', ['\n', '\r\n'])
@pytest.mark.parametrize('mark', [b'', b'\xef\xbb\xbf'])
def test_marks_line_ends_and_encodings(mark, end, tmp_path):
  source = tmp_path / 'in'
  trees.put(source / '1.wav', trees.tone(1.0))
  lines = [
    f'{{"key": "k{n}", "wav": "1.wav", "txt": "café"}}' for n in range(3)
  ]
  raw = [line.encode() for line in lines]
  raw[1] = lines[1].encode('latin-1')
  trees.put(source / 'data.list', mark + end.encode().join([*raw, b'']))
  kept, (left,) = ingested(source, tmp_path / 'out', 'wenet')
  assert [u.text for u in kept.values()] == ['café', 'café']
  assert 'not UTF-8' in left['reason'] and left['line'] == 2


def test_archives_lead_nowhere(tmp_path):
  source = tmp_path / 'in'
  path = trees.tar(
    source / 'x.tar',
    [
      ('../out.wav', trees.tone(0.25)),
      ('/abs.wav', trees.tone(0.25)),
      ('good.wav', trees.tone(0.25)),
      ('good.txt', 'fine'),
      ('late.wav', trees.tone(0.25)),
      ('late.txt', 'lost'),
    ],
  )
  path.write_bytes(path.read_bytes()[:-12000])
  kept, left = ingested(source, tmp_path / 'out', 'webdataset')
  assert 'x/good' in kept
  reasons = ' '.join(one['reason'] for one in left)
  assert reasons.count('leads out of the archive') == 2
  assert 'cut short or damaged after' in reasons
  assert sorted(p.name for p in tmp_path.iterdir()) == ['in', 'out']


def test_two_files_do_not_share_a_name(tmp_path):
  source = tmp_path / 'in'
  for shard in ('a/x.tar', 'b/x.tar'):
    trees.tar(
      source / shard, [('k.wav', trees.tone(0.25)), ('k.txt', 'same key')]
    )
  kept, left = ingested(source, tmp_path / 'out', 'webdataset')
  assert set(kept) == {'a/x/k', 'b/x/k'} and left == []


def test_the_door_names_formats_and_counts(tmp_path, capsys):
  def call(*flags):
    argv = ['data_pipelines', 'ingest', '--json', *map(str, flags)]
    status = cli.dispatch('data_pipelines', doors.DOORS, argv)
    out = capsys.readouterr()
    return status, out.out, out.err

  status, out, _ = call('--help')
  assert status == 0 and all(name in out for name in readers.READERS)
  (tmp_path / 'in').mkdir()
  source, expected = trees.kaldi(tmp_path / 'in')
  flags = [f'--source={source}', f'--output={tmp_path}/out', '--format=auto']
  status, out, _ = call(*flags, '--dry_run')
  assert status == 0 and json.loads(out.splitlines()[-1])['kept'] == 2
  assert not (tmp_path / 'out').exists()
  status, out, _ = call(*flags)
  told = json.loads(out.splitlines()[-1])
  assert (status, told['kept'], told['read']) == (0, 2, len(expected))
  for more, words in (
    (['--format=wenet'], 'data.list: no such file'),
    (['--reader_option=x'], 'expected NAME=VALUE'),
    (['--reader_option=x=1'], "unknown option 'x'"),
    (['--source=/nowhere'], 'no such file or folder'),
    (['--dev=2'], 'expected shares below 1'),
  ):
    status, _, err = call(*flags, *more)
    assert status == 2 and words in err and err.count('\n') == 1
  status, _, err = call(f'--source={tmp_path}', *flags[1:])
  assert status == 2 and 'it looks like no format' in err


def test_stated_durations_are_believed_where_asked(tmp_path):
  source = tmp_path / 'in'
  trees.put(
    source / 'manifest.json',
    [{'audio_filepath': 'a.wav', 'duration': 2.5, 'text': 'hi'}],
  )
  trees.put(source / 'a.wav', b'not opened')
  rules = admission.Rules(trust_durations=True, sample_rate=44100)
  kept, _ = ingested(
    source / 'manifest.json', tmp_path / 'out', 'nemo', rules=rules
  )
  assert (kept['a'].duration, kept['a'].sample_rate) == (2.5, 44100)
