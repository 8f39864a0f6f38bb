"""Tags: the released ones as they are, one spelling of each, what is none."""

import pytest

from step_audio_jax import errors
from step_audio_jax.styles import tags

# As the system prompt and the demonstration of Step-Audio-TTS-3B list them.
RELEASED = (
  '高兴1 高兴2 生气1 生气2 悲伤1 撒娇1 中文 英文 韩语 日语 四川话 粤语 '
  'RAP 哼唱 慢速1 慢速2 快速1 快速2'
).split()
Tag = tags.Tag


@pytest.mark.parametrize('text', RELEASED)
def test_released_tags_are_written_as_they_are(text):
  found = tags.find(text)
  assert str(found) == text
  assert found.source == 'released'


def test_the_second_name_of_cantonese_is_read():
  assert tags.find('广东话') == tags.find('粤语') == Tag('粤语')


def test_what_is_released_is_all_that_is_called_so():
  found = {str(tag) for tag in tags.every() if tag.source == 'released'}
  assert found == set(RELEASED)
  assert Tag('高兴', 3).source == Tag('慢速', 5).source == 'paper'
  assert Tag('高音', 1).source == Tag('耳语').source == 'ours'


def test_every_spelling_is_read_and_means_one_tag():
  for name in tags.NAMES:
    for spelling in name.spellings:
      assert tags.find(spelling) == Tag(name.name, name.usual)
      if name.compares:
        assert tags.find(f'{spelling} 3') == Tag(name.name, 3)
  spelt = [{s.casefold() for s in name.spellings} for name in tags.NAMES]
  assert len(set().union(*spelt)) == sum(map(len, spelt))


def test_what_is_told_is_read():
  for tag in tags.every():
    assert tags.find(str(tag)) == tags.find(tag.english) == tag


@pytest.mark.parametrize(
  'text',
  [
    *('fast 2', 'fast2', 'Fast-2', ' FAST  2 ', 'fast_2', 'fast level 2'),
    *(
      '快速2',
      '快速 2',
      '快速２',
      '快速2级',
      '"快速2"',
      '“fast 2”',
      'ｆａｓｔ 2',
    ),
  ],
)
def test_many_spellings_are_one(text):
  assert tags.find(text) == Tag('快速', 2)


def test_no_level_is_the_usual_one():
  found = {
    text: str(tags.find(text)) for text in ('fast', 'sad', 'loud', 'rap')
  }
  assert found == {
    'fast': '快速2',
    'sad': '悲伤1',
    'loud': '大声2',
    'rap': 'RAP',
  }


@pytest.mark.parametrize(
  'text', ['', ' ', '2', 'see page 3', 'fas', '图3', '-']
)
def test_what_names_no_tag(text):
  assert tags.find(text) is None


@pytest.mark.parametrize(
  'text, message',
  [
    ('fast 6', r'found \(fast 6\), expected a level from 1 to 5'),
    ('fast -1', r'found \(fast -1\), expected a level from 1 to 5'),
    ('fast − 2', r'found \(fast -2\), expected a level from 1 to 5'),
    ('快速0', r'found \(fast 0\), expected a level from 1 to 5'),
    ('sad 99999999999999', 'expected a level from 1 to 5'),
    ('四川话2', r'\(sichuanese 2\), expected \(sichuanese\): it has no levels'),
    ('RAP 0', r'\(rap 0\), expected \(rap\): it has no levels'),
  ],
)
def test_levels_that_are_none(text, message):
  with pytest.raises(errors.UserError, match=message):
    tags.find(text)


@pytest.mark.parametrize(
  'text, near',
  [
    ('fasst 2', 'fast 2'),
    ('hapy', 'happy 2'),
    ('Sichuaneese', 'sichuanese'),
    ('悲痛1', '悲伤1'),
    ('四川活', '四川话'),
    ('cantones 7', 'cantonese'),
  ],
)
def test_the_nearest_is_named(text, near):
  message = str(tags.unknown(text))
  assert message.startswith(f'tag: found ({text}), which does not exist')
  assert f'({near}), the nearest' in message


def test_where_nothing_is_near_all_are_named():
  message = str(tags.unknown('xylophone 2'))
  assert all(name.english in message for name in tags.NAMES)
  assert len(str(tags.unknown('z' * 5000))) < 500


def test_a_style_is_ordered_and_written_in_one_way():
  found = tags.Style(
    (Tag('快速', 1), Tag('四川话'), Tag('高兴', 2), Tag('RAP'))
  )
  # What is sung is alone in the first bracket, where the release looks.
  assert str(found) == '(RAP)(高兴2)(四川话)(快速1)'
  assert found.english == '(rap)(happy 2)(sichuanese)(fast 1)'
  assert found == tags.Style(tuple(reversed(found.tags)))
  assert tags.Style((Tag('快速', 1),) * 2) == tags.Style((Tag('快速', 1),))
  assert not tags.Style() and str(tags.Style()) == ''


def test_levels_of_axes_have_signs():
  found = tags.Style((Tag('慢速', 3), Tag('大声', 1), Tag('英文')))
  levels = {axis: found.level(axis) for axis in ('speed', 'volume', 'pitch')}
  assert levels == {'speed': -3, 'volume': 1, 'pitch': 0}


def test_a_style_changes_by_axis():
  style = tags.Style((Tag('慢速', 3), Tag('四川话')))
  found = style.changed((Tag('快速', 1), Tag('悲伤', 1)))
  assert str(found) == '(悲伤1)(四川话)(快速1)'
  assert str(found.changed((Tag('英文'),))) == '(悲伤1)(英文)(快速1)'
  assert style.changed(()) == style


@pytest.mark.parametrize(
  'some, axis',
  [
    ((Tag('快速', 1), Tag('慢速', 2)), 'speed'),
    ((Tag('快速', 1), Tag('快速', 2)), 'speed'),
    ((Tag('英文'), Tag('四川话')), 'language'),
    ((Tag('高兴', 1), Tag('悲伤', 1)), 'emotion'),
    ((Tag('RAP'), Tag('哼唱')), 'song'),
    ((Tag('大声', 1), Tag('小声', 1)), 'volume'),
  ],
)
def test_contradictions_are_refused(some, axis):
  with pytest.raises(errors.UserError, match=f'both say the {axis}') as told:
    tags.Style(some)
  assert all(f'({tag.english})' in str(told.value) for tag in some)


def test_a_pause_is_no_style():
  with pytest.raises(errors.UserError, match='pauses at their places'):
    tags.Style((Tag('停顿', 1),))


@pytest.mark.parametrize('name', ['fast', '', '很快', '高兴1'])
def test_a_tag_of_an_unknown_name_is_refused(name):
  with pytest.raises(errors.UserError, match='which does not exist'):
    Tag(name, 1)
