"""Samples of multiple choice, of ComplexBench and of URO-Bench."""

import json

from data_pipelines.benchmarks import uro_sets
from tests.data_pipelines.benchmarks.heard import samples
from tests.data_pipelines.readers.material import put
from tests.data_pipelines.readers.material import tar
from tests.data_pipelines.readers.material import tone

# Multiple choice.


def mmau(root):
  rows = []
  for name, task in (('a1', 'sound'), ('b2', 'speech')):
    put(root / 'test-mini-audios' / f'{name}.wav', samples.wav())
    rows.append(
      {'id': name, 'audio_id': f'./test-mini-audios/{name}.wav',
       'question': 'Who speaks?', 'choices': ['Man', 'Woman', 'Robot'],
       'answer': 'Man', 'task': task, 'category': 'Reasoning',
       'sub-category': 'Source', 'difficulty': 'easy'}
    )  # fmt: skip
  put(root / 'mmau-test-mini.json', json.dumps(rows))
  return _two('Man', 'Robot', ('a1', 'sound'), ('b2', 'speech'))


def _two(right, wrong, *named):
  """Of two items one is answered rightly, by its text, and one wrongly."""
  (one, kind), (two, other) = named
  return samples.Sample(
    {one: (None, (right,), kind), two: (None, (right,), other)},
    {one: f'The answer is {right}.', two: wrong},
    {'accuracy': 0.5, 'accuracy_parsed': 0.5, 'unparsed': 0.0,
     f'accuracy/{kind}': 1.0, f'accuracy/{other}': 0.0},
  )  # fmt: skip


def mmar(root):
  rows = [
    {'id': name, 'audio_path': f'./audio/{name}.wav', 'question': 'What?',
     'choices': ['rain', 'wind'], 'answer': 'rain', 'modality': kind,
     'category': 'Signal Layer', 'sub-category': 'x', 'language': 'en'}
    for name, kind in (('r', 'sound'), ('s', 'mix-sound-speech'))
  ]  # fmt: skip
  put(root / 'MMAR-meta.json', json.dumps(rows))
  packed = tar(
    root / 'packed',
    [(f'audio/{name}.wav', samples.wav()) for name in ('r', 's')],
  )
  packed.rename(root / 'mmar-audio.tar.gz')
  return _two('rain', 'wind', ('r', 'sound'), ('s', 'mix-sound-speech'))


def mmsu(root):
  samples.table(
    root / 'data' / 'train-00000-of-00001.parquet',
    *[
      {'id': name, 'audio': samples.cell(), 'question': 'Which tone?',
       'choice_a': 'rising', 'choice_b': 'falling', 'choice_c': 'flat',
       'choice_d': None, 'answer_gt': 'falling', 'task_name': 'tone',
       'category': kind, 'sub-category': 'phonology'}
      for name, kind in (('p', 'Perception'), ('q', 'Reasoning'))
    ],
  )  # fmt: skip
  return _two('falling', 'Rising.', ('p', 'Perception'), ('q', 'Reasoning'))


def audiomcq(root):
  for name in ('m', 'n'):
    put(root / 'audio' / f'{name}.mp3', samples.mp3())
  put(
    root / 'data.jsonl',
    [
      {'id': name, 'audio_path': f'audio/{name}.mp3', 'question': 'Which?',
       'choices': ['dog', 'cat', 'cow', 'hen'], 'answer': 'cow',
       'question_type': kind, 'source_dataset': 'AudioCaps',
       'audio-contribution': 'strong'}
      for name, kind in (('m', 'sound'), ('n', 'temporal'))
    ],
  )  # fmt: skip
  return _two('cow', 'hen', ('m', 'sound'), ('n', 'temporal'))


def hsk6(root):
  for name in ('1', '2'):
    put(root / 'wav' / f'{name}.wav', samples.wav())
  put(
    root / 'questions.jsonl',
    [
      {'id': '1', 'question': '他想去哪儿？',
       'choices': ['北京', '上海', '广州'], 'answer': '上海'},
      {'id': 2, 'question': '几点？', 'choices': ['三点', '四点'],
       'answer': 'B'},
    ],
  )  # fmt: skip
  return samples.Sample(
    {'1': (None, ('上海',), ''), '2': (None, ('四点',), '')},
    {'1': '上海', '2': '大概是下午吧'},
    {'accuracy': 0.5, 'accuracy_parsed': 1.0, 'unparsed': 0.5},
  )


def complex_bench(root):
  for name in (3, 5):
    put(root / 'wav' / f'{name}.flac', tone(0.15, 16000, form='FLAC'))
  points = [
    {'point_id': 0, 'question': '是诗吗？', 'rule': None, 'dep': []},
    {'point_id': 1, 'question': '有四行吗？', 'rule': None, 'dep': [0]},
  ]
  put(
    root / 'data_final.json',
    json.dumps([
      {'main_id': 3, 'instruction': '写诗', 'category': ['And'],
       'scoring_questions': points},
      {'main_id': 5, 'instruction': '写四行诗', 'category': ['And', 'Chain'],
       'scoring_questions': points},
    ]),
  )  # fmt: skip
  return samples.Sample(
    {'3': ('写诗', (), 'And'), '5': ('写四行诗', (), 'And+Chain')},
    {'3': '床前明月光', '5': '好的'},
    {'judge': 0.5, 'judge_all': 0.5, 'judge_unparsed': 0.0,
     'judge_all/And': 1.0},
    {'3/0': 'yes', '3/1': 'yes', '5/0': 'no', '5/1': 'yes'},
  )  # fmt: skip


# URO-Bench.


def uro(name):
  chosen = uro_sets.SETS[name]
  folder = f'URO-Bench-data/{chosen.track}/{name}'

  def build(root):
    put(root / folder / 'wav' / '0.wav', samples.wav())
    said = {'source_wav': 'wav/0.wav', 'source_text': 'Say hello',
            'target_text': ['hello', 'hi']}  # fmt: skip
    chat = {}
    if chosen.scored == 'multi':
      rounds = [{'round': 1, **said}, {'round': 2, **said}]
      row = {'id': 4, 'num_round': 2, 'dialogue': rounds}
      chat = {'4': ['user', 'assistant', 'user']}
    else:
      row = {'id': 4, **said}
    right = ('hello', 'hi')
    if chosen.scored == 'wer':
      row['target_text'] = 'hello'
      right = ('hello',)
    put(root / folder / 'test.jsonl', [row])
    replies = {'qa': 'yes'}.get(chosen.scored, '4')
    if chosen.scored in ('ge', 'ue', 'gs', 'srt', 'sf'):
      replies = '{"reason": "so", "score": 4}'
    figures = {'judge': 1.0 if chosen.scored == 'qa' else 4.0}
    if chosen.scored == 'wer':
      rate = 'cer' if chosen.language == 'zh' else 'wer'
      figures = {'cer/plain': 0.0, f'{rate}/wenet': 0.0}
    answer = {'4': 'hello'}
    items = {'4': ('Say hello', right, '')}
    return samples.Sample(items, answer, figures, other=replies, turns=chat)

  return build
