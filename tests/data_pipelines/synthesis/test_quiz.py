"""The corpus of questions: who is asked what, and what is only ever heard."""

import json

import numpy as np
import pytest

from data_pipelines import __main__ as doors
from data_pipelines.synthesis import plan as plan_lib
from data_pipelines.synthesis import speech
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
  config = plan.Config(
    sentences=4, test=1, times=2, part=4, follow_ups=2, silences=3
  )
  made = door.make(tmp_path / 'quiz', config, processes=1)
  assert made['chats'] == 3 + 2 * 2 + 2 * 2 + 2 + 1 + 3 + 1
  assert 'espeak-ng' in made['voices']
  utterances = manifest.read(tmp_path / 'quiz')
  known = {u.id: u for u in utterances}
  for utterance in utterances:
    if utterance.kind == 'speech':
      assert utterance.audio_path(tmp_path / 'quiz')
      assert bool(utterance.words) == (utterance.split != 'quiet')
    for turn in utterance.turns or ():
      assert 'speech' not in turn or known[turn['speech']].text is not None
  monkeypatch.setattr(door.speech, 'make_lines', None)
  again = door.make(tmp_path / 'quiz', config)
  assert again == json.loads(json.dumps(made))
  with pytest.raises(errors.UserError, match='other settings'):
    door.make(tmp_path / 'quiz', plan.Config(sentences=5))
  argv = ['-', 'quiz', f'--output={tmp_path}/other', '--dry_run', '--test=1']
  assert cli.dispatch('data_pipelines', doors.DOORS, argv) == 0
  assert 'would say' in capsys.readouterr().out


@pytest.fixture(scope='module')
def followed():
  return plan.plan(plan.Config(follow_ups=200, silences=30))


def test_a_second_question_follows_from_the_first(followed):
  lines = {line.id: line for line in followed.lines}
  kinds = {
    (fact.asked[0], fact.told): (kind, fact)
    for kind, some in facts.by_kind().items()
    for fact in some
  }
  told = {
    (kind, fact.named): fact
    for kind, some in facts.by_kind().items()
    for fact in some
  }
  asked = {'train': set(), plan.FOLLOWED: set()}
  for chat in followed.chats:
    if len(chat.turns) == 2:
      continue
    first, answer, second, last = chat.turns
    kind, fact = kinds[first['text'], answer['text']]
    line = lines[second['speech']]
    named = line.text.removeprefix('And ').removesuffix('?')
    assert last['text'] == told[kind, named].told != answer['text']
    heard = facts.heard_only()
    assert not {fact.subject, told[kind, named].subject} & heard
    asked[chat.split].add((first['text'], line.text))
    assert (line.voice == 'f3') == (chat.split == plan.FOLLOWED)
  assert len(asked['train']) == 200 and len(asked[plan.FOLLOWED]) == 80
  assert not asked['train'] & asked[plan.FOLLOWED]
  # Without the first question nobody could tell what the second asks for.
  seconds = {}
  for first, second in asked['train'] | asked[plan.FOLLOWED]:
    seconds.setdefault(second, set()).add(first.split()[1])
  assert max(map(len, seconds.values())) >= 2


def test_nobody_speaks_in_chats_of_their_own(followed, planned):
  lines = {line.id: line for line in followed.lines}
  silent = [
    chat for chat in followed.chats if chat.turns[-1]['text'] == plan.NOT_HEARD
  ]
  assert [chat.split for chat in silent] == ['train'] * 30 + [plan.SILENT] * 10
  said = [lines[chat.turns[0]['speech']] for chat in silent]
  assert {(line.split, line.text) for line in said} == {('quiet', '')}
  assert len({line.seed for line in said}) == 40
  # What is not asked for changes nothing.
  assert followed.lines[: len(planned.lines)] == planned.lines
  assert followed.chats[: len(planned.chats)] == planned.chats
  assert plan.Config().fingerprint == '427f8528fb385119'
  assert plan.Config(silences=1).fingerprint != plan.Config().fingerprint


def test_rooms_in_which_nobody_speaks():
  levels = []
  for seed in range(40):
    samples = speech.quiet(seed)
    assert np.array_equal(samples, speech.quiet(seed))
    assert samples.dtype == np.int16 and 0.5 <= len(samples) / 16000 <= 2.5
    power = np.mean((samples / 32767.0) ** 2)
    levels.append(10 * np.log10(power) if power else None)
  rooms = [level for level in levels if level is not None]
  assert 4 <= levels.count(None) <= 18
  # Below -75 dB a sample is less than half a step of 16 bits.
  assert -80 < min(rooms) and max(rooms) < -49.9
  line = plan_lib.Line('x', 'quiet', 'en', (), plan_lib.NOBODY, 150, 50, 3)
  samples, words = speech.speak_line(line)
  assert np.array_equal(samples, speech.quiet(3)) and words == []


def test_a_folder_of_another_origin_is_left_alone(tmp_path):
  (tmp_path / manifest.NAME).write_text('')
  with pytest.raises(errors.UserError, match='did not finish'):
    door.make(tmp_path, plan.Config())
