"""Which pairs are made of which question."""

import pytest

from data_pipelines.factory.deafness import pairs
from step_audio_jax import errors
from step_audio_jax.chats import deafness
from step_audio_jax.corpus import manifest
from tests.data_pipelines.factory.deafness import corpora


@pytest.fixture(scope='module')
def asked(tmp_path_factory):
  """The corpus, and its questions by the id of their chats."""
  root = corpora.make(tmp_path_factory.mktemp('deafness'))
  lines = manifest.read(root)
  recordings = {one.id: one for one in lines if one.kind == 'speech'}
  found, wrong = {}, {}
  for line in lines:
    try:
      found[line.id] = pairs.question_of(line, recordings, root)
    except errors.UserError as error:
      wrong[line.id] = str(error)
  return {k: v for k, v in found.items() if v is not None}, wrong


def made(questions, name, rollouts=None, **settings):
  maker = pairs.Maker(pairs.Config(**settings), questions.values(), rollouts)
  return list(maker.made(questions[name]))


def test_questions_are_spoken_and_answered_in_writing(asked):
  questions, wrong = asked
  assert set(questions) == {
    *(f'q{k}' for k in range(12)), 'silent', 'fr', 'more',
  }  # fmt: skip
  assert [k for k, one in questions.items() if one.silent] == ['silent']
  assert set(wrong) == {'broken', 'hacked'}
  assert 'nothing is heard in' in wrong['broken']
  assert 'something is heard in' in wrong['hacked']


def test_a_deaf_reply_is_rejected_where_somebody_speaks(asked):
  questions, _ = asked
  for name, one in questions.items():
    if one.silent or name == 'fr':
      continue
    found = made(questions, name, replies=3, silences=0.0)
    assert [pair.id for pair in found] == [f'{name}-deaf-{k}' for k in range(3)]
    assert len({pair.rejected['text'] for pair in found}) == 3
    for pair in found:
      assert pair.category == 'deaf' and pair.split == one.chat.split
      assert pair.turns == one.chat.turns[:-1]
      assert pair.chosen == one.answer
      assert pair.rejected['text'] in deafness.REPLIES[one.chat.language]
      assert pairs.is_made(pair) and not pairs.is_made(one.chat)


def test_it_is_chosen_where_nobody_does(asked):
  questions, _ = asked
  _, silence, pair = made(questions, 'q1', silences=1.0)
  assert silence.line.split == 'quiet' and silence.line.text == ''
  assert silence.line.duration == pytest.approx(len(silence.samples) / 16000)
  assert pair.turns == ({'role': 'user', 'speech': silence.line.id},)
  assert pair.category == 'silence' and pairs.is_made(silence.line)
  assert deafness.claims(pair.chosen['text'])
  assert pair.rejected == {'role': 'assistant', 'text': 'answer 1'}
  # What was said before stays.
  *_, pair = made(questions, 'more', silences=1.0)
  assert pair.turns[:2] == questions['more'].chat.turns[:2]
  # In silence of the corpus nobody has given an answer: it is of another.
  (pair,) = made(questions, 'silent')
  assert pair.chosen['text'] == corpora.DEAF
  others = {
    one.answer['text']
    for one in questions.values()
    if one.chat.split == 'train' and one.chat.language == 'en'
  } - {corpora.DEAF}
  assert pair.rejected['text'] in others and len(others) > 2
  # Nobody else was asked.
  (why,) = made({'silent': questions['silent']}, 'silent')
  assert 'has an answer that could be said' in str(why)


def test_settings_do_not_change_what_others_drew(asked):
  questions, _ = asked
  few = [made(questions, f'q{k}', silences=0.3) for k in range(12)]
  many = [made(questions, f'q{k}', silences=0.8, replies=4) for k in range(12)]
  assert 0 < sum(len(one) > 1 for one in few) < 12
  for one, other in zip(few, many):
    assert one[0] == other[0]
    if len(one) > 1:
      assert one[2] == other[-1] and one[1].line == other[-2].line
  seeds = [
    [pair.rejected['text'] for k in range(12) for pair in made(
      questions, f'q{k}', silences=0.0, seed=seed)]
    for seed in (0, 0, 1)
  ]  # fmt: skip
  assert seeds[0] == seeds[1] != seeds[2]


def test_what_a_policy_said_takes_the_place_of_what_is_drawn(asked):
  questions, _ = asked
  said = {'q0': ['I cannot hear you.', 'Sorry, say that again?']}
  found = made(questions, 'q0', rollouts=said, silences=0.0)
  assert [pair.rejected['text'] for pair in found] == said['q0']
  assert not made(questions, 'q1', rollouts=said, silences=0.0)
  # A language without a list can still be rolled out.
  said = {'fr': ['Je ne vous entends pas.']}
  why, pair = made(questions, 'fr', rollouts=said)
  assert "found 'fr', expected en or zh" in str(why)
  assert pair.rejected['text'] == said['fr'][0]


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'splits': ('train', 'test')}, "found 'test', a test split"),
    ({'splits': ('test_asked',)}, "found 'test_asked', a test split"),
    ({'splits': ()}, '--splits: found none, expected some'),
    ({'replies': 0}, '--replies: found 0, expected 1 to 6'),
    ({'replies': 7}, '--replies: found 7, expected 1 to 6'),
    ({'silences': 1.5}, 'found 1.5, expected a share from 0 to 1'),
    ({'silences': float('nan')}, 'found nan, expected a share'),
  ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
  with pytest.raises(errors.UserError, match=message):
    pairs.Config(**settings)
