"""Lines that name a channel, from each format to each consumer's ears."""

import base64
import io
import json
import pathlib
import re

import numpy as np
import pyarrow as pa
from pyarrow import parquet as pq
import pytest
import soundfile

from data_pipelines.codes import align
from data_pipelines.codes import encoding
from data_pipelines.codes import tokenize
from data_pipelines.ingestion import admission
from data_pipelines.ingestion import ingest
from data_pipelines.readers.common import channels
from step_audio_jax import errors
from step_audio_jax.audio import channels as mixing
from step_audio_jax.audio import io as audio_io
from step_audio_jax.audio import levels
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.evaluation.reports import utterances
from step_audio_jax.storage import files
from step_audio_jax.training.feeds import recordings
from tests.data_pipelines import stand_in
from tests.data_pipelines.ingestion import ingesting
from tests.data_pipelines.readers import trees

ingested = ingesting.ingested
RATE = 16000


def noise(seed, seconds=1.0):
  return np.random.default_rng(seed).uniform(-0.5, 0.5, int(seconds * RATE))


LEFT, RIGHT = noise(1), noise(2)
STEREO = np.stack([LEFT, RIGHT], 1).astype(np.float32)


def wav(samples, subtype='PCM_16'):
  out = io.BytesIO()
  soundfile.write(out, samples, RATE, subtype, format='WAV')
  return out.getvalue()


def nemo(root, name='channel', values=(0, 1)):
  trees.put(root / 'talk.wav', wav(STEREO))
  trees.put(
    root / 'talks.json',
    [
      {'audio_filepath': 'talk.wav', 'duration': 1.0, 'text': 'a', name: value}
      for value in values
    ],
  )
  return root / 'talks.json', 'nemo', ['talk-ch0', 'talk-ch1']


def nemo_selector(root):
  return nemo(root, 'channel_selector', ([0], '1'))


def nemo_tarred(root):
  line = {'audio_filepath': 'talk.wav', 'duration': 1.0, 'text': 'a'}
  lines = [{**line, 'shard_id': 0, 'channel': k} for k in (0, 1)]
  trees.put(root / 'tarred_audio_manifest.json', lines)
  trees.tar(root / 'audio_0.tar', [('talk.wav', wav(STEREO))])
  return root, 'nemo_tarred', ['audio_0/talk-ch0', 'audio_0/talk-ch1']


def table(root):
  trees.put(root / 'talk.wav', wav(STEREO))
  text = 'file,text,channel\ntalk.wav,a,0\ntalk.wav,b,1\n'
  trees.put(root / 'metadata.csv', text)
  return root, 'folder', ['talk-ch0', 'talk-ch1']


def json_table(root):
  trees.put(root / 'talk.wav', wav(STEREO))
  line = {'file': 'talk.wav', 'text': 'a'}
  lines = [{**line, 'channel': 0}, {**line, 'channel': [1], 'id': 'mine'}]
  trees.put(root / 'metadata.jsonl', lines)
  return root, 'folder', ['talk-ch0', 'mine']


def kaldi(root):
  trees.put(root / 'talk.wav', wav(STEREO))
  trees.put(root / 'wav.scp', 'talk-A talk.wav\ntalk-B talk.wav\n')
  trees.put(root / 'text', 'talk-A a\ntalk-B b\n')
  trees.put(root / 'reco2file_and_channel', 'talk-A talk A\ntalk-B talk B\n')
  return root, 'kaldi', ['talk-A', 'talk-B']


def kaldi_segments(root):
  """The recordings' sides by number, as in NIST's tables."""
  kaldi(root)
  trees.put(root / 'text', 'one a\ntwo b\n')
  trees.put(root / 'segments', 'one talk-A 0 1\ntwo talk-B 0 1\n')
  trees.put(root / 'reco2file_and_channel', 'talk-A talk 1\ntalk-B talk 2\n')
  return root, 'kaldi', ['one', 'two']


def kaldi_channels(root):
  """The channel of a segment, as `extract-segments` reads it."""
  trees.put(root / 'talk.wav', wav(STEREO))
  trees.put(root / 'wav.scp', 'talk talk.wav\n')
  trees.put(root / 'text', 'one a\ntwo b\n')
  trees.put(root / 'segments', 'one talk 0 1 0\ntwo talk 0 -1 1\n')
  return root, 'kaldi', ['one', 'two']


def wenet(root):
  trees.put(root / 'talk.wav', wav(STEREO))
  lines = [
    {'key': f'u{k}', 'wav': 'talk.wav', 'txt': 'a', 'channel': k}
    for k in (0, 1)
  ]
  trees.put(root / 'data.list', lines)
  return root, 'wenet', ['u0', 'u1']


def webdataset(root):
  members = []
  for k in (0, 1):
    members.append((f'u{k}.wav', wav(STEREO)))
    members.append((f'u{k}.json', json.dumps({'text': 'a', 'channel': k})))
  trees.tar(root / 'x.tar', members)
  return root, 'webdataset', ['x/u0', 'x/u1']


def parquet(root):
  columns = {
    'audio': [{'bytes': wav(STEREO), 'path': None}] * 2,
    'text': ['a', 'b'],
    'channel': [0, 1],
  }
  pq.write_table(pa.table(columns), root / 'x.parquet')
  return root, 'parquet', ['x-1', 'x-2']


def lhotse(root):
  trees.put(root / 'talk.wav', wav(STEREO))
  recording = trees._recording('talk', 'talk.wav', 1.0, (0, 1))
  trees.put(root / 'my_recordings.jsonl', [recording])
  line = {'recording_id': 'talk', 'start': 0.0, 'duration': 1.0, 'text': 'a'}
  lines = [{'id': f's{k}', 'channel': c, **line} for k, c in ((0, 0), (1, [1]))]
  trees.put(root / 'my_supervisions.jsonl', lines)
  return root, 'lhotse', ['s0', 's1']


@pytest.mark.parametrize(
  'make',
  [
    nemo, nemo_selector, nemo_tarred, table, json_table, kaldi, kaldi_segments,
    kaldi_channels, wenet, webdataset, parquet, lhotse,
  ],
)  # fmt: skip
def test_two_lines_on_two_channels_are_two_sounds(make, tmp_path):
  (tmp_path / 'in').mkdir()
  source, format, names = make(tmp_path / 'in')
  kept, left = ingested(source, tmp_path / 'out', format)
  assert list(kept) == names and left == []
  assert [u.channel for u in kept.values()] == [0, 1]
  # An id that is made of the recording's name does not part its channels.
  if names[0].endswith('ch0') and names[1].endswith('ch1'):
    assert len({u.split for u in kept.values()}) == 1
  codes, _ = tokenized(tmp_path, tmp_path / 'out')
  alone = stand_in.StandIn(tmp_path / 'tokenizer')
  heard = audio_io.read_audio(wav(STEREO[:, :1]))[0]
  for name, want in zip(names, (LEFT, RIGHT)):
    want = audio_io.read_audio(wav(want))[0]
    for found, pair in zip(codes[name], alone.encode(want), strict=True):
      np.testing.assert_array_equal(found, pair)
  assert not np.array_equal(codes[names[0]][1], codes[names[1]][1])
  np.testing.assert_allclose(heard, LEFT, atol=1 / 2**15)


def tokenized(root, corpus):
  folder = stand_in.save(root / 'tokenizer')
  output = root / 'codes'
  tokenize.tokenize(corpus, output, folder, load=stand_in.StandIn)
  left = files.read_jsonl(output / 'quarantine.jsonl')
  return speech_codes.read_codes(output), {x['id']: x['reason'] for x in left}


@pytest.fixture
def corpus(tmp_path):
  """A corpus of a stereo recording: its sides, a part of one, and the mean."""
  root = tmp_path / 'corpus'
  trees.put(root / 'talk.wav', wav(STEREO, 'FLOAT'))
  common = dict(audio='talk.wav', duration=1.0, sample_rate=RATE, text='a')
  manifest.write(
    root,
    [
      manifest.Utterance(id='left', channel=0, **common),
      manifest.Utterance(id='right', channel=1, **common),
      manifest.Utterance(
        id='part', channel=1, offset=0.25, **common | {'duration': 0.5}
      ),
      manifest.Utterance(id='both', **common),
    ],
  )
  return root


WANTED = {
  'left': STEREO[:, 0],
  'right': STEREO[:, 1],
  'part': STEREO[4000:12000, 1],
  'both': STEREO.mean(axis=1),
}


def test_every_consumer_hears_the_channel(corpus, tmp_path, monkeypatch):
  known = {u.id: u for u in manifest.read(corpus)}
  reader = recordings.Recordings(corpus)
  for name, utterance in known.items():
    want = WANTED[name]
    np.testing.assert_array_equal(reader.read(utterance), want)  # all feeds
    np.testing.assert_array_equal(
      reader.read(utterance, 0.125, 0.25), want[2000:6000]
    )
    np.testing.assert_array_equal(align._samples(utterance, corpus), want)
    player = re.search('base64,([^"]*)', utterances.player(utterance, corpus))
    found, _ = soundfile.read(io.BytesIO(base64.b64decode(player[1])))
    np.testing.assert_allclose(found, want, atol=2 / 2**15)
  alone = stand_in.StandIn(stand_in.save(tmp_path / 'tokenizer'))
  for longest in (60.0, 0.1):  # in batches, and from the file
    monkeypatch.setattr(encoding, 'LONG_SECONDS', longest)
    codes, left = tokenized(tmp_path / str(longest), corpus)
    assert not left
    for name, want in WANTED.items():
      for found, pair in zip(codes[name], alone.encode(want), strict=True):
        np.testing.assert_array_equal(found, pair)


def test_nobody_reads_an_utterance_in_another_way():
  """Who writes the offset out forgets the channel."""
  root = pathlib.Path(__file__).parents[3]
  for package in ('step_audio_jax', 'data_pipelines', 'benchmarks'):
    for path in (root / package).rglob('*.py'):
      found = re.search(r'offset=\w+\.offset', path.read_text(encoding='utf-8'))
      assert not found, f'{path}: {found[0]}; expected **utterance.part()'


def test_a_changed_channel_is_tokenized_again(corpus, tmp_path):
  before, _ = tokenized(tmp_path, corpus)
  lines = list(files.read_jsonl(corpus / 'manifest.jsonl'))
  lines[0]['channel'] = 1
  files.write_jsonl(corpus / 'manifest.jsonl', lines)
  after, _ = tokenized(tmp_path, corpus)
  np.testing.assert_array_equal(after['left'][1], before['right'][1])


def test_a_channel_that_is_not_there_costs_its_line(tmp_path):
  trees.put(tmp_path / 'in' / 'talk.wav', wav(STEREO))
  trees.put(tmp_path / 'in' / 'mono.wav', wav(LEFT))
  rows = 'talk.wav,a,1\ntalk.wav,b,2\nmono.wav,c,1\nmono.wav,d,x y\n'
  trees.put(tmp_path / 'in' / 'metadata.csv', f'file,text,channel\n{rows}')
  kept, left = ingested(tmp_path / 'in', tmp_path / 'out', 'folder')
  assert list(kept) == ['talk-ch1']
  assert [one['reason'] for one in left] == [
    'channel: found 2, but talk.wav has 2, counted from 0.',
    'channel: found 1, but mono.wav has 1, counted from 0.',
    "channel: found 'x y', expected the number of a channel from 0 on, a "
    'letter from A on, or a list of different ones.',
  ]
  # Where recordings are not opened, whoever opens them says so.
  rules = admission.Rules(trust_durations=True)
  trees.put(
    tmp_path / 'in' / 'metadata.csv',
    'file,text,channel,duration\ntalk.wav,a,1,1\ntalk.wav,b,2,1\n',
  )
  kept, left = ingested(
    tmp_path / 'in', tmp_path / 'blind', 'folder', rules=rules
  )
  assert list(kept) == ['talk-ch1', 'talk-ch2'] and not left
  codes, reasons = tokenized(tmp_path, tmp_path / 'blind')
  assert list(codes) == ['talk-ch1']
  assert 'channel 2: the recording has 2, counted' in reasons['talk-ch2']


def test_sides_that_were_taken_apart_are_heard(tmp_path):
  """As most recipes do it, leaving `reco2file_and_channel` as it was."""
  source, _, _ = kaldi(tmp_path)
  for name, side in (('A', LEFT), ('B', RIGHT)):
    trees.put(source / f'{name}.wav', wav(side))
  trees.put(source / 'wav.scp', 'talk-A A.wav\ntalk-B B.wav\n')
  kept, left = ingested(source, tmp_path / 'out', 'kaldi')
  assert [u.channel for u in kept.values()] == [None, None] and not left


@pytest.fixture
def phases(tmp_path):
  """A good recording, two that cancel, one of silence, one with a dead side."""
  root = tmp_path / 'in'
  left = LEFT.astype(np.float32)
  for name, sides in {
    'good': (left, RIGHT), 'gone': (left, -left), 'weak': (left, -0.9 * left),
    'none': (0 * left, 0 * left), 'dead': (left, 0 * left),
  }.items():  # fmt: skip
    trees.put(root / f'{name}.wav', wav(np.stack(sides, 1), 'FLOAT'))
  trees.put(root / 'mono.wav', wav(left))
  rows = ''.join(f'{path.name},text\n' for path in sorted(root.glob('*.wav')))
  trees.put(root / 'metadata.csv', f'file,text\n{rows}')
  return root


def test_channels_that_cancel_are_in_quarantine(phases, tmp_path, capsys):
  argv = [f'--source={phases}', f'--output={tmp_path / "out"}']
  assert cli.run('ingest', ingest.DOOR, argv) == 0
  out, err = capsys.readouterr()
  assert '3 kept, 3 in quarantine' in out
  assert err.count('2 lines hear the mean of several channels; `channel`') == 1
  kept = {u.id: u.channel for u in manifest.read(tmp_path / 'out')}
  assert kept == {'dead': None, 'good': None, 'mono': None}
  left = files.read_jsonl(tmp_path / 'out' / 'quarantine.jsonl')
  reasons = {one['id']: one['reason'] for one in left}
  for name in ('gone', 'weak'):
    assert f'{name}.wav: its 2 channels cancel each other' in reasons[name]
    assert '--channel' in reasons[name]
  assert 'none.wav: silence' in reasons['none']


def test_the_way_on_is_a_channel(phases, tmp_path, capsys):
  argv = [f'--source={phases}', f'--output={tmp_path / "out"}', '--channel=0']
  assert cli.run('ingest', ingest.DOOR, argv) == 0
  assert 'mean of several' not in capsys.readouterr().err
  kept = {u.id: u.channel for u in manifest.read(tmp_path / 'out')}
  assert kept.pop('mono') is None and set(kept.values()) == {0}
  codes, left = tokenized(tmp_path, tmp_path / 'out')
  assert list(left) == ['none'] and 'silence' in left['none']
  assert list(kept) == ['dead', 'gone', 'good', 'none', 'weak']
  # They are one sound, at the loudness of 16 bits.
  np.testing.assert_array_equal(codes['gone'][1], codes['weak'][1])


def test_names_of_channels_can_be_passed_over(tmp_path):
  """A column `channel` that means something else."""
  trees.put(tmp_path / 'in' / 'a.wav', wav(LEFT))
  row = 'file,text,channel\na.wav,a,7\n'
  trees.put(tmp_path / 'in' / 'metadata.csv', row)
  argv = [f'--source={tmp_path / "in"}', f'--output={tmp_path / "out"}']
  door = ingest.DOOR
  assert cli.run('ingest', door, argv) == 2
  assert cli.run('ingest', door, [*argv, '--channel=first']) == 2
  assert cli.run('ingest', door, [*argv, '--channel=mean']) == 0
  (one,) = manifest.read(tmp_path / 'out')
  assert one.channel is None


@pytest.mark.parametrize(
  'column, wanted',
  [
    (['Radio One', 'B'], [None, 1]),
    ([1.0, float('nan')], [1, None]),  # whole numbers and gaps, by pandas
    ([['1'], ['Radio One']], [1, None]),
  ],
)
def test_a_broadcaster_is_no_channel(column, wanted, tmp_path):
  columns = {'audio': [wav(STEREO)] * 2, 'text': ['a', 'b'], 'channel': column}
  pq.write_table(pa.table(columns), tmp_path / 'x.parquet')
  kept, left = ingested(tmp_path / 'x.parquet', tmp_path / 'out', 'parquet')
  assert [kept[f'x-{k}'].channel for k in (1, 2)] == wanted and not left


@pytest.mark.parametrize(
  'value, channel',
  [
    (None, None), ('', None), ('Average', None), (0, 0), ('0', 0), (' 12 ', 12),
    ('A', 0), ('b', 1), ([0], 0), (['B', 'A'], (1, 0)), ((2, 3), (2, 3)),
    (1.0, 1), ('2.0', 2), (float('nan'), None),
  ],
)  # fmt: skip
def test_channels_as_corpora_write_them(value, channel):
  assert channels.parse(value) == channel


@pytest.mark.parametrize(
  'value', [-1, 1.5, True, 'left', '-1', '٣', [], [0, 0], [None], {}, 'AB']
)
def test_what_names_no_channel(value):
  with pytest.raises(errors.UserError, match='^side: found .*letter from A'):
    channels.parse(value, 'side')


def test_silence_of_every_kind_is_in_quarantine(tmp_path):
  """Digital silence, an offset, dither; of any length. See the guide."""
  rng = np.random.default_rng(0)
  kinds = {
    'zero': np.zeros(RATE), 'offset': np.full(RATE, 0.25),
    'dither': rng.integers(-2, 3, RATE) / 2**15, 'sound': LEFT,
    'quiet': LEFT * 0.01, 'long': np.zeros(61 * RATE),
  }  # fmt: skip
  for name, samples in kinds.items():
    trees.put(tmp_path / 'in' / f'{name}.wav', wav(samples))
  rows = ''.join(f'{name}.wav,text\n' for name in kinds)
  trees.put(tmp_path / 'in' / 'metadata.csv', f'file,text\n{rows}')
  ingest.ingest(tmp_path / 'in', tmp_path / 'out')
  codes, left = tokenized(tmp_path, tmp_path / 'out')
  assert list(codes) == ['sound', 'quiet']
  assert set(left) == {'zero', 'offset', 'dither', 'long'}
  assert all('silence, no sample is above 0.001' in r for r in left.values())


def test_whole_numbers_as_floats_have_the_codes_of_integers(tmp_path):
  whole = np.round(LEFT * 2**15)
  root = tmp_path / 'corpus'
  trees.put(root / 'float.wav', wav(whole, 'FLOAT'))
  trees.put(root / 'int.wav', wav(whole.astype(np.int16)))
  trees.put(root / 'wild.wav', wav(LEFT * 3000.5, 'FLOAT'))
  common = dict(duration=1.0, sample_rate=RATE)
  manifest.write(
    root,
    [
      manifest.Utterance(id=n, audio=f'{n}.wav', **common)
      for n in ('float', 'int', 'wild')
    ],
  )
  codes, left = tokenized(tmp_path, root)
  np.testing.assert_array_equal(codes['float'][1], codes['int'][1])
  assert 'wild.wav: a sample of 1' in left['wild']


def test_arrays_beyond_one_are_kept_where_it_is_clear(tmp_path):
  """In a column of parquet there is no file that could say more."""
  whole = np.round(LEFT * 2**15)
  audio = [
    {'array': samples.tolist(), 'sampling_rate': RATE}
    for samples in (whole, LEFT * 2.5, LEFT * 3000.5)
  ]
  columns = {'audio': audio, 'text': ['a', 'b', 'c']}
  pq.write_table(pa.table(columns), tmp_path / 'x.parquet')
  kept, (left,) = ingested(tmp_path / 'x.parquet', tmp_path / 'out', 'parquet')
  assert left['line'] == 3 and 'a sample of 1' in left['reason']
  for name, want in (('x-1', whole / 2**15), ('x-2', LEFT * 2.5)):
    found, _ = audio_io.read_audio(kept[name].audio_path(tmp_path / 'out'))
    np.testing.assert_allclose(found, want, atol=1e-6)


def section():
  """What the guide says of channels."""
  path = pathlib.Path(__file__).parents[3] / 'docs' / 'new_corpus.md'
  text = path.read_text(encoding='utf-8')
  return text.split('### Which channel is heard')[1].split('\n## ')[0]


def test_the_guide_has_the_numbers_of_the_code():
  text = ' '.join(section().split())
  for number, words in (
    (mixing._WINDOW, 'windows of {} s'),
    (mixing._LOWEST, 'from {} Hz on'),
    (mixing._CANCELS, 'less than {} of'),
    (mixing._SHARE, 'more than {} of its windows'),
    (mixing._RUN, 'or {} in a row'),
    (-10 * np.log10(mixing._QUIET), '{} dB below the loudest'),
    (levels.LARGEST, 'A sample beyond {} is'),
    (levels.SILENCE, 'within {} of full scale'),
    (20 * np.log10(levels.SILENCE), '({} dB)'),
  ):
    assert words.format(f'{number:g}') in text


def test_the_lines_of_the_guide_are_two_people(tmp_path):
  """Followed: its manifest, and the flag for whoever names no channel."""
  lines = re.findall(r'^\{.*\}$', section(), re.M)
  call = np.stack([noise(1, 61.2), noise(2, 61.2)], 1)[::2]
  path = tmp_path / 'corpus' / 'call.wav'
  path.parent.mkdir()
  soundfile.write(path, call, 8000)
  (path.parent / 'manifest.jsonl').write_text('\n'.join(lines))
  codes, left = tokenized(tmp_path, path.parent)
  assert list(codes) == ['call-a', 'call-b'] and not left
  assert not np.array_equal(codes['call-a'][1], codes['call-b'][1])
  trees.put(path.parent / 'metadata.csv', 'file,text\ncall.wav,a\n')
  argv = [f'--source={path.parent}', f'--output={tmp_path / "out"}']
  argv += ['--format=folder', *re.findall('--channel=0', section())[:1]]
  assert cli.run('ingest', ingest.DOOR, argv) == 0
  (one,) = manifest.read(tmp_path / 'out')
  assert one.channel == 0
