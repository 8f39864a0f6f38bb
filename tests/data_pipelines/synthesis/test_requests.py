"""Requests and their manners; pairs of which people like one answer."""

import collections
import re

import numpy as np
import pytest

from data_pipelines.synthesis import plan
from data_pipelines.synthesis import questions
from data_pipelines.synthesis import synthesize
from step_audio_jax.alignment.rewards import rules
from step_audio_jax.alignment.rewards import sample
from step_audio_jax.chats import deafness
from step_audio_jax.corpus import manifest
from tests.data_pipelines.synthesis import test_plan

voice = test_plan.voice
COUNTS = {'requests': 50, 'questions': 40, 'written': 30, 'preferences': True}
RULES = {
  'right': rules.Right(),
  'brief': rules.Brief(3),
  'topic': rules.OnTopic(),
  'deaf': rules.Heard(),
}


def liked(text):
  """What people like to hear about a request, read off its writing."""
  english = re.fullmatch(r'\w+ \w+ has (the \w+ \w+) tell me more', text)
  mandarin = re.fullmatch(
    '(?:今天|现在)?(?:小猫|老师|妈妈|朋友|孩子|我)'
    '(?:喜欢|看见|有|买|吃)((?:红|白)..?)说说',
    text,
  )
  return (english or mandarin).group(1)


def verdicts(one, text):
  """Category → whether a rule that knows nothing of manners is satisfied."""
  answer = sample.Sample(
    id='', question=one.text, expected=one.answer_text, language=one.language,
    text=text, ids=np.zeros(0, np.int32), stopped=True,
  )  # fmt: skip
  return {name: rule([answer])[0] == 1 for name, rule in RULES.items()}


@pytest.mark.parametrize('language', questions.LANGUAGES)
@pytest.mark.parametrize('request_', [False, True])
def test_manners_are_bad_in_what_they_are_compared_in(language, request_):
  rng = np.random.default_rng(0)
  worse = {
    'right': questions.WRONG,
    'brief': questions.WORDY,
    'topic': questions.ASIDE,
    'deaf': questions.DEAF,
  }
  for _ in range(100):
    one = questions.draw(rng, language, request_)
    if request_:
      assert one.answer_text == liked(one.text)
    said = one.written(questions.answer(rng, one, questions.BRIEF))
    assert said == one.answer_text
    assert all(verdicts(one, said).values())
    for category, manner in worse.items():
      found = one.written(questions.answer(rng, one, manner))
      assert found != said
      assert not verdicts(one, found)[category], (one, found)
  with pytest.raises(ValueError, match='loud'):
    questions.answer(rng, one, 'loud')


def test_what_is_learnt_has_all_manners_and_what_is_scored_one():
  config = plan.Config(**{**COUNTS, 'requests': 200})
  asked = plan.plan_requests(config, 7)
  assert asked == plan.plan_requests(config, 7)
  splits, manners = collections.Counter(), collections.Counter()
  texts = set()
  for chat in asked.chats:
    one, answer = asked.by_chat[chat.id], chat.turns[1]['text']
    splits[chat.split, 'speech' in chat.turns[0]] += 1
    texts.add(one.text)
    if chat.split.startswith('test'):
      assert answer == liked(one.text)
      continue
    manners['brief'] += answer == one.answer_text
    manners['wordy'] += answer == one.written((*one.said, *one.answer))
    manners['deaf'] += deafness.claims(answer)
  assert len(texts) == len(asked.chats)
  assert splits == {
    ('train', True): 200, ('train', False): 400,
    (plan.REQUESTED, True): 120, (plan.REQUESTED_UNSEEN, True): 80,
  }  # fmt: skip
  shares = {name: count / 600 for name, count in manners.items()}
  assert shares == pytest.approx(
    {'brief': 0.4, 'wordy': 0.3, 'deaf': 0.15}, abs=0.06
  )
  for line in asked.lines:
    unseen = line.split == plan.REQUESTED_UNSEEN
    assert (line.voice == config.unseen_voice) == unseen
  assert min(line.seed for line in asked.lines) == 7


def test_pairs_lie_in_the_corpus_behind_their_questions(tmp_path, voice):
  config = plan.Config(
    train=11, dev=3, test=4, unseen=2, images=0, text_lines=30, **COUNTS
  )
  told = synthesize.synthesize(tmp_path, config, processes=1)['speech']
  found = manifest.read(tmp_path / 'speech')
  chats = {u.id: u for u in found if u.kind == 'chat'}
  pairs = [u for u in found if u.kind == 'preference']
  assert (
    told['chats']
    == len(chats)
    == (40 + 30 + 2 + 5 + 4 + 150 + 30 + 20 + 50 + 40)
  )
  assert told['preferences'] == len(pairs)
  asked = [chats.pop(name) for name in list(chats) if 'policy' in name]
  for chat in asked:
    same = chats[chat.id.removeprefix('policy-')]
    assert chat.split == 'policy' and chat.turns[0] == same.turns[0]
    assert same.split == 'train'
    if 'request' in chat.id:
      line = next(u for u in found if u.id == chat.turns[0]['speech'])
      assert chat.turns[1]['text'] == liked(line.text)
    else:
      assert chat.turns == same.turns
  by_chat = collections.defaultdict(list)
  for pair in pairs:
    chat = chats[pair.id.removesuffix(f'-{pair.category}')]
    assert pair.turns == chat.turns[:1] and pair.split == chat.split
    by_chat[chat.id].append(pair.category)
  assert by_chat.keys() == chats.keys()
  for name, categories in by_chat.items():
    if chats[name].split != 'train':
      assert categories == list(RULES)
    elif 'speech' in chats[name].turns[0]:
      assert len(categories) == 2 and 'right' in categories
    else:
      assert len(categories) == 1


def test_without_requests_everything_is_as_it_was():
  assert plan.plan_requests(plan.Config(), 0) == plan.Asked([], [])
  asked = plan.plan_questions(plan.Config(questions=9), 0)
  assert plan.plan_preferences(plan.Config(questions=9), asked) == []
