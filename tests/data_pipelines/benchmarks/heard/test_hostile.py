"""Half of a benchmark, another version of it, and what cannot be heard."""

import json

import pytest

from data_pipelines.benchmarks import catalogue
from data_pipelines.benchmarks.heard import multiple_choice
from data_pipelines.benchmarks.heard import own_audio
from data_pipelines.benchmarks.heard import reading
from data_pipelines.benchmarks.heard import spoken_qa
from data_pipelines.benchmarks.heard import stepeval
from data_pipelines.benchmarks.heard import toolcall
from data_pipelines.benchmarks.heard import uro
from data_pipelines.benchmarks.heard import voicebench
from step_audio_jax import errors
from tests.data_pipelines.benchmarks.heard import chosen
from tests.data_pipelines.benchmarks.heard import layouts
from tests.data_pipelines.benchmarks.heard import samples
from tests.data_pipelines.readers.material import put
from tests.data_pipelines.readers.material import tar

POINTER = b'version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n'


def told(found):
  """Reason → how many, and all of them."""
  return {why: len(ids) for why, ids in found.left_out.items()}


def read(loader, folder, **fields):
  return loader(name='b', folder=str(folder), **fields).read()


def test_recordings_that_cannot_be_heard_keep_their_place(tmp_path):
  put(tmp_path / 'audio' / 'good.wav', samples.wav())
  put(tmp_path / 'audio' / 'pointer.wav', POINTER)
  put(tmp_path / 'audio' / 'empty.wav', b'')
  put(tmp_path / 'audio' / 'page.wav', b'<html>404</html>')
  put(tmp_path.parent / 'secret.wav', samples.wav())
  names = (
    'good', 'missing', 'pointer', 'empty', 'page', '../../secret', 'good',
  )  # fmt: skip
  rows = [
    {'id': str(k), 'audio_path': f'audio/{name}.wav', 'question': '?',
     'choices': ['a', 'b'], 'answer': 'a'}
    for k, name in enumerate(names[:-1])
  ]  # fmt: skip
  rows += [{**rows[0]}, {**rows[0], 'id': '9', 'audio_path': None}]
  put(tmp_path / 'data.jsonl', rows)
  found = read(multiple_choice.Heard, tmp_path, layout='audiomcq', expected=10)
  assert [item.id for item in found.items] == ['0']
  reasons = told(found)
  assert reasons.pop('an id that was there before') == 1
  assert reasons.pop('not in the folder, which has 8 of 10') == 2
  assert found.of == 10 and sum(reasons.values()) == 6
  for part in ('not there', 'LFS', 'empty', 'begin with', 'leads', 'missing'):
    assert any(part in why or '..' in why for why in reasons), (part, reasons)
  assert not any(str(tmp_path) in why for why in reasons)


def test_cells_of_parquet_are_looked_at_too(tmp_path):
  rows = [
    {'prompt': 'A?', 'audio': samples.cell()},
    {'prompt': 'B?', 'audio': {'bytes': b'nothing', 'path': 'b.wav'}},
    {'prompt': 'C?', 'audio': {'bytes': None, 'path': None}},
    {'prompt': '', 'audio': samples.cell()},
    {'prompt': 'E?', 'audio': {'bytes': POINTER, 'path': 'e.wav'}},
  ]
  first = tmp_path / 'advbench' / 'test-00000-of-00003.parquet'
  samples.table(first, *rows)
  whole = first.read_bytes()
  put(first.with_name('test-00002-of-00003.parquet'), whole[: len(whole) // 2])
  found = read(voicebench.Refused, tmp_path, expected=7)
  assert [item.text for item in found.items] == ['A?']
  reasons = told(found)
  assert reasons.pop(reading.PART) == 1
  (damaged,) = [why for why in reasons if 'whole parquet' in why]
  assert found.left_out[damaged] == (
    str(first.with_name('test-00002-of-00003.parquet')),
  )
  assert reasons['prompt: empty, expected a text'] == 1
  assert reasons['audio: missing, expected a recording'] == 1
  assert sum(reasons.values()) == 5 and found.of == 7
  assert not found.version


def test_another_version_says_so(tmp_path):
  folder = tmp_path / 'commoneval'
  samples.table(
    folder / f'{samples.FIRST}.parquet', {'words': 'A?', 'sound': b'1'}
  )
  with pytest.raises(
    errors.UserError, match='can be asked.*columns words, sound'
  ):
    read(voicebench.Open, tmp_path, subset='commoneval')
  samples.table(
    folder / f'{samples.FIRST}.parquet',
    *[{'prompt': f'{k}?', 'audio': samples.cell()} for k in range(3)],
  )
  found = read(voicebench.Open, tmp_path, subset='commoneval', expected=2)
  assert found.version == '3 items, the public set has 2'
  assert found.of == len(found.items) == 3


@pytest.mark.parametrize(
  'loader, fields',
  [
    (spoken_qa.SpokenQuestions, {}),
    (spoken_qa.BigBenchAudio, {}),
    (multiple_choice.Heard, {}),
    (own_audio.ComplexBench, {}),
    (own_audio.Exam, {}),
    (stepeval.Chats360, {}),
    (stepeval.Paralinguistic, {}),
    (toolcall.Toolcall, {}),
    (voicebench.Letters, {}),
    (uro.Right, {}),
  ],
)
def test_nothing_there_is_one_sentence(loader, fields, tmp_path):
  for folder in (tmp_path, tmp_path / 'gone'):
    with pytest.raises(errors.UserError) as told:
      read(loader, folder, **fields)
    assert str(folder) in str(told.value) and str(told.value).endswith('.')


@pytest.mark.parametrize(
  'changed, why',
  [
    ({'answer': 'd'}, 'answer: found none of the choices, expected one'),
    ({'choices': ['a', 'A']}, 'expected options that differ'),
    ({'choices': ['b', 'b']}, 'expected options that differ'),
    ({'choices': ['b']}, 'choices: missing, expected a list of options'),
    ({'choices': None}, 'choices: missing, expected a list of options'),
    ({'choices': 'b or a'}, 'choices: missing, expected a list of options'),
    ({'question': ' '}, 'question: empty, expected a text'),
    ({'answer': None}, 'answer: empty, expected a text'),
    ({'audio-contribution': 'weak'}, 'audio-contribution: not strong'),
  ],
)
def test_options_that_do_not_fit_are_left_out(changed, why, tmp_path):
  put(tmp_path / 'a.wav', samples.wav())
  good = {'id': 'x', 'audio_path': 'a.wav', 'question': '?',
          'choices': ['a', 'b'], 'answer': '(B)'}  # fmt: skip
  put(tmp_path / 'data.jsonl', [good, {**good, 'id': 'y', **changed}])
  found = read(multiple_choice.Heard, tmp_path, layout='audiomcq')
  assert found.items[0].references == ('b',)
  ((reason, ids),) = found.left_out.items()
  assert why in reason and len(ids) == 1


def test_lines_and_calls_that_are_none(tmp_path):
  layouts.toolcall(tmp_path)
  path = tmp_path / 'get_weather_positive.jsonl'
  (line,) = path.read_text().splitlines()
  other = line.replace('get_weather\\n', 'web_search\\n')
  odd = line.replace('<tool_call>function', '<tool_call>macro')
  turn = line.replace('"Human"', '"Robot"')
  order = json.dumps(json.loads(line)[:-1])
  put(path, '\n'.join((line, other, odd, turn, order, '{', '[]')) + '\n')
  (tmp_path / 'timbre_negative.jsonl').unlink()
  (tmp_path / 'wav' / 'web_search-0.wav').unlink()
  found = read(toolcall.Toolcall, tmp_path)
  assert found.of == 8 + 6
  assert told(found) == {
    'text: found another call than the one that its file is about': 1,
    'text: found a call of another form': 1,
    "from: found 'Robot', expected Human, Assistant or Input": 1,
    'from: found another order, expected Human and then Assistant at the end':
    1,
    'not a line of JSON': 1,
    'found no list of turns, expected one': 1,
    reading.PART: 1,
    'audio: its file is not there': 2,
  }  # fmt: skip


@pytest.mark.parametrize(
  'words, spaces', [('好，帮我查。', ' \\n '), ('', '  \\n')]
)
def test_words_before_a_call_are_kept(words, spaces, tmp_path):
  layouts.toolcall(tmp_path)
  path = tmp_path / 'get_weather_positive.jsonl'
  line = path.read_text().replace('function\\n', 'function' + spaces)
  put(path, line.replace('<tool_call>', words + ' <tool_call>'))
  found = read(toolcall.Toolcall, tmp_path)
  (item,) = [one for one in found.items if 'weather-positive' in one.id]
  assert item.references == ((words,) if words else ())
  assert item.about['expected_calls'] == [
    {'name': 'get_weather', 'arguments': {'location': 'chengdu'}}
  ]


def test_two_calls_in_a_turn_are_of_another_form(tmp_path):
  layouts.toolcall(tmp_path)
  path = tmp_path / 'get_weather_positive.jsonl'
  line = path.read_text()
  second = '</tool_call><tool_call>function\\nget_weather\\n{}</tool_call>'
  put(path, line.replace('</tool_call>', second))
  assert told(read(toolcall.Toolcall, tmp_path)) == {
    'text: found a call of another form': 1
  }


def test_chats_of_other_forms(tmp_path):
  put(tmp_path / 'audios' / '1.wav', samples.wav())
  user = {'role': 'user', 'text': '你好', 'audio_filename': '1.wav'}
  rows = [
    [user],
    [{**user, 'role': 'robot'}],
    [{**user, 'role': 'assistant'}],
    [{**user, 'text': '', 'audio_filename': ''}],
    [],
  ]
  samples.table(
    tmp_path / 'data' / f'{samples.FIRST}.parquet',
    *[
      {'conversation_id': str(k), 'category': 'c', 'conversation': some}
      for k, some in enumerate(rows)
    ],
  )
  found = read(stepeval.Chats360, tmp_path)
  assert [item.id for item in found.items] == ['0']
  assert sum(told(found).values()) == 4


def test_chats_may_be_lists_of_columns(tmp_path):
  put(tmp_path / 'audios' / '1.wav', samples.wav())
  samples.table(
    tmp_path / 'data' / f'{samples.FIRST}.parquet',
    {
      'conversation_id': '1',
      'category': 'c',
      'conversation': {
        'role': ['user', 'assistant', 'user'],
        'text': ['一', '二', '三'],
        'audio_filename': ['1.wav', None, '1.wav'],
      },
    },
  )
  (item,) = read(stepeval.Chats360, tmp_path).items
  assert [turn.role for turn in item.chat.turns] == [
    'user', 'assistant', 'user',
  ]  # fmt: skip
  assert len(item.recordings) == 2 and item.text == '三'


def test_a_tar_that_was_cut_short_gives_what_is_whole(tmp_path):
  chosen.mmar(tmp_path)
  path = tmp_path / 'mmar-audio.tar.gz'
  whole = tar(tmp_path / 'w', [(f'audio/{n}.wav', samples.wav()) for n in 'rs'])
  data = whole.read_bytes()
  path.write_bytes(data[: len(samples.wav()) + 1800])
  found = read(multiple_choice.Heard, tmp_path, layout='mmar')
  assert [item.id for item in found.items] == ['r']
  assert told(found) == {'audio: its file is not there': 1}


def test_a_table_in_another_encoding(tmp_path):
  path = tmp_path / 'llama_questions.csv'
  path.write_bytes('Questions,Answer\n何\n'.encode('gbk'))
  with pytest.raises(errors.UserError, match='UTF-8'):
    read(spoken_qa.SpokenQuestions, tmp_path)


@pytest.mark.parametrize(
  'cell, expected',
  [
    ("['a', 'b']", ('a', 'b')),
    ("['it\\'s' \"b\"]", ("it's", 'b')),
    ('["\\u4e00", "b"]', ('一', 'b')),
    ('[citation needed]', ('[citation needed]',)),
    (' a ', ('a',)),
    (7, ('7',)),
    (float('nan'), ()),
    ('', ()),
    (None, ()),
    ([['a'], 'a', None], ('a',)),
  ],
)
def test_right_answers_of_a_cell(cell, expected):
  assert reading.answers(cell) == expected


def test_settings_that_are_none():
  with pytest.raises(errors.UserError, match='layout.*mmau'):
    multiple_choice.Heard('b', '/x', layout='mmmu')
  with pytest.raises(errors.UserError, match='language.*zh or en'):
    own_audio.ComplexBench('b', '/x', language='fr')
  with pytest.raises(errors.UserError, match='subset.*AlpacaEval'):
    uro.Rated('b', '/x', subset='Alpaca').read()
  assert catalogue.entry('mmau').make('m', '/x').seed == 0
