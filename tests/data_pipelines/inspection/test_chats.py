"""Conversations as people read them, and lines that are none."""

import gzip
import json

import pytest

from data_pipelines import __main__ as doors
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from tests.chats import conversations
from tests.data_pipelines import tiny


@pytest.fixture
def call(capsys):
  """Status, and what was printed: lines and JSON, or the error."""

  def go(*flags):
    argv = ['data_pipelines', 'inspect', '--json', '--chat', *map(str, flags)]
    status = cli.dispatch('data_pipelines', doors.DOORS, argv)
    out = capsys.readouterr()
    if status:
      return status, out.out, out.err
    *printed, last = out.out.splitlines()
    return status, '\n'.join(printed), json.loads(last)

  return go


@pytest.fixture
def corpus(tmp_path):
  return tiny.make(tmp_path / 'corpus')


HI = [
  {'role': 'user', 'content': 'a dog'},
  {'role': 'assistant', 'content': 'a'},
]


def put(path, *values):
  lines = (v if isinstance(v, str) else json.dumps(v) for v in values)
  path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
  return path


def test_all_formats_and_every_wrong_line(tmp_path, call):
  path = put(
    tmp_path / 'chats.jsonl',
    {'messages': HI, 'id': 'one'},
    '{"messages": ',
    {'conversations': [{'from': 'human', 'value': 'x'}]},
    {'conversations': [{'from': 'human', 'value': 'x'},
                       {'from': 'gpt', 'value': 'y'}]},
    {'messages': [{'role': 'usr', 'content': 'x'}], 'id': 'bad'},
    {'turns': [{'role': 'assistant', 'text': 'z'}]},
    {'text': 'no chat'},
    conversations.generated(1, seed=4)[0],
  )  # fmt: skip
  status, printed, told = call(f'--path={path}')
  assert status == 0 and told['kind'] == 'chat'
  assert told['conversations'] == 4
  assert [one['line'] for one in told['wrong']] == [2, 3, 5, 7]
  reasons = [one['reason'] for one in told['wrong']]
  assert reasons[0].startswith('not a JSON line')
  assert reasons[1] == 'turns: none of the assistant, expected one.'
  assert reasons[2].startswith("messages[0].role: found 'usr'")
  assert reasons[3].startswith('messages: missing')
  assert f"{path}:5: messages[0].role: found 'usr'" in printed
  assert "  0 user: 'a dog'\n *1 assistant: 'a'" in printed
  assert [one['id'] for one in told['shown']] == [
    'one', 'line 4', 'line 6', 'line 8',
  ]  # fmt: skip
  status, _, told = call(f'--path={path}', '--row=1', '--rows=1')
  assert [one['line'] for one in told['shown']] == [4]
  status, _, error = call(f'--path={path}', '--verify')
  assert status == 2 and f'{path}:2: not a JSON' in error
  assert '(3 more lines)' in error
  status, _, error = call(f'--path={path}', '--row=9')
  assert status == 2 and '--row: found 9, expected 0..3' in error


def test_lengths_loss_and_cuts_of_a_corpus(corpus, call, tmp_path):
  said = manifest.read(corpus / 'speech')
  turns = [
    {'role': 'user', 'speech': 'u1'},
    {'role': 'assistant', 'text': 'a cat'},
    {'role': 'user', 'content': [{'text': 'a dog <b>'}, {'speech': 'u2'}]},
    {'role': 'assistant', 'text': 'a'},
  ]
  chat = manifest.Utterance(id='c', kind='chat', turns=turns)
  manifest.write(corpus / 'speech', [*said, chat])
  model = corpus / 'text.model'
  page = tmp_path / 'chats.html'
  status, printed, told = call(
    f'--path={corpus}/speech', f'--text_model={model}', f'--html={page}'
  )
  assert status == 0
  (one,) = told['shown']
  assert one['tokens'] == 1 + sum(turn['tokens'] for turn in one['turns'])
  assert [turn['loss_tokens'] > 0 for turn in one['turns']] == [
    False, True, False, True,
  ]  # fmt: skip
  assert one['turns'][3]['loss_tokens'] == 2
  duration = next(u.duration for u in said if u.id == 'u1')
  assert f'[speech u1, {duration:.2f} s]' in printed
  text = page.read_text(encoding='utf-8')
  assert 'a dog &lt;b&gt;' in text and '<b>assistant</b>' in text
  length = one['tokens'] - 1
  flags = (f'--path={corpus}/speech', f'--text_model={model}')
  _, printed, told = call(*flags, f'--length={length}')
  assert '1 more than' in told['shown'][0]['cut']
  assert 'turns 0 to 1 were left out' in printed
  _, printed, told = call(*flags, '--length=16')
  assert 'what stays when all older turns' in told['shown'][0]['cut']


@pytest.mark.parametrize(
  ('flags', 'said'),
  [
    (['--path=nowhere.jsonl'], 'nowhere.jsonl: no such file or folder.'),
    (['--path={}/empty.jsonl'], 'no conversations, expected some'),
    (['--path={}/empty.jsonl', '--length=64'], '--length: expected --text_mod'),
  ],
)
def test_what_cannot_be_shown(tmp_path, call, flags, said):
  put(tmp_path / 'empty.jsonl')
  status, _, error = call(*(flag.format(tmp_path) for flag in flags))
  assert status == 2 and said in error


def test_nothing_is_read_dry(tmp_path, call):
  path = put(tmp_path / 'chats.jsonl', {'messages': HI})
  status, printed, told = call(f'--path={path}', '--dry_run')
  assert status == 0 and told == {'dry_run': True, 'kind': 'chat'}
  assert f'would read {path} (chat)' in printed


def test_arrays_packed_lines_and_ids_that_move_a_cursor(tmp_path, call):
  chat = {'messages': HI}
  odd = [{**chat, 'id': name} for name in ('a\x1b[2J', 'b\nc', '\udc80')]
  deep = '{"id": ' + '[' * 900 + ']' * 900 + '}'
  packed = tmp_path / 'chats.jsonl.gz'
  lines = [*map(json.dumps, odd), deep]
  packed.write_bytes(gzip.compress('\n'.join(lines).encode()))
  array = tmp_path / 'chats.json'
  array.write_text(json.dumps([*odd, 3, {'turns': [
    {'role': 'user', 'speech': 'of no corpus'},
    {'role': 'assistant', 'text': 'a'}]}], indent=1))  # fmt: skip
  for path, count, reason in (
    (packed, 3, 'the line: nested more than 100 levels deep'),
    (array, 4, 'found 3, expected an object.'),
  ):
    html = tmp_path / 'x.html'
    status, printed, told = call(f'--path={path}', f'--html={html}')
    assert status == 0 and told['conversations'] == count
    assert [one['line'] for one in told['wrong']] == [4]
    assert told['wrong'][0]['reason'].startswith(reason)
    assert '\x1b' not in printed and '\udc80' not in printed
    names = [one['id'] for one in told['shown']][:3]
    assert names == ["'a\\x1b[2J'", "'b\\nc'", "'\\udc80'"]
    assert html.read_text(encoding='utf-8')
