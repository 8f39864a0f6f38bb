"""Questions of the small language: what is asked is in what is said."""

import collections
import re

import numpy as np
import pytest

from data_pipelines.synthesis import grammar
from data_pipelines.synthesis import plan
from data_pipelines.synthesis import questions
from data_pipelines.synthesis import synthesize
from step_audio_jax import errors
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files
from tests.data_pipelines.synthesis import test_plan

voice = test_plan.voice
COUNTS = {'questions': 60, 'written': 90}


def answered(text):
  """The answer by rules of its own, read off the written question."""
  if found := re.fullmatch(r'(\w+ \w+) has the (\w+) (\w+) (.+)', text):
    owner, color, thing, asked = found.groups()
    return {
      'what color is it': color,
      'who has it': owner,
      'what is it': f'the {thing}',
    }[asked]
  if found := re.fullmatch(
    r'\w+ \w+ has (one|two|three) \w+ (\w+) how many', text
  ):
    number, things = found.groups()
    assert (number == 'one') != things.endswith('s')
    return number
  found = re.fullmatch(
    '(?:今天|现在)?(小猫|老师|妈妈|朋友|孩子|我)(喜欢|看见|有|买|吃)(红|白)'
    r'(..?)(什么颜色|谁\2|\2什么)',
    text,
  )
  owner, verb, color, thing, asked = found.groups()
  return {'什么颜色': color, f'谁{verb}': owner, f'{verb}什么': thing}[asked]


@pytest.mark.parametrize('language', questions.LANGUAGES)
def test_answers_follow_from_what_is_said(language):
  rng = np.random.default_rng(0)
  kinds = collections.Counter()
  for _ in range(500):
    one = questions.draw(rng, language)
    kinds[one.kind] += 1
    assert one.answer_text == answered(one.text)
    assert one.language == language
  assert len(kinds) == {'en': 4, 'zh': 3}[language]
  assert min(kinds.values()) > 60


def test_who_does_not_listen_is_seldom_right():
  rng = np.random.default_rng(1)
  said = collections.Counter(
    questions.draw(rng, 'en').answer_text for _ in range(4000)
  )
  assert max(said.values()) < 0.12 * 4000


def test_no_question_is_in_two_splits():
  config = plan.Config(**COUNTS, seed=3)
  asked = plan.plan_questions(config, 100)
  assert asked == plan.plan_questions(config, 100)
  lines = {line.id: line for line in asked.lines}
  splits, texts = collections.Counter(), set()
  for chat in asked.chats:
    turn, answer = chat.turns
    text = turn.get('text') or lines[turn['speech']].text
    assert answer == {'role': 'assistant', 'text': answered(text)}
    texts.add(text)
    splits[chat.split, 'speech' in turn] += 1
  assert len(texts) == len(asked.chats)
  assert splits == {
    ('train', True): 60, ('train', False): 90, ('dev', True): 3,
    (plan.ASKED, True): 7, (plan.ASKED_UNSEEN, True): 6,
  }  # fmt: skip
  said = collections.Counter(line.split for line in asked.lines)
  assert said == {
    'train': 15, 'train_asked': 45, 'dev_asked': 3,
    plan.ASKED: 7, plan.ASKED_UNSEEN: 6,
  }  # fmt: skip
  for line in asked.lines:
    unseen = line.split == plan.ASKED_UNSEEN
    assert (line.voice == config.unseen_voice) == unseen
  assert min(line.seed for line in asked.lines) == 100
  both = {line.language for line in asked.lines}
  assert both == set(grammar.GRAMMARS)


def test_without_questions_everything_is_as_it_was():
  assert plan.plan_questions(plan.Config(), 0) == plan.Asked([], [])
  assert 'questions' not in plan.Config().settings
  assert plan.Config().fingerprint == 'a2449bbe2e5963cf'
  assert plan.Config(questions=1).settings['questions'] == 1


def test_more_than_there_are():
  with pytest.raises(errors.UserError, match='too many beside'):
    plan.plan_questions(plan.Config(written=30000), 0)
  with pytest.raises(errors.UserError, match='--questions: found -1'):
    plan.Config(questions=-1)


def test_questions_lie_in_the_corpus_of_speech(tmp_path, voice):
  config = plan.Config(
    train=11, dev=3, test=4, unseen=2, images=0, text_lines=30, **COUNTS
  )
  told = synthesize.synthesize(tmp_path, config, processes=1)['speech']
  assert told['chats'] == 166 and told['utterances'] == 20 + 76
  found = manifest.read(tmp_path / 'speech')
  spoken = {u.id for u in found if u.kind == 'speech'}
  assert len(spoken) == len(set(voice)) == 96
  asked = [u for u in found if u.kind == 'chat']
  assert [u for u in asked if 'speech' in u.turns[0]]
  for chat in asked:
    assert chat.turns[0].get('speech') in {None, *spoken}
  stamp = files.read_json(tmp_path / 'speech/corpus.json')
  assert list(stamp['voices']) == ['espeak-ng']
