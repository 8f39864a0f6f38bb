"""The corpus of questions: who is asked what, and what is only ever heard."""

import json

import pytest

from data_pipelines import __main__ as doors
from data_pipelines.synthesis.quiz import door
from data_pipelines.synthesis.quiz import facts
from data_pipelines.synthesis.quiz import plan
from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest


def question_of(chat, texts):
  turn = chat.turns[0]
  return turn.get('text') or texts[turn['speech']]


@pytest.fixture(scope='module')
def planned():
  return plan.plan(plan.Config())


def test_a_third_of_the_subjects_is_heard_in_sentences_alone(planned):
  heard, answers = facts.heard_only(), plan.answers()
  assert len(heard) == 25
  texts = {line.id: line.text for line in planned.lines}
  asked = {
    split: {
      answers[question_of(chat, texts)].subject
      for chat in planned.chats
      if chat.split == split
    }
    for split in ('train', 'dev', plan.ASKED, plan.HEARD)
  }
  assert asked[plan.HEARD] == heard
  assert asked[plan.ASKED] == asked['train'] and not asked['train'] & heard
  assert asked['dev'] <= asked['train']
  # Nor does a sentence ask for one of them.
  sentences = [
    line.text
    for line in planned.lines
    if line.split == 'train' and not line.id.endswith('-said')
  ]
  assert not set(sentences) & set(answers)
  said = ' '.join(sentences).replace('.', ' ').replace('?', ' ')
  words = said.replace(',', ' ').split()
  for subject in heard:
    assert words.count(subject) >= 5, subject


def test_splits_and_voices_are_apart(planned):
  texts, voices = {}, {}
  for line in planned.lines:
    if not line.id.endswith('-said'):
      texts.setdefault(line.split, []).append(line.text)
    voices.setdefault(line.split, set()).add(line.voice)
  everything = [text for some in texts.values() for text in some]
  assert len(everything) == len(set(everything)) == 2400 + 3 * 60
  for split in (plan.ASKED, plan.HEARD, manifest.UNSEEN_VOICE):
    assert voices[split] == {'f3'}
  assert voices['train'] == voices['test'] == {'m1', 'm3', 'f1'}
  assert plan.plan(plan.Config()) == planned
  assert plan.plan(plan.Config(seed=1)) != planned


@pytest.mark.parametrize(
  ('changes', 'match'),
  [
    ({'times': 0}, 'times: found 0, expected 1'),
    ({'sentences': 10**6}, 'have not so many'),
  ],
)
def test_what_cannot_be_made_is_told(changes, match):
  with pytest.raises(errors.UserError, match=match):
    plan.plan(plan.Config(**changes))


def test_facts_are_told_in_whole_sentences():
  for fact in facts.facts():
    assert fact.answer in fact.told and fact.told.endswith('.')
    assert all(fact.answer not in asked.split() for asked in fact.asked)


def test_a_corpus_is_made_once(tmp_path, monkeypatch, capsys):
  some = facts.facts()[:3]
  monkeypatch.setattr(facts, 'facts', lambda: some)
  config = plan.Config(sentences=4, test=1, times=2, part=4)
  made = door.make(tmp_path / 'quiz', config, processes=1)
  assert made['chats'] == 3 + 2 * 2 + 2 * 2 and 'espeak-ng' in made['voices']
  utterances = manifest.read(tmp_path / 'quiz')
  known = {u.id: u for u in utterances}
  for utterance in utterances:
    if utterance.kind == 'speech':
      assert utterance.words and utterance.audio_path(tmp_path / 'quiz')
    for turn in utterance.turns or ():
      assert 'speech' not in turn or known[turn['speech']].text
  monkeypatch.setattr(door.speech, 'make_lines', None)
  again = door.make(tmp_path / 'quiz', config)
  assert again == json.loads(json.dumps(made))
  with pytest.raises(errors.UserError, match='other settings'):
    door.make(tmp_path / 'quiz', plan.Config(sentences=5))
  argv = ['-', 'quiz', f'--output={tmp_path}/other', '--dry_run', '--test=1']
  assert cli.dispatch('data_pipelines', doors.DOORS, argv) == 0
  assert 'would say' in capsys.readouterr().out


def test_a_folder_of_another_origin_is_left_alone(tmp_path):
  (tmp_path / manifest.NAME).write_text('')
  with pytest.raises(errors.UserError, match='did not finish'):
    door.make(tmp_path, plan.Config())
