"""Marked texts: TTS learns the tags, other tasks the words, and rows say so."""

import pytest

from data_pipelines.rows import build
from data_pipelines.tasks import definitions
from step_audio_jax import documents
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.storage import files
from step_audio_jax.training import run_bindings
from step_audio_jax.training.feeds import feed
from tests.data_pipelines import tiny


@pytest.fixture
def root(tmp_path):
  """A corpus whose first two lines of train are marked."""
  root = tiny.make(tmp_path / 'corpus')
  path = root / 'speech' / 'manifest.jsonl'
  lines = list(files.read_jsonl(path))
  one, two, *_ = (line for line in lines if line['split'] == 'train')
  one['marked'] = f'（fast 1）{one["text"]}'
  first, *rest = two['text'].split(' ')
  two['marked'] = f'(sad 1){first} (pause 3){" ".join(rest)}'
  files.write_jsonl(path, lines)
  return root


def tasks_of(root):
  found = definitions.speech(
    'x', root / 'speech', root / 'codes', root / 'text.model'
  )
  return {task.name: task for task in found}


def test_documents_of_tts_have_tags_and_others_have_none(root):
  tasks = tasks_of(root)
  table = tasks['x_tts'].vocabulary()
  lines = [
    line
    for line in files.read_jsonl(root / 'speech' / 'manifest.jsonl')
    if line['split'] == 'train'
  ]

  def told(name):
    task = tasks[name]
    found = task.documents(task.examples('train'), lambda *bad: None)
    return [document.tokens.tolist() for document in found][:3]

  written = (
    f'(快速1){lines[0]["text"]}',
    lines[1]['marked'].replace('sad 1', '悲伤1').replace('pause 3', '停顿3'),
    lines[2]['text'],
  )
  for name in ('x_tts', 'x_sft_tts'):
    for ids, text in zip(told(name), written, strict=True):
      words = table.text.encode(text)
      assert ids[3 : 3 + len(words)] == words
  for ids, line in zip(told('x_asr'), lines):
    words = table.text.encode(line['text'])
    assert ids[-1 - len(words) : -1] == words


def test_the_target_of_two_turns_has_its_tags(root):
  path = root / 'speech' / 'manifest.jsonl'
  lines = list(files.read_jsonl(path))
  for line in lines:
    line['marked'] = f'(快速2){line["text"]}'
  files.write_jsonl(path, lines)
  task = definitions.speech(
    'x', root / 'speech', root / 'codes', root / 'text.model', sft=True
  )[-1]
  table, codes = task.vocabulary(), speech_codes.read_codes(root / 'codes')
  said = {utterance.id: utterance for utterance in manifest.read(path.parent)}
  assert task.kind == 'tts_turns' and task.tags('train') == ['快速2']
  found = list(task.documents(task.examples('train'), lambda *bad: None))
  train = [u for u in said.values() if u.split == 'train']
  for document in found[:2]:
    target = said[document.id]
    before = train[: train.index(target)]
    other = [u for u in before if u.speaker == target.speaker][-1]
    turns = documents.tts_turns(
      target.marked,
      voice_text=other.text,
      voice_ids=documents.speech_ids(table, *codes[other.id]),
    )
    prompt = documents.TTS_TURNS.prompt(table, turns)
    assert document.tokens[: len(prompt)].tolist() == prompt


def test_rows_and_runs_say_which_tags_there_are(root, tmp_path):
  tasks = tasks_of(root)
  assert tasks['x_tts'].tags('train') == ['悲伤1', '快速1', '停顿3']
  assert tasks['x_tts'].tags('dev') == tasks['x_asr'].tags('train') == []
  some = {name: tasks[name] for name in ('x_tts', 'x_asr')}
  rows = tmp_path / 'rows'
  build.build(some, ['train'], rows, build.Settings(200))
  stats = files.read_json(rows / 'x_tts' / 'train' / 'stats.json')
  assert stats['tags'] == ['悲伤1', '快速1', '停顿3']
  assert 'tags' not in files.read_json(rows / 'x_asr' / 'train' / 'stats.json')
  found = feed.RowFeed(rows=str(rows), ratios={'x_tts': 1}, batch_size=2)
  run = run_bindings.bindings_of_run({}, found)
  assert run['tags'] == sorted(stats['tags'])
  found = feed.RowFeed(rows=str(rows), ratios={'x_asr': 1}, batch_size=2)
  assert 'tags' not in run_bindings.bindings_of_run({}, found)
