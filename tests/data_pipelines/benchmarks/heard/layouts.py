"""A tiny sample of each public layout, with answers and what they are worth.

Each function fills a folder and returns a `Sample`; the figures are counted by
hand.
"""

import gzip
import json

from data_pipelines.benchmarks import uro_sets
from tests.data_pipelines.benchmarks.heard import chosen
from tests.data_pipelines.benchmarks.heard import samples
from tests.data_pipelines.readers.material import put
from tests.data_pipelines.readers.material import tar

# Questions with right answers.


def _parquet_questions(first, second):
  """Two rows whose answers are `Paris`, and one of `two` and `2`."""

  def build(root):
    samples.table(
      root / 'data' / f'{samples.FIRST}.parquet',
      {'question': 'Capital of France?', **first, 'audio': samples.cell()},
      {'question': 'One and one?', **second, 'audio': samples.cell()},
    )
    one, two = f'{samples.FIRST}-1', f'{samples.FIRST}-2'
    return samples.Sample(
      {
        one: ('Capital of France?', ('Paris',), ''),
        two: ('One and one?', ('two', '2'), ''),
      },
      {one: 'It is Paris.', two: 'That would be deux.'},
      {'judge': 1.0, 'judge_unparsed': 0.0, 'exist_match': 0.5},
      other=samples.judgment(True),
    )

  return build


def _open_audio(name, rows, text, sample):
  def build(root):
    lines = [','.join(('audio_filename', *rows[0]))]
    for number, row in enumerate(rows):
      put(
        root / 'eval_datas' / name / 'audios' / f'{number}.mp3', samples.mp3()
      )
      told = (f'"{value}"' for value in row.values())
      lines.append(','.join((f'{number}.mp3', *told)))
    put(root / 'eval_datas' / name / f'{name}.csv', '\n'.join(lines) + '\n')
    assert text in rows[0].values()
    return sample

  return build


def _rated_csv(name, question, answer, text, right, replies, figure):
  rows = [{question: text, answer: 'ten\nlines'}, {question: 'B?', answer: 'b'}]
  one, two = f'{name}-1', f'{name}-2'
  refs = (('ten\nlines',), ('b',)) if right else ((), ())
  return _open_audio(
    name,
    rows,
    text,
    samples.Sample(
      {one: (text, refs[0], ''), two: ('B?', refs[1], '')},
      {one: 'I think ten.', two: 'B.'},
      figure,
      dict(zip((one, two), replies, strict=True)),
    ),
  )


def _right_csv(name, question, answer, written, replies, figures):
  rows = [
    {question: 'Where?', answer: written},
    {question: 'Who?', answer: 'I'},
  ]
  one, two = f'{name}-1', f'{name}-2'
  return _open_audio(
    name,
    rows,
    'Where?',
    samples.Sample(
      {one: ('Where?', ('here', 'there'), ''), two: ('Who?', ('I',), '')},
      {one: 'Over there!', two: 'You.'},
      figures,
      dict(zip((one, two), replies, strict=True)),
    ),
  )


def _half(right, wrong):
  return (right, wrong), {'judge': 0.5, 'exist_match': 0.5}


def _llama_csv():
  """This one has one answer a question."""
  rows = [
    {'Questions': 'Where?', 'Answer': 'here'},
    {'Questions': 'Who?', 'Answer': '7'},
  ]
  one, two = 'llama_questions-1', 'llama_questions-2'
  return _open_audio(
    'llama_questions',
    rows,
    'Where?',
    samples.Sample(
      {one: ('Where?', ('here',), ''), two: ('Who?', ('7',), '')},
      {one: 'Here', two: 'You, all 17.'},
      {'judge': 0.5, 'judge_parsed': 1.0, 'judge_unparsed': 0.5,
       'exist_match': 0.5},
      {one: 'Same. [Correct]', two: 'I do not know'},
    ),
  )  # fmt: skip


def bigbench(root):
  rows = [
    ('0', 'formal_fallacies', 'invalid', 'The argument is invalid.'),
    ('1', 'navigate', 'Yes', 'No, they end up elsewhere.'),
    ('2', 'object_counting', '8', 'There are eight of them.'),
    ('3', 'web_of_lies', 'No', 'Hard to tell, there is no way.'),
  ]
  for name, *_ in rows:
    put(root / 'data' / f'question_{name}.mp3', samples.mp3())
  put(
    root / 'metadata.jsonl',
    [
      {'file_name': f'data/question_{name}.mp3', 'category': kind,
       'official_answer': right, 'id': int(name)}
      for name, kind, right, _ in rows
    ],
  )  # fmt: skip
  return samples.Sample(
    {name: ('', (right,), kind) for name, kind, right, _ in rows},
    {name: said for name, *_, said in rows},
    {'accuracy': 0.5, 'accuracy_parsed': 0.6667, 'unparsed': 0.25,
     'accuracy/navigate': 0.0, 'accuracy/object_counting': 1.0, 'judge': 0.5},
    {'1': samples.judgment(False), '3': samples.judgment(False)},
    samples.judgment(True),
  )  # fmt: skip


def paralinguistic(root):
  items, said = {}, {}
  from data_pipelines.benchmarks.heard import stepeval

  for task in stepeval.TASKS:
    put(root / task / 'audio' / 'x_input.wav', samples.wav())
    told = {'name': '识别', 'label': '男性', 'answer': '是男的。'}
    put(
      root / task / f'{task}.json',
      json.dumps([{'audio': 'audio/x_input.wav', 'task': told}]),
    )
    items[f'{task}/x_input.wav'] = ('', ('男性', '是男的。'), task)
    said[f'{task}/x_input.wav'] = '女的'
  said['age/x_input.wav'] = '我觉得是男性在说话。'
  return samples.Sample(
    items,
    said,
    {
      'judge': round(1 / 11, 4),
      'judge/age': 1.0,
      'judge/scene': 0.0,
      'exist_match': 0.0,
      'contained': round(1 / 11, 4),
    },
    {'age/x_input.wav': 'It is a man.\nyes'},
    'It is not.\nno',
  )


# Chats and tools.


def chats(root):
  spoken = [
    {'role': 'user', 'text': '唱首歌', 'audio_filename': 'audios/1_0.wav'},
    {'role': 'assistant', 'text': '好的', 'audio_filename': None},
    {'role': 'user', 'text': '再来', 'audio_filename': 'audios/1_1.wav'},
  ]
  alone = [
    {'role': 'user', 'text': '你好', 'audio_filename': 'audios/2_0.wav'},
    {'role': 'assistant', 'text': '您好', 'audio_filename': None},
  ]
  samples.table(
    root / 'data' / f'{samples.FIRST}.parquet',
    {'conversation_id': '1', 'category': '唱歌', 'conversation': spoken},
    {'conversation_id': '2', 'category': '游戏', 'conversation': alone},
  )
  names = ('1_0', '1_1', '2_0')
  packed = tar(
    root / 'packed.tar',
    [(f'audios/{name}.wav', samples.wav()) for name in names],
  )
  put(root / 'plain', b'')
  (root / 'audios.tar.gz').write_bytes(gzip.compress(packed.read_bytes()))
  packed.unlink()
  (root / 'plain').unlink()
  mark = '{"factuality": "%s", "relevance": "yes", "chat": %d}'
  return samples.Sample(
    {'1': ('再来', (), '唱歌'), '2': ('你好', ('您好',), '游戏')},
    {'1': '啦啦啦', '2': '你好呀'},
    {'chat': 3.5, 'factuality': 0.5, 'relevance': 1.0, 'chat/唱歌': 5.0,
     'factuality/游戏': 0.0},
    {'1': mark % ('yes', 5), '2': mark % ('no', 2)},
    turns={'1': ['user', 'assistant', 'user'], '2': ['user']},
  )  # fmt: skip


def _said(number, who, text, name=''):
  value = {'type': 'wav', 'value': name} if name else text
  return {'session_id': '7', 'turn_idx': number, 'from': who, 'text': text,
          'value': value}  # fmt: skip


def _call(tool, arguments):
  return f'<tool_call>function\n{tool}\n{json.dumps(arguments)}</tool_call>'


def toolcall(root):
  expected = {
    'get_date_time': ('get_date_time', {}),
    'get_weather': ('get_weather', {'location': 'chengdu'}),
    'timbre': ('timbre_rag', {'query': '海绵宝宝'}),
    'web_search': ('web_search', {'query': '番茄 工作法'}),
  }
  items, said, turns = {}, {}, {}
  for name, (tool, arguments) in expected.items():
    wavs = [f'wav/{name}-{k}.wav' for k in range(3)]
    for path in wavs:
      put(root / path, samples.wav())
    right = _said(5, 'Assistant', _call(tool, arguments))
    before = [
      _said(0, 'Human', '查一下', wavs[0]),
      _said(1, 'Assistant', _call('calculate', {'expression': '1+1'})),
      _said(2, 'Input', '2'),
      _said(3, 'Assistant', '是二', wavs[1]),
      _said(4, 'Human', '再查', wavs[2]),
    ]
    put(root / f'{name}_positive.jsonl', [[*before, right]])
    words = [_said(0, 'Human', '聊聊', wavs[0]), _said(1, 'Assistant', '好')]
    put(root / f'{name}_negative.jsonl', [words])
    positive, negative = f'{name}-positive-1', f'{name}-negative-1'
    items[positive] = ('再查', (), tool)
    items[negative] = ('聊聊', ('好',), tool)
    turns[positive] = [
      'tool_json_schemas', 'user', 'assistant', 'tool', 'assistant', 'user',
    ]  # fmt: skip
    said[positive] = [{'name': tool, 'arguments': dict(arguments)}]
    said[negative] = '好'
  # Another tool, other arguments, no call, and one that should not be.
  said['get_date_time-positive-1'] = [
    {'name': 'web_search', 'arguments': {'query': '几点'}}
  ]
  said['get_weather-positive-1'] = [
    {'name': 'get_weather', 'arguments': {'location': 'beijing'}}
  ]
  said['timbre-positive-1'] = '我不会'
  said['web_search-negative-1'] = [{'name': 'web_search', 'arguments': {}}]
  return samples.Sample(
    items,
    said,
    {
      'trigger_recall': 0.75,
      'trigger_precision': 0.75,
      'type_accuracy': 0.6667,
      'argument_match': 0.5,
      'argument_accuracy': 0.5,
      'trigger_recall/timbre_rag': 0.0,
      'trigger_precision/timbre_rag': None,
      'trigger_precision/web_search': 0.5,
      'type_accuracy/get_date_time': 0.0,
      'argument_match/get_date_time': None,
      'argument_match/web_search': 1.0,
    },
    {'web_search-positive-1': 'yes', 'get_weather-positive-1': 'no'},
    turns=turns,
  )


# VoiceBench.


def _voice(subset, rows, said, figures, split='test', **more):
  """`rows` are (fields, references, category)."""

  def build(root):
    path = root / subset / f'{split}-00000-of-00001.parquet'
    samples.table(path, *[
      {'prompt': f'Q{n}?', 'audio': samples.cell(), **fields}
      for n, (fields, *_) in enumerate(rows)
    ])  # fmt: skip
    names = [f'{split}-00000-of-00001-{n + 1}' for n in range(len(rows))]
    items = {
      name: (fields.get('prompt', f'Q{n}?'), references, category)
      for n, (name, (fields, references, category)) in enumerate(
        zip(names, rows, strict=True)
      )
    }
    told = dict(more)
    if 'replies' in told:
      told['replies'] = dict(zip(names, told['replies'], strict=True))
    return samples.Sample(
      items, dict(zip(names, said, strict=True)), figures, **told
    )

  return build


def _rated_voice(subset):
  return _voice(
    subset,
    [({}, (), ''), ({}, (), ''), ({}, (), '')],
    ['Fine.', 'Good.', 'Well.'],
    {'judge': 3.0, 'judge_parsed': 4.0, 'judge_unparsed': 0.3333},
    replies=['5', '3', 'It was all right.'],
  )


def _letters(subset):
  asked = 'Which?\nA. red\nB. blue green\nC. none'
  return _voice(
    subset,
    [
      ({'prompt': asked, 'reference': 'B'}, ('B',), 'test'),
      ({'prompt': asked, 'reference': 'A'}, ('A',), 'test'),
      ({'prompt': asked, 'reference': 'C'}, ('C',), 'test'),
      ({'prompt': asked, 'reference': 'C'}, ('C',), 'test'),
    ],
    ['The answer is B.', 'Blue green', 'A or B', 'I would say so'],
    {'accuracy': 0.25, 'accuracy_parsed': 0.5, 'unparsed': 0.5},
  )


def turns(root):
  texts = ['Write it.', 'Now shorter.']
  samples.table(
    root / 'mtbench' / f'{samples.FIRST}.parquet',
    {'turns': texts, 'audio1': samples.cell(), 'audio2': samples.cell('b.wav'),
     'category': 'writing'},
  )  # fmt: skip
  name = f'{samples.FIRST}-1'
  return samples.Sample(
    {name: (texts[1], (), 'writing')},
    {name: 'It.'},
    {'judge': 4.0},
    {name: '4'},
    turns={name: ['user', 'user']},
  )


def _ifeval():
  none = {'keywords': None, 'num_words': None, 'relation': None}
  return _voice(
    'ifeval',
    [
      (
        {
          'instruction_id_list': ['punctuation:no_comma'],
          'kwargs': [none],
        },
        (),
        '',
      ),
      (
        {
          'instruction_id_list': [
            'keywords:existence',
            'length_constraints:number_words',
          ],
          'kwargs': [
            {**none, 'keywords': ['sun']},
            {**none, 'num_words': 3, 'relation': 'at least'},
          ],
        },
        (),
        '',
      ),
    ],
    ['Sure, here:\nno comma', 'The sun'],
    {
      'prompt_strict': 0.0,
      'instruction_strict': 0.3333,
      'prompt_loose': 0.5,
      'instruction_loose': 0.6667,
      'ifeval': 0.375,
      'unparsed': 0.0,
    },
  )


LAYOUTS = {
  'llama_questions': _parquet_questions(
    {'answer': 'Paris'}, {'answer': "['two' '2']"}
  ),
  'web_questions': _parquet_questions(
    {'answers': ['Paris']}, {'answers': ['two', '2']}
  ),
  'trivia_qa': _parquet_questions(
    {'answer': {'value': 'Paris', 'aliases': ['Paris']}},
    {'answer': {'value': 'two', 'aliases': ['2', 'two']}},
  ),
  'complex_bench': chosen.complex_bench,
  'hsk6': chosen.hsk6,
  'stepeval_audio_360': chats,
  'stepeval_toolcall': toolcall,
  'stepeval_paralinguistic': paralinguistic,
  **{
    f'voicebench_{name}': _rated_voice(name)
    for name in ('alpacaeval', 'alpacaeval_full', 'commoneval', 'wildvoice')
  },
  'voicebench_mtbench': turns,
  'voicebench_sd_qa': _voice(
    'sd-qa',
    [({'reference': 'Rome'}, ('Rome',), 'usa')],
    ['In Rome'],
    {'judge': 1.0, 'exist_match': 1.0},
    split='usa',
    replies=['Yes'],
  ),
  'voicebench_openbookqa': _letters('openbookqa'),
  'voicebench_mmsu': _letters('mmsu'),
  'voicebench_bbh': _voice(
    'bbh',
    [
      ({'id': 'navigate_1', 'reference': 'No'}, ('no',), 'navigate'),
      ({'id': 'hyperbaton_2', 'reference': '(B)'}, ('b',), 'hyperbaton'),
      ({'id': 'web_of_lies_3', 'reference': 'Yes'}, ('yes',), 'web_of_lies'),
    ],
    ['No.', '(A)', 'Perhaps'],
    {'accuracy': 0.3333, 'accuracy_parsed': 0.5, 'unparsed': 0.3333,
     'accuracy/navigate': 1.0},
  ),
  'voicebench_ifeval': _ifeval(),
  'voicebench_advbench': _voice(
    'advbench',
    [({}, (), ''), ({}, (), '')],
    ["I'm sorry, I can't.", 'First, take'],
    {'refusal': 0.5},
  ),
  'openaudiobench_alpaca': _rated_csv(
    'alpaca_eval', 'instruction', 'output', 'How?', False,
    ('So so. Rating: [[7]]', 'Rating: [[11]]'),
    {'judge': 40.0, 'judge_parsed': 70.0, 'judge_unparsed': 0.5},
  ),
  'openaudiobench_llama': _llama_csv(),
  'openaudiobench_reasoning': _rated_csv(
    'reasoning_qa', 'Prompt', '参考答案', '几个？', True,
    ('对。[[5]]', '错。[[1]]'), {'judge': 60.0},
  ),
  'openaudiobench_trivia': _right_csv(
    'trivia_qa', 'question', 'answer_normalized_aliases',
    "['here', 'there']", *_half(*map(samples.judgment, (True, False))),
  ),
  'openaudiobench_web': _right_csv(
    'web_questions', 'question', 'answers', "['here' 'there']",
    *_half(*map(samples.judgment, (True, False))),
  ),
  'bigbench_audio': bigbench,
  'mmau': chosen.mmau,
  'mmar': chosen.mmar,
  'mmsu': chosen.mmsu,
  'audiomcq_strongac': chosen.audiomcq,
  **{
    f'uro_{name.lower().replace("-", "_")}': chosen.uro(name)
    for name in uro_sets.SETS
  },
}  # fmt: skip
