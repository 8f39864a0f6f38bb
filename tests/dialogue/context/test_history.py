"""Items in order."""

import pytest

from step_audio_jax import errors
from step_audio_jax.chats import conversation as chats
from step_audio_jax.dialogue.context import history
from step_audio_jax.dialogue.context import items
from step_audio_jax.dialogue.context import played
from tests.dialogue.context import minds


def said(name):
  return items.said(name, id=name)


def order(found):
  return ''.join(item.id for item in found)


def test_places():
  found = history.History()
  for name in 'abc':
    found.create(said(name))
  found.create(said('d'), 'root')
  found.create(said('e'), 'a')
  assert order(found) == 'daebc' and len(found) == 5
  assert found.before('d') is None and found.before('b') == 'e'
  assert found.create(items.said('x')).id.startswith('item_')
  with pytest.raises(errors.UserError, match='previous_item_id: found'):
    found.create(said('f'), 'nobody')
  with pytest.raises(errors.UserError, match='already'):
    found.create(said('a'))
  found.delete('e')
  for call in (found.delete, found.retrieve, found.before):
    with pytest.raises(errors.UserError, match='expected the id of an item'):
      call('e')
  with pytest.raises(errors.UserError):
    found.retrieve(['a'])
  assert 'f' not in found


def test_calls_and_outputs_belong_together():
  found = history.History()
  call = chats.Call('clock', id='c1')
  found.create(items.called(call, id='a'))
  output = items.Item(items.OUTPUT, call_id='c1', output='12:00')
  with pytest.raises(errors.UserError, match='a call c?'):
    found.create(items.called(call, id='b'))
  with pytest.raises(errors.UserError, match='in front of it'):
    found.create(output, 'root')
  with pytest.raises(errors.UserError, match='in front of it'):
    found.create(items.Item(items.OUTPUT, call_id='c2', output='x'))
  found.create(output)
  with pytest.raises(errors.UserError, match='has an output already'):
    found.create(output)
  named = found.create(items.called(chats.Call('clock')))
  assert named.call.id.startswith('call_')


def test_limits():
  found = history.History(history.Limits(items=2, size=10))
  with pytest.raises(errors.UserError, match='found 11 characters'):
    found.create(items.said('a' * 11))
  found.create(said('a'))
  found.create(said('b'))
  with pytest.raises(errors.UserError, match='has 2 items'):
    found.create(said('c'))


def test_old_recordings_are_forgotten_and_not_their_words():
  found = history.History(history.Limits(recordings=10))
  for name in 'abcd':
    found.create(items.heard(data=bytes(4), id=name))
    found.replace_part(name, 0, text=name)
  kept = [found.retrieve(n).parts[0].data is not None for n in 'abcd']
  assert kept == [False, False, True, True]
  assert [found.retrieve(n).parts[0].text for n in 'abcd'] == list('abcd')
  found.delete('c')
  found.create(items.heard(data=bytes(4), id='e'))
  assert found.retrieve('d').parts[0].data is not None


def spoken(found, name, *replies):
  parts = []
  for text in replies:
    ledger = played.Ledger(24000)
    ledger.add(minds.sound(0.96, 8, text, ends=True))
    parts.append(items.Part(items.OUTPUT_AUDIO, ledger=ledger))
  found.create(items.message(chats.ASSISTANT, *parts, id=name))


def test_truncation_of_several_contents():
  found = history.History()
  found.create(said('a'))
  spoken(found, 'b', 'one two six ten', 'and then more')
  assert found.truncate('b', 0, 480).text == 'one two'
  item = found.retrieve('b')
  assert [part.words for part in item.parts] == ['one two', '']
  assert item.status == items.INCOMPLETE
  told = items.written(item)['content']
  assert [part['transcript'] for part in told] == ['one two', '']
  spoken(found, 'c', 'one two six ten', 'and then more')
  found.truncate('c', 1, 0)
  assert [p.words for p in found.retrieve('c').parts] == ['one two six ten', '']
  spoken(found, 'd', 'one two six ten')
  found.truncate('d', 0, 960)
  assert found.retrieve('d').status == items.COMPLETED


def test_truncation_of_what_has_no_sound():
  found = history.History()
  found.create(said('a'))
  spoken(found, 'b', 'one two six ten')
  for place in (('a', 0), ('b', 1), ('b', -1), ('b', '0'), ('b', True)):
    with pytest.raises(errors.UserError):
      found.truncate(*place, 0)
  with pytest.raises(errors.UserError, match='item_id: found'):
    found.truncate('z', 0, 0)
  with pytest.raises(errors.UserError, match='at most the 960 ms'):
    found.truncate('b', 0, 961)
  assert found.retrieve('b').parts[0].words == 'one two six ten'
