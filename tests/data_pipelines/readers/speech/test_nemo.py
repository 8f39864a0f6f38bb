"""NeMo's manifests and tars, WeNet's lists and shards: who belongs to whom."""

import json

import pytest

from step_audio_jax import errors
from tests.data_pipelines.ingestion import ingesting
from tests.data_pipelines.readers import trees

ingested = ingesting.ingested


def line(path, text, duration=0.25, **fields):
  return {'audio_filepath': path, 'duration': duration, 'text': text, **fields}


def told(left):
  return [(one['line'], one['reason']) for one in left]


def test_ids_are_paths_with_offsets(tmp_path):
  trees.put(tmp_path / 'in' / 'a' / 'x.wav', trees.tone(1.0))
  trees.put(tmp_path / 'in' / 'b' / 'x.wav', trees.tone(1.0))
  path = trees.put(
    tmp_path / 'in' / 'dev_manifest.json',
    [
      line('a/x.wav', 'one', 1.0),
      line('b/x.wav', 'two', offset=0.1),
      line('b/x.wav', 'three', offset=0.35, speaker='s', lang='de'),
      line('./b//x.wav', 'four', offset=0.0, id='mine'),
      line(str(tmp_path / 'in' / 'b' / 'x.wav'), 'five', 1.0),
      line('b/x.wav', 'six', offset=0.1),
      line('b/x.wav', 'seven', 0.75, offset=0.5),
      line('b/x.wav', 'eight', offset='now'),
    ],
  )
  kept, left = ingested(path, tmp_path / 'out', 'nemo')
  assert {name: u.text for name, u in kept.items()} == {
    'a/x': 'one', 'b/x-100': 'two', 'b/x-350': 'three', 'mine': 'four',
    'b/x': 'five',
  }  # fmt: skip
  assert {u.audio for u in kept.values()} == {'audio/a/x.wav', 'audio/b/x.wav'}
  assert {u.split for u in kept.values()} == {'dev'}
  assert (kept['b/x-350'].speaker, kept['b/x-350'].language) == ('s', 'de')
  assert [number for number, _ in told(left)] == [6, 7, 8]
  for (_, reason), words in zip(
    told(left), ('occurs twice', 'has only 0.500 s', 'expected seconds')
  ):
    assert words in reason


def test_a_gzipped_manifest(tmp_path):
  trees.put(tmp_path / 'in' / 'x.wav', trees.tone(0.25))
  path = tmp_path / 'in' / 'm.jsonl.gz'
  trees.put(path, [line('x.wav', 'one'), line('gone.wav', 'two')])
  kept, left = ingested(path, tmp_path / 'out', 'nemo')
  assert set(kept) == {'x'} and len(left) == 1
  whole = path.read_bytes()
  path.write_bytes(whole[:-4])
  kept, left = ingested(path, tmp_path / 'cut', 'nemo')
  assert set(kept) == {'x'} and 'cut short or damaged' in left[-1]['reason']


def test_parts_of_a_tarred_recording(tmp_path):
  """The second part of `x.wav` is called `x-sub1.wav`, and its `x` is there."""
  trees.tar(
    tmp_path / 'in' / 'audio_0.tar',
    [('x.wav', trees.tone(1.0)), ('y-sub1.wav', trees.tone(0.25))],
  )
  trees.put(
    tmp_path / 'in' / 'tarred_audio_manifest.json',
    [
      line('x.wav', 'one', offset=0.0, shard_id=0),
      line('x-sub1.wav', 'two', offset=0.25, shard_id=0),
      line('x-sub2.wav', 'three', offset=0.75, shard_id=0),
      # This one was cut when it was put into the tar.
      line('y-sub1.wav', 'four', shard_id=0),
    ],
  )
  kept, left = ingested(tmp_path / 'in', tmp_path / 'out', 'nemo_tarred')
  assert left == []
  assert {name: (u.text, u.offset) for name, u in kept.items()} == {
    'audio_0/x': ('one', 0.0),
    'audio_0/x-250': ('two', 0.25),
    'audio_0/x-750': ('three', 0.75),
    'audio_0/y-sub1': ('four', 0.0),
  }
  names = {u.audio for u in kept.values()}
  assert names == {'audio/audio_0/x.wav', 'audio/audio_0/y-sub1.wav'}


def test_one_name_in_two_shards(tmp_path):
  for shard, seconds in ((0, 0.25), (11, 0.5)):
    trees.tar(
      tmp_path / 'in' / f'audio_{shard}.tar', [('x.wav', trees.tone(seconds))]
    )
  trees.put(
    tmp_path / 'in' / 'sharded_manifests' / 'manifest_0.json',
    [line('x.wav', 'zero', 0.25, shard_id=0)],
  )
  trees.put(
    tmp_path / 'in' / 'sharded_manifests' / 'manifest_11.json',
    [line('x.wav', 'eleven', 0.5, shard_id=11)],
  )
  kept, left = ingested(tmp_path / 'in', tmp_path / 'out', 'nemo_tarred')
  assert left == []
  assert {name: (u.text, u.duration) for name, u in kept.items()} == {
    'audio_0/x': ('zero', 0.25), 'audio_11/x': ('eleven', 0.5),
  }  # fmt: skip


def test_buckets(tmp_path):
  for bucket, seconds in (('bucket1', 0.25), ('bucket2', 0.5)):
    root = tmp_path / 'in' / bucket
    trees.tar(root / 'audio_0.tar', [('x.wav', trees.tone(seconds))])
    manifest = root / 'tarred_audio_manifest.json'
    trees.put(manifest, [line('x.wav', bucket, seconds, shard_id=0)])
  (tmp_path / 'in' / 'notes').mkdir()
  kept, left = ingested(tmp_path / 'in', tmp_path / 'out', 'nemo_tarred')
  assert left == []
  assert {name: (u.text, u.duration) for name, u in kept.items()} == {
    'bucket1/audio_0/x': ('bucket1', 0.25),
    'bucket2/audio_0/x': ('bucket2', 0.5),
  }


def test_what_has_no_partner(tmp_path):
  trees.tar(
    tmp_path / 'in' / 'audio_0.tar',
    [
      ('a.wav', trees.tone(0.25)),
      ('stranger.wav', trees.tone(0.25)),
      ('free.wav', trees.tone(0.25)),
    ],
  )
  trees.put(
    tmp_path / 'in' / 'tarred_audio_manifest.json',
    [
      line('deep/a.flac', 'NeMo looks at names alone', shard_id=0),
      line('a.wav', 'another shard', shard_id=1),
      line('free.wav', 'no shard is named'),
      line('gone.wav', 'nowhere', shard_id=0),
      line(None, 'no path', shard_id=0),
    ],
  )
  kept, left = ingested(tmp_path / 'in', tmp_path / 'out', 'nemo_tarred')
  assert set(kept) == {'audio_0/a', 'audio_0/free'}
  assert kept['audio_0/a'].text == 'NeMo looks at names alone'
  found = sorted(one['reason'] for one in left)
  assert len(found) == 4
  assert found[0].startswith('audio: no shard has the recording')
  assert found[1].startswith('audio: no shard has the recording')
  assert 'audio_filepath: found None' in found[2]
  assert 'no line of the manifest names this recording' in found[3]


def test_no_tars_or_no_manifest(tmp_path):
  (tmp_path / 'in').mkdir()
  with pytest.raises(errors.UserError, match='found no audio_0.tar'):
    ingested(tmp_path / 'in', tmp_path / 'out', 'nemo_tarred')
  path = trees.tar(tmp_path / 'in' / 'audio_0.tar', [])
  with pytest.raises(errors.UserError, match='manifest.json: no such file'):
    ingested(tmp_path / 'in', tmp_path / 'out', 'nemo_tarred')
  with pytest.raises(errors.UserError, match='a file, expected a folder'):
    ingested(path, tmp_path / 'out', 'nemo_tarred')


def test_wenet_lists_name_language_speaker_and_split(tmp_path):
  root = tmp_path / 'train'
  trees.put(root / 'x.wav', trees.tone(1.0))
  trees.put(
    root / 'data.list',
    [
      {'key': 'a', 'wav': 'x.wav', 'txt': 'one', 'speaker': 's', 'lang': 'yue'},
      {'key': 'b', 'wav': 'x.wav', 'txt': 'two', 'spk': 't', 'end': 0.25},
      {'key': 'c', 'wav': 'x.wav', 'txt': 'three', 'start': 0.5},
    ],
  )
  kept, (left,) = ingested(root, tmp_path / 'out', 'wenet')
  assert (kept['a'].speaker, kept['a'].language) == ('s', 'yue')
  assert (kept['b'].speaker, kept['b'].duration) == ('t', 0.25)
  assert {u.split for u in kept.values()} == {'train'}
  assert left['id'] == 'c' and 'found 0.5 and None' in left['reason']
  kept, _ = ingested(root / 'data.list', tmp_path / 'file', 'wenet')
  assert set(kept) == {'a', 'b'}


def shard(path, name, text='hi', seconds=0.25, ending='wav'):
  members = [(f'{name}.txt', text), (f'{name}.{ending}', trees.tone(seconds))]
  return trees.tar(path, members)


def test_wenet_shards_by_list_folder_or_name(tmp_path):
  root = tmp_path / 'in' / 'test'
  one = shard(root / 'shard_0.tar', 'utt.1')
  shard(root / 'deep' / 'shard_1.tar', 'utt.2', seconds=0.5)
  trees.put(root / 'shard_0.tar.md5', 'not a tar')
  listed = trees.put(
    root / 'my.list', f'{one}\n deep/shard_1.tar \n\ngone.tar\n../x.tar\n'
  )
  kept, left = ingested(listed, tmp_path / 'list', 'wenet_shards')
  assert {name: (u.duration, u.split) for name, u in kept.items()} == {
    'utt.1': (0.25, 'test'), 'utt.2': (0.5, 'test'),
  }  # fmt: skip
  assert kept['utt.2'].audio == 'audio/deep/shard_1/utt.2.wav'
  assert [(one['line'], one['file']) for one in left] == [
    (4, 'gone.tar'), (5, '../x.tar'),
  ]  # fmt: skip
  kept, left = ingested(root, tmp_path / 'folder', 'wenet_shards')
  assert set(kept) == {'utt.1'} and left == []
  kept, left = ingested(one, tmp_path / 'tar', 'wenet_shards')
  assert set(kept) == {'utt.1'} and left == []
  (tmp_path / 'empty').mkdir()
  with pytest.raises(errors.UserError, match='neither shards.list nor'):
    ingested(tmp_path / 'empty', tmp_path / 'none', 'wenet_shards')


def test_members_of_a_wenet_shard(tmp_path):
  path = trees.tar(
    tmp_path / 'in' / 'a.tar',
    [
      ('a.txt', 'one'), ('a.wav', trees.tone(0.25)),
      ('b.txt', b'caf\xe9'), ('b.wav', trees.tone(0.25)),
      ('c.wav', trees.tone(0.25)),
      ('d.txt', 'no recording'),
      ('e.txt', '\ufeffmarked\r\n'), ('e.flac', trees.tone(0.5, form='FLAC')),
    ],
  )  # fmt: skip
  kept, left = ingested(path, tmp_path / 'out', 'wenet_shards')
  assert {name: u.text for name, u in kept.items()} == {
    'a': 'one', 'e': 'marked',
  }  # fmt: skip
  found = {one['id']: one['reason'] for one in left}
  assert 'not UTF-8' in found['b'] and 'text: missing' in found['c']
  assert 'no recording of this key' in found['d'] and len(found) == 3


def test_a_shard_that_is_cut_short(tmp_path):
  members = []
  for number in range(4):
    members += [(f'u{number}.txt', 'hi'), (f'u{number}.wav', trees.tone(0.25))]
  path = trees.tar(tmp_path / 'in' / 'a.tar', members)
  raw = path.read_bytes()
  path.write_bytes(raw[: len(raw) // 2])
  shard(tmp_path / 'in' / 'b.tar', 'other')
  kept, left = ingested(tmp_path / 'in', tmp_path / 'out', 'wenet_shards')
  assert {'u0', 'other'} <= set(kept) and 'u3' not in kept
  assert any('cut short or damaged' in one['reason'] for one in left)
  assert json.dumps(left).count('"reason"') == len(left) <= 3
