"""A tiny sample of each public layout, as its authors lay it out.

Each function fills a folder and returns what must be read: id → (what is asked
or said, language).
"""

import json

from tests.data_pipelines.readers.material import put
from tests.data_pipelines.readers.material import tone


def aishell1(root):
  """The whole table of transcripts, and the recordings of `test` alone."""
  for name in ('BAC009S0764W0121', 'BAC009S0916W0122'):
    put(root / 'wav' / 'test' / name[6:11] / f'{name}.wav', tone(0.25, 16000))
  put(
    root / 'transcript' / 'aishell_transcript_v0.8.txt',
    'BAC009S0002W0122 而 对 楼市\nBAC009S0764W0121 甚至 出现\n'
    'BAC009S0916W0122 交易 停滞\nBAC009S0724W0121 广州 市\n',
  )
  return {
    'BAC009S0764W0121': ('甚至出现', 'zh'),
    'BAC009S0916W0122': ('交易停滞', 'zh'),
  }


def _aishell2(device):
  def build(root):
    test = root / device / 'test'
    put(test / 'wav' / 'T0001' / 'IT0001W0001.wav', tone(0.25, 16000))
    put(test / 'wav.scp', 'IT0001W0001\twav/T0001/IT0001W0001.wav\n')
    put(test / 'trans.txt', 'IT0001W0001\t换一首歌\n')
    return {'IT0001W0001': ('换一首歌', 'zh')}

  return build


def _segmented(file, field, subsets, garbage=()):
  """Segments of one recording; those of `garbage` are no speech."""

  def build(root):
    put(root / 'audio' / 'a' / 'Y1.opus', tone(2.0, 16000, form='OGG'))
    told = [
      ('Y1_S1', 0.25, 0.75, '你好' if field == 'text' else 'GO <PERIOD>', True),
      ('Y1_S2', 1.0, 1.25, '别的' if field == 'text' else 'OTHER', False),
      *[(f'Y1_G{n}', 1.5, 1.75, text, True) for n, text in enumerate(garbage)],
    ]
    segments = [
      {
        'sid': name, 'begin_time': begin, 'end_time': end, field: text,
        'subsets': [subsets[not own]],
      }
      for name, begin, end, text, own in told
    ]  # fmt: skip
    audio = {'aid': 'Y1', 'path': 'audio/a/Y1.opus', 'segments': segments}
    put(root / file, json.dumps({'audios': [audio]}))
    text, language = ('你好', 'zh') if field == 'text' else ('GO.', 'en')
    return {'Y1_S1': (text, language)}

  return build


def _librispeech(part):
  def build(root):
    for folder in (part, 'dev-clean'):
      chapter = root / 'LibriSpeech' / folder / '1089' / '134686'
      name = f'1089-134686-{"0000" if folder == part else "9999"}'
      put(chapter / f'{name}.flac', tone(0.25, 16000, form='FLAC'))
      put(chapter / '1089-134686.trans.txt', f'{name} HE HOPED\n')
    return {'1089-134686-0000': ('HE HOPED', 'en')}

  return build


def _common_voice(locale, text):
  columns = (
    'client_id', 'path', 'sentence_id', 'sentence', 'sentence_domain',
    'up_votes', 'down_votes', 'age', 'gender', 'accents', 'variant', 'locale',
    'segment',
  )  # fmt: skip

  def build(root):
    put(root / 'clips' / 'cv_1.mp3', tone(0.5, 16000, form='MP3'))
    cells = ['c1', 'cv_1.mp3', 's1', text, '', '2', '0', '', '', '', '', locale]
    put(
      root / 'test.tsv',
      '\t'.join(columns) + '\n' + '\t'.join([*cells, '']) + '\n',
    )
    return {'cv_1': (text, locale.partition('-')[0])}

  return build


def _fleurs(locale, raw, text, language):
  def build(root):
    place = root / 'data' / locale
    put(place / 'audio' / 'test' / '100.wav', tone(0.25, 16000))
    cells = ('1675', '100.wav', raw, text, '| '.join(text), '4000', 'MALE')
    put(place / 'test.tsv', '\t'.join(cells) + '\n')
    return {'100': (text, language)}

  return build


def manifest(root):
  put(root / 'wav' / 'a.wav', tone(1.0))
  put(
    root / 'manifest.jsonl',
    [
      {
        'id': 'a', 'split': 'test', 'audio': 'wav/a.wav', 'offset': 0.25,
        'duration': 0.5, 'sample_rate': 8000, 'text': 'one', 'channel': 0,
      },
      {
        'id': 'b', 'split': 'train', 'audio': 'wav/a.wav', 'duration': 1.0,
        'sample_rate': 8000, 'text': 'two',
      },
    ],
  )  # fmt: skip
  return {'a': ('one', 'en')}


def recordings(root):
  put(root / '1.wav', tone(0.25))
  put(root / 'metadata.csv', 'file,text\n1.wav,one two\n')
  return {'1': ('one two', 'en')}


def _seed(part, text, language):
  def build(root):
    folder, _, name = part.partition('/')
    place = root / folder
    put(place / 'prompt-wavs' / 'p1.wav', tone(0.25, 16000))
    put(place / 'wavs' / 'u1.wav', tone(0.5, 16000))
    put(place / name, f'u1|says|prompt-wavs/p1.wav|{text}\n')
    return {'u1': (text, language)}

  return build


def emergent(root):
  row = {
    'category': 'Questions', 'text_to_synthesize': 'You did what?',
    'language': 'en', 'evolution_depth': 1, 'index': 7,
  }  # fmt: skip
  put(root / 'data' / 'emergent_tts_eval_data.jsonl', [row])
  return {'emergent-0000': ('You did what?', 'en')}


def texts(root):
  put(root / 'mine.txt', 'say this\n')
  return {'mine-1': ('say this', 'en')}


def hellaswag(root):
  row = {
    'ind': 24, 'activity_label': 'Roof shingle removal',
    'ctx_a': 'A man is sitting on a roof.', 'ctx_b': 'he',
    'ctx': 'A man is sitting on a roof. he', 'split': 'val',
    'split_type': 'indomain', 'label': 3, 'source_id': 'activitynet~v_1',
    'endings': ['is using wrap.', 'is [step] ripping.', "holds a cube.",
                'starts pulling up roofing.'],
  }  # fmt: skip
  put(root / 'hellaswag_val.jsonl', [row])
  context = 'Roof shingle removal: A man is sitting on a roof. He'
  return {'hellaswag_val-1': (context, 'en')}


def _question(path, context):
  def build(root):
    row = {
      'id': 'Mercury_1',
      'question': {
        'stem': 'What melts?',
        'choices': [
          {'text': 'ice', 'label': 'A'}, {'text': 'rock', 'label': 'B'},
        ],
      },
      'answerKey': 'A',
    }  # fmt: skip
    put(root / path, [row])
    return {'Mercury_1': (context, 'en')}

  return build


def piqa(root):
  row = {'goal': 'Cut bread', 'sol1': 'Use a spoon.', 'sol2': 'Use a knife.'}
  put(root / 'valid.jsonl', [row])
  put(root / 'valid-labels.lst', '1\n')
  return {'valid-1': ('Question: Cut bread\nAnswer:', 'en')}


def winogrande(root):
  row = {
    'qID': '3D5', 'sentence': 'Sarah was better than Maria so _ won.',
    'option1': 'Sarah', 'option2': 'Maria', 'answer': '1',
  }  # fmt: skip
  put(root / 'dev.jsonl', [row])
  return {'3D5': ('Sarah was better than Maria so', 'en')}


def mmlu(root):
  put(
    root / 'test' / 'anatomy_test.csv',
    '"Which, of\nthese?",one,two,"three, or so",four,C\n',
  )
  context = (
    'Which, of\nthese?\nA. one\nB. two\nC. three, or so\nD. four\nAnswer:'
  )
  return {'anatomy_test-0000': (context, 'en')}


def _chinese(path, header, name):
  def build(root):
    put(root / path, f'{header}\n0,一加一？,一,二,三,四,B\n')
    return {name: ('一加一？\nA. 一\nB. 二\nC. 三\nD. 四\n答案：', 'zh')}

  return build


LAYOUTS = {
  'aishell1': aishell1,
  'aishell2_ios': _aishell2('iOS'),
  'aishell2_android': _aishell2('Android'),
  'aishell2_mic': _aishell2('Mic'),
  'wenetspeech_net': _segmented(
    'WenetSpeech.json', 'text', ('TEST_NET', 'TEST_MEETING')
  ),
  'wenetspeech_meeting': _segmented(
    'WenetSpeech.json', 'text', ('TEST_MEETING', 'TEST_NET')
  ),
  'librispeech_clean': _librispeech('test-clean'),
  'librispeech_other': _librispeech('test-other'),
  'gigaspeech': _segmented(
    'GigaSpeech.json', 'text_tn', ('{TEST}', '{DEV}'), ('<MUSIC>', '<SIL>')
  ),
  'common_voice_en': _common_voice('en', 'Say "yes", please.'),
  'common_voice_zh': _common_voice('zh-CN', '你好。'),
  'fleurs_en': _fleurs('en_us', 'However, no.', 'however no', 'en'),
  'fleurs_zh': _fleurs('cmn_hans_cn', '然而，不。', '然而不', 'zh'),
  'manifest': manifest,
  'recordings': recordings,
  'seed_tts_zh': _seed('zh/meta.lst', '要说的', 'zh'),
  'seed_tts_en': _seed('en/meta.lst', 'Say it.', 'en'),
  'seed_tts_hard': _seed('zh/hardcase.lst', '四是四十是十', 'zh'),
  'seed_resynthesis_zh': _seed('zh/meta.lst', '要说的', 'zh'),
  'seed_resynthesis_en': _seed('en/meta.lst', 'Say it.', 'en'),
  'emergent_tts': emergent,
  'texts': texts,
  'hellaswag': hellaswag,
  'arc_easy': _question(
    'ARC-Easy/ARC-Easy-Test.jsonl', 'Question: What melts?\nAnswer:'
  ),
  'arc_challenge': _question(
    'ARC-Challenge/ARC-Challenge-Test.jsonl', 'Question: What melts?\nAnswer:'
  ),
  'openbookqa_text': _question('Main/test.jsonl', 'What melts?'),
  'piqa': piqa,
  'winogrande': winogrande,
  'mmlu': mmlu,
  'ceval': _chinese(
    'val/math_val.csv', 'id,question,A,B,C,D,answer', 'math_val-0001'
  ),
  'cmmlu': _chinese('test/math.csv', ',Question,A,B,C,D,Answer', 'math-0001'),
}
