"""Who speaks when, path by path, and over random streams of events."""

import math

import hypothesis
from hypothesis import strategies as st
import pytest

from step_audio_jax import errors
from step_audio_jax.dialogue.turns import controller as controller_lib
from step_audio_jax.dialogue.turns import endpointing
from step_audio_jax.dialogue.turns import events as ev
from tests.dialogue.turns import streams

State = controller_lib.State
kinds = streams.kinds


def _replying(**changed) -> streams.Stream:
  """A stream whose reply 0 is being played."""
  stream = streams.Stream(**changed)
  stream.speech(1.0)
  stream.silence(1.0)
  assert stream.controller.state == State.BOT_REPLYING
  stream.actions.clear()
  return stream


def test_a_turn_is_begun_paused_speculated_and_replied_to():
  stream = streams.Stream()
  stream.silence(1.0)
  begun = stream.at
  begin = stream.speech(1.0)
  assert kinds(begin) == ['BeginTurn']
  assert begin[0].since == pytest.approx(begun - 0.3)
  spoken = stream.at
  after = stream.silence(1.0)
  assert kinds(after) == ['Speculate', 'EndTurn', 'Reply']
  pause, guess, end, reply = after
  assert isinstance(pause, ev.Paused) and pause.until == guess.until
  assert guess.until == end.until == pytest.approx(spoken)
  assert guess.reply == reply.reply == 0
  assert 0.03 <= guess.at - spoken < 0.03 + streams.FRAME
  assert 0.55 <= end.at - spoken < 0.55 + streams.FRAME
  stream.now(ev.Ended, 0)
  assert stream.controller.state == State.SILENCE


def test_a_reply_is_given_up_where_the_user_goes_on():
  stream = streams.Stream()
  stream.speech(1.0)
  assert kinds(stream.silence(0.3)) == ['Speculate']
  assert kinds(stream.speech(0.5)) == ['Discard']
  assert kinds(stream.silence(1.0)) == ['Speculate', 'EndTurn', 'Reply']
  assert stream.controller.reply == 1


@pytest.mark.parametrize(
  'text, least, most',
  [
    ('what is the capital of', 1.5, 1.54),
    ('what is the capital of peru', 0.25, 0.29),
    ('我想', 1.3, 1.54),
    ('今天天气怎么样吗？', 0.25, 0.29),
  ],
)
def test_words_say_how_long_the_wait_is(text, least, most):
  stream = streams.Stream()
  stream.speech(1.0)
  spoken = stream.at
  stream.words(text)
  (end,) = [a for a in stream.silence(2.0) if isinstance(a, ev.EndTurn)]
  assert least <= end.at - spoken <= most


def test_words_that_come_in_the_pause_end_it_at_once():
  stream = streams.Stream()
  stream.speech(1.0)
  spoken = stream.at
  stream.silence(0.45)
  found = stream.feed(ev.Words(stream.at, 'stop it.', spoken))
  assert kinds(found) == ['EndTurn', 'Reply']


def test_words_are_asked_for_where_nothing_is_speculated():
  stream = streams.Stream(speculates=False)
  stream.speech(1.0)
  spoken = stream.at
  found = stream.silence(1.0)
  assert [type(one) for one in found] == [ev.Paused, ev.EndTurn, ev.Reply]
  assert found[0].until == pytest.approx(spoken)


def test_words_are_asked_for_once_a_pause_and_while_a_reply_is_held():
  stream = _replying()
  stream.speech(0.3)
  spoken = stream.at
  (pause,) = stream.silence(0.2)
  assert isinstance(pause, ev.Paused)
  assert pause.until == pytest.approx(spoken)
  found = stream.feed(ev.Words(stream.at, 'stop', stream.at))
  assert kinds(found) == ['BeginTurn', 'Stop', 'Speculate']


def test_without_a_pause_nothing_is_speculated():
  stream = streams.Stream(pause=None)
  stream.speech(1.0)
  assert kinds(stream.silence(1.0)) == ['EndTurn', 'Reply']


def test_a_click_is_no_turn_and_a_noise_is_dropped():
  stream = streams.Stream(least=0.3)
  assert not stream.speech(0.06) + stream.silence(1.0)
  assert kinds(stream.speech(0.2)) == ['BeginTurn']
  assert kinds(stream.silence(1.0)) == ['DropTurn']
  assert stream.controller.state == State.SILENCE


def test_turns_without_replies():
  stream = streams.Stream(replies=False)
  stream.speech(1.0)
  assert kinds(stream.silence(1.0)) == ['EndTurn']
  assert stream.controller.state == State.SILENCE


def test_speech_holds_a_reply_within_100_ms_and_ends_it():
  stream = _replying()
  began = stream.at
  hold, begin, stop = stream.speech(1.2)
  assert kinds([hold, begin, stop]) == ['Hold', 'BeginTurn', 'Stop']
  assert hold.at - began <= 0.1
  assert stop.reply == 0 and begin.since == pytest.approx(began - 0.3)
  assert kinds(stream.silence(1.0)) == ['Speculate', 'EndTurn', 'Reply']


def test_a_cough_holds_a_reply_and_lets_it_go_on():
  stream = _replying()
  assert kinds(stream.speech(0.3)) == ['Hold']
  assert kinds(stream.silence(1.0)) == ['Resume']
  assert stream.controller.state == State.BOT_REPLYING


@pytest.mark.parametrize('text', ['mhm', 'uh-huh', '嗯', '对', 'haha', 'yeah.'])
def test_who_says_that_they_listen_does_not_interrupt(text):
  stream = _replying()
  stream.speech(0.3)
  assert not stream.words(text)
  assert kinds(stream.silence(1.0)) == ['Resume']


def test_a_short_word_that_means_something_interrupts():
  stream = _replying()
  stream.speech(0.3)
  assert kinds(stream.words('stop')) == ['BeginTurn', 'Stop']
  assert 'Reply' in kinds(stream.silence(1.5))


def test_words_that_come_after_a_reply_went_on_still_interrupt():
  stream = _replying()
  stream.speech(0.3)
  spoken = stream.at
  stream.silence(0.5)
  found = stream.feed(ev.Words(stream.at, 'stop', spoken))
  assert kinds(found)[:2] == ['BeginTurn', 'Stop']


def test_late_words_of_the_turn_before_do_not_interrupt():
  stream = streams.Stream()
  stream.speech(1.0)
  spoken = stream.at
  stream.silence(1.0)
  stream.speech(0.2)
  late = ev.Words(stream.at, 'what is the time', spoken)
  assert not stream.feed(late)
  assert kinds(stream.silence(0.5)) == ['Resume']


def test_echo_does_not_interrupt():
  stream = _replying()
  assert not stream.speech(2.0, echo=True)


def test_a_reply_that_may_not_be_interrupted_is_not():
  stream = _replying(interrupts=False)
  assert not stream.speech(1.0)
  stream.now(ev.Ended, 0)
  assert kinds(stream.speech(0.1)) == ['BeginTurn']


def test_a_reply_that_fails():
  stream = streams.Stream()
  stream.speech(1.0)
  stream.silence(0.3)
  assert not stream.now(ev.Failed, 0)
  end = stream.silence(1.0)
  assert kinds(end) == ['EndTurn', 'Reply'] and end[1].reply == 1
  stream.speech(0.2)
  assert kinds(stream.now(ev.Failed, 1)) == ['BeginTurn']


def test_cancelled():
  stream = _replying()
  assert kinds(stream.now(ev.Cancel)) == ['Stop']
  assert not stream.now(ev.Cancel)
  stream.speech(1.0)
  stream.silence(0.3)
  assert kinds(stream.now(ev.Cancel)) == ['Discard']


def test_a_button():
  stream = _replying()
  assert kinds(stream.now(ev.Press)) == ['Stop', 'BeginTurn']
  assert not stream.now(ev.Press)
  assert not stream.speech(1.0) + stream.silence(3.0)
  assert kinds(stream.now(ev.Release)) == ['EndTurn', 'Reply']
  assert not stream.now(ev.Release)


def test_a_button_held_over_a_commit_ends_no_second_turn():
  stream = streams.Stream()
  stream.now(ev.Press)
  assert kinds(stream.now(ev.Commit)) == ['EndTurn', 'Reply']
  assert not stream.now(ev.Release)


def test_manual_turns_are_what_lies_between_commits():
  stream = streams.Stream(mode=controller_lib.MANUAL, replies=False)
  assert not stream.speech(1.0) + stream.silence(2.0)
  (first,) = stream.now(ev.Commit)
  stream.speech(1.0)
  (second,) = stream.now(ev.Commit)
  assert (first.since, first.until) == (0.0, second.since)
  assert kinds(stream.now(ev.Asked)) == ['Reply']
  assert kinds(stream.now(ev.Commit)) == ['EndTurn']
  assert stream.controller.state == State.BOT_REPLYING


def test_asked_while_the_user_speaks():
  stream = streams.Stream()
  stream.speech(1.0)
  assert kinds(stream.now(ev.Asked)) == ['EndTurn', 'Reply']


def test_who_mutes_the_microphone_has_finished():
  stream = streams.Stream()
  stream.speech(1.0)
  stream.at += 1.0
  assert not stream.now(ev.Tick)
  stream.at += 1.0
  assert kinds(stream.now(ev.Tick)) == ['Speculate', 'EndTurn', 'Reply']


def test_who_is_silent_for_long_is_asked_once():
  stream = _replying(idle=5.0)
  assert not stream.silence(8.0)
  stream.now(ev.Ended, 0)
  assert kinds(stream.silence(4.9)) == []
  assert kinds(stream.silence(9.0)) == ['Idle', 'Reply']


def test_time_goes_one_way():
  stream = streams.Stream()
  stream.silence(1.0)
  with pytest.raises(ValueError, match='earlier'):
    stream.feed(ev.Tick(0.5))


@pytest.mark.parametrize(
  'changed, told',
  [
    ({'mode': 'x'}, "mode is 'x', expected one of vad, manual"),
    ({'threshold': 1.5}, 'threshold is 1.5, expected 0 to 1'),
    ({'release': 0.9}, 'release is 0.9, expected 0 to 0.5'),
    ({'start': -1.0}, 'start is -1.0'),
    ({'idle': math.nan}, 'idle is nan'),
  ],
)
def test_settings_that_cannot_be(changed, told):
  with pytest.raises(errors.UserError, match=told):
    controller_lib.Settings(**changed)


_STEPS = st.one_of(
  st.tuples(st.just('speech'), st.floats(0.03, 1.5)),
  st.tuples(st.just('silence'), st.floats(0.03, 2.0)),
  st.tuples(st.just('words'), st.sampled_from(['', 'mhm', 'stop', 'and the'])),
  st.tuples(st.just('ended'), st.none()),
  st.tuples(st.just('failed'), st.none()),
  st.tuples(
    st.just('now'),
    st.sampled_from([ev.Tick, ev.Press, ev.Release, ev.Commit, ev.Asked]),
  ),
  st.tuples(st.just('now'), st.just(ev.Cancel)),
)


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(
  steps=st.lists(_STEPS, max_size=25),
  mode=st.sampled_from(controller_lib.MODES),
  pause=st.sampled_from([None, 0.03]),
  replies=st.booleans(),
  interrupts=st.booleans(),
)
def test_whatever_happens(steps, mode, pause, replies, interrupts):
  stream = streams.Stream(
    mode=mode, pause=pause, replies=replies, interrupts=interrupts, idle=3.0
  )
  world = _World(mode)
  for kind, of in steps:
    if kind in ('ended', 'failed'):
      reply = world.heard if kind == 'ended' else stream.controller.reply
      if reply is None or world.held and kind == 'ended':
        continue
      world.over(reply)
      actions = stream.now(getattr(ev, kind.title()), reply)
    elif kind == 'now':
      actions = stream.now(of)
    else:
      actions = getattr(stream, kind)(of)
    for action in actions:
      world.do(action)
    assert world.heard is None or world.heard == stream.controller.reply
    assert world.held == stream.controller.is_held


class _World:
  """What a runtime holds; it refuses what cannot be done."""

  def __init__(self, mode):
    self.begun, self.heard, self.held = None, None, False
    self.open, self.known, self.at = False, -1, 0.0
    self.manual = mode == controller_lib.MANUAL

  def over(self, reply):
    if self.heard == reply:
      self.heard, self.held = None, False
    elif self.begun == reply:
      self.begun = None

  def do(self, action):
    assert action.at >= self.at
    self.at = action.at
    getattr(self, type(action).__name__.lower())(action)

  def beginturn(self, action):
    assert not self.open and self.heard is None
    assert action.since <= action.at
    self.open = True

  def endturn(self, action):
    assert self.open or self.manual
    assert action.since <= action.until <= action.at
    self.open = False

  def dropturn(self, action):
    assert self.open
    self.open = False

  def idle(self, action):
    assert not self.open and self.heard is None

  def paused(self, action):
    assert self.open or self.held

  def speculate(self, action):
    assert self.open and self.begun is None and action.reply > self.known
    self.begun = self.known = action.reply

  def discard(self, action):
    assert self.begun == action.reply
    self.begun = None

  def reply(self, action):
    assert self.heard is None and not self.open
    assert self.begun == action.reply or action.reply > self.known
    assert self.begun in (None, action.reply)
    self.known = max(self.known, action.reply)
    self.heard, self.begun = action.reply, None

  def hold(self, action):
    assert self.heard == action.reply and not self.held
    self.held = True

  def resume(self, action):
    assert self.heard == action.reply and self.held
    self.held = False

  def stop(self, action):
    assert self.heard == action.reply
    self.heard, self.held = None, False


def test_waits_in_order():
  with pytest.raises(errors.UserError, match='complete <= usual'):
    endpointing.Waits(complete=0.9)
