"""The turns that a mind is asked with."""

import itertools
import random

import pytest

from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats
from step_audio_jax.dialogue.context import budget
from step_audio_jax.dialogue.context import context as context_lib
from step_audio_jax.dialogue.context import history
from step_audio_jax.dialogue.context import items
from tests.dialogue.context import minds

CLOCK = {'type': 'function', 'function': {'name': 'clock'}}
SUM = {'type': 'function', 'function': {'name': 'sum'}}


def made(**settings):
  counts = itertools.count()
  settings = {'tools': (CLOCK, SUM)} | settings
  mind = settings.pop('mind', None) or minds.Counting()
  return context_lib.Context(
    mind, naming=lambda prefix: f'{prefix}_{next(counts)}', **settings
  )


def told(context, **how):
  turns = minds.check(context.turns(**how))
  return [one for one in minds.brief(turns) if one[0] != chats.TOOLS]


def answer(context, text, seconds=None):
  """A reply that was spoken; in groups of three letters."""
  item = context.reply()
  _, ledger = context.speak(item.id, 24000)
  groups = max(1, len(text) // 3)
  ledger.add(minds.sound(0.12 * groups, groups, text, ends=True))
  context.finish(item.id)
  if seconds is not None:
    context.truncate(item.id, 0, 1000 * seconds)
  return item.id


def call(context, name='clock', **fields):
  return context.create(items.called(chats.Call(name, **fields))).call.id


def give(context, name, output='12:00'):
  return context.create(items.Item(items.OUTPUT, call_id=name, output=output))


def test_only_the_last_turn_is_heard():
  context = made(instructions='Be brief.')
  first = context.create(items.heard(minds.speech(name='u1')))
  assert told(context) == [('system', 'Be brief.'), ('user', '<u1>')]
  answer(context, 'Good day.')
  context.create(items.heard(minds.speech(name='u2')))
  # Its words have not come: it stays a recording, and nobody waits.
  assert told(context)[1:] == [
    ('user', '<u1>'), ('assistant', 'Good day.'), ('user', '<u2>')
  ]  # fmt: skip
  assert context.untranscribed[0] == (first.id, 0)
  assert context.transcribe(first.id, 0, 'Hello')
  assert told(context)[1] == ('user', 'Hello')
  assert context.items.retrieve(first.id).parts[0].speech is None


def test_words_of_the_last_turn_do_not_replace_it():
  context = made()
  first = context.create(items.heard(minds.speech(name='u1')))
  context.transcribe(first.id, 0, 'Hello')
  assert told(context) == [('user', '<u1>')]
  context.create(items.said('And?'))
  assert told(context) == [('user', 'Hello'), ('user', 'And?')]


def test_a_mind_that_does_not_hear_is_given_words_or_a_mark():
  context = made(mind=minds.Counting(hears=False))
  first = context.create(items.heard(minds.speech(name='u1')))
  assert told(context) == [('user', '[not transcribed yet]')]
  context.transcribe(first.id, 0, 'Hello')
  assert told(context) == [('user', 'Hello')]
  context.transcribe(first.id, 0, '')  # it was a cough
  assert context.turns(tools=()) == ()


def test_recordings_are_heard_when_they_come():
  context = made()
  item = context.create(items.heard(data=b'\0\0'))
  assert told(context) == [('user', '[not transcribed yet]')]
  context.hear(item.id, 0, minds.speech(name='u1'))
  assert told(context) == [('user', '<u1>')]
  other = context.create(items.said('x'))
  for wrong in (
    lambda: context.hear(other.id, 0, minds.speech()),
    lambda: context.transcribe(other.id, 0, 'x'),
    lambda: context.transcribe(item.id, 1, 'x'),
  ):
    with pytest.raises(errors.UserError):
      wrong()
  context.delete(item.id)
  assert not context.transcribe(item.id, 0, 'too late')


def test_a_recording_that_is_too_short_never_enters():
  context = made()
  short = minds.speech(0.05)
  with pytest.raises(errors.UserError, match='less than a group'):
    context.create(items.heard(short))
  item = context.create(items.heard(data=b'1'))
  with pytest.raises(errors.UserError, match='less than a group'):
    context.hear(item.id, 0, short)
  assert told(context) == [('user', '[not transcribed yet]')]


def test_history_is_what_was_played():
  context = made()
  context.create(items.said('Tell me.'))
  answer(context, 'one two six ten.', seconds=0.36)
  context.create(items.said('Stop!'))
  assert told(context)[1] == ('assistant', 'one two')
  nothing = answer(context, 'one two six ten.', seconds=0)
  context.create(items.said('I said stop.'))
  assert told(context)[2:] == [('user', 'Stop!'), ('user', 'I said stop.')]
  assert context.items.retrieve(nothing).status == items.INCOMPLETE


def test_a_reply_that_is_still_spoken_has_what_went_out():
  context = made()
  context.create(items.said('Tell me.'))
  item = context.reply()
  assert told(context) == [('user', 'Tell me.')]
  _, ledger = context.speak(item.id, 24000)
  ledger.add(minds.sound(0.6, 5, 'One.', ends=True))
  assert told(context)[1:] == [('assistant', 'One.')]
  ledger.add(minds.sound(0.6, 5, ' Two.', ends=True))
  assert context.finish(item.id).status == items.COMPLETED
  assert told(context)[1:] == [('assistant', 'One. Two.')]


def test_replies_in_writing():
  context = made()
  context.create(items.said('Tell me.'))
  item = context.reply()
  place = context.write(item.id, 'Well')
  context.write(item.id, ', no.', place)
  context.finish(item.id)
  assert told(context)[1:] == [('assistant', 'Well, no.')]
  index, _ = context.speak(item.id, 24000)
  with pytest.raises(errors.UserError, match='found output_audio'):
    context.write(item.id, 'x', index)
  context.delete(item.id)
  assert context.finish(item.id) is None


def test_calls_stay_with_their_results():
  context = made()
  context.create(items.said('What time is it?'))
  first, second = call(context), call(context, 'sum')
  answer(context, 'One moment.')
  give(context, second, '7')
  give(context, first)
  assert told(context)[1:] == [
    ('assistant', f'One moment.|clock#{first}|sum#{second}'),
    ('tool', '7'),
    ('tool', '12:00'),
  ]
  answer(context, 'It is noon.')
  assert told(context)[-1] == ('assistant', 'It is noon.')


def test_a_late_result_comes_with_its_call():
  context = made()
  context.create(items.said('What time is it?'))
  name = call(context)
  context.create(items.said('Are you there?'))
  before = told(context)
  pending = ('tool', 'The result is not there yet; it comes later.')
  assert before[1:3] == [('assistant', f'clock#{name}'), pending]
  answer(context, 'Yes.')
  give(context, name)
  after = told(context)
  # What was asked before stays as it was: its ids are there already.
  assert after[: len(before)] == before
  assert after[-2:] == [('assistant', f'clock#{name}'), ('tool', '12:00')]


def test_tools_that_are_gone_and_calls_that_were_deleted():
  context = made()
  context.create(items.said('What time is it?'))
  give(context, call(context, 'gone'))
  gone = call(context)
  output = give(context, gone, '')
  answer(context, 'Noon.')
  assert told(context)[1:] == [
    ('assistant', f'clock#{gone}'), ('tool', '""'), ('assistant', 'Noon.')
  ]  # fmt: skip
  (deleted,) = [i for i in context.items if i.call and i.call.id == gone]
  context.delete(deleted.id)
  assert told(context)[1:] == [('assistant', 'Noon.')]
  assert output.id in context.items
  assert told(context, tools=())[1:] == [('assistant', 'Noon.')]


def test_the_system_speaks_first():
  context = made(instructions='Be brief.')
  context.create(items.said('Hello'))
  note = items.Part(items.INPUT_TEXT, 'It is late.')
  context.create(items.message(chats.SYSTEM, note))
  assert told(context) == [
    ('system', 'Be brief.\nIt is late.'), ('user', 'Hello')
  ]  # fmt: skip
  assert told(context, instructions='')[0] == ('system', 'It is late.')


def test_several_contents_of_a_turn():
  context = made()
  first, second = minds.speech(name='u1'), minds.speech(name='u2')
  parts = (
    items.Part(items.INPUT_TEXT, 'Compare'),
    items.Part(items.INPUT_AUDIO, speech=first),
    items.Part(items.INPUT_TEXT, 'with'),
    items.Part(items.INPUT_TEXT, ' '),
    items.Part(items.INPUT_AUDIO, speech=second),
  )
  item = context.create(items.message(chats.USER, *parts))
  assert told(context) == [('user', 'Compare|<u1>|with'), ('user', '<u2>')]
  context.create(items.said('Well?'))
  context.transcribe(item.id, 1, 'a')
  context.transcribe(item.id, 4, 'b')
  assert told(context)[0] == ('user', 'Compare\na\nwith\nb')


def test_halves_of_characters_are_replaced():
  context = made()
  context.create(items.said('a\ud800b'))
  assert told(context) == [('user', 'a\ufffdb')]


def test_what_is_asked_on_speculation_or_beside_leaves_no_trace():
  context = made(instructions='Be brief.')
  context.create(items.said('Hello'))
  guess = items.heard(minds.speech(name='guess'))
  assert told(context, also=[guess])[1:] == [
    ('user', 'Hello'), ('user', '<guess>')
  ]  # fmt: skip
  beside = told(context, only=[items.said('Sum up.')], instructions='Short.')
  assert beside == [('system', 'Short.'), ('user', 'Sum up.')]
  assert told(context)[1:] == [('user', 'Hello')]


def test_the_oldest_exchanges_are_left_out_for_good():
  mind = minds.Counting(longest=400)
  context = made(mind=mind, tools=(CLOCK,), instructions='Be brief.')
  name = ''
  for n in range(40):
    context.create(items.said(f'Question {n:3}'))
    if n == 2:
      name = call(context)
    answer(context, 'An answer.')
    turns = minds.check(context.turns(most=50))
    assert mind.length(turns) <= 350
    assert turns[0].role == chats.SYSTEM and turns[1].role == chats.TOOLS
    assert turns[2].role == chats.USER
    asked = [turn.text for turn in turns if turn.role == chats.USER]
    assert asked[-1] == f'Question {n:3}'
  assert len(context.left_out) > 60 and len(context.items) == 81
  # Cuts are rare: most turns begin as the turn before did.
  seen = told(context, most=50)
  context.create(items.said('More'))
  assert told(context, most=50)[: len(seen)] == seen
  # A result that comes now still has its call.
  give(context, name)
  assert told(context, most=50)[-2:] == [
    ('assistant', f'clock#{name}'), ('tool', '12:00')
  ]  # fmt: skip
  context.create(items.said('x' * 400))
  with pytest.raises(errors.UserError, match='last exchange has'):
    context.turns(most=50)


def test_compression():
  context = made()
  assert context.heard.ratio is None
  first = context.create(items.heard(minds.speech(6.0)))
  context.transcribe(first.id, 0, 'What a day it is.')
  # 50 groups of 5 ids, and 17 letters.
  assert (context.heard.audio, context.heard.text) == (250, 17)
  assert context.heard.ratio == pytest.approx(250 / 17)
  context.transcribe(context.create(items.heard(data=b'1')).id, 0, 'Hm')
  assert context.heard.audio == 250  # nothing is known of it
  answer(context, 'An answer')
  assert (context.spoken.audio, context.spoken.text) == (15, 9)


def test_any_events_in_any_order_make_sound_turns():
  """Whatever clients do, turns are sound and hold what was played."""
  rng = random.Random(5)
  for _ in range(60):
    mind = minds.Counting(rng.choice((300, 700, 100_000)), rng.random() < 0.7)
    context = made(
      mind=mind,
      instructions=rng.choice(('', 'Be brief.')),
      limits=history.Limits(items=30),
      truncation=budget.Truncation(rng.random()),
    )
    replies = {}
    for step in range(60):
      try:
        _event(rng, context, replies, step)
      except errors.UserError as error:
        assert '\n' not in str(error)
      try:
        turns = context.turns(most=50)
      except errors.UserError as error:
        assert 'ids, expected at most' in str(error)
        continue
      if turns:
        minds.check(turns)
        assert mind.length(turns) <= mind.longest - 50
        said = '\n'.join(t.text for t in turns if t.role == chats.ASSISTANT)
        for item, (whole, heard) in replies.items():
          if item in context.items and len(heard) < len(whole):
            assert whole not in said


def _event(rng, context, replies, step):
  names = [item.id for item in context.items] or ['nobody']
  some = rng.choice(names)
  place = rng.choice((None, None, None, 'root', some))
  match rng.randrange(9):
    case 0:
      context.create(items.said(rng.choice(('Hi', ' ', 'x' * 50))), place)
    case 1:
      speech = minds.speech(rng.uniform(0.2, 3), name=f'u{step}')
      context.create(items.heard(speech), place)
    case 2:
      for item, part in context.untranscribed[:1]:
        context.transcribe(item, part, rng.choice(('', 'hello there')))
    case 3:
      text = f'{step:03} one two six ten'
      item = context.reply(place)
      replies[item.id] = (text, text)
      _, ledger = context.speak(item.id, 24000)
      ledger.add(minds.sound(0.96, 8, text, ends=True))
      context.finish(item.id)
    case 4:
      kept = context.truncate(some, 0, rng.randrange(-10, 1200))
      replies[some] = (replies[some][0], kept.text)
    case 5:
      name = rng.choice(('clock', 'sum', 'gone'))
      context.create(
        items.called(chats.Call(name, id=f'c{rng.randrange(9)}')), place
      )
    case 6 | 7:
      give(context, f'c{rng.randrange(9)}', rng.choice(('', '12:00')))
    case 8:
      context.delete(some)
