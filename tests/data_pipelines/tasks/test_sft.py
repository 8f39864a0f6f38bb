"""Tasks of SFT: chats shown in several ways, and speech in two turns."""

import dataclasses

import numpy as np
import pytest

from data_pipelines.documents import examples
from data_pipelines.rows import build
from data_pipelines.tasks import corpora
from data_pipelines.tasks import definitions
from step_audio_jax import documents
from step_audio_jax import errors
from step_audio_jax.chats import views
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.corpus import stages
from tests.data_pipelines import tiny
from tests.data_pipelines.tasks import test_corpora
from tests.data_pipelines.tasks import test_definitions

documents_of = test_definitions.documents_of
clean = test_corpora.clean  # registries are left as they were


@pytest.fixture
def own(tmp_path):
  """Fourteen recordings and a chat in which both sides speak twice."""
  root = tiny.make(tmp_path / 'corpus', 14)
  turns = [
    {'role': 'user', 'speech': 'u0'},
    {'role': 'assistant', 'speech': 'u1'},
    {'role': 'user', 'speech': 'u3'},
    {'role': 'assistant', 'speech': 'u4'},
  ]
  written = [*turns[:3], {'role': 'assistant', 'text': 'a dog'}]
  chats = [
    manifest.Utterance(id=f'c{k}', kind='chat', turns=some)
    for k, some in enumerate((turns, written))
  ]
  # A chat may stand in front of what it refers to.
  lines = [chats[0], *manifest.read(root / 'speech'), chats[1]]
  manifest.write(root / 'speech', lines)
  return root


def tasks_of(root):
  found = definitions.chat(
    'tiny',
    root / 'speech',
    root / 'text.model',
    codes=root / 'codes',
    sft=True,
  )
  return {task.name.removeprefix('tiny_'): task for task in found}


def test_each_view_is_a_task_of_the_same_chats(own):
  tasks = tasks_of(own)
  assert list(tasks) == ['chat', *views.VIEWS]
  table = tasks['chat'].vocabulary()
  codes = speech_codes.read_codes(own / 'codes')
  texts = {u.id: u.text for u in manifest.read(own / 'speech', kind='speech')}
  heard = {name: documents.speech_ids(table, *codes[name]) for name in texts}
  before = [('user', texts['u0']), ('assistant', texts['u1'])]
  question, answer = heard['u3'], texts['u4']
  for name, asked, said in (
    ('tqta', texts['u3'], answer),
    ('aqta', question, answer),
    ('taqta', documents.Mixed((texts['u3'], question)), answer),
    ('aqtqta', question, f'{texts["u3"]}\n{answer}'),
    ('aqaa', question, heard['u4']),
  ):
    found, bad = documents_of(tasks[name])
    turns = [*before, ('user', asked), ('assistant', said)]
    want = documents.CHAT.document(table, 'c0', turns, last_only=True)
    np.testing.assert_array_equal(found['c0'].tokens, want.tokens)
    np.testing.assert_array_equal(found['c0'].loss_weights, want.loss_weights)
    # What is asked when it is served is the document before its answer.
    prompt = documents.CHAT.prompt(table, turns[:-1])
    assert found['c0'].tokens[: len(prompt)].tolist() == prompt
    assert not found['c0'].loss_weights[: len(prompt)].any()
    assert found['c0'].loss_weights[len(prompt) :].all()
    if name == 'aqaa':
      ((wrong, _, why),) = bad
      assert wrong == 'c1' and 'turns[3]: found a text, expected a rec' in why
    else:
      assert set(found) == {'c0', 'c1'} and not bad
  # Without views nothing is asked of transcripts, and nothing has changed.
  plain, view = tasks['chat'], tasks['aqta']
  assert plain.digest('train') != view.digest('train')
  assert dataclasses.replace(view, view='tqta').digest('train') != (
    view.digest('train')
  )
  with pytest.raises(errors.UserError, match="view: found 'aqt'"):
    dataclasses.replace(view, view='aqt')


def spoken_of(root, part=examples.Part()):
  task = definitions.speech(
    'tiny', root / 'speech', root / 'codes', root / 'text.model', sft=True
  )[-1]
  assert task.name == 'tiny_tts_turns'
  bad = []
  found = task.documents(
    task.examples('train', part), lambda *told: bad.append(told)
  )
  return task, {one.id: one for one in found}, bad


def test_speech_in_two_turns_is_the_prompt_of_a_cloned_voice(own):
  task, found, bad = spoken_of(own)
  table = task.vocabulary()
  codes = speech_codes.read_codes(own / 'codes')
  lines = [
    u
    for u in manifest.read(own / 'speech', kind='speech')
    if u.split == 'train'
  ]
  before, first = {}, []
  for line in lines:
    target = documents.speech_ids(table, *codes[line.id])
    other = before.get(line.speaker)
    before[line.speaker] = line
    if other is None:
      first.append(line.id)
      continue
    turns = documents.tts_turns(
      line.text,
      voice_text=other.text,
      voice_ids=documents.speech_ids(table, *codes[other.id]),
    )
    prompt = documents.TTS_TURNS.prompt(table, turns)
    tokens = found.pop(line.id)
    assert tokens.tokens[: len(prompt)].tolist() == prompt
    assert tokens.tokens[len(prompt) :].tolist() == [*target, 3]
    assert not tokens.loss_weights[: len(prompt)].any()
    assert tokens.loss_weights[len(prompt) :].all()
  assert not found and [name for name, *_ in bad] == first
  assert 'speaker: no recording of' in bad[0][2]


@pytest.mark.parametrize('block', [1000, 3])
@pytest.mark.parametrize('count', [2, 5])
def test_parts_have_the_same_references(own, monkeypatch, block, count):
  monkeypatch.setattr(examples, 'BLOCK', block)
  _, whole, left = spoken_of(own)
  together, out = {}, []
  for k in range(count):
    _, some, bad = spoken_of(own, examples.Part(k, count))
    together |= some
    out += bad
  assert list(together) == list(whole) and out == left
  for name, one in whole.items():
    np.testing.assert_array_equal(one.tokens, together[name].tokens)
  assert (len(whole) < 6) == (block == 3)


def test_they_are_built_where_they_are_asked_for():
  known = ['my_corpus_asr', 'my_corpus_aqta', 'my_corpus_tts_turns']
  assert build.select([], known) == known[:1]
  assert build.select(known[1:], known) == known[1:]


def test_stages_of_sft_are_mixed_where_there_are_chats(own):
  test_corpora.register_all(own)
  found = {mixture.name for mixture in corpora.register_stages('reg')}
  assert 'reg_sft_mix' in found and 'reg_sft_aqta_mix' not in found
  model = str(own / 'text.model')
  for register in (
    corpora.register_chat_corpus, corpora.register_speech_corpus
  ):  # fmt: skip
    register(
      'all',
      str(own / 'speech'),
      codes=str(own / 'codes'),
      text_model=model,
      sft=True,
    )
  corpora.register_text_corpus('all', str(own / 'text'), text_model=model)
  corpora.register_image_text_corpus(
    'all', str(own / 'images'), text_model=model
  )
  corpora.register_preference_corpus(
    'all', str(own / 'speech'), codes=str(own / 'codes'), text_model=model
  )
  found = {m.name: m for m in corpora.register_stages('all')}
  assert len(found) == len(stages.STAGES)
  mixture = found['all_sft_aqta_mix']
  rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
  assert rates == pytest.approx(
    {f'all_{n}': float(s) for n, s in stages.STAGES['sft_aqta'].items()}
  )
