"""How conversations are laid out: what rows, runs and users say of it."""

import pytest

from step_audio_jax import errors
from step_audio_jax.chats import habits
from step_audio_jax.storage import bindings


def told(**settings):
  return {habits.KEY: settings}


def test_what_is_not_told_is_as_it_always_was():
  assert habits.of_run({}, 'x') == habits.Habits()
  assert habits.of_run(None, 'x') == habits.Habits(False, 'both', 'heard')
  assert habits.KEY == bindings.TURNS  # of which exports are made


def test_a_run_is_asked_as_it_has_learnt():
  config = told(starts=True, streams='linguistic', history='read')
  found = habits.of_run(config, 'config.json')
  assert found == habits.Habits(True, 'linguistic', 'read')
  assert habits.of_run(config, 'x', starts=True, streams='linguistic') == found
  assert found.layout().starts and not habits.Habits().layout().starts


@pytest.mark.parametrize(
  ('config', 'asked', 'said'),
  [
    (told(starts=True), {'starts': False}, '--nostarts: r/config.json says'),
    (told(starts=False), {'starts': True}, '--starts: r/config.json says'),
    (told(streams='both'), {'streams': 'linguistic'}, '--streams=linguistic'),
  ],
)
def test_what_it_has_not_learnt_is_refused(config, asked, said):
  with pytest.raises(errors.UserError, match='^' + said):
    habits.of_run(config, 'r/config.json', **asked)


def test_a_run_that_does_not_say_is_asked_as_the_user_wants():
  """Converted weights: nobody has published how they were trained."""
  found = habits.of_run({}, 'x', starts=True, streams='linguistic')
  assert found == habits.Habits(True, 'linguistic', 'heard')


@pytest.mark.parametrize(
  ('value', 'said'),
  [
    ([1], r'turns: found \[1\]'),
    ({'starts': 1}, 'turns.starts: found 1, expected False or True'),
    ({'starts': 'yes'}, 'turns.starts'),
    ({'streams': 'left'}, "turns.streams: found 'left', expected both or lin"),
    ({'history': []}, 'turns.history'),
    ({'start': True}, 'turns.start: unknown field'),
  ],
)
def test_what_a_file_says_is_not_trusted(value, said):
  with pytest.raises(errors.UserError, match='^a/stats.json: ' + said):
    habits.read({habits.KEY: value}, 'a/stats.json')


def test_rows_of_one_run_are_laid_out_alike():
  chat = {'starts': False, 'streams': 'both', 'history': 'heard'}
  view = {**chat, 'history': 'read'}
  for some in ([chat, view], [view, chat], [view, {}, {'starts': False}]):
    assert habits.joined(enumerate(some)) == view
  assert habits.joined([('a', chat)]) == chat and not habits.joined([])
  with pytest.raises(errors.UserError) as caught:
    habits.joined([('a', view), ('b', {'starts': True})])
  assert str(caught.value) == (
    'b: found turns with <s> behind every <|BOT|>, expected them without <s> '
    'behind <|BOT|> as in a; build both alike.'
  )
