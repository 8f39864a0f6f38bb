"""A small corpus in each format, laid out as its authors publish it.

Every function fills an empty folder and returns (source, expected): what
`ingest` must find, id → fields of the manifest.
"""

import json

import numpy as np

from tests.data_pipelines.readers.material import RATE
from tests.data_pipelines.readers.material import SECONDS
from tests.data_pipelines.readers.material import png
from tests.data_pipelines.readers.material import put
from tests.data_pipelines.readers.material import said
from tests.data_pipelines.readers.material import tar
from tests.data_pipelines.readers.material import tone
from tests.data_pipelines.readers.preferences import trees as preferences


def folder(root):
  put(root / 'a' / '1.wav', tone(0.25))
  put(root / '2.flac', tone(0.5, form='FLAC'))
  put(
    root / 'metadata.csv',
    'file,text,speaker,split\na/1.wav,"one, two",s1,dev\n2.flac,三,,train\n',
  )
  return root, {
    '1': said('one, two', 0.25, speaker='s1', split='dev'),
    '2': said('三', 0.5, split='train'),
  }


def librispeech(root):
  base = root / 'LibriSpeech'
  for part, chapter, texts in (
    ('train-clean-100', '19/198', ('NORTHANGER ABBEY', 'THIS LITTLE WORK')),
    ('dev-other', '84/121', ('GO DO YOU HEAR',)),
  ):
    name = chapter.replace('/', '-')
    lines = []
    for k, text in enumerate(texts):
      place = base / part / chapter / f'{name}-{k:04d}.flac'
      put(place, tone(SECONDS[k], 16000, form='FLAC'))
      lines.append(f'{name}-{k:04d} {text}\n')
    put(base / part / chapter / f'{name}.trans.txt', ''.join(lines))
  put(base / 'SPEAKERS.TXT', ';ID|SEX|SUBSET\n')
  return root, {
    '19-198-0000': said('NORTHANGER ABBEY', 0.25, speaker='19', split='train'),
    '19-198-0001': said('THIS LITTLE WORK', 0.5, speaker='19'),
    '84-121-0000': said('GO DO YOU HEAR', 0.25, speaker='84', split='dev'),
  }


def aishell1(root):
  lines = []
  for part, name, text, seconds in (
    ('train', 'BAC009S0002W0122', '而 对 楼市', 0.25),
    ('test', 'BAC009S0764W0121', '甚至 出现', 0.5),
  ):
    put(root / 'wav' / part / name[6:11] / f'{name}.wav', tone(seconds, 16000))
    lines.append(f'{name} {text}\n')
  put(root / 'transcript' / 'aishell_transcript_v0.8.txt', ''.join(lines))
  return root, {
    'BAC009S0002W0122': said('而对楼市', 0.25, speaker='S0002', split='train'),
    'BAC009S0764W0121': said('甚至出现', 0.5, language='zh', split='test'),
  }


def aishell2(root):
  for name in ('IC0001W0001', 'IC0001W0002'):
    put(root / 'wav' / 'C0001' / f'{name}.wav', tone(0.25, 16000))
  put(
    root / 'wav.scp',
    'IC0001W0001\twav/C0001/IC0001W0001.wav\n'
    'IC0001W0002\twav/C0001/IC0001W0002.wav\n',
  )
  put(root / 'trans.txt', 'IC0001W0001\t厨房用品\nIC0001W0002\t电蒸锅\n')
  return root, {
    'IC0001W0001': said('厨房用品', 0.25, speaker='C0001', language='zh'),
    'IC0001W0002': said('电蒸锅', 0.25),
  }


def wenetspeech(root):
  put(root / 'audio' / 'train' / 'B0' / 'Y1.opus', tone(2.0, 16000, form='OGG'))
  audio = {
    'aid': 'Y1',
    'path': 'audio/train/B0/Y1.opus',
    'duration': 2.0,
    'md5': '…',
    'segments': [
      {
        'sid': 'Y1_S1', 'begin_time': 0.5, 'end_time': 0.75, 'text': '你好',
        'confidence': 1.0, 'subsets': ['L', 'M'],
      },
      {
        'sid': 'Y1_S2', 'begin_time': 1.0, 'end_time': 1.5, 'text': '再见',
        'confidence': 0.9, 'subsets': ['L'],
      },
    ],
  }  # fmt: skip
  put(root / 'WenetSpeech.json', json.dumps({'audios': [audio]}))
  return root, {
    'Y1_S1': said('你好', 0.25, offset=0.5, language='zh'),
    'Y1_S2': said('再见', 0.5, offset=1.0),
  }


def gigaspeech(root):
  put(root / 'audio' / 'podcast' / 'P1.opus', tone(2.0, 16000, form='OGG'))
  segments = [
    ('P1_S1', 0.25, 0.5, 'AS IT <COMMA> IS <PERIOD>'),
    ('P1_S2', 1.0, 1.5, 'GO'),
  ]
  audio = {
    'aid': 'P1',
    'path': 'audio/podcast/P1.opus',
    'segments': [
      {'sid': s, 'begin_time': a, 'end_time': b, 'text_tn': text,
       'subsets': ['{XL}']}
      for s, a, b, text in segments
    ],
  }  # fmt: skip
  told = {'dataset': 'GigaSpeech', 'audios': [audio]}
  put(root / 'GigaSpeech.json', json.dumps(told, indent=1))
  return root, {
    'P1_S1': said('AS IT, IS.', 0.25, offset=0.25, language='en'),
    'P1_S2': said('GO', 0.5),
  }


def kaldi(root):
  put(root / 'wav' / 'r1.wav', tone(2.0))
  put(root / 'wav.scp', 'r1 wav/r1.wav\n')
  put(root / 'segments', 'u1 r1 0.25 0.5\nu2 r1 1.5 -1\n')
  put(root / 'text', 'u1 hello there\nu2 bye\n')
  put(root / 'utt2spk', 'u1 s1\nu2 s2\n')
  return root, {
    'u1': said('hello there', 0.25, offset=0.25, speaker='s1'),
    'u2': said('bye', 0.5, offset=1.5, speaker='s2'),
  }


def wenet(root):
  put(root / 'wav' / '1.wav', tone(1.0))
  put(
    root / 'data.list',
    [
      {'key': 'k1', 'wav': 'wav/1.wav', 'txt': '你好'},
      {'key': 'k2', 'wav': 'wav/1.wav', 'txt': 'b', 'start': 0.5, 'end': 0.75},
    ],
  )
  return root, {
    'k1': said('你好', 1.0), 'k2': said('b', 0.25, offset=0.5),
  }  # fmt: skip


def wenet_shards(root):
  for shard in range(2):
    tar(
      root / f'shard_{shard}.tar',
      [
        (f'u{shard}.txt', f'text {shard}'),
        (f'u{shard}.wav', tone(SECONDS[shard])),
      ],
    )
  put(root / 'shards.list', 'shard_0.tar\nshard_1.tar\n')
  return root, {'u0': said('text 0', 0.25), 'u1': said('text 1', 0.5)}


def nemo(root):
  put(root / 'wavs' / 'x.wav', tone(1.0))
  put(
    root / 'train_manifest.json',
    [
      {'audio_filepath': 'wavs/x.wav', 'duration': 1.0, 'text': 'all'},
      {
        'audio_filepath': 'wavs/x.wav', 'duration': 0.25, 'offset': 0.5,
        'text': 'part', 'speaker': 's', 'lang': 'de',
      },
    ],
  )  # fmt: skip
  return root / 'train_manifest.json', {
    'wavs/x': said('all', 1.0, split='train'),
    'wavs/x-500': said('part', 0.25, offset=0.5, language='de', speaker='s'),
  }


def nemo_tarred(root):
  lines = []
  for shard in range(2):
    tar(root / f'audio_{shard}.tar', [(f'u{shard}.wav', tone(SECONDS[shard]))])
    lines.append(
      {
        'audio_filepath': f'u{shard}.wav', 'duration': SECONDS[shard],
        'text': f't{shard}', 'shard_id': shard,
      }
    )  # fmt: skip
  put(root / 'tarred_audio_manifest.json', lines)
  return root, {
    'audio_0/u0': said('t0', 0.25), 'audio_1/u1': said('t1', 0.5),
  }  # fmt: skip


def _recording(name, path, seconds, channels=(0,), kind='file'):
  return {
    'id': name,
    'sources': [{'type': kind, 'channels': list(channels), 'source': path}],
    'sampling_rate': RATE,
    'num_samples': round(seconds * RATE),
    'duration': seconds,
    'channel_ids': list(channels),
  }


def lhotse(root):
  put(root / 'audio' / 'r1.wav', tone(2.0))
  put(root / 'audio' / 'stereo.wav', tone(1.0, channels=2))
  words = {'word': [['go', 0.125, 0.125, 0.9], ['on', 0.25, 0.125, None]]}
  cuts = [
    {
      'id': 'c1', 'type': 'MonoCut', 'start': 0.5, 'duration': 1.0,
      'channel': 0, 'recording': _recording('r1', 'audio/r1.wav', 2.0),
      'supervisions': [
        {
          'id': 's1', 'recording_id': 'r1', 'start': 0.125, 'duration': 0.25,
          'channel': 0, 'text': 'go on', 'speaker': 'sp', 'language': 'English',
          'alignment': words,
        },
        {
          'id': 's2', 'recording_id': 'r1', 'start': 0.5, 'duration': 0.5,
          'channel': 0, 'text': 'then',
        },
      ],
    },
    {
      'id': 'c2', 'type': 'MonoCut', 'start': 0.25, 'duration': 0.5,
      'channel': 1,
      'recording': _recording('st', 'audio/stereo.wav', 1.0, (0, 1)),
      'supervisions': [
        {
          'id': 's3', 'recording_id': 'st', 'start': 0.125, 'duration': 0.25,
          'channel': 1, 'text': 'right',
        },
      ],
    },
  ]  # fmt: skip
  put(root / 'my_cuts_train.jsonl.gz', cuts)
  return root, {
    's1': said(
      'go on', 0.25, offset=0.625, speaker='sp', language='en',
      words=(('go', 0.0, 0.125), ('on', 0.125, 0.25)),
    ),
    's2': said('then', 0.5, offset=1.0),
    's3': said('right', 0.25, offset=0.375, channel=1),
  }  # fmt: skip


def lhotse_shar(root):
  cuts, members = [], []
  for k in range(2):
    recording = _recording(f'r{k}', '', SECONDS[k], kind='shar')
    cuts.append(
      {
        'id': f'c.{k}', 'type': 'MonoCut', 'start': 0,
        'duration': SECONDS[k], 'channel': 0, 'recording': recording,
        'supervisions': [
          {
            'id': f'u{k}', 'recording_id': f'r{k}', 'start': 0.0,
            'duration': SECONDS[k], 'channel': 0, 'text': f'text {k}',
          },
        ],
      }
    )  # fmt: skip
    members.append((f'c.{k}.flac', tone(SECONDS[k], form='FLAC')))
    members.append((f'c.{k}.json', json.dumps(recording)))
  put(root / 'cuts.000000.jsonl.gz', cuts)
  tar(root / 'recording.000000.tar', members)
  return root, {'u0': said('text 0', 0.25), 'u1': said('text 1', 0.5)}


def webdataset(root):
  tar(
    root / 'shard-000000.tar',
    [
      ('k1.wav', tone(0.25)),
      ('k1.txt', 'one'),
      ('sub/k2.flac', tone(0.5, form='FLAC')),
      ('sub/k2.json', '{"id": "two", "text": "zwei", "language": "German"}'),
      ('k3.png', png('red')),
      ('k3.txt', 'a red picture'),
    ],
  )
  return root, {
    'shard-000000/k1': said('one', 0.25),
    'two': said('zwei', 0.5, language='de'),
    'shard-000000/k3': said('a red picture', kind='image_text'),
  }


def parquet(root):
  import pyarrow as pa
  from pyarrow import parquet as pq

  table = pa.table(
    {
      'id': ['a', 'b'],
      'audio': [
        {'bytes': tone(0.25), 'path': 'a.wav'},
        {'bytes': tone(0.5, form='FLAC'), 'path': None},
      ],
      'sentence': ['one', 'two'],
      'client_id': ['s1', None],
    }
  )
  path = root / 'data' / 'validation-00000-of-00001.parquet'
  path.parent.mkdir(parents=True)
  pq.write_table(table, path)
  return root, {
    'a': said('one', 0.25, speaker='s1', split='dev'),
    'b': said('two', 0.5),
  }


def text_parquet(root):
  import pyarrow as pa
  from pyarrow import parquet as pq

  pq.write_table(
    pa.table({'text': ['first one', '二'], 'n': [1, 2]}), root / 't.parquet'
  )
  return root, {
    't-1': said('first one', kind='text'), 't-2': said('二', kind='text'),
  }  # fmt: skip


def tfds(root):
  import tensorflow as tf
  import tensorflow_datasets as builders

  tf.config.set_visible_devices([], 'GPU')
  features = builders.features.FeaturesDict(
    {
      'speech': builders.features.Audio(sample_rate=RATE),
      'text': builders.features.Text(),
      'speaker_id': tf.int64,
      'id': tf.string,
    }
  )
  folder = root / 'toy' / '1.0.0'
  folder.mkdir(parents=True)
  examples = [
    {
      'speech': np.arange(round(SECONDS[k] * RATE)) % 100,
      'text': f'text {k}',
      'speaker_id': 7,
      'id': f'u{k}',
    }
    for k in range(2)
  ]
  filename = 'toy-train.tfrecord-00000-of-00001'
  with tf.io.TFRecordWriter(str(folder / filename)) as writer:
    for example in examples:
      encoded = features.encode_example(example)
      writer.write(features.serialize_example(encoded))
  split = builders.core.SplitInfo(name='train', shard_lengths=[2], num_bytes=1)
  builders.folder_dataset.write_metadata(
    data_dir=str(folder), features=features, split_infos=[split]
  )
  return root, {
    'u0': said('text 0', 0.25, speaker='7', split='train'),
    'u1': said('text 1', 0.5),
  }


def seed_tts(root):
  put(root / 'zh' / 'prompt-wavs' / 'p1.wav', tone(0.25))
  put(root / 'zh' / 'wavs' / 'p1-x.wav', tone(0.5))
  put(
    root / 'zh' / 'meta.lst',
    'p1-x|说的话|prompt-wavs/p1.wav|要说的\np1-y|说的话|prompt-wavs/p1.wav|还有\n',
  )
  return root / 'zh', {
    'prompt-prompt-wavs/p1': said('说的话', 0.25, split='prompt'),
    'p1-x': said('要说的', 0.5, split='test', language='zh'),
    'p1-y': said('还有', audio=None, split='test'),
  }


def image_jsonl(root):
  put(root / 'img' / '1.png', png('blue'))
  put(root / 'captions.jsonl', [{'image': 'img/1.png', 'caption': 'blue'}])
  return root, {'captions-1': said('blue', kind='image_text')}


def text_jsonl(root):
  put(root / 'a.jsonl', [{'text': 'one'}, {'text': 'two', 'id': 'x'}])
  put(root / 'more' / 'b.jsonl.gz', [{'text': '三\n四', 'split': 'dev'}])
  return root, {
    'a-1': said('one', kind='text'),
    'x': said('two'),
    'more/b-1': said('三\n四', split='dev'),
  }


def text_txt(root):
  put(root / 'a.txt', 'one\n\ntwo\n')
  return root, {'a-1': said('one', kind='text'), 'a-3': said('two')}


def chat_jsonl(root):
  put(root / 'ask.wav', tone(0.25))
  put(
    root / 'chats.jsonl',
    [
      {
        'id': 'c1',
        'messages': [
          {'role': 'system', 'content': 'be short'},
          {'role': 'user', 'content': [{'type': 'audio', 'audio': 'ask.wav'}]},
          {'role': 'assistant', 'content': 'yes'},
        ],
      },
      {
        'conversations': [
          {'from': 'human', 'value': 'why'}, {'from': 'gpt', 'value': 'so'},
        ],
      },
    ],
  )  # fmt: skip
  return root, {
    'c1-turn-1': said(None, 0.25, kind='speech'),
    'c1': said(
      None,
      kind='chat',
      turns=(
        {'role': 'system', 'text': 'be short'},
        {'role': 'user', 'speech': 'c1-turn-1'},
        {'role': 'assistant', 'text': 'yes'},
      ),
    ),
    'chats-2': said(None, kind='chat'),
  }


def lrc(root):
  put(root / 'ann' / 'one.wav', tone(9.0, 8000))
  put(
    root / 'ann' / 'one.lrc',
    '[ar:Ann]\n[la:en]\n[00:01.00]first line\n[00:03.00]second (2x)\n'
    '[00:05.00]\n[00:06.50]<00:06.50>third <00:07.00>line<00:08.00>\n'
    '[00:08.20]\n',
  )
  put(root / 'two.flac', tone(4.0, 8000, form='FLAC'))
  put(root / 'two.LRC', '[ar:某人]\n[genre:说唱]\n[00:00.50]一二三\n')
  return root, {
    'ann/one-000': said(
      'first line second (2x)', 4.0, offset=1.0, speaker='Ann',
      marked='(哼唱)first line second (2x)', sample_rate=8000, words=None,
    ),
    'ann/one-001': said(
      'third line', 1.5, offset=6.5, marked='(哼唱)third line',
      words=(('third', 0.0, 0.5), ('line', 0.5, 1.5)),
    ),
    'two-000': said(
      '一二三', 3.5, offset=0.5, speaker='某人', marked='(RAP)一二三',
    ),
  }  # fmt: skip


TREES = {
  build.__name__: build
  for build in (
    folder, librispeech, aishell1, aishell2, wenetspeech, gigaspeech, kaldi,
    wenet, wenet_shards, nemo, nemo_tarred, lhotse, lhotse_shar, webdataset,
    parquet, tfds, seed_tts, lrc, image_jsonl, text_jsonl, text_txt,
    text_parquet, chat_jsonl, preferences.preference_jsonl,
    preferences.preference_parquet,
  )
}  # fmt: skip
