"""Recordings that are edited: the task, its rows, and what is served."""

import numpy as np
import pytest

from data_pipelines.rows import build
from data_pipelines.tasks import definitions
from step_audio_jax import documents
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.decoder import editing
from step_audio_jax.decoder import voice as voice_lib
from step_audio_jax.storage import files
from step_audio_jax.styles import markup
from step_audio_jax.training import run_bindings
from step_audio_jax.training.feeds import feed
from tests.data_pipelines import tiny
from tests.data_pipelines.tasks import test_definitions


def turns(asked, start, end):
  content = [{'text': asked}, {'speech': start}]
  return [
    {'role': 'user', 'content': content},
    {'role': 'assistant', 'speech': end},
  ]


@pytest.fixture
def root(tmp_path):
  """Recordings, of which one text is edited again and again."""
  root = tiny.make(tmp_path / 'corpus', 9)
  speech = manifest.read(root / 'speech')
  said = {one.id: one.text for one in speech}
  edits = {
    'e0': turns(f'(fast 1){said["u0"]}', 'u0', 'u1'),
    'e1': turns('(fast 1)', 'u1', 'u3'),  # with the transcript
    'e2': turns('a bit slower, and deeper', 'u1', 'u0'),
    'e3': turns(f'(fast 2){said["u0"]}', 'u0', 'u3'),
    'none': turns('what is that', 'u0', 'u1'),
  }
  chats = [
    manifest.Utterance(id=name, kind='chat', turns=tuple(some))
    for name, some in edits.items()
  ]
  manifest.write(root / 'speech', [*speech, *chats])
  return root


def task_of(root):
  found = definitions.chat(
    'x', root / 'speech', root / 'text.model', codes=root / 'codes', sft=True
  )
  return next(task for task in found if task.name == 'x_audio_edit')


def test_what_is_learnt_is_what_is_asked_when_it_is_served(root, monkeypatch):
  task = task_of(root)
  table, codes = task.vocabulary(), speech_codes.read_codes(root / 'codes')
  said = {u.id: u.text for u in manifest.read(root / 'speech')}
  # What several edits are about is read once.
  monkeypatch.setattr(speech_codes, 'read_codes', None)
  found, bad = test_definitions.documents_of(task)
  assert list(found) == ['e0', 'e1', 'e2', 'e3']
  for name, asked, start, end in (
    ('e0', f'(fast 1){said["u0"]}', 'u0', 'u1'),
    ('e1', f'(fast 1){said["u1"]}', 'u1', 'u3'),
    ('e2', f'(slow 1)(low pitch 2){said["u1"]}', 'u1', 'u0'),
    ('e3', f'(fast 2){said["u0"]}', 'u0', 'u3'),
  ):
    ids = voice_lib.IDS.interleave(*codes[start])
    prompt = editing.prompt(table, markup.parse(asked), ids)
    answer = documents.speech_ids(table, *codes[end])
    tokens = [*prompt, *answer, documents.vocabulary.EOT]
    assert found[name].tokens.tolist() == tokens
    weights = np.zeros(len(tokens))
    weights[len(prompt) :] = 1
    np.testing.assert_array_equal(found[name].loss_weights, weights)
  told = {name: why for name, _, why in bad}
  assert "style: found 'what is' in" in told['none']


def test_rows_and_runs_say_what_they_edit(root, tmp_path):
  task = task_of(root)
  assert task.edits('train') == ['快速1', '快速2', '慢速1', '低音2']
  rows = tmp_path / 'rows'
  build.build({task.name: task}, ['train'], rows, build.Settings(200))
  stats = files.read_json(rows / task.name / 'train' / 'stats.json')
  # Nobody has learnt to speak a text so.
  assert stats['edits'] == task.edits('train') and 'tags' not in stats
  found = feed.RowFeed(rows=str(rows), ratios={task.name: 1}, batch_size=2)
  run = run_bindings.bindings_of_run({}, found)
  assert run['edits'] == sorted(stats['edits']) and 'tags' not in run
  files.write_json(tmp_path / 'run' / 'config.json', run)
  learnt = editing.learnt(tmp_path / 'run')
  assert [str(tag) for tag in learnt] == stats['edits']
